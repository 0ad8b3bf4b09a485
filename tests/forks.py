"""Runs commands in processes of their own at the cost of one start of Python: each is a fork of one server.

For commands that are killed, or end their process themselves; others are called in the process of the test.
"""

import subprocess
import tempfile
from pathlib import Path

import background
import tiny


def command(name: str, *flags, timeout: float = 240, folder: Path = tiny.ROOT) -> subprocess.CompletedProcess:
    """`python -m synseg_jax.name flags` in `folder`, killed after `timeout` seconds; its output as text."""
    line = [*map(str, flags)]
    with tempfile.TemporaryDirectory() as outputs:
        out, err = Path(outputs) / 'out', Path(outputs) / 'err'
        program = background.Program(f'synseg_jax.{name}', *line, said=out, warned=err, folder=folder)
        program.end(timeout)
        return subprocess.CompletedProcess([name, *line], program.process.exitcode, out.read_text(), err.read_text())
