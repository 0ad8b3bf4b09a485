"""Pictures for papers and logs: panels of images, contours on scans, training curves, boxplots.

Every class keeps one colour in all pictures of scans.  The colours are Okabe and Ito's seven, which colour-blind
readers can tell apart, then some of Paul Tol's muted ones for long lists of organs.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Integer
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from synseg_jax.evaluation.summary import replacing

_OKABE_ITO = ('#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7')
_TOL_MUTED = ('#882255', '#44AA99', '#999933', '#AA4499', '#DDCC77', '#CC6677', '#88CCEE', '#117733')
COLOURS = _OKABE_ITO + _TOL_MUTED
_LINES = tuple(c for c in COLOURS if c not in ('#F0E442', '#DDCC77'))  # yellows are lost on white
_STYLE = {
    'font.size': 8,
    'axes.titlesize': 8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.linewidth': 0.6,
    'legend.frameon': False,
    'savefig.dpi': 200,
}
_GROUPS = {
    'adv': 'adversarial (generators)',
    'dis': 'adversarial (discriminators)',
    'cyc': 'cycle consistency',
    'seg': 'segmentation',
    'feat': 'features',
    'idt': 'identity',
    'lr': 'learning rate',
    'grad_norm': 'gradient norm',
}


class Scan(NamedTuple):
    """One slice to outline, drawn as it lies: rows down, columns to the right."""

    title: str
    image: Float[np.ndarray, 'h w']  # [0, 1]
    reference: Integer[np.ndarray, 'h w']
    prediction: Integer[np.ndarray, 'h w']
    spacing_mm: tuple[float, float] = (1.0, 1.0)


def colour(label: int) -> str:
    """The colour of a class by its index from 1; repeats after the last."""
    return COLOURS[(label - 1) % len(COLOURS)]


def telling_slice(labels: Integer[np.ndarray, '*space'], axis: int = -1) -> int:
    """Index along `axis` of the slice with the most classes and, among those, the most labelled voxels."""
    slices = np.moveaxis(np.asarray(labels), axis, 0)
    return max(range(len(slices)), key=lambda i: (np.unique(slices[i]).size, np.count_nonzero(slices[i]), -i))


def panel(
    path: str | Path,
    rows: Sequence[Mapping[str, np.ndarray | tuple[np.ndarray, np.ndarray]]],
    classes: Sequence[str],
    *,
    gap_before: str | None = None,
) -> None:
    """Draws a grid of slices: one example per row, one column per title, all rows with the titles of the first.

    A picture is a grey image `[h, w]` in [0, 1] or a pair of an image and a label map that is laid over it in colour.
    `gap_before` names the column that begins a second group, such as the path b -> a beside the path a -> b.
    """
    titles = list(rows[0])
    if any(list(row) != titles for row in rows):
        raise ValueError('the rows of a panel have different titles')
    columns = _columns(titles, gap_before)
    widths = [1.0 if title else 0.12 for title in columns]
    first = rows[0][titles[0]]
    height, width = (first[0] if isinstance(first, tuple) else first).shape
    with matplotlib.rc_context(_STYLE):
        tall = 1.3 * height / width
        figure = Figure(figsize=(1.3 * sum(widths), len(rows) * tall + 0.5), layout='constrained')
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
        grid = figure.add_gridspec(len(rows), len(columns), width_ratios=widths)
        shown = set()
        for i, row in enumerate(rows):
            for j, title in enumerate(columns):
                if title is None:
                    continue
                axes = figure.add_subplot(grid[i, j])
                axes.set_axis_off()
                shown |= _draw(axes, row[title])
                if i == 0:
                    axes.set_title(title.replace(' of ', '\nof '), pad=3)
        _class_legend(figure, sorted(shown), classes)
        _save(figure, path)


def overlays(path: str | Path, scans: Sequence[Scan], classes: Sequence[str], *, per_row: int = 4) -> None:
    """Outlines the organs on slices: the reference as a pale broad band, the prediction as a thin line over it."""
    per_row = min(per_row, len(scans))
    n_rows = -(-len(scans) // per_row)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(2.4 * per_row, 2.4 * n_rows * _tallest(scans) + 0.6), layout='constrained')
        grid = figure.subplots(n_rows, per_row, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        shown = set()
        for axes, scan in zip(grid.flat, scans, strict=False):
            axes.imshow(scan.image, cmap='gray', vmin=0, vmax=1, aspect=scan.spacing_mm[0] / scan.spacing_mm[1])
            axes.set_title(scan.title)
            shown |= _outline(axes, scan.reference, linewidths=3.2, alpha=0.5)
            shown |= _outline(axes, scan.prediction, linewidths=0.9)
        strokes = [
            Line2D([], [], color='0.4', linewidth=3.2, alpha=0.5, label='reference'),
            Line2D([], [], color='0.2', linewidth=0.9, label='prediction'),
        ]
        _class_legend(figure, sorted(shown), classes, strokes)
        _save(figure, path)


def curves(path: str | Path, csv_path: str | Path, *, window: int | None = None, per_row: int = 3) -> None:
    """Draws every column of a table of metrics against the step: values faint, their rolling mean over them.

    Columns are `step`, perhaps `epoch`, and terms; those that share a beginning (`cyc_a`, `cyc_b`; `lr/...`) share
    axes.  `window` is the number of rows in the mean, default a fiftieth of all.  Cells that are empty or
    not finite are left out, and so is a last row that is still being written.
    """
    table = _read_columns(csv_path)
    step = table.pop('step')
    table.pop('epoch', None)
    groups = _grouped(name for name, values in table.items() if np.isfinite(values).any())
    if not groups:
        raise ValueError(f'{csv_path} holds no values to draw')
    window = window or max(1, len(step) // 50)
    per_row = min(per_row, len(groups))
    n_rows = -(-len(groups) // per_row)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(2.7 * per_row, 2.0 * n_rows + 0.2), layout='constrained')
        grid = figure.subplots(n_rows, per_row, sharex=True, squeeze=False)
        for axes, (group, names) in zip(grid.flat, groups.items(), strict=False):
            axes.set_title(_GROUPS.get(group, group), loc='left')
            for i, (label, values) in enumerate(_distinct(table, names).items()):
                _curve(axes, step, values, 1 if group == 'lr' else window, _LINES[i % len(_LINES)], label)
            if group == 'grad_norm':
                axes.set_yscale('log')
            elif min(np.nanmin(table[name]) for name in names) >= 0:
                axes.set_ylim(bottom=0)
                axes.ticklabel_format(axis='y', scilimits=(-3, 4))
            axes.legend(fontsize=6, handlelength=1, ncols=2 if len(names) > 3 else 1, frameon=True, edgecolor='none')
        for axes in grid.flat[len(groups) :]:
            axes.set_axis_off()
        for axes in grid.flat[max(0, len(groups) - per_row) : len(groups)]:
            axes.set_xlabel('step')
            axes.tick_params(labelbottom=True)
        _save(figure, path)


def boxplots(
    path: str | Path, systems: Mapping[str, Mapping[str, Sequence[float | None]]], *, measure: str = 'Dice'
) -> None:
    """Draws one box per system and class with every case as a dot: median, quartiles, whiskers to 1.5 quartile ranges.

    `systems` is `{system: {class: values over cases}}`; None and NaN are left out.
    """
    names = list(dict.fromkeys(name for of in systems.values() for name in of))
    width = 0.8 / len(systems)
    width_in = min(10.0, max(3.0, 0.8 + len(names) * (0.35 + 0.28 * len(systems))))
    jitter = np.random.default_rng(0)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, 2.8), layout='constrained')
        axes = figure.subplots()
        for i, of in enumerate(systems.values()):
            for j, name in enumerate(names):
                values = np.array([v for v in of.get(name, ()) if v is not None and np.isfinite(v)])
                if values.size:
                    _box(axes, values, j + (i - (len(systems) - 1) / 2) * width, 0.8 * width, colour(i + 1), jitter)
        axes.set_xlim(-0.6, len(names) - 0.4)
        turned = max(map(len, names), default=0) > 8 + 3 * len(systems)
        axes.set_xticks(range(len(names)), names, rotation=30 if turned else 0, ha='right' if turned else 'center')
        axes.set_ylabel(measure)
        axes.yaxis.grid(True, linewidth=0.4, color='0.9')
        axes.set_axisbelow(True)
        if measure == 'Dice':
            axes.set_ylim(-0.02, 1.02)
        if len(systems) > 1:
            handles = [Patch(color=colour(i + 1), label=system) for i, system in enumerate(systems)]
            figure.legend(handles=handles, loc='outside upper center', ncols=min(4, len(handles)))
        _save(figure, path)


def _columns(titles: list[str], gap_before: str | None) -> list[str | None]:
    if gap_before is None:
        return list(titles)
    at = titles.index(gap_before)
    return [*titles[:at], None, *titles[at:]]


def _draw(axes, picture) -> set[int]:
    """Draws an image, perhaps with labels over it, and returns the labels seen."""
    image, labels = picture if isinstance(picture, tuple) else (picture, None)
    axes.imshow(image, cmap='gray', vmin=0, vmax=1)
    if labels is None:
        return set()
    present = set(np.unique(labels).tolist()) - {0}
    if present:
        colours = ListedColormap([colour(label) for label in range(1, max(present) + 1)])
        over = np.ma.masked_equal(labels, 0)
        axes.imshow(over, cmap=colours, vmin=0.5, vmax=max(present) + 0.5, alpha=0.65, interpolation='nearest')
    return present


def _outline(axes, labels, **style) -> set[int]:
    present = set(np.unique(labels).tolist()) - {0}
    for label in present:
        # a frame of outside closes the contours of organs that the slice cuts off
        mask = np.pad(np.asarray(labels) == label, 1).astype(np.float32)
        rows, columns = (np.arange(-1, n - 1) for n in mask.shape)
        axes.contour(columns, rows, mask, levels=[0.5], colors=[colour(label)], **style)
    return present


def _tallest(scans: Sequence[Scan]) -> float:
    sides = [np.multiply(scan.image.shape, scan.spacing_mm) for scan in scans]
    return max(height / width for height, width in sides)


def _class_legend(figure: Figure, labels: list[int], classes: Sequence[str], more: Sequence = ()) -> None:
    handles = [*more, *(Patch(color=colour(label), label=classes[label]) for label in labels)]
    if handles:
        wide = max(2, int(figure.get_figwidth() // 1.05))
        figure.legend(handles=handles, loc='outside lower center', ncols=min(len(handles), wide), handlelength=1.2)


def _read_columns(csv_path: str | Path) -> dict[str, np.ndarray]:
    with open(csv_path, newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values() and np.isfinite(_number(row['step']))]
        return {name: np.array([_number(row[name]) for row in rows]) for name in reader.fieldnames or ()}


def _number(cell: str | None) -> float:
    try:
        value = float(cell or 'nan')
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def _grouped(names) -> dict[str, list[str]]:
    """Names by what stands before the first slash or, without one, the first underscore; losses first."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: '/' in name):
        groups.setdefault(name.split('/')[0] if '/' in name else name.split('_')[0], []).append(name)
    return groups


