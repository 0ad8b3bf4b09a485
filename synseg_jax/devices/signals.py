"""SIGTERM and SIGINT: a flag that training polls, so that a run is saved before it ends; else an end at once."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, runtime_checkable

WATCHED = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 2.0  # in which Python notices a signal, unless XLA compiles: that may take minutes
POLL_S = 0.5  # between looks at what other processes tell


class Interrupted(BaseException):
    """A run was asked to stop, and what was trained is saved."""


@runtime_checkable
class Others(Protocol):
    """The other processes of a run: what one tells, all hear."""

    def tell(self, text: str) -> None: ...
    def heard(self) -> str: ...


class Signals:
    """While the `with` block runs, `asked` names the signal that arrived; a second SIGINT interrupts at once.

    While `idle`, nothing trained would be lost.  A signal then raises Interrupted in the main thread; where Python does
    not come to notice it, or the signal is for several processes, they end from another thread, with exit code 0.
    """

    def __init__(self, say: Callable[[str], None] = print, others: Others | None = None):
        self.asked: str = ''
        self.idle = False
        self.say, self.others = say, others
        self._before: dict = {}
        self._noticed = threading.Event()

    def __enter__(self) -> 'Signals':
        receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        threading.Thread(target=self._watch, args=[receiver], daemon=True).start()
        self._wakeup = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in WATCHED:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._sender.close()  # which ends the thread

    def leave(self) -> None:
        """Raises Interrupted if a signal arrived."""
        if self.asked:
            raise Interrupted(_told(self.asked))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        if self.idle and self.others:
            return  # the other thread ends all processes
        self._noticed.set()
        if self.idle:
            self.leave()

    def _watch(self, receiver) -> None:
        """Ends an idle process whose main thread runs no Python, or one that others have told to end."""
        with receiver:
            receiver.settimeout(POLL_S if self.others else None)
            while True:
                try:
                    number = receiver.recv(1)
                except TimeoutError:
                    if self.idle and (name := self.others.heard()):
                        self._end(name)
                    continue
                if not number:
                    return
                if number[0] in WATCHED and not self._noticed.wait(GRACE_S) and self.idle:
                    self._end(signal.Signals(number[0]).name)

    def _end(self, name) -> None:
        """Ends the process as a kill would: files are whole or absent at any moment."""
        if self.others:
            self.others.tell(name)
            time.sleep(3 * POLL_S)  # until all have heard it: a process that is missed counts as dead
        self.say(f'stopped by {_told(name)}')
        os._exit(0)


def _told(name):
    return f'{name}; the same command goes on from there'
