"""Names and values of classes: as a flag writes them, and as two sets spell the same name."""

import difflib
from collections.abc import Sequence
from itertools import combinations

from synseg_jax.errors import InputError
from synseg_jax.formats.label_maps import Values, as_tuple
from synseg_jax.formats.names import normalised

EXAMPLE = 'background:0,liver:6,kidneys:2+3, or contours, tumour:GTV-1*'
LARGEST = 2**16 - 1  # value of a class


def parsed(text: str) -> Values:
    """The values that `liver:6,kidneys:2+3,tumour:GTV-1*` means; the background is 0 unless it is named."""
    found = {}
    for part in text.split(','):
        name, colon, value = (piece.strip() for piece in part.partition(':'))
        values = [int(v) if v.isdecimal() else v for v in map(str.strip, value.split('+'))]
        if not name.isprintable() or not name or not colon or '' in values or name in found:
            raise InputError(f'--labels: {part!r} in {text!r}; give every class once, e.g. {EXAMPLE}')
        found[name] = tuple(values) if len(values) > 1 else values[0]
    if not any(0 in as_tuple(value) for value in found.values()):
        found = {'background': 0, **found}
    check(found, '--labels')
    return found


def check(values: Values, where: str, regions: bool = False) -> None:
    """InputError, unless values are not negative, and no two classes have the same one.

    With `regions` a class may have all the values of another and more, as nnU-Net's regions do.
    """
    single = [one for value in values.values() for one in as_tuple(value)]
    pairs = combinations([set(as_tuple(value)) for value in values.values()], 2)
    clash = any(one & other and not (regions and (one < other or other < one)) for one, other in pairs)
    if clash or any(isinstance(one, int) and one < 0 for one in single):
        raise InputError(f'{where}: needs labels with different values from 0 up')
    if large := next((one for one in single if isinstance(one, int) and one > LARGEST), None):
        raise InputError(f'{where}: no label map has a value like {large}; give values up to {LARGEST}')


def apart(values: Values) -> tuple[str, ...]:
    """The names in the order of their values, without those that unite or overlap others before them."""
    if any(isinstance(one, str) for value in values.values() for one in as_tuple(value)):
        return tuple(values)  # contours have no numbers
    names, taken = [], set()
    for name in sorted(values, key=lambda name: as_tuple(values[name])):
        if taken.isdisjoint(as_tuple(values[name])):
            names.append(name)
            taken |= set(as_tuple(values[name]))
    return tuple(names)


def spelt(values: Values, classes: Sequence[str]) -> Values:
    """The values under the names that `classes` have for them, and under their own those that no class claims.

    Case, spaces, hyphens and underscores make no difference.  InputError for two classes with a value in common.
    """
    own = {normalised(name): name for name in values} | {name: name for name in values}
    found = {name: own.get(name, own.get(normalised(name))) for name in classes}
    claimed = {name: values[other] for name, other in found.items() if other is not None}
    for one, other in combinations(claimed, 2):
        if set(as_tuple(claimed[one])) & set(as_tuple(claimed[other])):
            raise InputError(f'classes {one} and {other} are the same voxels in part; name one of them in data.classes')
    taken = {one for value in claimed.values() for one in as_tuple(value)}
    left = {
        name: tuple(one for one in as_tuple(values[name]) if one not in taken)
        for name in values
        if name not in found.values()
    }
    return claimed | {name: v if len(v) > 1 else v[0] for name, v in left.items() if v and name not in claimed}


def alike(name: str, names: Sequence[str]) -> str:
    """`; did you mean ...?`, if one of the names has about the same words in any order."""
    words = {' '.join(sorted(normalised(other).split())): other for other in names}
    near = difflib.get_close_matches(' '.join(sorted(normalised(name).split())), words, n=1, cutoff=0.7)
    return f'; did you mean {words[near[0]]}?' if near else ''
