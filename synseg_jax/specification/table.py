"""A table of results: its rows, and how they are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from synseg_jax.specification.field import FrozenMapping, field

shown = partial(field, affects='display')


@dataclass(frozen=True)
class TableRow:
    """One row: a system on a set, beside the values a paper reports."""

    system: str = shown('', 'the system whose results it shows')
    set: str = shown('', 'the set that the system is tested on')
    name: str = shown('', 'its title')
    reported: Mapping[str, str] = shown(FrozenMapping(), 'published values by metric, as text')
    count: int = shown(-1, 'position on the axis of the plot; -1: not plotted')
    line: str = shown('', 'the line of the plot that it belongs to; empty: named after its set')


@dataclass(frozen=True)
class Table:
    """What `compare` shows; empty in configurations that are no tables."""

    title: str = shown('', 'title')
    source: str = shown('', 'the publication that it reproduces')
    runs: str = shown('', 'folder below runs/tables; tables of one configuration may share it')
    organs: tuple[str, ...] = shown((), 'classes in columns; mean: the mean over all')
    measures: tuple[str, ...] = shown((), 'metrics in columns')
    reference: str = shown('', 'title of the row that all others are tested against')
    rows: Mapping[str, TableRow] = shown(FrozenMapping(), 'the rows by name')
    order: tuple[str, ...] = shown((), 'names of the rows from top to bottom')
    sets: Mapping[str, str] = shown(FrozenMapping(), 'titles of test sets, where rows show several')
    counted: str = shown('', 'what `count` counts; the label of the axis')
    unpaired: tuple[str, ...] = shown((), 'two test sets on which each system is compared with itself, or none')

    def in_order(self) -> list[TableRow]:
        """The rows from top to bottom."""
        return [self.rows[name] for name in self.order]
