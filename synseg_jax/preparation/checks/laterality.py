"""Detects mirrored scans by the relative positions of organs: against anatomy, and between sets.

No other check shows a wrong affine of this kind: a mirrored liver still looks like a liver.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

AXES = (  # of RAS, with words for the positive and the negative direction
    ('left-right', 'right of', 'left of'),
    ('front-back', 'in front of', 'behind'),
    ('up-down', 'above', 'below'),
)
BODY = ''  # the key of the body centre among the organs
ENOUGH = 3  # scans needed to tell a systematic offset from scatter
BESIDE_MM = 20.0  # tolerance of the body centre

# Position of an organ's centre relative to other organs, by a word of its name: 1 for right, front and above, -1 for
# the opposite, 0 if it varies or the name does not tell.
PLACES = {
    'liver': (1, 1, 1),
    'spleen': (-1, -1, 1),
    'stomach': (-1, 1, 1),
    'kidney': (0, -1, -1),
}
SIDES = {'right': 1, 'left': -1}  # words that override the table

Places = Mapping[str, Float[np.ndarray, '3']]  # centres of all organs of a scan, and of the body, RAS mm
Pair = tuple[str, str]


def expected(first: str, second: str, axis: int) -> int:
    """1 if `first` lies right of, in front of or above `second`, -1 for the opposite, 0 if unknown.

    Known for the organs of the table, and for left and right organs of the same name.
    """
    one, other = (_sign(name, axis) for name in (first, second))
    if BODY in (first, second):
        return one - other if axis == 0 and _tabled(first or second) else 0
    related = _tabled(first) and _tabled(second) or _words(first) - SIDES.keys() == _words(second) - SIDES.keys()
    return one if related and one == -other else 0


def misplaced(scans: Sequence[Places], axis: int) -> tuple[str, bool] | None:
    """A description of two organs in the wrong order in most scans, and whether all known pairs are; None if none.

    Organs are compared with the body centre if no pair of organs is known.
    """
    known = {pair: gaps * sign for pair, gaps in _gaps(scans, axis).items() if (sign := expected(*pair, axis))}
    known = _organs(known) or known
    wrong = [pair for pair, gaps in known.items() if np.mean(gaps < 0) >= 0.75]
    if not wrong:
        return None
    return _told(_gaps(scans, axis), wrong, axis)[0], len(wrong) == len(known)


def opposed(one: Sequence[Places], other: Sequence[Places], axis: int) -> tuple[str, str, bool] | None:
    """For each of two sets a description of two organs in opposite order, and whether all separated pairs are.

    Two organs are separated if the distance of their centres exceeds twice its standard deviation over a set.
    """
    gaps = [_gaps(scans, axis) for scans in (one, other)]
    apart = [pair for pair in gaps[0] if pair in gaps[1] and all(_apart(pair, each[pair]) for each in gaps)]
    apart = [pair for pair in apart if BODY not in pair] or apart
    wrong = [pair for pair in apart if gaps[0][pair].mean() * gaps[1][pair].mean() < 0]
    if not wrong:
        return None
    first, pair = _told(gaps[0], wrong, axis)
    return first, _told(gaps[1], [pair], axis)[0], len(wrong) == len(apart)


def strays(scans: Sequence[Places], axis: int) -> list[int]:
    """Indices of scans in which all pairs separated in most scans lie in opposite order."""
    orders: dict[int, list[bool]] = {}
    for first, second in combinations(_names(scans, axis), 2):
        places = [i for i, scan in enumerate(scans) if first in scan and second in scan]
        gaps = np.array([scans[i][first][axis] - scans[i][second][axis] for i in places])
        if len(gaps) > ENOUGH and BODY not in (first, second):
            usual = np.median(gaps)
            if abs(usual) > 3 * np.percentile(np.abs(gaps - usual), 60):
                for i, gap in zip(places, gaps, strict=True):
                    orders.setdefault(i, []).append(gap * usual < 0)
    return [i for i, wrong in orders.items() if all(wrong)]


def _gaps(scans, axis) -> dict[Pair, Float[np.ndarray, ' scans']]:
    """How far the first of two organs lies right of, in front of or above the second, in scans that show both."""
    found = {}
    for pair in combinations(_names(scans, axis), 2):
        both = [scan for scan in scans if pair[0] in scan and pair[1] in scan]
        if both:
            found[pair] = np.array([scan[pair[0]][axis] - scan[pair[1]][axis] for scan in both])
    return found


def _names(scans, axis) -> list[str]:
    """The organs; the body centre is used on the left-right axis only."""
    return sorted({name for scan in scans for name in scan if name != BODY or axis == 0})


def _organs(gaps) -> dict:
    return {pair: each for pair, each in gaps.items() if BODY not in pair}


def _apart(pair, gaps) -> bool:
    far = abs(gaps.mean()) > max(2 * gaps.std(), BESIDE_MM if BODY in pair else 0)
    return len(gaps) >= ENOUGH and bool(far)


def _told(gaps, pairs, axis) -> tuple[str, Pair]:
    """A description of the most distant pair, and the pair."""
    pair = max(pairs, key=lambda pair: abs(np.median(gaps[pair])))
    gap = float(np.median(gaps[pair]))
    first, second = (name or 'the middle of the body' for name in (pair if pair[0] else pair[::-1]))
    gap = gap if pair[0] else -gap
    return f'{first} {abs(gap):.0f} mm {AXES[axis][1 if gap > 0 else 2]} {second}', pair


def _sign(name, axis) -> int:
    words = _words(name)
    sides = [sign for word, sign in SIDES.items() if word in words] if axis == 0 else []
    return next(iter([*sides, *(places[axis] for word, places in PLACES.items() if word in words)]), 0)


def _tabled(name) -> bool:
    return bool(_words(name) & PLACES.keys())


def _words(name) -> set[str]:
    return {word.removesuffix('s') for word in re.findall('[a-z]+', name.lower())}
