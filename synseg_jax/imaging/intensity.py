"""Stored intensities to [0, 1] and back: Hounsfield windows for CT, percentiles for everything else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synseg_jax.errors import InputError
from synseg_jax.imaging import modality
from synseg_jax.imaging.arrays import Float, Shaped

LEVELS = 256  # whole numbers in a window, below which rounding to them is seen


@dataclass(frozen=True)
class Normalisation:
    """The affine map that takes [low, high] to [0, 1]; what lies outside is clipped."""

    low: float
    high: float

    def apply(self, x: Float[np.ndarray, '*space']) -> Float[np.ndarray, '*space']:
        """`x` in [0, 1], float32."""
        scaled = np.subtract(x, np.float32(self.low), dtype=np.float32)
        scaled *= np.float32(1 / (self.high - self.low))
        return np.clip(scaled, 0, 1, out=scaled)

    def invert(self, x: Float[np.ndarray, '*space']) -> Float[np.ndarray, '*space']:
        """The intensities, e.g. HU, that [0, 1] stands for, float32."""
        return np.asarray(x, np.float32) * np.float32(self.high - self.low) + np.float32(self.low)


def window(low_hu: float, high_hu: float) -> Normalisation:
    """A fixed window in Hounsfield units; InputError unless low < high."""
    if not low_hu < high_hu:
        raise InputError(f'window_hu ({low_hu:g}, {high_hu:g}): the first must be below the second')
    return Normalisation(float(low_hu), float(high_hu))


def percentiles(
    array: Float[np.ndarray, '*space'], shares: Sequence[float] = (2.5, 97.5), name: str = ''
) -> Normalisation:
    """The window between two percentiles of `array`, given in percent; InputError where they coincide."""
    lower, upper = shares
    if not 0 <= lower < upper <= 100:
        raise InputError(f'percentiles ({lower:g}, {upper:g}): give two rising numbers between 0 and 100')
    # in the order of memory: putting the voxels of a NIfTI file in order takes longer than their percentiles
    low, high = (float(value) for value in np.percentile(array.ravel('K'), [lower, upper]))
    if not low < high:
        raise InputError(
            f'{_of(name)}percentiles {lower:g} and {upper:g} are both {low:g}, so it has no contrast; '
            'leave the scan out or widen data.percentiles'
        )
    return Normalisation(low, high)


def is_ct(channel: str) -> bool:
    """Whether a channel holds Hounsfield units by its name: 'CT', as nnU-Net has it, 'CTA', 'CT_portal' and so on."""
    return modality.named(channel) == 'CT'


def for_channel(
    channel: str,
    array: Float[np.ndarray, '*space'],
    window_hu: Sequence[float],
    shares: Sequence[float],
    name: str = '',
) -> Normalisation:
    """The window for a channel of CT, see `is_ct`, the percentiles for any other; InputError for no contrast."""
    if not is_ct(channel):
        return percentiles(array, shares, name)
    chosen = window(*window_hu)
    if min(array.max(), chosen.high) <= max(array.min(), chosen.low):
        raise InputError(
            f'{_of(name)}all of its values ({array.min():g} to {array.max():g}) look the same in the window '
            f'{chosen.low:g} to {chosen.high:g} HU; leave the scan out or change data.window_hu'
        )
    return chosen


def _of(name) -> str:
    return f'{name}: ' if name else ''


def stored(x: Float[np.ndarray, '*space'], normalisation: Normalisation, channel: str) -> Shaped[np.ndarray, '*space']:
    """Intensities as a file is to hold them: int16 if that keeps the range and resolution of the window, else float32.

    CT is int16, as scanners store Hounsfield units.
    """
    low, high = normalisation.low, normalisation.high
    fits = -(2**15) <= low and high < 2**15 and high - low >= LEVELS
    return np.rint(x).astype(np.int16) if is_ct(channel) or fits else np.asarray(x, np.float32)


def unused(normalisation: Normalisation, array: Float[np.ndarray, '*space']) -> str | None:
    """A warning, if the values of `array` fill less than half of the window; else None."""
    low, high = float(array.min()), float(array.max())
    share = (min(high, normalisation.high) - max(low, normalisation.low)) / (normalisation.high - normalisation.low)
    if share >= 0.5:
        return None
    return (
        f'values {low:g} to {high:g} fill only {max(share, 0):.0%} of the window '
        f'{normalisation.low:g} to {normalisation.high:g}; narrow data.window_hu'
    )
