"""Axes of training curves: lines that differ by more than colour, and a legend that hides none of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from synseg_jax.imaging.colours import LINES

_DASHES = ('-', (0, (4, 1.2)), (0, (1.2, 1)), (0, (5, 1, 1.2, 1)), (0, (2.5, 1)))  # lines differ by more than colour
INSIDE = 6  # labels that find room above the lines; longer legends take the place of a plot
BESIDE = 12  # labels in that place at the usual size
_LEGEND = {
    'fontsize': 'small', 'handlelength': 1.7, 'labelspacing': 0.15, 'columnspacing': 0.8, 'handletextpad': 0.4,
    'borderpad': 0, 'borderaxespad': 0,
}  # fmt: skip


class Panel(NamedTuple):
    """Columns that share axes, {label: values}, against the step."""

    group: str
    title: str
    step: np.ndarray
    lines: Mapping[str, np.ndarray]
    window: int = 1  # length in rows of the rolling mean
    marker: str = ''

    @property
    def labels(self) -> list[str]:
        """The labels that say more than the title."""
        return [label for label in self.lines if label]

    @property
    def cells(self) -> int:
        """Cells of the figure: a second one where the legend is long."""
        return 1 + (len(self.labels) > INSIDE)

    def draw(self, axes: Axes) -> None:
        """Draws raw values faint, their rolling mean on top, and the legend above all lines or beside them."""
        axes.set_title(self.title, loc='left')
        for i, (label, values) in enumerate(self.lines.items()):
            dash = _DASHES[(i + i // len(LINES)) % len(_DASHES)]  # another one where a colour comes again
            look = {'color': LINES[i % len(LINES)], 'linestyle': dash, 'marker': self.marker}
            _curve(axes, self.step, values, self.window, label, look)
        beside, columns = self.cells > 1, 1 + (len(self.labels) > 1 and max(map(len, self.labels)) < 14)
        if self.group == 'grad_norm' and max(map(np.nanmax, self.lines.values())) > 0:
            axes.set_yscale('log')
        elif self.group == 'scores':
            axes.set_ylim(0, 1)
        elif min(map(np.nanmin, self.lines.values())) >= 0:
            axes.set_ylim(bottom=0)
        _leave_room(axes, 0 if beside else -(-len(self.labels) // columns))
        if self.labels:
            place = {'loc': 'upper left', 'bbox_to_anchor': (1.05, 1.14)} if beside else {'loc': 'upper right'}
            size = 'x-small' if len(self.labels) > BESIDE else _LEGEND['fontsize']
            axes.legend(**place, ncols=1 if beside else columns, **{**_LEGEND, 'fontsize': size})


def _leave_room(axes, rows: int) -> None:
    """Raises the upper limit until so many rows of a legend fit above the lines; the axis ends where it did."""
    low, high = axes.get_ylim()
    row_in = 1.25 * FontProperties(size=_LEGEND['fontsize']).get_size_in_points() / 72
    share = min(0.7, rows * row_in / (axes.bbox.height / axes.figure.dpi))
    if axes.get_yscale() == 'log':
        ticks, top = _log_ticks(low, high), low * (high / low) ** (1 / (1 - share))
    else:
        ticks, top = MaxNLocator(4).tick_values(low, high), low + (high - low) / (1 - share)
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_yticks(ticks, map(_short, ticks))
    axes.set_yticks([], minor=True)
    axes.set_ylim(low, top)
    axes.spines['left'].set_bounds(low, high)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between the limits, with their multiples where there is hardly one."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    few = np.log10(high / low) < 1.5
    return [factor * 10.0**decade for decade in decades for factor in ((1, 2, 5) if few else (1,))]


def _short(number: float) -> str:
    if not number or abs(number) >= 1e-3:
        return f'{number:g}'
    mantissa, exponent = f'{number:.1e}'.split('e')
    return f'{float(mantissa):g}e{int(exponent)}'


def _curve(axes, step, values, window: int, label: str, look: Mapping) -> None:
    kept = np.isfinite(values)
    step, values = step[kept], values[kept]
    if window > 1:
        axes.plot(step, values, color=look['color'], alpha=0.25, linewidth=0.5)
    look = {**look, 'marker': look['marker'] or ('o' if len(step) == 1 else '')}
    style = {'linewidth': 1.6, 'markersize': 3.5, 'clip_on': False}
    axes.plot(step, _rolling_mean(values, window), label=label, **style, **look)


def _rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each index, of fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    return (total[end] - total[start]) / (end - start)
