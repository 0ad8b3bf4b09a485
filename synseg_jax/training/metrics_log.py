"""What a run tells: the progress on the terminal, metrics.csv, validation.csv and TensorBoard."""

import csv
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from matplotlib.image import imread
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from synseg_jax.cli.terminal import say
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_file, disk
from synseg_jax.training.board import Board
from synseg_jax.training.early_stop import EarlyStop

EVERY_SECONDS = 20.0  # between lines where there is no terminal to draw a bar on


class Table:
    """A CSV file of numbers to which rows are added; rows of steps that a resumed run repeats are dropped first.

    So are lines that a kill or a power cut has torn, emptied or filled with zeros.
    """

    def __init__(self, path: Path, first: int):
        self.path, self.columns, self.rows = path, None, 0
        if os.path.lexists(path):
            self.columns, rows = _whole(path, first)
            self.rows = len(rows)
            with disk.writing(path), atomic_file(path) as temporary, temporary.open('w', newline='') as file:
                csv.writer(file).writerows([self.columns, *rows] if self.columns else [])

    def add(self, row: Mapping[str, float]) -> None:
        """Appends one row; the first one decides the columns."""
        with disk.writing(self.path), self.path.open('a', newline='') as file:
            writer = csv.writer(file)
            if self.columns is None:
                self.columns = list(row)
                writer.writerow(self.columns)
            elif set(self.columns) != set(row):
                raise InputError(f'{self.path}: its columns are of another run; use another --workdir')
            writer.writerow([repr(row[c]) if isinstance(row[c], float) else row[c] for c in self.columns])
        self.rows += 1

    def sync(self) -> None:
        """Returns when the rows are on the disk."""
        if self.rows:
            with disk.writing(self.path), self.path.open('a') as file:
                os.fsync(file.fileno())


def _whole(path, first) -> tuple[list[str] | None, list[list[str]]]:
    """The columns of a table, None where they are lost and all with them, and its whole rows up to step `first`."""
    with disk.reading(path):
        text = path.read_bytes().decode('utf-8', 'replace') if path.is_file() else ''
    lines = [line.rstrip('\r').split(',') for line in text.split('\n')[:-1]]  # what ends without a newline is torn
    if not lines or lines[0][0] != 'step':
        return None, []
    columns, rows, last = lines[0], [], 0
    for row in lines[1:]:
        if len(row) == len(columns) and row[0].isdigit() and last < int(row[0]) <= first and all(map(_is_number, row)):
            rows.append(row)
            last = int(row[0])
    return columns, rows


def _is_number(text):
    try:
        float(text)
        return True
    except ValueError:
        return False


