"""From the measures of single cases to the numbers of a table: statistics per organ and over organs, CSV, JSON."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from synseg_jax.cli.terminal import plain
from synseg_jax.evaluation import patches
from synseg_jax.evaluation.metrics import MEASURES

NOT_ORGANS = ('background', 'body')
OF_LESIONS = ('lesions', 'false_lesions', *patches.MEASURES)
COLUMNS = ('case', 'organ', *MEASURES)
_EMPTY = {
    'both_empty': 'in neither prediction nor reference (left out)',
    'one_empty': 'in only one (Dice and IoU 0, no distance)',
}

# One case: {class: {measure: value or None}}, as `metrics.case_measures` returns it.
Case = Mapping[str, Mapping[str, float | None]]


def summarise(cases: Mapping[str, Case]) -> dict:
    """Statistics over cases per class and of the mean over organs, free of NaN.

    `{'classes': {class: {measure: statistics, 'both_empty': int, 'one_empty': int}}, 'mean': {measure: statistics}}`,
    of a class also what cases tell of its lesions, `OF_LESIONS`.
    `mean` takes for each case the mean over its organs (every class but background and body) that have the measure,
    and then the statistics over the cases that have any.
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
    """Mean of a measure over the organs of each case; cases in which no organ has it are absent."""
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
    """Neither None nor NaN."""
    return value is not None and not np.isnan(value)


def rows(cases: Mapping[str, Case]) -> list[dict]:
    """One row per case and class for `write_csv`."""
    return [{'case': case, 'organ': name, **of} for case, classes in cases.items() for name, of in classes.items()]


def table(systems: Mapping[str, Mapping], title: str | None = None) -> Table:
    """Organs by row, the mean over organs last: Dice and, where a terminal has room, ASD mm, HD95 mm, median Dice."""
    several = len(systems) > 1
    headings = {1: ('Dice', 'median', 'ASD mm', 'HD95 mm'), 2: ('Dice', 'ASD mm')}.get(len(systems), ('Dice',))
    drawn = Table(title=title and plain(title, 'table.title'), caption=_caption(systems), caption_justify='left')
    drawn.add_column('\norgan' if several else 'organ', min_width=10)
    for system in systems:
        for heading in headings:
            above = system if heading == headings[0] else ''
            drawn.add_column(plain(f'{above}\n{heading}' if several else heading), justify='right', no_wrap=True)
    names = list(dict.fromkeys(name for summary in systems.values() for name in summary['classes']))
    for name in names:
        drawn.add_row(plain(name), *_cells((summary['classes'].get(name) for summary in systems.values()), headings))
    drawn.add_section()
    drawn.add_row('mean', *_cells((summary['mean'] for summary in systems.values()), headings), style='bold')
    return drawn


def _cells(parts: Iterable[Mapping | None], headings: Sequence[str]) -> Iterator[str]:
    cells = {
        'Dice': lambda part: _spread(part['dice'], 3),
        'median': lambda part: _number(part['dice']['median'], 3),
        'ASD mm': lambda part: _spread(part['asd_mm'], 2),
        'HD95 mm': lambda part: _spread(part['hd95_mm'], 1),
    }
    for part in parts:
        yield from ('-' if part is None else cells[heading](part) for heading in headings)


def _spread(statistics: Mapping, digits: int) -> str:
    mean = _number(statistics['mean'], digits)
    return mean if statistics['std'] is None else f'{mean}±{statistics["std"]:.{digits}f}'


def _number(value: float | None, digits: int) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def _caption(systems: Mapping[str, Mapping]) -> Text | None:
    """Says which cases the empty-mask rule touched; None if it touched none."""
    lines = []
    for system, summary in systems.items():
        for name, part in summary['classes'].items():
            empty = [f'{part[key]} {words}' for key, words in _EMPTY.items() if part[key]]
            if empty:
                lines.append(f'{system}, {name}: {"; ".join(empty)}')
    return plain('\n'.join(lines), 'table.caption') if lines else None
