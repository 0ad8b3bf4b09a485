"""TensorBoard's event file, written by whoever logs: a full disk is an error there, not a thread that dies unseen."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from synseg_jax.files import disk

EVERY_SECONDS = 20.0  # between writes for whoever looks on


class Board:
    """A new event file in `folder`; what earlier ones tell of steps after `first` is taken back."""

    def __init__(self, folder: Path, first: int):
        self.folder = folder.absolute()  # tensorboardX takes s3:x for an address
        with disk.writing(folder):
            folder.mkdir(exist_ok=True)
            self.file = EventsWriter(str(self.folder / 'events'))
            self.flushed = time.monotonic()
            if first:
                self.file.write_event(Event(file_version='brain.Event:2'))
                self.file.write_event(Event(step=first + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to every curve."""
        self._add(step, [summary.scalar(name, value) for name, value in values.items()])

    def image(self, step: int, name: str, image: Float[np.ndarray, 'h w 3']) -> None:
        """Adds a picture, in [0, 1]."""
        self._add(step, [summary.image(name, image, dataformats='HWC')])

    def flush(self) -> None:
        """Returns when everything is on the disk."""
        with disk.writing(self.folder):
            self.file.flush()
        self.flushed = time.monotonic()

    def close(self) -> None:
        """Ends the file."""
        with disk.writing(self.folder):
            self.file.close()

    def _add(self, step, summaries) -> None:
        with disk.writing(self.folder):
            for one in summaries:
                self.file.write_event(Event(step=step, wall_time=time.time(), summary=one))
        if time.monotonic() - self.flushed > EVERY_SECONDS:
            self.flush()
