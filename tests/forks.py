"""Runs many commands at the cost of one start of Python: what they import is loaded once, and every command is a fork.

For commands that are killed, or end their process themselves; others are called in the process of the test.  As a
program it reads a case on each line of stdin, [command, [flag, ...], folder, environment, seconds], and answers each
with a line, [exit code, stdout, stderr].
"""

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from functools import cache

import tiny

LIBRARIES = (
    'jax flax.linen optax orbax.checkpoint grain nibabel matplotlib.pyplot tensorboardX SimpleITK pydicom'
    ' scipy.ndimage synseg_jax.runs.experiment'
).split()


def command(name: str, *flags, timeout: float = 240) -> subprocess.CompletedProcess:
    """A command run to its end, or killed after `timeout` seconds, in a process of its own; its output as text."""
    line, server = [*map(str, flags)], _server()
    server.stdin.write(json.dumps([name, line, str(tiny.ROOT), tiny.environment(), timeout]) + '\n')
    server.stdin.flush()
    return subprocess.CompletedProcess([name, *line], *json.loads(server.stdout.readline()))


@cache
def _server():
    start = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True, 'env': tiny.environment()}
    server = subprocess.Popen([sys.executable, __file__], **start)
    atexit.register(server.communicate)  # the end of its cases is its own
    return server


def main():
    """Answers every case, in order."""
    for library in LIBRARIES:
        importlib.import_module(library)
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)


def run(command, flags, folder, environment, seconds):
    """Exit code, stdout and stderr of `python -m synseg_jax.cli.command flags` in `folder`; killed after `seconds`."""
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        child = os.fork()
        if not child:
            _become(command, flags, folder, environment, out, err)
        end = time.monotonic() + seconds
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(child, 9)
            time.sleep(0.01)
        out.seek(0), err.seek(0)
        return os.waitstatus_to_exitcode(done[1]), out.read(), err.read()


def _become(command, flags, folder, environment, out, err):
    code = 1
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv, sys.path[0] = [f'synseg_jax.{command}', *flags], folder
        sys.modules.pop(f'synseg_jax.{command}', None)  # others have imported it
        runpy.run_module(f'synseg_jax.{command}', run_name='__main__', alter_sys=True)
        code = 0
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == '__main__':
    main()
