"""SIGTERM and SIGINT set a flag that training polls, to save before it ends; while idle, the run ends at once."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, runtime_checkable

WATCHED = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 2.0  # for Python to run its signal handler; while XLA compiles, that may take minutes
POLL_S = 0.5  # interval of reading the stop notice of other processes


class Interrupted(BaseException):
    """Raised when a run was asked to stop and its training is saved."""


@runtime_checkable
class StopNotice(Protocol):
    """The name of a signal that one process posts and all processes read."""

    def post(self, signal_name: str) -> None: ...
    def read(self) -> str: ...


class Signals:
    """Signal handlers for a `with` block: `asked` names the signal received; a second SIGINT interrupts at once.

    While `idle`, no training would be lost: a signal raises Interrupted in the main thread.  If the main thread is
    blocked in XLA, or there are several processes, a watcher thread ends the process instead, with exit code 0.
    """

    def __init__(self, say: Callable[[str], None] = print, notice: StopNotice | None = None):
        self.asked: str = ''
        self.idle = False
        self.say, self.notice = say, notice
        self._previous_handlers: dict = {}
        self._handled = threading.Event()

    def __enter__(self) -> 'Signals':
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        threading.Thread(target=self._watch, args=[receiver], daemon=True).start()
        self._wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in WATCHED:
            self._previous_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._sender.close()  # ends the thread

    def raise_if_asked(self) -> None:
        """Raise Interrupted if a signal was received."""
        if self.asked:
            raise Interrupted(_reason(self.asked))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        if self.idle and self.notice:
            return  # the watcher thread ends all processes
        self._handled.set()
        if self.idle:
            self.raise_if_asked()

    def _watch(self, receiver) -> None:
        """End an idle process whose main thread does not return to Python, or that another process stops."""
        with receiver:
            receiver.settimeout(POLL_S if self.notice else None)
            while True:
                try:
                    number = receiver.recv(1)
                except TimeoutError:
                    if self.idle and (name := self.notice.read()):
                        self._end(name)
                    continue
                if not number:
                    return
                if number[0] in WATCHED and not self._handled.wait(GRACE_S) and self.idle:
                    self._end(signal.Signals(number[0]).name)

    def _end(self, name) -> None:
        """Exit without clean-up, which is safe as all files are written atomically."""
        if self.notice:
            self.notice.post(name)
            time.sleep(3 * POLL_S)  # until all have read it: to those that have not, this process would have died
        self.say(f'stopped by {_reason(name)}')
        os._exit(0)


def _reason(name):
    return f'{name}; run the same command to resume'
