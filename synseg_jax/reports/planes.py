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

MARGIN_MM = (10.0, 10.0, 40.0)  # of the scan shown beside, before and behind the body, above and below the organs
VISIBLE, EDGE = 0.1, 0.02  # intensity of what is no air, and the share of a slice that shows it where the body begins
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
    seen = _seen(image, labels, spacing_mm)
    planes = list(_planes(image[seen], labels[seen], spacing_mm, seen, labels.shape))
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


def _planes(image, labels, spacing_mm, seen, shape) -> Iterator[Plane]:
    """The slices of the part `seen` of a scan of `shape`, and their numbers in the whole scan."""
    for name in slices.SIDES:
        stack, marked = slices.to_stack(image, name), slices.to_stack(labels, name)
        at, axis = figures.telling_slice(marked, 0), slices.VIEWS[name][0][0]
        mm = slices.stack_spacing(spacing_mm, name)[1:]
        size = tuple(float(n * step) for n, step in zip(stack.shape[1:], mm, strict=True))
        title = f'{name}, slice {seen[axis].start + at + 1} of {shape[axis]}'
        yield Plane(name, title, stack[at], marked[at], size)


def _seen(image, labels, spacing_mm) -> tuple[slice, slice, slice]:
    """The part that is shown: the body, and the axial slices near organs; whole axes where there are none."""
    visible = image > VISIBLE
    profiles = visible.mean((1, 2)) > EDGE, visible.mean((0, 2)) > EDGE, labels.any((0, 1))
    axes = zip(profiles, MARGIN_MM, spacing_mm, strict=True)
    return tuple(_between(profile, round(margin / mm)) for profile, margin, mm in axes)


def _between(profile, margin) -> slice:
    marked = np.flatnonzero(profile)
    if not marked.size:
        return slice(0, len(profile))
    return slice(max(0, int(marked[0]) - margin), min(len(profile), int(marked[-1]) + 1 + margin))


def _show(axes, plane: Plane) -> None:
    axes.set_axis_off()
    axes.imshow(plane.image, cmap='gray', vmin=0, vmax=1, aspect='auto', interpolation='bilinear')
    figures.outline(axes, plane.labels, linewidths=1.4)
    axes.set(xlim=(-0.5, plane.image.shape[1] - 0.5), ylim=(plane.image.shape[0] - 0.5, -0.5))
    above = {'color': '0.8', 'fontsize': 9, 'ha': 'center', 'va': 'bottom'}
    axes.text(0.5, 1.0, plane.title, **above, transform=axes.transAxes)
    corner = {'color': 'w', 'fontsize': 11, 'fontweight': 'bold', 'va': 'top'}
    for x, align, side in zip((0.01, 0.99), ('left', 'right'), slices.SIDES[plane.name], strict=True):
        axes.text(x, 0.98, side, ha=align, **corner, transform=axes.transAxes)