class Journal:
    """The records of one system's training in `folder`; `unit` is what a row of a batch is called."""

    def __init__(self, folder: Path, title: str, unit: str = 'images', console: Console | None = None):
        self.folder, self.title, self.unit = folder, title, unit
        self.console = console or Console()
        self.live = self.console.is_terminal
        self.bar = self.board = None

    def say(self, text: str) -> None:
        """One line to the user."""
        say(self.console, text, self.title)

    def begin(self, first: int, plan) -> None:
        """Opens the files at step `first` of the plan."""
        self.plan, self.first = plan, first
        self.metrics = Table(self.folder / 'metrics.csv', first)
        self.validation = Table(self.folder / 'validation.csv', first)
        self.board = Board(self.folder / 'tensorboard', first)
        self.clock, self.since = time.perf_counter(), -math.inf
        self.waited, self.counted, self.rate = 0.0, 0, math.nan
        epochs = plan.steps / plan.steps_per_epoch
        start = f'resumes at step {first}' if first else 'the first step compiles'
        self.say(f'{plan.steps} steps = {epochs:.1f} epochs of {plan.steps_per_epoch}, batch {plan.batch}; {start}')
        self.bar = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            TextColumn('{task.completed}/{task.total} {task.fields[note]}', markup=False),
            console=self.console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(self.title, total=plan.steps, completed=first, note='compiling')
        self.bar.start()

    def tick(self, done: int, waited: float) -> None:
        """One step is dispatched, after waiting `waited` seconds for its batch."""
        if done == self.first + 1:  # the first step's compilation is not speed
            self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0
        else:
            self.waited, self.counted = self.waited + waited, self.counted + 1
        self.bar.update(self.task, completed=done)

    def log(self, done: int, values: Mapping[str, float]) -> None:
        """Metrics of step `done`, to all files; the speed since the last log to the terminal."""
        row = {'step': done, 'epoch': done / self.plan.steps_per_epoch, **values}
        self.metrics.add(row)
        self.board.scalars(done, values)
        note = self._note(done)
        self.bar.update(self.task, note=note)
        if not self.live and (time.perf_counter() - self.since > EVERY_SECONDS or done == self.plan.steps):
            self.since = time.perf_counter()
            terms = ' '.join(
                f'{n} {v:.3f}' for n, v in values.items() if '/' not in n and n not in ('skipped', 'streak')
            )
            self.say(f'step {done}/{self.plan.steps} {note}; {terms}')
        if values.get('skipped'):
            self.bar.update(self.task, note=f'{note}, {values["skipped"]:.0f} steps skipped')

    def _note(self, done):
        elapsed = time.perf_counter() - self.clock
        if self.counted:
            self.rate = self.counted * self.plan.batch / elapsed
            self.share = self.waited / elapsed
        self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0
        if math.isnan(self.rate):
            return 'compiled'
        left = (self.plan.steps - done) * self.plan.batch / self.rate
        limit = f'data limits ({self.share:.0%} waiting)' if self.share > 0.3 else 'compute limits'
        return f'{self.rate:.1f} {self.unit}/s, {_duration(left)} left, {limit}'

    def score(self, done: int, scores: Mapping[str, float]) -> None:
        """Validation measures of step `done`."""
        if scores:
            self.validation.add({'step': done, **scores})
            self.board.scalars(done, {f'validation/{name}': value for name, value in scores.items()})
            self.say(f'step {done}: validation ' + ', '.join(f'{name} {value:.3f}' for name, value in scores.items()))
        self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0

    def epoch(self, done: int, epoch: int, loss: float, early_stop: EarlyStop) -> None:
        """The held-out segmentation loss at the end of an epoch, and the lowest so far."""
        self.board.scalars(done, {'validation/loss': loss})
        lowest = f'lowest {early_stop.lowest:.4f}, epoch {early_stop.epoch}'
        self.say(f'epoch {epoch}: held-out segmentation loss {loss:.4f}; {lowest}')
        self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0

    def picture(self, done: int, name: str, path: Path) -> None:
        """A PNG file as an image of TensorBoard."""
        self.board.image(done, name, imread(path)[..., :3])

    def sync(self) -> None:
        """Returns when the tables are on the disk: a checkpoint whose rows a power cut takes would lack them."""
        self.metrics.sync()
        self.validation.sync()
        self.board.flush()

    def logged(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.metrics.rows)

    def end(self) -> None:
        """Closes bar and files, if they were opened."""
        if self.bar:
            self.bar.stop()
            self.board.close()


class NullLog(Journal):
    """The journal of a process that is not the first: it writes nothing."""

    def say(self, text: str) -> None:
        pass

    def begin(self, first: int, plan) -> None:
        pass

    def tick(self, done: int, waited: float) -> None:
        pass

    def log(self, done: int, values: Mapping[str, float]) -> None:
        pass

    def score(self, done: int, scores: Mapping[str, float]) -> None:
        pass

    def epoch(self, done: int, epoch: int, loss: float, early_stop: EarlyStop) -> None:
        pass

    def sync(self) -> None:
        pass

    def logged(self) -> bool:
        return False


def _duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d} h' if hours else f'{minutes}:{seconds:02d} min'
