"""Training curves, and boxplots of an evaluation."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from synseg_jax.evaluation import registry
from synseg_jax.imaging.colours import colour
from synseg_jax.reports.curve_panel import Panel
from synseg_jax.reports.figures import axis_limits, save, style
from synseg_jax.reports.modality_names import LETTERS, column

_GROUPS = {  # in the order in which they are drawn; {a} and {b} are the modalities
    'scores': 'validation, Dice',
    'volume': 'organ volume, {b} / {a}',
    'change': 'change by translation',
    'seg': 'segmentation',
    'pseudo': 'pseudo labels',
    'agree': 'agreement of views',
    'judge': 'judge',
    'cyc': 'cycle consistency',
    'idt': 'identity',
    'feat': 'features',
    'mind': 'structure (MIND)',
    'nce': 'patches (NCE)',
    'adv': 'adversarial, generators',
    'dis': 'adversarial, discriminators',
    'grad_norm': 'gradient norm',
    'lr': 'learning rate',
}
PLOT_IN = (3.0, 2.45)  # width and height of the axes and what belongs to them


def curves(
    path: str | Path, csv_path: str | Path, validation_path: str | Path | None = None, *, window: int | None = None,
    per_row: int = 3, modality: Mapping[str, str] = LETTERS,
) -> None:  # fmt: skip
    """Plots every column of a CSV of logged scalars against the step: raw values faint, their rolling mean on top.

    Columns with the same prefix (`cyc_a`, `cyc_b`; `lr/...`) share axes; `epoch` is ignored.  `window` is the length
    of the rolling mean in rows, by default a fiftieth of all.  Left out are empty and non-finite cells, an incomplete
    last row, and counts of skipped steps if all are 0.  First come the columns of `validation_path`, if it exists.
    Legends call the domains by their `modality`.
    """
    panels = _logged_panels(csv_path, window, modality)
    if not panels:
        raise ValueError(f'{csv_path} holds no values to draw')
    validated = validation_path and Path(validation_path).is_file()
    panels += _validation_panels(validation_path, modality) if validated else []
    order = [*_GROUPS]
    panels.sort(key=lambda panel: order.index(panel.group) if panel.group in order else len(order))
    per_row = min(per_row, sum(panel.cells for panel in panels))
    placed = _placed(panels, per_row)
    n_rows = -(-(max(placed) + 1) // per_row)
    width, height = PLOT_IN[0] * per_row, PLOT_IN[1] * n_rows + 0.35
    with matplotlib.rc_context(style(width)):
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(n_rows, per_row, sharex=True, squeeze=False)
        # Fixed margins for tick labels: layout engines take twice as long as drawing.
        edges = {'left': 0.75 / width, 'right': 1 - 0.15 / width, 'bottom': 0.6 / height, 'top': 1 - 0.35 / height}
        figure.subplots_adjust(**edges, wspace=0.34, hspace=0.36)
        for cell, axes in enumerate(grid.flat):
            if cell not in placed:
                axes.set_axis_off()
                continue
            placed[cell].draw(axes)
            if cell + per_row not in placed:
                axes.set_xlabel('step')
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
                axes.tick_params(labelbottom=True)
        save(figure, path, fit=False)


def _logged_panels(csv_path, window: int | None, modality) -> list[Panel]:
    table = _read_columns(csv_path)
    step = table.pop('step')
    table.pop('epoch', None)
    quiet = {name for name in ('skipped', 'streak') if name in table and not np.nansum(table[name])}
    window = window or max(1, len(step) // 50)
    return [
        Panel(group, _title(group, modality), step, _distinct(table, names, modality), 1 if group == 'lr' else window)
        for group, names in _grouped(n for n in _finite(table) if n not in quiet).items()
    ]


def _validation_panels(csv_path, modality) -> list[Panel]:
    """Scores in [0, 1], volumes of organs, and the change by translation."""
    table = _read_columns(csv_path)
    step = table.pop('step', np.array([]))
    groups: dict[str, list[str]] = {}
    for name in _finite(table):
        groups.setdefault(name.split('/')[0] if name.split('/')[0] in _GROUPS else 'scores', []).append(name)
    return [
        Panel(group, _title(group, modality), step, _distinct(table, names, modality), marker='o')
        for group, names in groups.items()
    ]


def _title(group: str, modality: Mapping[str, str]) -> str:
    return _GROUPS.get(group, group).format(**modality)


def _placed(panels: Sequence[Panel], per_row: int) -> dict[int, Panel]:
    """Panels by their cell, none of them parted from its legend by the end of a row."""
    placed, cell = {}, 0
    for panel in panels:
        if cell % per_row + panel.cells > per_row:
            cell += 1
        placed[cell] = panel
        cell += panel.cells
    return placed


def _finite(table: Mapping[str, np.ndarray]) -> list[str]:
    """The columns that hold any number."""
    return [name for name, values in table.items() if np.isfinite(values).any()]


def boxplots(
    path: str | Path, systems: Mapping[str, Mapping[str, Sequence[float | None]]], *, measure: str = 'dice'
) -> None:
    """Plots a box per system and class, with cases as dots: median, quartiles, whiskers at 1.5 times the IQR.

    `systems` is `{system: {class: values of the metric over cases}}`; None and NaN are left out.
    """
    metric = registry.metric(measure)
    names = list(dict.fromkeys(name for of in systems.values() for name in of))
    width = 0.8 / len(systems)
    width_in = min(10.0, max(3.0, 0.8 + len(names) * (0.35 + 0.28 * len(systems))))
    jitter = np.random.default_rng(0)
    with matplotlib.rc_context(style(width_in)):
        figure = Figure(figsize=(width_in, max(2.8, 0.5 * width_in)), layout='constrained')
        axes = figure.subplots()
        for i, of in enumerate(systems.values()):
            for j, name in enumerate(names):
                values = np.array([v for v in of.get(name, ()) if v is not None and np.isfinite(v)])
                if values.size:
                    _box(axes, values, j + (i - (len(systems) - 1) / 2) * width, 0.8 * width, colour(i + 1), jitter)
        axes.set_xlim(-0.6, len(names) - 0.4)
        turned = max(map(len, names), default=0) > 8 + 3 * len(systems)
        axes.set_xticks(range(len(names)), names, rotation=30 if turned else 0, ha='right' if turned else 'center')
        axes.set_ylabel(metric.heading)
        axes.yaxis.grid(True, linewidth=0.4, color='0.9')
        axes.set_axisbelow(True)
        if limits := axis_limits(metric):
            axes.set_ylim(*limits)
        if len(systems) > 1:
            handles = [Patch(color=colour(i + 1), label=system) for i, system in enumerate(systems)]
            figure.legend(handles=handles, loc='outside upper center', ncols=min(4, len(handles)))
        save(figure, path)


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
    """Names grouped by the prefix before the first slash or else the first underscore; losses first."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: '/' in name):
        groups.setdefault(name.split('/')[0] if '/' in name else name.split('_')[0], []).append(name)
    return groups


def _distinct(
    table: Mapping[str, np.ndarray], names: Sequence[str], modality: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Columns by what they are called; identical columns are merged, with all their names, or 'all' if all are."""
    same: dict[bytes, list[str]] = {}
    for name in names:
        same.setdefault(table[name].tobytes(), []).append(name)
    if len(same) == 1 and len(names) > 2:
        return {'all': table[names[0]]}
    return {', '.join(column(name, modality) for name in equal): table[equal[0]] for equal in same.values()}


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
