"""Figures of scans: panels of images and contours on slices; and the style of all figures.

A class has the same colour in all figures (imaging/colours.py).  Letters are legible on half a slide.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Integer, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from scipy import ndimage

from synseg_jax.evaluation import registry
from synseg_jax.evaluation.metric import Metric
from synseg_jax.evaluation.summary import NOT_ORGANS, Case, organ_means
from synseg_jax.files import atomic_file
from synseg_jax.imaging.colours import colour

STYLE = {
    'font.size': 8,
    'axes.titlesize': 'medium',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.linewidth': 0.6,
    'legend.frameon': False,
}
SLIDE_IN, LETTERS_PT = 6.67, 10.0  # half the width of a 16:9 slide, and how large letters are there at least
SMALLEST_PT = 8.0  # letters of a figure that is narrower than that
DPI = 200
LARGEST = 4096  # pixels of a figure of scans along either side
SLENDER = 8.0  # largest aspect ratio of a slice; beyond it the aspect is not kept
COLUMN_IN = 1.3  # width of a column of a panel
SCAN_IN = 2.4  # width of a slice with contours
LETTER = 0.62  # width of a letter by its size
PNG_LEVEL = 3  # files are a tenth larger than at Pillow's default of 6, and written in a third of the time


Picture = np.ndarray | tuple[np.ndarray, np.ndarray]  # grey values in [0, 1], or with a label map to overlay


class Panel(NamedTuple):
    """A slice with contours of reference and prediction; rows run down, columns to the right."""

    title: str
    image: Float[np.ndarray, 'h w']  # [0, 1]
    reference: Integer[np.ndarray, 'h w'] | None
    prediction: Integer[np.ndarray, 'h w']
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    note: str = ''  # below the title
    sides: tuple[str, str] = ('', '')  # of the patient, on the left and on the right, as in imaging.slices.SIDES


def letters_pt(width_in: float) -> float:
    """Size of the letters of a figure that are legible where it fills half a slide."""
    return max(SMALLEST_PT, LETTERS_PT * width_in / SLIDE_IN)


def style(width_in: float) -> dict:
    """Matplotlib's settings for a figure of this width."""
    return STYLE | {'font.size': letters_pt(width_in)}


def save(figure: Figure, path: str | Path, dpi: float = DPI, fit: bool = True) -> None:
    """Writes a figure atomically; `fit` crops its margins."""
    size = {'bbox_inches': 'tight', 'pad_inches': 0.05} if fit else {}
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=dpi, **size, pil_kwargs={'compress_level': PNG_LEVEL})


def axis_limits(metric: Metric) -> tuple[float, float] | None:
    """The range of a metric with a margin, so that markers at its ends are not cut; None if it is unbounded."""
    low, high = metric.limits
    margin = 0.02 * (high - low)
    return (low - margin, high + margin) if np.isfinite(margin) else None


def telling_slice(labels: Integer[np.ndarray, '*space'], axis: int = -1) -> int:
    """Index along `axis` of the slice with the most classes, then the most labelled voxels."""
    slices = np.moveaxis(np.asarray(labels), axis, 0)
    return max(range(len(slices)), key=lambda i: (np.unique(slices[i]).size, np.count_nonzero(slices[i]), -i))


