"""Plots that compare systems: boxplots with significance marks, ROC curves, a metric against a count."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from synseg_jax.evaluation.roc import area
from synseg_jax.evaluation.summary import is_number, statistics
from synseg_jax.imaging.colours import LINES
from synseg_jax.reports.figures import LETTER, LETTERS_PT, SLIDE_IN, letters_pt, save, style

_PLAIN_TEXT = {'text.parse_math': False}  # names may hold dollar signs
BOX_IN = 2.7  # width of a panel of boxes
_DASHES = ('-', '--', '-.', ':')
_MARKED, _PLAIN = '#0072B2', '0.62'  # boxes of the reference and of the others


def boxplots(
    path: str | Path,
    panels: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    measure: str,
    marks: Mapping[str, Mapping[str, str]] | None = None,
    references: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
    per_row: int = 3,
) -> None:
    """Plots a panel per organ with a horizontal box per system: median, quartiles, whiskers at 1.5 times the IQR.

    `panels` is `{organ: {system: values over cases}}` with the same systems for each organ; cases are dots, None and
    NaN are left out.  `marks` is `{organ: {system: text}}`, such as `**`, printed right of the number of cases.  Boxes
    of `references` are coloured.
    """
    names = list(next(iter(panels.values())))
    if any(list(of) != names for of in panels.values()):
        raise ValueError('the panels of a boxplot have different systems')
    per_row = min(per_row, len(panels))
    n_rows = -(-len(panels) // per_row)
    labels = [textwrap.fill(name, 24) for name in names]
    longest = max((len(line) for label in labels for line in label.split('\n')), default=0)
    width = BOX_IN * per_row / (1 - longest * LETTER * LETTERS_PT / (72 * SLIDE_IN))  # names grow with the figure
    line_in = letters_pt(width) / 58
    pitch_in = max(((0.7 + label.count('\n') + 1) * line_in for label in labels), default=0)
    with matplotlib.rc_context(style(width) | _PLAIN_TEXT):
        figure = Figure(figsize=(width, n_rows * (4.5 * line_in + pitch_in * len(labels))), layout='constrained')
        grid = figure.subplots(n_rows, per_row, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (organ, systems) in zip(grid.flat, panels.items(), strict=False):
            axes.set_title(organ if len(panels) > 1 else '', loc='left', fontweight='bold')
            for at, (name, values) in enumerate(systems.items()):
                numbers = np.array([v for v in values if is_number(v)])
                _lying_box(axes, numbers, at, _MARKED if name in references else _PLAIN)
                _margin(axes, at, numbers.size, (marks or {}).get(organ, {}).get(name, ''))
            axes.xaxis.grid(True, linewidth=0.4, color='0.9')
            axes.set_axisbelow(True)
            axes.set_xlabel(measure)
            axes.tick_params(labelbottom=True)
        axes = grid.flat[0]
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(len(names) - 0.4, -0.6)
        if limits:
            axes.set_xlim(*limits)
        save(figure, path)


def roc_curves(
    path: str | Path,
    systems: Mapping[str, tuple[np.ndarray | Sequence[float], np.ndarray | Sequence[float]]],
    *,
    points: int = 2000,
) -> None:
    """Plots `{system: (false positive rates, true positive rates)}` of `roc.roc_curve`, with the AUC in the legend.

    The AUC is that of the whole curve; longer curves are drawn by `points` points, evenly spaced along them.
    """
    with matplotlib.rc_context(style(3.4) | _PLAIN_TEXT):
        figure = Figure(figsize=(3.4, 3.6 + 0.16 * len(systems)), layout='constrained')
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color='0.8', linewidth=0.8, linestyle=':')
        for at, (name, rates) in enumerate(systems.items()):
            fpr, tpr = (np.asarray(rate, np.float64) for rate in rates)
            look = {'color': LINES[at % len(LINES)], 'linestyle': _DASHES[at % len(_DASHES)], 'linewidth': 1.3}
            value = area(fpr, tpr)
            label = textwrap.fill(f'{name}: AUC {"-" if np.isnan(value) else f"{value:.3f}"}', 56)
            kept = np.searchsorted(fpr + tpr, np.linspace(0, 2, points)).clip(max=len(fpr) - 1)
            shown = np.unique(kept) if len(fpr) > points else np.arange(len(fpr))
            axes.plot(fpr[shown], tpr[shown], label=label, clip_on=False, **look)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect='equal', xlabel='false positive rate', ylabel='true positive rate')
        figure.legend(loc='outside lower center', ncols=1, handlelength=2.4)
        save(figure, path)


def against(
    path: str | Path,
    systems: Mapping[str, Mapping[float, Sequence[float | None]]],
    *,
    count: str,
    measure: str,
    intervals: Mapping[str, Mapping[float, tuple[float, float]]] | None = None,
) -> None:
    """Plots the mean of a metric over cases against a count, such as Dice against the number of synthetic images.

    `systems` is `{system: {count: values over cases}}`.  The band shows `intervals`, `{system: {count: (low, high)}}`,
    or else one standard deviation on either side; a single case has none.
    """
    with matplotlib.rc_context(style(3.8) | _PLAIN_TEXT):
        figure = Figure(figsize=(3.8, 2.6 + 0.16 * (len(systems) > 1) * len(systems)), layout='constrained')
        axes = figure.subplots()
        for at, (name, of) in enumerate(systems.items()):
            colour, dash = LINES[(at + 3) % len(LINES)], _DASHES[at % len(_DASHES)]
            described = {x: statistics(of[x]) for x in sorted(of)}
            places = [x for x, part in described.items() if part['n']]
            means = np.array([described[x]['mean'] for x in places])
            spread = np.array([described[x]['std'] or 0.0 for x in places])
            low, high = means - spread, means + spread
            if intervals:
                given = intervals.get(name, {})
                low, high = ([given.get(x, (m, m))[end] for x, m in zip(places, means, strict=True)] for end in (0, 1))
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
            label = textwrap.fill(name, 56)
            axes.plot(places, means, color=colour, linestyle=dash, marker='o', markersize=3.5, label=label)
        counts = sorted({x for of in systems.values() for x in of})
        if len(counts) <= 8 and all(gap > 0.08 * (counts[-1] - counts[0]) for gap in np.diff(counts)):
            axes.set_xticks(counts)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel=count, ylabel=measure)
        axes.yaxis.grid(True, linewidth=0.4, color='0.9')
        if len(systems) > 1:
            figure.legend(loc='outside lower center', ncols=1, handlelength=2.4)
        save(figure, path)


def _lying_box(axes, values, at: int, colour: str) -> None:
    if not values.size:
        return
    (box,) = boxplot_stats(values)
    axes.barh(at, box['q3'] - box['q1'], 0.56, left=box['q1'], color=colour, alpha=0.5, edgecolor='0.2', linewidth=0.6)
    for end, quartile in (('whislo', 'q1'), ('whishi', 'q3')):
        axes.plot([box[end], box[quartile]], [at, at], color='0.2', linewidth=0.6)
        axes.plot([box[end]] * 2, [at - 0.14, at + 0.14], color='0.2', linewidth=0.6)
    axes.plot([box['med']] * 2, [at - 0.28, at + 0.28], color='black', linewidth=1.4)
    heights = at + np.random.default_rng(at).uniform(-0.18, 0.18, values.size)
    axes.scatter(values, heights, s=10, color='0.15', alpha=0.6, linewidths=0, zorder=3)


def _margin(axes, at: int, n: int, mark: str) -> None:
    """The number of cases and the significance mark, right of the axes at the height of a box."""
    place = {'xycoords': axes.get_yaxis_transform(), 'textcoords': 'offset points', 'va': 'center_baseline'}
    points = matplotlib.rcParams['font.size']
    count = axes.annotate(f'n {n}' if n else 'no values', (1, at), (4, 0), fontsize='small', color='0.45', **place)
    if mark:
        offset = 4 + 0.55 * points * len(count.get_text()) + 2
        axes.annotate(mark, (1, at), (offset, -0.25 * points), fontweight='bold', **place)
