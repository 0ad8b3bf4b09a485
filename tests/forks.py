"""Runs many commands at the cost of one start of Python: libraries are loaded once, and every command is a fork.

Usage: python forks.py < cases.json > results.json; a case is [command, [flag, ...], folder], a result [code, out, err].
"""

import importlib
import json
import os
import runpy
import sys
import tempfile
import time

SECONDS = 100  # for a case
LIBRARIES = (
    'jax flax.linen optax orbax.checkpoint grain nibabel matplotlib.pyplot tensorboardX SimpleITK pydicom scipy.ndimage'
).split()


def main():
    """Answers every case on stdin, in order."""
    for library in LIBRARIES:
        importlib.import_module(library)

    json.dump([run(*case) for case in json.load(sys.stdin)], sys.stdout)


def run(command, flags, folder):
    """Exit code, stdout and stderr of `python -m synseg_jax.command flags` in `folder`."""
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _become(command, flags, folder, out, err)
        end = time.monotonic() + SECONDS
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(child, 9)
            time.sleep(0.01)
        out.seek(0), err.seek(0)
        return os.waitstatus_to_exitcode(done[1]), out.read(), err.read()


def _become(command, flags, folder, out, err):
    code = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(folder)
        sys.argv = [f'synseg_jax.{command}', *flags]
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