def _distinct(table: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns under their names without `group/`, those with the same values as one under all their names."""
    same: dict[bytes, list[str]] = {}
    for name in names:
        same.setdefault(table[name].tobytes(), []).append(name)
    return {', '.join(name.split('/')[-1] for name in equal): table[equal[0]] for equal in same.values()}


def _curve(axes, step, values, window: int, line_colour: str, label: str) -> None:
    kept = np.isfinite(values)
    step, values = step[kept], values[kept]
    if window > 1:
        axes.plot(step, values, color=line_colour, alpha=0.25, linewidth=0.5)
    axes.plot(step, _rolling_mean(values, window), color=line_colour, linewidth=1.2, label=label)


def _rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each place, of fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    return (total[end] - total[start]) / (end - start)


def _box(axes, values, position: float, width: float, box_colour: str, jitter: np.random.Generator) -> None:
    axes.boxplot(
        values,
        positions=[position],
        widths=width,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={'facecolor': box_colour, 'alpha': 0.55, 'linewidth': 0.6},
        medianprops={'color': 'black', 'linewidth': 1.2},
        whiskerprops={'linewidth': 0.6},
        capprops={'linewidth': 0.6},
    )
    places = position + jitter.uniform(-0.25, 0.25, values.size) * width
    axes.scatter(places, values, s=4, color='0.2', alpha=0.6, linewidths=0, zorder=3)


def _save(figure: Figure, path: str | Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, bbox_inches='tight', pad_inches=0.05)