def telling_cases(cases: Mapping[str, Case], measure: str = 'dice') -> dict[str, str]:
    """`{'worst': case, 'median': case, 'best': case}` by a metric's mean over organs.

    For an even number of cases the median is the better of the middle two.  A single case is the best, two are best
    and worst; cases without a value are ignored.
    """
    means = organ_means(cases, measure)
    ranked = sorted(means, key=means.__getitem__, reverse=not registry.metric(measure).lower_is_better)
    places = {'worst': len(ranked) - 1, 'median': (len(ranked) - 1) // 2, 'best': 0}
    told = ('best', 'worst', 'median')[: len(ranked)]
    return {name: ranked[at] for name, at in places.items() if name in told}


def in_planes(row: Mapping[str, Picture]) -> list[dict[str, Picture]]:
    """A row of 2-D pictures unchanged; of volumes `[d, h, w]` of axial slices three rows, a middle slice per plane."""
    first = next(iter(row.values()))
    if (first[0] if isinstance(first, tuple) else first).ndim == 2:
        return [dict(row)]

    def cut(volume):
        d, h, w = (length // 2 for length in volume.shape)
        return volume[d], volume[::-1, h], volume[::-1, :, w]

    found = {t: list(zip(*map(cut, v), strict=True)) if isinstance(v, tuple) else cut(v) for t, v in row.items()}
    return [{title: pictures[plane] for title, pictures in found.items()} for plane in range(3)]


def panel(
    path: str | Path,
    rows: Sequence[Mapping[str, Picture]],
    classes: Sequence[str],
    *,
    gap_before: str | None = None,
) -> None:
    """Draws a grid of slices with one example per row and one column per title; all rows have the same titles.

    A picture is a grey image `[h, w]` in [0, 1], or a pair of an image and a label map to overlay in colour.
    `gap_before` is the first column of a second group, such as the path b -> a beside the path a -> b.
    """
    titles = list(rows[0])
    if any(list(row) != titles for row in rows):
        raise ValueError('the rows of a panel have different titles')
    canvas, middles, width = _mosaic([_outlined(row, classes) for row in rows], titles, gap_before)
    height, wide = (length / width for length in canvas.shape[:2])
    points = letters_pt(COLUMN_IN * wide)
    heads = [title.replace(' ', '\n') for title in titles]
    lines = 1 + max(head.count('\n') for head in heads)
    with matplotlib.rc_context(style(COLUMN_IN * wide)):
        figure = Figure(figsize=(COLUMN_IN * wide, COLUMN_IN * height + lines * points / 50), layout='constrained')
        axes = figure.add_subplot()
        axes.set_axis_off()
        shown = _draw(axes, canvas[..., 0], canvas[..., 1].astype(int))
        size = min(points, 72 * COLUMN_IN / (LETTER * max(map(len, ' '.join(titles).split()))))
        for head, x in zip(heads, middles, strict=True):
            axes.text(x, -0.03 * width, head, ha='center', va='bottom', linespacing=1.0, fontsize=size)
        _class_legend(figure, sorted(shown), classes)
        save(figure, path, min(_dots_an_inch(figure), 4 * width / COLUMN_IN))  # 4 dots per pixel are enough


def overlays(
    path: str | Path, scans: Sequence[Panel], classes: Sequence[str], *, per_row: int = 4, title: str = ''
) -> None:
    """Draws contours of the organs on slices: the reference as a wide pale line, the prediction as a thin line on top.

    Without any reference there is no legend of line styles.
    """
    per_row = min(per_row, len(scans))
    n_rows, width = -(-len(scans) // per_row), SCAN_IN * per_row
    points = letters_pt(width)
    heads = [_wrapped([scan.title, scan.note], SCAN_IN, points) for scan in scans]
    lines = 1 + max(head.count('\n') for head in heads)
    tallest = SCAN_IN * max(map(_height_to_width, scans)) + lines * points / 55
    with matplotlib.rc_context(style(width)):
        figure = Figure(figsize=(width, tallest * n_rows + bool(title) * points / 45), layout='constrained')
        if title:
            figure.suptitle(_wrapped([title], width, points), fontsize=points)
        grid = figure.subplots(n_rows, per_row, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        shown = set()
        for axes, scan, head in zip(grid.flat, scans, heads, strict=False):
            aspect = _height_to_width(scan) * scan.image.shape[1] / scan.image.shape[0]
            axes.imshow(scan.image, cmap='gray', vmin=0, vmax=1, aspect=aspect)
            axes.set_title(head)
            _write_sides(axes, scan.sides)
            if scan.reference is not None:
                shown |= outline(axes, scan.reference, linewidths=3.6, alpha=0.5)
            shown |= outline(axes, scan.prediction, linewidths=1.1)
        strokes = [
            Line2D([], [], color='0.4', linewidth=3.6, alpha=0.5, label='reference'),
            Line2D([], [], color='0.2', linewidth=1.1, label='prediction'),
        ]
        compared = any(scan.reference is not None for scan in scans)
        _class_legend(figure, sorted(shown), classes, strokes if compared else ())
        save(figure, path, _dots_an_inch(figure))


def _wrapped(parts: Sequence[str], width_in: float, points: float) -> str:
    """Lines of letters of that size that are no longer than the width."""
    letters = max(8, int(width_in * 72 / (LETTER * points)))
    return '\n'.join(line for part in parts for line in textwrap.wrap(part, letters))


def _write_sides(axes, sides: tuple[str, str]) -> None:
    """The patient's sides, white with a black edge, in the upper corners of a slice, where there is mostly air."""
    edge = [withStroke(linewidth=2, foreground='black')]
    for side, x, align in zip(sides, (0.02, 0.98), ('left', 'right'), strict=True):
        look = {'color': 'white', 'fontweight': 'bold', 'path_effects': edge}
        axes.text(x, 0.97, side, transform=axes.transAxes, ha=align, va='top', **look)


def _outlined(row: Mapping[str, Picture], classes: Sequence[str]) -> dict[str, Picture]:
    """A row in which classes that are no organs, such as the body, are borders, which hide nothing."""
    around = [i for i, name in enumerate(classes) if name in NOT_ORGANS]

    def outlined(image, labels):
        inside = ndimage.binary_erosion(labels > 0)
        return image, np.where(np.isin(labels, around) & inside, 0, labels)

    return {title: outlined(*p) if isinstance(p, tuple) and around else p for title, p in row.items()}


def _mosaic(rows, titles, gap_before) -> tuple[np.ndarray, list[float], int]:
    """All pictures in one array of grey values and labels, NaN and 0 in the gaps; column centres; column width.

    One image on one pair of axes is many times faster than axes for each.
    """
    pairs = [[p if isinstance(p, tuple) else (p, np.zeros_like(p)) for p in map(row.get, titles)] for row in rows]
    tiles = [[_less_slender(np.stack(pair, -1)) for pair in row] for row in pairs]
    width = max(tile.shape[1] for row in tiles for tile in row)
    gap = max(1, round(0.02 * width))
    lefts = np.arange(len(titles)) * (width + gap)
    if gap_before:
        lefts[titles.index(gap_before) :] += max(2, round(0.12 * width))
    tops = np.cumsum([0, *(row[0].shape[0] + gap for row in tiles)])
    canvas = np.full((tops[-1] - gap, lefts[-1] + width, 2), (np.nan, 0), np.float32)
    for top, row in zip(tops, tiles, strict=False):
        for left, tile in zip(lefts, row, strict=True):
            left += (width - tile.shape[1]) // 2
            canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas, [left + (width - 1) / 2 for left in lefts], width


def _draw(axes, image, labels) -> set[int]:
    """Draws an image with its labels as an overlay, and returns the labels that occur."""
    axes.imshow(image, cmap='gray', vmin=0, vmax=1)
    present = {label for label in np.unique(labels).tolist() if label > 0}  # -1: unlabelled
    if present:
        colours = ListedColormap([colour(label) for label in range(1, max(present) + 1)])
        over = np.ma.masked_less_equal(labels, 0)
        axes.imshow(over, cmap=colours, vmin=0.5, vmax=max(present) + 0.5, alpha=0.65, interpolation='nearest')
    return present


def outline(axes: Axes, labels: Integer[np.ndarray, 'h w'], **style: object) -> set[int]:
    """Draw the contour of each class on a slice; returns the classes that occur."""
    present, counts = np.unique(np.asarray(labels)[np.asarray(labels) > 0], return_counts=True)
    for label in present[np.argsort(-counts)].tolist():  # smallest last: the body's contour would hide others
        # padding closes the contours of organs at the border of the slice
        mask = np.pad(np.asarray(labels) == label, 1).astype(np.float32)
        rows, columns = (np.arange(-1, n - 1) for n in mask.shape)
        axes.contour(columns, rows, mask, levels=[0.5], colors=[colour(label)], **style)
    return set(present.tolist())


def _height_to_width(scan: Panel) -> float:
    """Aspect ratio of a slice in mm, limited to `SLENDER`."""
    height, width = np.multiply(scan.image.shape, scan.spacing_mm)
    return float(np.clip(height / width, 1 / SLENDER, SLENDER))


def _dots_an_inch(figure) -> float:
    """DPI that keeps a figure within `LARGEST` pixels."""
    return min(DPI, LARGEST / (max(figure.get_size_inches()) + 0.1))


def _less_slender(tile: Shaped[np.ndarray, 'h w *k']) -> Shaped[np.ndarray, 'h2 w2 *k']:
    """A picture with rows or columns repeated until its aspect ratio is within `SLENDER`."""
    times = np.ceil(np.array([tile.shape[1] / tile.shape[0], tile.shape[0] / tile.shape[1]]) / SLENDER).astype(int)
    return tile.repeat(times[0], 0).repeat(times[1], 1)


def _class_legend(figure: Figure, labels: list[int], classes: Sequence[str], more: Sequence = ()) -> None:
    """Writes the legend below all axes, and makes the figure higher by as much."""
    handles = [*more, *(Patch(color=colour(label), label=classes[label]) for label in labels)]
    if handles:
        points = letters_pt(figure.get_figwidth())
        entry_in = (LETTER * max(len(handle.get_label()) for handle in handles) + 3) * points / 72
        columns = min(len(handles), max(2, int(figure.get_figwidth() // entry_in)))
        rows = -(-len(handles) // columns)
        figure.set_figheight(figure.get_figheight() + rows * points / 48)
        figure.legend(handles=handles, loc='outside lower center', ncols=columns, handlelength=1.2)
