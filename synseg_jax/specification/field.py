"""Declaration of a configuration field: default, description, allowed values, and what it affects."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

AFFECTS = {
    'result': 'the trained weights; a changed value trains the stage again, in another folder of the workdir',
    'records': 'the records or weights that a stage reads; a change of their content trains the stage again',
    'length': 'the length of training; may be increased to train further in the same workdir',
    'speed': 'only time and memory; may change in a workdir',
    'measures': 'how trained networks are evaluated; may change in a workdir without training again',
    'display': 'which systems run, logging and display; may change in a workdir',
}


@dataclass(frozen=True)
class Range:
    """Finite numbers in [low, high]; `above` excludes `low`, `below` excludes `high`; `whole` means integers only."""

    low: float = 0
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def holds(self, value: object) -> bool:
        """Whether a value is in the range; booleans are not."""
        kind = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        """The range in words, for error messages: 'a whole number from 1 to 8'."""
        least = f'{"above" if self.above else "from"} {self.low:g}'
        most = f' {"to below" if self.below else "to"} {self.high:.10g}' if self.high < math.inf else ' on'
        return f'a {"whole" if self.whole else "finite"} number {least}{"" if self.above and most == " on" else most}'


COUNT, POSITIVE_COUNT = Range(whole=True), Range(1, whole=True)
NOT_NEGATIVE, POSITIVE = Range(), Range(above=True)
SHARE, BELOW_ONE = Range(high=1, above=True), Range(high=1, below=True)


@dataclass(frozen=True)
class Rule:
    """A condition on a whole value, such as two increasing numbers, and its description in error messages."""

    holds: Callable[[Any], bool]
    text: str

    def __str__(self) -> str:
        return self.text


class FrozenMapping(Mapping):
    """Immutable, hashable mapping; equal to any mapping with the same items."""

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
    """Declare a field of a frozen dataclass, described by `text`.

    `allowed`: a range for every number in the value, a rule for the value as a whole, or a tuple of allowed values.
    `affects`: a key of AFFECTS.
    `compiled`: whether the networks or the compiled train step depend on it; None: if it affects result or length.
    `about`: additional metadata of the field.  `added=True`: files of earlier versions may lack the field and have its
    default, with which it does not enter digests.
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
    """Declare a field that holds a dataclass of fields; `defaults` override the defaults of that dataclass."""
    return dataclasses.field(default_factory=lambda: kind(**defaults), metadata={'text': text, 'group': kind})


def leaves(spec: Any, prefix: str = '') -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(dotted name, field, value) of every field of a dataclass, recursively."""
    for entry in dataclasses.fields(spec):
        value = getattr(spec, entry.name)
        if 'text' not in entry.metadata:
            continue
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f'{prefix}{entry.name}.')
        else:
            yield f'{prefix}{entry.name}', entry, value
