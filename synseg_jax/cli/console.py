"""All commands under one name: `synseg-jax COMMAND ...` is `python -m synseg_jax.COMMAND ...`.

    synseg-jax main --config=quickstart --workdir=runs/quickstart

Every command explains itself: `synseg-jax COMMAND --help`.
"""

import ast
import runpy
import sys
from pathlib import Path

from synseg_jax.cli.command import print_error
from synseg_jax.cli.command_line import HELP
from synseg_jax.errors import InputError, known

COMMANDS = (
    'plan',
    'verify',
    'prepare',
    'main',
    'compare',
    'predict',
    'synthesize',
    'evaluate',
    'export',
    'import_weights',
    'benchmark',
)


def run() -> None:
    """Run the command that the command line names, as a program of its own."""
    name, *arguments = sys.argv[1:] or ['--help']
    if name.strip('-') in HELP:
        print(f'{__doc__.strip()}\n\n' + '\n'.join(f'{command:15s} {_about(command)}' for command in COMMANDS))
        return
    try:
        command = known('command', name.replace('-', '_'), COMMANDS)
    except InputError as error:
        sys.exit(print_error(str(error)))
    sys.argv[:] = [f'synseg-jax {command}', *arguments]
    runpy.run_module(f'synseg_jax.{command}', run_name='__main__', alter_sys=True)


def _about(command) -> str:
    """The first line of a command's docstring, read without importing it."""
    source = (Path(__file__).parents[1] / f'{command}.py').read_text()
    return ast.get_docstring(ast.parse(source)).splitlines()[0]
