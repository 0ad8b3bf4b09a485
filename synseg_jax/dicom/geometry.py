"""Geometry of a DICOM series: the affine of its volume; gaps, duplicates and mixed series are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from synseg_jax.dicom.frames import Slice
from synseg_jax.errors import InputError, warn

UNEVEN = 0.02  # relative deviation of a slice distance that means a missing slice
ROUNDED_MM = 0.11  # allowed deviation in mm, for positions rounded to one decimal


def affine(path: Path, frames: Sequence[Slice]) -> Float[np.ndarray, '4 4']:
    """Affine from voxel index (column, row, slice) to RAS mm of ordered frames; InputError for gaps and duplicates."""
    first, origins = frames[0], np.stack([frame.origin for frame in frames])
    if len(frames) == 1:
        if not first.distance:
            warn('%s: no SpacingBetweenSlices or SliceThickness; assuming 1 mm', path)
        step = first.normal * (first.distance or 1.0)
    else:
        gaps = np.diff(origins, axis=0) @ first.normal
        _check_gaps(path, frames, gaps)
        step = (origins[-1] - origins[0]) / (len(frames) - 1)
        off = np.abs(origins - origins[0] - np.outer(np.arange(len(frames)), step)).max()
        if off > max(1.5 * ROUNDED_MM, UNEVEN * np.linalg.norm(step)):
            raise InputError(f'{path}: slices lie up to {off:.2f} mm off a straight line; they are not one volume')
        tilt = np.degrees(np.arccos(np.clip(step @ first.normal / np.linalg.norm(step), -1, 1)))
        if tilt > 0.5:
            warn('%s: slices are tilted by %.1f degrees (gantry); the affine is sheared by it', path, tilt)
    placed = np.eye(4)
    placed[:3] = np.stack([first.rows * first.spacing[1], first.columns * first.spacing[0], step, first.origin], 1)
    if abs(np.linalg.det(placed[:3, :3])) < 1e-9:
        raise InputError(f'{first.file}: its orientation or spacing is zero; repair the header')
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ placed


def check_agreement(frames: Sequence[Slice]) -> None:
    """InputError unless all frames agree with the first in what one volume requires."""
    for frame in frames:
        for name, fits in _agreement(frames[0], frame).items():
            if not fits:
                one, other = _told(frames[0], frame), _told(frame, frames[0])
                raise InputError(
                    f'{frame.file.parent / other}: another {name} than {one} of the same series; part them'
                )


def _told(frame, other) -> str:
    """The file name of a frame, with the frame number if `other` is in the same file."""
    return frame.file.name + (f' frame {frame.frame + 1}' if frame.file == other.file else '')


def _agreement(first, frame) -> dict[str, bool]:
    """{property: whether two frames agree in it} of what frames of a volume share."""
    return {
        'number of rows and columns': first.shape == frame.shape,
        'spacing': np.allclose(first.spacing, frame.spacing, rtol=1e-3),
        'orientation': np.allclose(first.rows, frame.rows, atol=2e-3)
        and np.allclose(first.columns, frame.columns, atol=2e-3),
        'photometric interpretation': first.photometric == frame.photometric,
    }


def _check_gaps(path, frames, gaps) -> None:
    usual = float(np.median(gaps))
    double = np.flatnonzero(gaps < 1e-3)
    if len(double):
        one, two = frames[double[0]], frames[double[0] + 1]
        raise InputError(
            f'{path}: {_told(one, two)} and {_told(two, one)} lie at the same place ({len(double)} such pairs): '
            'doubles, or several volumes in one series (echoes, b-values, phases); leave one of them'
        )
    wide = np.flatnonzero(np.abs(gaps - usual) > max(UNEVEN * usual, min(ROUNDED_MM, 0.25 * usual)))
    if len(wide):
        i = wide[0]
        raise InputError(
            f'{path}: slices missing or uneven: {gaps[i]:.2f} mm from {_told(*frames[i : i + 2])} to '
            f'{_told(*frames[i : i + 2][::-1])}, elsewhere {usual:.2f} mm ({len(wide)} such gaps); '
            'bring the missing files'
        )
    numbers = sorted(frame.instance for frame in frames if frame.instance is not None)
    if usual > 1.5 * frames[0].thickness > 0 and numbers and numbers[-1] - numbers[0] > len(frames) - 1:
        warn(
            '%s: %d slices of %.2f mm lie %.2f mm apart and are numbered %d to %d; were some left out?',
            *(path, len(frames), frames[0].thickness, usual, numbers[0], numbers[-1]),
        )
