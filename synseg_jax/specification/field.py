"""One field of a configuration: its default, its meaning, the values it may hold, and what it affects."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

AFFECTS = {
    'result': 'the weights that a stage ends with',
    'records': 'what a stage reads or begins with; enters its digest by content',
    'length': 'how long a stage trains; may grow in a workdir',
    'speed': 'time and memory alone; may change in a workdir',
    'measures': 'what is measured of trained networks; may change in a workdir',
    'display': 'what is run, logged and shown; may change in a workdir',
}


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, both included unless `above` or `below`; whole ones if `whole`."""

    low: float = 0
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def holds(self, value: object) -> bool:
        """Whether a value is such a number; a boolean is none."""
        kind = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """What to give."""
        least = f'{"above" if self.above else "from"} {self.low:g}'
        most = f' {"to below" if self.below else "to"} {self.high:.10g}' if self.high < math.inf else ' on'
        return f'a {"whole" if self.whole else "finite"} number {least}{"" if self.above and most == " on" else most}'


COUNT, POSITIVE_COUNT = Range(whole=True), Range(1, whole=True)
NOT_NEGATIVE, POSITIVE = Range(), Range(above=True)
SHARE, BELOW_ONE = Range(high=1, above=True), Range(high=1, below=True)


@dataclass(frozen=True)
class Rule:
    """What a whole value must be, such as two rising numbers, and the words for it."""

    holds: Callable[[Any], bool]
    text: str

    def __str__(self) -> str:
        return self.text


class FrozenMapping(Mapping):
    """A mapping that can be hashed and not be changed; equal to any mapping of the same items."""

    def __init__(self, items: Mapping | None = None):
        self._items = dict(items or {})

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self) -> Iterator:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def field(
    default: Any,
    text: str = '',
    allowed: Range | Rule | tuple | None = None,
    affects: str = 'result',
    compiled: bool | None = None,
    **about: Any,
) -> Any:
    """A field of a frozen dataclass.

    `allowed`: a range that every number in it lies in, a rule for the whole value, or the values that it may have.
    `compiled`: whether networks and train step depend on it; None: those that affect the result or its length.
    `about`: further marks, as metadata of the field.  `added=True`: files of earlier versions may lack the field, which
    is then at its default; at its default it enters no digest.
    """
    if affects not in AFFECTS:
        raise ValueError(f'affects {affects!r}: give one of {", ".join(AFFECTS)}')
    metadata = {
        'text': text,
        'allowed': allowed,
        'affects': affects,
        'compiled': affects in ('result', 'length') if compiled is None else compiled,
        **about,
    }
    return dataclasses.field(default=default, metadata=metadata)


def group(kind: type, text: str = '', **defaults: Any) -> Any:
    """A field that holds a dataclass of fields, with these defaults in place of its own."""
    return dataclasses.field(default_factory=lambda: kind(**defaults), metadata={'text': text, 'group': kind})


def leaves(spec: Any, prefix: str = '') -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(dotted name, field, value) of every field of a dataclass, those of its groups included."""
    for one in dataclasses.fields(spec):
        value = getattr(spec, one.name)
        if 'text' not in one.metadata:
            continue
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f'{prefix}{one.name}.')
        else:
            yield f'{prefix}{one.name}', one, value
