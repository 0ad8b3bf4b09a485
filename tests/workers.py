"""Attempts in forked processes that are watched from outside: crashes, hangs and memory are seen and counted."""

import contextlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import Bench
from specimens import Specimen

SECONDS, GIB = 10.0, 4.0  # that an attempt may take
STARTING = 120.0  # seconds in which a process writes its specimen and reads it for the first time


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt."""

    format: str
    number: int
    change: str
    outcome: str  # one of bench.OUTCOMES
    why: str = ''


class Worker:
    """A process that makes the attempts `numbers` in order and sends a line before and after each."""

    def __init__(self, name: str, specimen: Specimen, numbers: range, seed: int):
        self.name, self.began = name, time.monotonic()
        self.last: dict = {}  # the line that came last
        self.folder = tempfile.TemporaryDirectory()
        receiving, sending = os.pipe()
        self.child = os.fork()
        if not self.child:
            os.close(receiving)
            _work(name, specimen, Path(self.folder.name), numbers, seed, sending)
        os.close(sending)
        self.pipe = os.fdopen(receiving, 'rb', 0)

    def outcomes(self) -> Iterator[Outcome]:
        """The outcome of every attempt as it ends; the last is WRONG where the process ended early or was killed."""
        rest, killed = b'', ''
        while not killed:
            ready, _, _ = select.select([self.pipe], [], [], 0.05)
            piece = os.read(self.pipe.fileno(), 2**16) if ready else None
            if piece == b'':
                break
            *lines, rest = (rest + (piece or b'')).split(b'\n')
            for line in lines:
                self.began, self.last = time.monotonic(), json.loads(line)
                if 'outcome' in self.last:
                    yield Outcome(self.name, **self.last)
            killed = '' if piece else self._kill_beyond_limits()
        status = os.waitpid(self.child, 0)[1]
        yield from self._unfinished(status, killed)
        self.pipe.close()
        self.folder.cleanup()

    def _unfinished(self, status, killed) -> Iterator[Outcome]:
        said = (Path(self.folder.name) / 'stderr').read_text(errors='replace').strip().split('\n')[-1]
        why = killed or f'ended with {os.waitstatus_to_exitcode(status)}: {said[-200:]}'
        if status and not self.last:
            raise RuntimeError(f'{self.name} cannot be written: {why}')
        if status:
            yield Outcome(self.name, self.last['number'], self.last['change'], 'WRONG', why)

    def _kill_beyond_limits(self) -> str:
        """Kills the process if it takes too much; why, or ''."""
        why, seconds = '', time.monotonic() - self.began
        if seconds > (SECONDS if self.last else STARTING):
            why = f'hangs for more than {SECONDS:g} s'
        with contextlib.suppress(OSError), open(f'/proc/{self.child}/status') as file:
            peak = [int(line.split()[1]) / 2**20 for line in file if line.startswith('VmHWM')]
            why = f'takes {peak[0]:.1f} GiB' if peak and peak[0] > GIB else why
        if why:
            os.kill(self.child, signal.SIGKILL)
        return why


def _work(name, specimen, folder, numbers, seed, pipe) -> None:
    """The life of a worker; never returns."""
    code = 1
    try:
        with (folder / 'stderr').open('w') as file:  # what libraries write past Python
            os.dup2(file.fileno(), 2)
        (folder / 'root').mkdir()
        warnings.simplefilter('ignore')
        bench = Bench(name, specimen, folder / 'root')
        for number in numbers:
            change = bench.change(number, seed)
            told = {'number': number, 'change': f'{change.kind} {change.file.name} {change.told}'}
            os.write(pipe, json.dumps(told).encode() + b'\n')
            outcome, why = bench.outcome(change)
            os.write(pipe, json.dumps({**told, 'outcome': outcome, 'why': why}).encode() + b'\n')
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)
