"""Volume and place of predicted organs against those in labelled scans of other subjects: no reference is needed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

VOLUMES = (0.4, 2.5)  # plausible volumes, as shares of the mean volume in labelled scans
SPREADS = 3.0  # plausible distance of a centre from its mean, in standard deviations
MARGIN = 0.1  # distance that is always plausible, as a share of the body's side
PRESENT = 0.5  # share of labelled scans that an organ must be in to be expected in every scan
VISIBLE = 0.1  # intensity in [0, 1] above which a pixel is foreground
EDGES = (1, 99)  # percentiles of the foreground's coordinates that bound the body, whatever lies outside it


class Organ(NamedTuple):
    """An organ of one scan; `centre` of mass (row, column) with the body's edges at 0 and 1, () if it is absent."""

    volume_ml: float
    centre: tuple[float, ...] = ()


class Expected(NamedTuple):
    """An organ over labelled scans: mean volume, mean centre and the centre's standard deviation."""

    volume_ml: float
    centre: tuple[float, ...]
    spread: tuple[float, ...]


def organs(
    labels: Integer[np.ndarray, 'n *space'], images: Float[np.ndarray, 'n *space'], names: Mapping[str, int],
    pixel_ml: float,
) -> dict[str, Organ]:  # fmt: skip
    """Volume and centre of each organ of a scan, {name: value of its label}; the last two axes are rows and columns."""
    low, high = _body(images)
    return {name: _organ(labels == value, low, high, pixel_ml) for name, value in names.items()}


def _organ(mask, low, high, pixel_ml) -> Organ:
    where = np.nonzero(mask)[-2:]
    if not where[0].size:
        return Organ(0.0)
    centre = (np.array([axis.mean() for axis in where]) - low) / np.maximum(high - low, 1)
    return Organ(float(where[0].size * pixel_ml), tuple(centre.tolist()))


def _body(images) -> tuple[np.ndarray, np.ndarray]:
    """First and last (row, column) of the foreground; of the whole image if there is none."""
    where = np.nonzero(images > VISIBLE)[-2:]
    if not where[0].size:
        return np.zeros(2), np.array(images.shape[-2:], float) - 1
    low, high = np.percentile(np.stack(where), EDGES, axis=1)
    return low, high


def expected(scans: Sequence[Mapping[str, Organ]]) -> dict[str, Expected]:
    """What labelled scans say of each organ that at least half of them show."""
    names = dict.fromkeys(name for scan in scans for name in scan)
    shown = {name: [scan[name] for scan in scans if name in scan and scan[name].centre] for name in names}
    return {name: _mean(own) for name, own in shown.items() if own and len(own) >= PRESENT * len(scans)}


def _mean(shown: Sequence[Organ]) -> Expected:
    centres = np.array([organ.centre for organ in shown])
    volume = float(np.mean([organ.volume_ml for organ in shown]))
    return Expected(volume, tuple(centres.mean(0).tolist()), tuple(centres.std(0).tolist()))


def is_plausible(organ: Organ, by: Expected) -> bool:
    """Whether volume and centre of an organ are among those of labelled scans."""
    if not organ.centre or not in_range(organ.volume_ml / by.volume_ml):
        return False
    allowed = np.maximum(SPREADS * np.array(by.spread), MARGIN)
    return bool((np.abs(np.subtract(organ.centre, by.centre)) <= allowed).all())


def in_range(ratio: float) -> bool:
    """Whether a volume, as a share of the mean volume in labelled scans, is plausible."""
    return VOLUMES[0] <= ratio <= VOLUMES[1]


def plausible_share(scans: Sequence[Mapping[str, Organ]], by: Mapping[str, Expected]) -> float:
    """Share of plausible organs over all scans and expected organs; NaN without any."""
    judged = [is_plausible(scan[name], expected) for scan in scans for name, expected in by.items()]
    return float(np.mean(judged)) if judged else float('nan')


def volume_ratios(scans: Sequence[Mapping[str, Organ]], by: Mapping[str, Expected]) -> dict[str, float]:
    """Mean volume of each expected organ over the scans, as a share of its mean volume in labelled scans."""
    return {
        name: float(np.mean([scan[name].volume_ml for scan in scans]) / expected.volume_ml)
        for name, expected in by.items()
        if scans
    }
