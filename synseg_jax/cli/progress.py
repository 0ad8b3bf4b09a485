"""Progress over scans: a bar with the time left on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from synseg_jax.cli.terminal import say

Item = TypeVar('Item')
LINE_S = 30.0  # least time between two lines
BAR = 16  # columns: with all times a line fits into 80


class Scans:
    """How many of `total` scans are done; a scan may have several steps."""

    def __init__(self, doing: str, total: int, steps: int = 1, console: Console | None = None):
        self.doing, self.total, self.steps = doing, total, steps
        self.console = console or Console()
        self.animated = self.console.is_terminal and not self.console.is_dumb_terminal
        self.bar = Progress(
            TextColumn('{task.description}'), BarColumn(BAR), MofNCompleteColumn(), TextColumn('scans'),
            TaskProgressColumn(), TimeElapsedColumn(), TextColumn('elapsed,'), TimeRemainingColumn(),
            TextColumn('left'), console=self.console, disable=total * steps < 2 or not self.animated,
        )  # fmt: skip
        self.task = self.bar.add_task(doing, total=total)
        self.done, self.began = 0, time.monotonic()
        self.told = self.began

    def step(self) -> None:
        """A step of a scan is done."""
        self.bar.advance(self.task, 1 / self.steps)

    def advance(self) -> None:
        """A scan is done."""
        self.done += 1
        self.bar.update(self.task, completed=self.done)
        now = time.monotonic()
        if not self.animated and self.done < self.total and now - self.told >= LINE_S:
            left = (now - self.began) * (self.total / self.done - 1)
            share, spent = self.done / self.total, _clock(now - self.began)
            told = f'{self.done} of {self.total} scans ({share:.0%}) in {spent}, about {_clock(left)} left'
            say(self.console, f'{self.doing}: {told}')
            self.told = now


@contextmanager
def over_scans(doing: str, total: int, steps: int = 1, console: Console | None = None) -> Iterator[Scans]:
    """The progress over `total` scans of `steps` each, shown meanwhile; nothing is shown of a single step."""
    progress = Scans(doing, total, steps, console)
    with progress.bar:
        yield progress


def each(items: Collection[Item], doing: str) -> Iterator[Item]:
    """The items, one a scan, with their progress."""
    with over_scans(doing, len(items)) as progress:
        for item in items:
            yield item
            progress.advance()


def _clock(seconds) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
