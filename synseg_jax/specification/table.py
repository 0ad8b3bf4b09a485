"""Fields of a table of results that `compare` makes: rows, columns, and published values."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from synseg_jax.specification.field import FrozenMapping, field

shown = partial(field, affects='display')


@dataclass(frozen=True)
class TableRow:
    """One row: the results of a system on a test set, next to published values."""

    system: str = shown('', 'system whose results the row shows')
    set: str = shown('', 'test set')
    name: str = shown('', 'title of the row')
    reported: Mapping[str, str] = shown(FrozenMapping(), 'published values by metric, as text')
    count: int = shown(-1, 'x coordinate in the plot; -1: not plotted')
    line: str = shown('', 'line of the plot that the row belongs to; empty: the line of its test set')


@dataclass(frozen=True)
class Table:
    """A table of results for `compare`; empty in configurations without a table."""

    title: str = shown('', 'title of the table')
    source: str = shown('', 'publication whose table it reproduces')
    runs: str = shown('', 'default workdir below runs/tables; tables of one configuration may share it')
    organs: tuple[str, ...] = shown((), "classes shown as columns; 'mean' is the mean over organs")
    measures: tuple[str, ...] = shown((), 'metrics shown as columns')
    reference: str = shown('', 'title of the row that all other rows are compared with by a statistical test')
    rows: Mapping[str, TableRow] = shown(FrozenMapping(), 'rows by name')
    order: tuple[str, ...] = shown((), 'names of the rows from top to bottom')
    sets: Mapping[str, str] = shown(FrozenMapping(), 'titles of the test sets, shown if the table has several')
    counted: str = shown('', 'label of the x axis, the quantity in `count`')
    unpaired: tuple[str, ...] = shown(
        (), 'two test sets; each system is compared between them by an unpaired test; empty: none'
    )

    def in_order(self) -> list[TableRow]:
        """The rows from top to bottom."""
        return [self.rows[name] for name in self.order]
