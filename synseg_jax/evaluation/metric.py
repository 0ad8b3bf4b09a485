"""A metric as one entry: what it is called, how it is shown, and the function that computes it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One number per case and class.

    `function` returns a float, NaN where there is no value; all metrics of one table `METRICS` take the same arguments.
    """

    name: str  # in CSV and JSON files, and in configurations
    title: str  # in reports and plots
    function: Callable[..., float]
    unit: str = ''
    scope: str = ''  # behind the unit in headings, such as 'in patches'
    digits: int = 3  # behind the point
    lower_is_better: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)  # smallest and largest possible value
    one_empty: float | None = None  # value where exactly one of the two masks is empty; None: no value
    beside: int = 0  # largest number of systems in a terminal's table that has a column of this metric

    @property
    def heading(self) -> str:
        """Title, unit and scope, such as `HD95 mm in patches`."""
        return ' '.join(filter(None, (self.title, self.unit, self.scope)))

    @property
    def arrow(self) -> str:
        """Points in the direction of better values."""
        return '↓' if self.lower_is_better else '↑'

    def number(self, value: float) -> str:
        """A value without its unit."""
        return f'{value:.{self.digits}f}'


def measure(metrics: Iterable[Metric], *arguments) -> dict[str, float | None]:
    """`{name: value}` of several metrics of the same arguments; None in place of NaN."""
    values = {metric.name: float(metric.function(*arguments)) for metric in metrics}
    return {name: None if math.isnan(value) else value for name, value in values.items()}
