"""Unpaired tests of systems between two test sets, such as synthetic and real scans."""

from collections.abc import Iterator, Sequence

from synseg_jax.errors import InputError, known
from synseg_jax.evaluation.statistics import MIN_SIDE, RankSum, holm, rank_sum
from synseg_jax.reports import wording
from synseg_jax.reports.comparison import Row, values
from synseg_jax.specification.table import Table


def titles(table: Table) -> tuple[str, ...]:
    """Titles of the two sets compared by an unpaired test (table.unpaired); () without such a test."""
    names = table.unpaired
    if len(set(names)) not in (0, 2) or len(names) > 2:
        raise InputError(f'table.unpaired {names}: name two of the sets of its rows, or none')
    shown = {row.set for row in table.rows.values()}
    return tuple(table.sets.get(known('set (table.unpaired)', name, shown), name) for name in names)


def notes(rows: Sequence[Row], sets: Sequence[str], organ: str, measures: Sequence[str]) -> Iterator[str]:
    """A line per metric with the tests of all systems that have run on both `sets`, none without such systems.

    `sets` are two set names of the rows, or empty; p is corrected over the systems.
    """
    for measure in measures if sets else ():
        tests = {name: rank_sum(*sides) for name, sides in _systems(rows, sets, organ, measure)}
        if not tests:
            continue
        corrected = holm([test.p for test in tests.values()])
        told = [_told(name, test, p) for (name, test), p in zip(tests.items(), corrected, strict=True)]
        yield (
            f'{sets[0]} against {sets[1]}, {wording.heading(measure)} of {organ}, two-sided Mann-Whitney U test of '
            f'cases that are not pairs, from {MIN_SIDE} of each on (Holm p: over these systems): {"; ".join(told)}. '
            'A large p does not show that they are equal.'
        )


def _systems(rows, sets, organ, measure) -> Iterator[tuple[str, list]]:
    """(name, values on either set) of the systems that have run on both."""
    for name in dict.fromkeys(row.name for row in rows):
        own = {row.set: values(row, organ, measure).values() for row in rows if row.name == name and row.cases}
        if own.keys() >= set(sets):
            yield name, [own[of] for of in sets]


def _told(name: str, test: RankSum, p_holm: float | None) -> str:
    p, corrected = wording.probability(test.p), wording.probability(p_holm)
    return f'{name} p {p}, Holm p {corrected} ({test.first} and {test.second} cases)'
