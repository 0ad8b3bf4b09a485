"""Intensity normalisation to [0, 1] and back: Hounsfield windows for CT, percentiles for other modalities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.imaging import modality
from synseg_jax.imaging.arrays import Float, Shaped

LEVELS = 256  # minimum number of integers in a window; with fewer, rounding to int16 is visible


@dataclass(frozen=True)
class Normalisation:
    """Linear map of [low, high] to [0, 1], clipped."""

    low: float
    high: float

    def apply(self, x: Float[np.ndarray, '*space']) -> Float[np.ndarray, '*space']:
        """Normalised intensities in [0, 1], float32."""
        scaled = np.subtract(x, np.float32(self.low), dtype=np.float32)
        scaled *= np.float32(1 / (self.high - self.low))
        return np.clip(scaled, 0, 1, out=scaled)

    def invert(self, x: Float[np.ndarray, '*space']) -> Float[np.ndarray, '*space']:
        """Intensities, e.g. HU, of normalised values in [0, 1], float32."""
        return np.asarray(x, np.float32) * np.float32(self.high - self.low) + np.float32(self.low)


def window(low_hu: float, high_hu: float) -> Normalisation:
    """A fixed window in Hounsfield units; raises InputError unless low < high."""
    if not low_hu < high_hu:
        raise InputError(f'window_hu ({low_hu:g}, {high_hu:g}): the first must be below the second')
    return Normalisation(float(low_hu), float(high_hu))


def percentiles(
    array: Float[np.ndarray, '*space'], shares: Sequence[float] = (2.5, 97.5), name: str = ''
) -> Normalisation:
    """The window between two percentiles of `array`, given in percent; raises InputError if they are equal."""
    lower, upper = shares
    if not 0 <= lower < upper <= 100:
        raise InputError(f'percentiles ({lower:g}, {upper:g}): give two increasing numbers between 0 and 100')
    # in memory order: copying a NIfTI array to C order takes longer than computing its percentiles
    low, high = (float(value) for value in np.percentile(array.ravel('K'), [lower, upper]))
    if not low < high:
        raise InputError(
            f'{_prefix(name)}percentiles {lower:g} and {upper:g} are both {low:g}: no contrast; '
            'leave the scan out or widen data.percentiles'
        )
    return Normalisation(low, high)


def is_ct(channel: str) -> bool:
    """Whether a channel is in Hounsfield units, by its name: 'CT' as in nnU-Net, 'CTA', 'CT_portal' and so on."""
    return modality.of_channel(channel) == 'CT'


def for_channel(
    channel: str,
    array: Float[np.ndarray, '*space'],
    window_hu: Sequence[float],
    shares: Sequence[float],
    name: str = '',
) -> Normalisation:
    """The HU window for CT (see `is_ct`), percentiles for other channels; raises InputError for no contrast."""
    if not is_ct(channel):
        return percentiles(array, shares, name)
    hu = window(*window_hu)
    if min(array.max(), hu.high) <= max(array.min(), hu.low):
        raise InputError(
            f'{_prefix(name)}values {array.min():g} to {array.max():g} have no contrast in the window '
            f'{hu.low:g} to {hu.high:g} HU; leave the scan out or change data.window_hu'
        )
    return hu


def _prefix(name) -> str:
    return f'{name}: ' if name else ''


def stored(x: Float[np.ndarray, '*space'], normalisation: Normalisation, channel: str) -> Shaped[np.ndarray, '*space']:
    """Intensities in the type to write: int16 for CT and where it keeps range and resolution, else float32.

    CT is int16 because scanners store Hounsfield units so.
    """
    low, high = normalisation.low, normalisation.high
    fits = -(2**15) <= low and high < 2**15 and high - low >= LEVELS
    return np.rint(x).astype(np.int16) if is_ct(channel) or fits else np.asarray(x, np.float32)


def window_warning(normalisation: Normalisation, array: Float[np.ndarray, '*space']) -> str | None:
    """A warning if the values of `array` fill less than half of the window; else None."""
    low, high = float(array.min()), float(array.max())
    share = (min(high, normalisation.high) - max(low, normalisation.low)) / (normalisation.high - normalisation.low)
    if share >= 0.5:
        return None
    return (
        f'values {low:g} to {high:g} fill only {max(share, 0):.0%} of the window '
        f'{normalisation.low:g} to {normalisation.high:g}; narrow data.window_hu'
    )
