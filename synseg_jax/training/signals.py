"""SIGTERM and SIGINT as a flag that training polls, so that a run is saved before it ends."""

import signal
from types import FrameType


class Interrupted(Exception):
    """Training was asked to stop, and has saved."""


class Signals:
    """While the `with` block runs, `asked` names the signal that arrived; a second SIGINT interrupts at once."""

    def __init__(self):
        self.asked: str = ''
        self._before: dict = {}

    def __enter__(self) -> 'Signals':
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Raises Interrupted if a signal arrived."""
        if self.asked:
            raise Interrupted(f'{self.asked}; the same command goes on from there')

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
