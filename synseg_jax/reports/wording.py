"""Text of a report without markup: headings, cells, legend."""

from collections.abc import Iterator

from synseg_jax.evaluation import metrics, registry
from synseg_jax.evaluation.statistics import MIN_PAIRS, MIN_VALUES, RESAMPLES
from synseg_jax.reports.comparison import LEVEL, Entry, Report, Row


def heading(measure: str) -> str:
    """Title and unit of a metric, with an arrow in the direction of better values."""
    metric = registry.metric(measure)
    return f'{metric.heading} {metric.arrow}'


def number(value: float | None, measure: str) -> str:
    return '–' if value is None else registry.metric(measure).number(value)


def with_unit(value: float, measure: str) -> str:
    """Title, value and unit, such as `PSNR 24.1 dB`."""
    metric = registry.metric(measure)
    return ' '.join(filter(None, (metric.title, metric.number(value), metric.unit)))


def spread(entry: Entry) -> str:
    """Mean ± standard deviation, `–` without values."""
    mean = number(entry.mean, entry.measure)
    return mean if entry.std is None else f'{mean} ± {number(entry.std, entry.measure)}'


def median(entry: Entry) -> str:
    return number(entry.median, entry.measure)


def over_seeds(entry: Entry) -> str:
    """Standard deviation over seeds, `–` for one seed."""
    return '–' if entry.std_seeds is None else f'± {number(entry.std_seeds, entry.measure)}'


def interval(entry: Entry) -> str:
    return '–' if entry.interval is None else ' to '.join(number(end, entry.measure) for end in entry.interval)


def probability(p: float | None) -> str:
    """A p-value with three digits, or `< 0.001`."""
    return '–' if p is None else '< 0.001' if p < 0.001 else f'{p:.3f}'


def count(entry: Entry) -> str:
    """The number of cases with a value, and of all if some have none."""
    if entry.row.cases is None:
        return '–'
    return f'{entry.n}' if entry.n == entry.cases else f'{entry.n} of {entry.cases}'


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{minutes} min' if minutes < 100 else f'{minutes // 60} h {minutes % 60:02d} min'


def badges(report: Report, row: Row) -> list[str]:
    """Tags of a row, shown beside its name."""
    told = {
        'not run': row.cases is None,
        'reference': row.name == report.reference,
        'reads target labels': row.reads_target_labels,
        'transductive': row.transductive,
    }
    return [words for words, true in told.items() if true]


def facts(row: Row) -> str:
    """Cases, steps, seeds, time and memory, as far as known."""
    several = len(row.by_seed)
    seed = f'{several} seeds from {row.seed} on' if several else f'seed {row.seed}'
    steps = f'{row.steps or 0:,} steps' + ' each' * (several > 0)
    known = [
        f'{len(row.cases)} cases' if row.cases is not None else 'not run',
        steps if row.steps else 'trains nothing' if row.steps == 0 else '',
        seed if row.seed is not None else '',
        duration(row.seconds) if row.seconds else '',
        f'{row.memory_gib:.1f} GiB' if row.memory_gib else '',
    ]
    return ' · '.join(filter(None, known))


def legend(report: Report, entries: list[Entry]) -> Iterator[str]:
    """Legend of the table, line by line."""
    seeds = max((len(row.by_seed) for row in report.rows), default=0)
    if seeds:
        yield (
            f'Each case counts with its mean over {seeds} seeds of weights, data order and augmentation; the subjects '
            'are the same. "Over seeds": sample standard deviation, over seeds, of the mean over cases.'
        )
    yield (
        f'Mean ± sample standard deviation over cases. The interval is a 95 % bootstrap interval of the '
        f'mean over cases (BCa, {RESAMPLES:,} resamples, fixed seed), from {MIN_VALUES} cases on.'
    )
    if report.reference:
        yield (
            f'p: {_test(report.reference, seeds)} on the cases that both have, from {MIN_PAIRS} pairs on. '
            f'Holm p: corrected over the rows of one organ and measure. * p < {LEVEL}; ** also after correction.'
        )
    yield (
        'Empty masks: an organ in neither prediction nor reference leaves the case out; in only one of them it has '
        f'{_zero(report)} 0 and no distance, so a miss shows in Dice, not in distances. '
        'n counts the cases with a value.'
    )
    if any(entry.measure == registry.DICE_ORACLE.name and entry.n for entry in entries):
        yield (
            'Oracle selection: with the checkpoint (of every fold), of all, whose mean Dice over organs is best by the '
            'labels of these very test scans, as papers choose it. All other columns: chosen without their labels.'
        )
    if any(entry.reported for entry in entries):
        yield f'Paper: as printed in {report.source}, on the scans of the paper.'
    if report.reference:
        yield from _unlike(report)
    if told := [row.title for row in report.rows if row.reads_target_labels]:
        yield f'Target labels were read in training by {", ".join(told)}'.rstrip('.') + '.'
    if told := [row.title for row in report.rows if row.transductive]:
        yield f'Trained on the images, not the labels, of the scans tested (transductive): {", ".join(told)}.'
    if missing := [row.title for row in report.rows if row.cases is None]:
        yield f'Not run: {", ".join(missing)}'.rstrip('.') + '.'


def _zero(report: Report) -> str:
    """Titles of the metrics that are 0 if one mask is empty: Dice, IoU and others in the report."""
    shown = {'dice', 'iou', *report.measures}
    titles = [metric.title for metric in metrics.METRICS if metric.one_empty == 0 and metric.name in shown]
    return ', '.join(titles[:-1]) + f' and {titles[-1]}'


def _test(reference: str, seeds: int) -> str:
    if not seeds:
        return f'two-sided Wilcoxon signed-rank test against {reference}'
    return (
        f'two-sided t test of the differences from {reference}, cases and seeds being crossed random factors (analysis '
        "of variance, Satterthwaite's degrees of freedom),"
    )


def _unlike(report: Report) -> Iterator[str]:
    """Lines on rows whose cases differ from those of their reference."""
    references = {row.set: row for row in report.rows if row.name == report.reference and row.cases is not None}
    for row in report.rows:
        against = references.get(row.set)
        if row.cases is None:
            continue
        if against is None:
            yield f'{row.title} is not tested: the reference has no result on its scans.'
        elif common := row.cases.keys() & against.cases.keys():
            if row.cases.keys() != against.cases.keys():
                yield (
                    f'{row.title} has {len(row.cases)} cases, {against.title} {len(against.cases)}; '
                    f'their test sees the {len(common)} in common.'
                )
        else:
            yield f'{row.title} is not tested: it has no case in common with {against.title}.'
