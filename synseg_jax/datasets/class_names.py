"""Names and label values of classes: parsing --labels, validation, and matching of spellings."""

import difflib
from collections.abc import Sequence
from itertools import combinations

from synseg_jax.errors import InputError
from synseg_jax.formats.label_maps import Values, as_tuple
from synseg_jax.formats.names import normalised

EXAMPLE = 'background:0,liver:6,kidneys:2+3, or contours, tumour:GTV-1*'
MAX_VALUE = 2**16 - 1  # of a label


def parse(text: str) -> Values:
    """Parse `liver:6,kidneys:2+3,tumour:GTV-1*`; the background is 0 unless it is named."""
    classes = {}
    for part in text.split(','):
        name, colon, value = (piece.strip() for piece in part.partition(':'))
        values = [int(v) if v.isdecimal() else v for v in map(str.strip, value.split('+'))]
        if not name.isprintable() or not name or not colon or '' in values or name in classes:
            raise InputError(f'--labels: {part!r} in {text!r}; give every class once, e.g. {EXAMPLE}')
        classes[name] = tuple(values) if len(values) > 1 else values[0]
    if not any(0 in as_tuple(value) for value in classes.values()):
        classes = {'background': 0, **classes}
    check(classes, '--labels')
    return classes


def check(values: Values, source: str, regions: bool = False) -> None:
    """Raise InputError for negative values and for values that two classes share.

    With `regions` a class may contain another one, as nnU-Net's regions do.
    """
    singles = [single for value in values.values() for single in as_tuple(value)]
    pairs = combinations([set(as_tuple(value)) for value in values.values()], 2)
    clash = any(first & second and not (regions and (first < second or second < first)) for first, second in pairs)
    if clash or any(isinstance(single, int) and single < 0 for single in singles):
        raise InputError(f'{source}: needs labels with different values from 0 up')
    if large := next((single for single in singles if isinstance(single, int) and single > MAX_VALUE), None):
        raise InputError(f'{source}: label value {large} is too large; give values up to {MAX_VALUE}')


def disjoint(values: Values) -> tuple[str, ...]:
    """The names in order of their values, without those that overlap earlier ones, e.g. unions."""
    if any(isinstance(single, str) for value in values.values() for single in as_tuple(value)):
        return tuple(values)  # contours have no values
    names, taken = [], set()
    for name in sorted(values, key=lambda name: as_tuple(values[name])):
        if taken.isdisjoint(as_tuple(values[name])):
            names.append(name)
            taken |= set(as_tuple(values[name]))
    return tuple(names)


def match_names(values: Values, classes: Sequence[str]) -> Values:
    """`values` with the names as `classes` spell them, see `normalised`; others keep the values no class has taken.

    Raises InputError if two classes share a value.
    """
    spellings = {normalised(name): name for name in values} | {name: name for name in values}
    matches = {name: spellings.get(name, spellings.get(normalised(name))) for name in classes}
    matched = {name: values[spelling] for name, spelling in matches.items() if spelling is not None}
    for first, second in combinations(matched, 2):
        if set(as_tuple(matched[first])) & set(as_tuple(matched[second])):
            raise InputError(f'classes {first} and {second} overlap; name only one of them in data.classes')
    taken = {single for value in matched.values() for single in as_tuple(value)}
    rest = {
        name: tuple(single for single in as_tuple(values[name]) if single not in taken)
        for name in values
        if name not in matches.values()
    }
    return matched | {name: v if len(v) > 1 else v[0] for name, v in rest.items() if v and name not in matched}


def suggestion(name: str, names: Sequence[str]) -> str:
    """`; did you mean ...?` if one of the names has similar words in any order; else ''."""
    by_words = {' '.join(sorted(normalised(other).split())): other for other in names}
    similar = difflib.get_close_matches(' '.join(sorted(normalised(name).split())), by_words, n=1, cutoff=0.7)
    return f'; did you mean {by_words[similar[0]]}?' if similar else ''
