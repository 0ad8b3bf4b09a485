"""Statistics of metrics over cases, per class and averaged over organs, and the terminal's table of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from rich.table import Table
from rich.text import Text

from synseg_jax.cli.terminal import plain
from synseg_jax.evaluation import lesions, patches
from synseg_jax.evaluation.metric import Metric
from synseg_jax.evaluation.metrics import MEASURES, METRICS

NOT_ORGANS = ('background', 'body')
OF_LESIONS = tuple(metric.name for metric in (*lesions.METRICS, *patches.METRICS))
COLUMNS = ('case', 'organ', *MEASURES)
_ZERO = ', '.join(metric.title for metric in METRICS if metric.one_empty == 0)
_EMPTY = {
    'both_empty': 'in neither prediction nor reference (left out)',
    'one_empty': f'in only one ({_ZERO}: 0; no distance)',
}

# One case: {class: {measure: value or None}}, as `metrics.case_measures` returns it.
Case = Mapping[str, Mapping[str, float | None]]


def summarise(cases: Mapping[str, Case]) -> dict:
    """Statistics over cases per class and of the mean over organs, free of NaN.

    `{'classes': {class: {measure: statistics, 'both_empty': int, 'one_empty': int}}, 'mean': {measure: statistics}}`,
    with the metrics `OF_LESIONS` for classes that have them.
    `mean` averages each case over its organs (all classes but background and body) with a value, and then takes the
    statistics over cases.
    """
    names = list(dict.fromkeys(name for case in cases.values() for name in case))
    return {
        'classes': {name: _class_summary([case[name] for case in cases.values() if name in case]) for name in names},
        'mean': {measure: statistics(organ_means(cases, measure).values()) for measure in MEASURES},
    }


def statistics(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """`mean`, `median`, `std` and `n` of the values that are numbers; None and NaN are left out.

    `std` is the sample standard deviation (ddof 1), None below two values; mean and median are None without any.
    """
    numbers = np.asarray([value for value in values if is_number(value)], np.float64)
    n = numbers.size
    return {
        'mean': float(numbers.mean()) if n else None,
        'median': float(np.median(numbers)) if n else None,
        'std': float(numbers.std(ddof=1)) if n > 1 else None,
        'n': n,
    }


def organ_means(cases: Mapping[str, Case], measure: str) -> dict[str, float]:
    """Mean of a metric over the organs of each case; cases without a value are absent."""
    organs = {
        case: [of[measure] for name, of in classes.items() if name not in NOT_ORGANS and is_number(of.get(measure))]
        for case, classes in cases.items()
    }
    return {case: float(np.mean(values)) for case, values in organs.items() if values}


def _class_summary(measured: Sequence[Mapping[str, float | None]]) -> dict:
    names = (*MEASURES, *(name for name in OF_LESIONS if any(name in measures for measures in measured)))
    summary: dict = {name: statistics(measures.get(name) for measures in measured) for name in names}
    without_distance = [measures for measures in measured if not is_number(measures.get('asd_mm'))]
    summary['both_empty'] = sum(not is_number(measures.get('dice')) for measures in without_distance)
    summary['one_empty'] = len(without_distance) - summary['both_empty']
    return summary


def is_number(value: float | None) -> bool:
    """Whether a value is neither None nor NaN."""
    return value is not None and not np.isnan(value)


def rows(cases: Mapping[str, Case]) -> list[dict]:
    """One row per case and class for `write_csv`."""
    return [{'case': case, 'organ': name, **of} for case, classes in cases.items() for name, of in classes.items()]


def table(systems: Mapping[str, Mapping], title: str | None = None) -> Table:
    """Table with a row per organ and the mean over organs last, with the metrics that fit in a terminal."""
    several = len(systems) > 1
    columns = dict(_columns(len(systems)))
    drawn = Table(title=title and plain(title, 'table.title'), caption=_caption(systems), caption_justify='left')
    drawn.add_column('\norgan' if several else 'organ', min_width=10)
    for system in systems:
        for at, heading in enumerate(columns):
            above = '' if at else system
            drawn.add_column(plain(f'{above}\n{heading}' if several else heading), justify='right', no_wrap=True)
    names = list(dict.fromkeys(name for summary in systems.values() for name in summary['classes']))
    for name in names:
        drawn.add_row(plain(name), *_cells((summary['classes'].get(name) for summary in systems.values()), columns))
    drawn.add_section()
    drawn.add_row('mean', *_cells((summary['mean'] for summary in systems.values()), columns), style='bold')
    return drawn


def _columns(systems: int) -> Iterator[tuple[str, Callable[[Mapping], str]]]:
    """(heading, function from a class's statistics to its cell) of the metrics that fit for so many systems."""
    for metric in (metric for metric in METRICS if systems <= metric.beside):
        yield metric.heading, partial(_spread, metric)
        if metric is METRICS[0] and systems == 1:
            yield 'median', partial(_median, metric)


def _cells(parts: Iterable[Mapping | None], columns: Mapping[str, Callable[[Mapping], str]]) -> Iterator[str]:
    for part in parts:
        yield from ('-' if part is None else cell(part) for cell in columns.values())


def _spread(metric: Metric, part: Mapping) -> str:
    found = part[metric.name]
    mean = _number(metric, found['mean'])
    return mean if found['std'] is None else f'{mean}±{metric.number(found["std"])}'


def _median(metric: Metric, part: Mapping) -> str:
    return _number(metric, part[metric.name]['median'])


def _number(metric: Metric, value: float | None) -> str:
    return '-' if value is None else metric.number(value)


def _caption(systems: Mapping[str, Mapping]) -> Text | None:
    """How many cases of each class had one or two empty masks; None if there were none."""
    lines = []
    for system, summary in systems.items():
        for name, part in summary['classes'].items():
            empty = [f'{part[key]} {words}' for key, words in _EMPTY.items() if part[key]]
            if empty:
                lines.append(f'{system}, {name}: {"; ".join(empty)}')
    return plain('\n'.join(lines), 'table.caption') if lines else None
