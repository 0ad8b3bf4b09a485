"""Programs that run beside a test, each a fork of one server that has loaded the libraries: none waits for imports."""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
from functools import cache
from pathlib import Path

import tiny

LIBRARIES = ['jax', 'synseg_jax.runs.experiment', 'synseg_jax.compare']


class Program:
    """A Python file or module at work in `folder`; it prints to the file `said`, its errors there or to `warned`."""

    def __init__(
        self, name: str, *flags: str, said: Path, warned: Path | None = None, folder: Path = tiny.ROOT, **environment
    ):
        self.said, warned = said, warned or said
        said.touch()
        warned.touch()
        self.process = _server().Process(target=_become, args=(name, flags, said, warned, folder, environment))
        self.process.start()

    def text(self) -> str:
        """What it has printed so far."""
        return self.said.read_text()

    def ended(self) -> bool:
        return self.process.exitcode is not None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self, timeout_s: float = 240) -> int | None:
        """Its exit code once it has ended, negative for a signal; killed after `timeout_s`, when the code is None."""
        self.process.join(timeout_s)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        return code


@cache
def _server():
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(LIBRARIES)
    return context


def _become(name, flags, said, warned, folder, environment):
    """The life of a program, in the fork."""
    import jax

    for path, stream in ((said, 1), (warned, 2)):
        with path.open('a') as file:
            os.dup2(file.fileno(), stream)
    os.environ.update({**tiny.environment(), **environment})
    jax.config.update('jax_enable_x64', os.environ['JAX_ENABLE_X64'] == '1')  # read before the fork
    os.chdir(folder)
    sys.argv = [name, *flags]
    sys.modules.pop(name, None)  # the server may have imported it
    try:
        if name.endswith('.py'):
            runpy.run_path(name, run_name='__main__')
        else:
            runpy.run_module(name, run_name='__main__', alter_sys=True)
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()  # which multiprocessing leaves out; by them processes that train together part
