"""Training curves, and boxplots of an evaluation."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from synseg_jax.evaluation import registry
from synseg_jax.imaging.colours import COLOURS, colour
from synseg_jax.reports.figures import STYLE, axis_limits, save

_LINES = tuple(c for c in COLOURS if c not in ('#F0E442', '#DDCC77'))  # yellow has too little contrast on white
_GROUPS = {
    'adv': 'adversarial (generators)',
    'dis': 'adversarial (discriminators)',
    'cyc': 'cycle consistency',
    'seg': 'segmentation',
    'feat': 'features',
    'idt': 'identity',
    'lr': 'learning rate',
    'grad_norm': 'gradient norm',
    'scores': 'validation',
    'volume': 'volume on target / in source scans',
    'change': 'change by translation',
}


class Panel(NamedTuple):
    """Columns that share axes, {label: values}, against the step."""

    group: str
    step: np.ndarray
    lines: Mapping[str, np.ndarray]
    window: int = 1  # length in rows of the rolling mean
    marker: str = ''

    def draw(self, axes) -> None:
        """Draws raw values faint, their rolling mean on top."""
        axes.set_title(_GROUPS.get(self.group, self.group), loc='left')
        for i, (label, values) in enumerate(self.lines.items()):
            _curve(axes, self.step, values, self.window, _LINES[i % len(_LINES)], label, self.marker)
        if self.group == 'grad_norm':
            axes.set_yscale('log')
        elif min(np.nanmin(values) for values in self.lines.values()) >= 0:
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis='y', scilimits=(-3, 4))
        axes.legend(fontsize=6, handlelength=1, ncols=2 if len(self.lines) > 3 else 1, frameon=True, edgecolor='none')


def curves(
    path: str | Path, csv_path: str | Path, validation_path: str | Path | None = None, *, window: int | None = None,
    per_row: int = 3,
) -> None:  # fmt: skip
    """Plots every column of a CSV of logged scalars against the step: raw values faint, their rolling mean on top.

    Columns with the same prefix (`cyc_a`, `cyc_b`; `lr/...`) share axes; `epoch` is ignored.  `window` is the length
    of the rolling mean in rows, by default a fiftieth of all.  Left out are empty and non-finite cells, an incomplete
    last row, and counts of skipped steps if all are 0.  Below them the columns of `validation_path`, if it exists.
    """
    panels = _logged_panels(csv_path, window)
    if not panels:
        raise ValueError(f'{csv_path} holds no values to draw')
    panels += _validation_panels(validation_path) if validation_path and Path(validation_path).is_file() else []
    per_row = min(per_row, len(panels))
    n_rows = -(-len(panels) // per_row)
    with matplotlib.rc_context(STYLE):
        width, height = 2.7 * per_row, 2.0 * n_rows + 0.3
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(n_rows, per_row, sharex=True, squeeze=False)
        # Fixed margins for tick labels: layout engines take twice as long as drawing.
        edges = {'left': 0.6 / width, 'right': 1 - 0.2 / width, 'bottom': 0.4 / height, 'top': 1 - 0.4 / height}
        figure.subplots_adjust(**edges, wspace=0.28, hspace=0.3)
        for axes, panel in zip(grid.flat, panels, strict=False):
            panel.draw(axes)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in grid.flat[max(0, len(panels) - per_row) : len(panels)]:
            axes.set_xlabel('step')
            axes.tick_params(labelbottom=True)
        save(figure, path, fit=False)


def _logged_panels(csv_path, window: int | None) -> list[Panel]:
    table = _read_columns(csv_path)
    step = table.pop('step')
    table.pop('epoch', None)
    quiet = {name for name in ('skipped', 'streak') if name in table and not np.nansum(table[name])}
    window = window or max(1, len(step) // 50)
    return [
        Panel(group, step, _distinct(table, names), 1 if group == 'lr' else window)
        for group, names in _grouped(n for n in _finite(table) if n not in quiet).items()
    ]


def _validation_panels(csv_path) -> list[Panel]:
    """Scores in [0, 1], volumes of organs, and the change by translation."""
    table = _read_columns(csv_path)
    step = table.pop('step', np.array([]))
    groups: dict[str, list[str]] = {}
    for name in _finite(table):
        groups.setdefault(name.split('/')[0] if name.split('/')[0] in _GROUPS else 'scores', []).append(name)
    return [Panel(group, step, _distinct(table, names), marker='o') for group, names in groups.items()]


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
    with matplotlib.rc_context(STYLE):
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


def _distinct(table: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns by their names without `group/`; identical columns are merged, with all their names."""
    same: dict[bytes, list[str]] = {}
    for name in names:
        same.setdefault(table[name].tobytes(), []).append(name)
    return {', '.join(name.split('/')[-1] for name in equal): table[equal[0]] for equal in same.values()}


def _curve(axes, step, values, window: int, line_colour: str, label: str, marker: str = '') -> None:
    kept = np.isfinite(values)
    step, values = step[kept], values[kept]
    if window > 1:
        axes.plot(step, values, color=line_colour, alpha=0.25, linewidth=0.5)
    axes.plot(
        step, _rolling_mean(values, window), color=line_colour, linewidth=1.2, label=label, marker=marker, markersize=2
    )


def _rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each index, of fewer at the start."""
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
