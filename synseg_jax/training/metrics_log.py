"""Logs of a training run: progress on the terminal, metrics.csv, validation.csv, their curves, TensorBoard, MLflow."""

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.image import imread
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from synseg_jax.cli.terminal import say
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_file, disk
from synseg_jax.reports import training_curves
from synseg_jax.reports.modality_names import LETTERS
from synseg_jax.training.board import Board
from synseg_jax.training.early_stop import EarlyStop
from synseg_jax.training.tracker import Tracker

TIMED, LONG = 5, 100  # steps after which the time of a training of at least so many more is told
EVERY_SECONDS = 20.0  # between log lines if the output is no terminal, which has a progress bar


class Table:
    """An append-only CSV file of numbers, one row per step.

    On opening, rows after step `first`, which a resumed run repeats, are removed, and so are lines that a kill or a
    power failure truncated or filled with zeros.
    """

    def __init__(self, path: Path, first: int):
        self.path, self.columns, self.rows = path, None, 0
        if os.path.lexists(path):
            self.columns, rows = _read(path, first)
            self.rows = len(rows)
            with disk.writing(path), atomic_file(path) as temporary, temporary.open('w', newline='') as file:
                csv.writer(file).writerows([self.columns, *rows] if self.columns else [])

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row; the first row determines the columns, to which later ones may add."""
        if self.columns is not None and set(self.columns) < set(row):
            self._widen([name for name in row if name not in self.columns])
        with disk.writing(self.path), self.path.open('a', newline='') as file:
            writer = csv.writer(file)
            if self.columns is None:
                self.columns = list(row)
                writer.writerow(self.columns)
            elif set(self.columns) != set(row):
                raise InputError(f'{self.path}: has the columns of another run; use another --workdir')
            writer.writerow([repr(row[c]) if isinstance(row[c], float) else row[c] for c in self.columns])
        self.rows += 1

    def _widen(self, names) -> None:
        """Add columns, NaN in the rows so far: an earlier version began the table."""
        columns, rows = _read(self.path, sys.maxsize)
        self.columns = [*columns, *names]
        with disk.writing(self.path), atomic_file(self.path) as temporary, temporary.open('w', newline='') as file:
            csv.writer(file).writerows([self.columns, *([*row, *['nan'] * len(names)] for row in rows)])

    def sync(self) -> None:
        """Block until the rows are on disk (fsync)."""
        if self.rows:
            with disk.writing(self.path), self.path.open('a') as file:
                os.fsync(file.fileno())


def _read(path, first) -> tuple[list[str] | None, list[list[str]]]:
    """(columns, undamaged rows up to step `first`) of a table; (None, []) if its header is damaged."""
    with disk.reading(path):
        text = path.read_bytes().decode('utf-8', 'replace') if path.is_file() else ''
    lines = [line.rstrip('\r').split(',') for line in text.split('\n')[:-1]]  # a last line without newline is truncated
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
    """Logs of a stage's training in `folder`; `unit` names the rows of a batch in the reported speed.

    `modality` is what curves call the domains; `tracker` opens that of MLflow, if there is one.
    """

    def __init__(
        self, folder: Path, title: str, unit: str = 'images', console: Console | None = None,
        modality: Mapping[str, str] = LETTERS, tracker: Callable[[], Tracker] | None = None,
    ):  # fmt: skip
        self.folder, self.title, self.unit, self.modality = folder, title, unit, modality
        self.open_tracker, self.tracker = tracker, None
        self.console = console or Console()
        self.live = self.console.is_terminal
        self.bar = self.board = None

    def say(self, text: str) -> None:
        """Print one line."""
        say(self.console, text, self.title)

    def begin(self, first: int, plan) -> None:
        """Open the files and the progress bar, starting after step `first`."""
        self.plan, self.first, self.drawn = plan, first, (0, 0)
        self.metrics = Table(self.folder / 'metrics.csv', first)
        self.validation = Table(self.folder / 'validation.csv', first)
        self.board = Board(self.folder / 'tensorboard', first)
        self.tracker = self.open_tracker and self.open_tracker()
        self.clock, self.since = time.perf_counter(), -math.inf
        self.waited, self.counted, self.rate = 0.0, 0, math.nan
        epochs = plan.steps / plan.steps_per_epoch
        start = f'resumes at step {first}' if first else 'compiling the first step'
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
        """Record that a step was dispatched after waiting `waited` seconds for its batch."""
        if done == self.first + 1:  # the first step includes compilation
            self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0
        else:
            self.waited, self.counted = self.waited + waited, self.counted + 1
        if done == self.first + 1 + TIMED and self.plan.steps - done >= LONG:
            seconds = (time.perf_counter() - self.clock) / TIMED * (self.plan.steps - done)
            self.say(f'about {_duration(seconds)} of training, and validation')
        self.bar.update(self.task, completed=done)

    def log(self, done: int, values: Mapping[str, float]) -> None:
        """Write metrics of step `done` to the files, and the speed since the last call to the terminal."""
        row = {'step': done, 'epoch': done / self.plan.steps_per_epoch, **values}
        self.metrics.add(row)
        self._scalars(done, values)
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
        limit = f'data-bound ({self.share:.0%} waiting)' if self.share > 0.3 else 'compute-bound'
        return f'{self.rate:.1f} {self.unit}/s, {_duration(left)} left, {limit}'

    def score(self, done: int, scores: Mapping[str, float]) -> None:
        """Write validation metrics of step `done`."""
        if scores:
            self.validation.add({'step': done, **scores})
            self._scalars(done, {f'validation/{name}': value for name, value in scores.items()})
            told = (f'{name} {value:.3f}' for name, value in scores.items() if '/' not in name)
            self.say(f'step {done}: validation ' + ', '.join(told))
        self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0

    def epoch(self, done: int, epoch: int, loss: float, early_stop: EarlyStop) -> None:
        """Write the held-out segmentation loss of an epoch, and print the lowest so far."""
        self._scalars(done, {'validation/loss': loss})
        lowest = f'lowest {early_stop.lowest:.4f}, epoch {early_stop.epoch}'
        self.say(f'epoch {epoch}: held-out segmentation loss {loss:.4f}; {lowest}')
        self.clock, self.waited, self.counted = time.perf_counter(), 0.0, 0

    def _scalars(self, done, values):
        self.board.scalars(done, values)
        if self.tracker:
            self.tracker.scalars(done, values)

    def picture(self, done: int, name: str, path: Path) -> None:
        """Add a PNG file to TensorBoard."""
        self.board.image(done, name, imread(path)[..., :3])

    def sync(self) -> None:
        """Block until all logs are on disk, called before a checkpoint: a resumed run does not repeat these rows."""
        self.metrics.sync()
        self.validation.sync()
        self.board.flush()
        if self.tracker:
            self.tracker.flush()

    def curves(self) -> None:
        """Draw curves.png of both tables, unless it shows all that they hold."""
        rows = self.metrics.rows, self.validation.rows
        if self.metrics.rows and rows != self.drawn:
            training_curves.curves(
                self.folder / 'curves.png', self.metrics.path, self.validation.path, modality=self.modality
            )
            self.drawn = rows

    def end(self, finished: bool = False) -> None:
        """Close progress bar and files, if open."""
        if self.bar:
            self.bar.stop()
            self.board.close()
        if self.tracker:
            self.tracker.close(finished)


class NullLog(Journal):
    """The log of all processes but the first: writes nothing."""

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

    def curves(self) -> None:
        pass


def _duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d} h' if hours else f'{minutes}:{seconds:02d} min'
