"""TensorBoard event files, written in the calling thread so that a full disk raises an error there.

tensorboardX's own writer has a background thread, which would die unnoticed.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from synseg_jax.files import disk

EVERY_SECONDS = 20.0  # between flushes


class Board:
    """A new event file in `folder`; TensorBoard hides events of earlier files after step `first`."""

    def __init__(self, folder: Path, first: int):
        self.folder = folder.absolute()  # tensorboardX interprets a relative path such as s3:x as a URL
        with disk.writing(folder):
            folder.mkdir(exist_ok=True)
            self.file = EventsWriter(str(self.folder / 'events'))
            self.flushed = time.monotonic()
            if first:
                self.file.write_event(Event(file_version='brain.Event:2'))
                self.file.write_event(Event(step=first + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._add(step, [summary.scalar(name, value) for name, value in values.items()])

    def image(self, step: int, name: str, image: Float[np.ndarray, 'h w 3']) -> None:
        """Add an image with values in [0, 1]."""
        self._add(step, [summary.image(name, image, dataformats='HWC')])

    def flush(self) -> None:
        """Write buffered events to disk."""
        with disk.writing(self.folder):
            self.file.flush()
        self.flushed = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        with disk.writing(self.folder):
            self.file.close()

    def _add(self, step, summaries) -> None:
        with disk.writing(self.folder):
            for summary_proto in summaries:
                self.file.write_event(Event(step=step, wall_time=time.time(), summary=summary_proto))
        if time.monotonic() - self.flushed > EVERY_SECONDS:
            self.flush()
