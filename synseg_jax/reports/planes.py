"""A picture of a segmented scan: one slice in each of three planes, through the organs, in radiological convention."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Integer
from matplotlib.figure import Figure

from synseg_jax.imaging import slices
from synseg_jax.reports import figures

MARGIN_MM = 40.0  # of the scan shown above and below the organs
SIDES = {'axial': 'RL', 'coronal': 'RL', 'sagittal': 'AP'}  # what the left and the right edge of a picture show
WIDTH_IN, GAP_IN, TITLE_IN, TALLEST_IN = 12.6, 0.12, 0.28, 7.0
DPI = 150


class Plane(NamedTuple):
    """A slice of a canonical volume."""

    name: str
    title: str
    image: Float[np.ndarray, 'h w']  # [0, 1]
    labels: Integer[np.ndarray, 'h w']
    size_mm: tuple[float, float]  # height and width


def draw(
    path: Path,
    image: Float[np.ndarray, 'x y z'],
    labels: Integer[np.ndarray, 'x y z'],
    spacing_mm: tuple[float, float, float],
) -> None:
    """Draw contours of all classes on the slices with the most classes, all planes at one scale; axes are LPS."""
    planes = list(_planes(image, labels, spacing_mm))
    width_mm, height_mm = sum(p.size_mm[1] for p in planes), max(p.size_mm[0] for p in planes)
    inches = min((WIDTH_IN - GAP_IN * (len(planes) - 1)) / width_mm, TALLEST_IN / height_mm)
    height_in, left = height_mm * inches + TITLE_IN, 0.0
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(width_mm * inches + GAP_IN * (len(planes) - 1), height_in), facecolor='black')
        wide = figure.get_figwidth()
        for plane in planes:
            height, width = (mm * inches for mm in plane.size_mm)
            below = height_mm * inches - height
            _show(figure.add_axes((left / wide, below / height_in, width / wide, height / height_in)), plane)
            left += width + GAP_IN
        figures.save(figure, path, DPI, fit=False)


def _planes(image, labels, spacing_mm) -> Iterator[Plane]:
    seen = _about_organs(labels, spacing_mm[2])
    for name in SIDES:
        stack, marked = slices.to_stack(image, name), slices.to_stack(labels, name)
        at = figures.telling_slice(marked, 0)
        rows = slice(None) if name == 'axial' else slice(len(image[0, 0]) - seen.stop, len(image[0, 0]) - seen.start)
        mm = slices.stack_spacing(spacing_mm, name)[1:]
        shown = stack[at, rows]
        size = tuple(float(n * step) for n, step in zip(shown.shape, mm, strict=True))
        yield Plane(name, f'{name}, slice {at + 1} of {len(stack)}', shown, marked[at, rows], size)


def _about_organs(labels, slice_mm) -> slice:
    """The axial slices near organs; all where there are none."""
    marked, margin = np.flatnonzero(labels.any((0, 1))), round(MARGIN_MM / slice_mm)
    if not marked.size:
        return slice(0, labels.shape[2])
    return slice(max(0, int(marked[0]) - margin), min(labels.shape[2], int(marked[-1]) + 1 + margin))


def _show(axes, plane: Plane) -> None:
    axes.set_axis_off()
    axes.imshow(plane.image, cmap='gray', vmin=0, vmax=1, aspect='auto', interpolation='bilinear')
    figures.outline(axes, plane.labels, linewidths=1.4)
    axes.set(xlim=(-0.5, plane.image.shape[1] - 0.5), ylim=(plane.image.shape[0] - 0.5, -0.5))
    axes.text(0.5, 1.0, plane.title, color='0.75', ha='center', va='bottom', transform=axes.transAxes)
    for x, side in zip((0.02, 0.98), SIDES[plane.name], strict=True):
        axes.text(x, 0.5, side, color='w', fontsize=11, fontweight='bold', ha='center', transform=axes.transAxes)
