"""Plan a training for the data and the machine at hand: a configuration file with the reason of every choice.

Usage:
    python -m synseg_jax.plan --source=MR --target=CT --output=mine.py --hours=2

Reads the headers of all scans and the voxels of a few (target labels are never opened), times a few training steps,
and writes the file, whose first lines have the commands that prepare the data and train.  Without --hours the training
is as long as the recipe was measured with.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options
from synseg_jax.cli.terminal import say
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_file
from synseg_jax.formats import outputs
from synseg_jax.preparation.sets import SETS, given

FLAGS = (
    *(flag for flag in SETS if flag.name != 'set'),
    Flag('output', 'Configuration file to write, a new .py.', required=True),
    Flag('hours', 'Longest time of training and testing; 0: as long as the recipe was measured with.', 0.0,
         partial(flags.DEFINE_float, lower_bound=0.0)),
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Write a plan; returns the exit code."""
    return command.run(plan, FLAGS, argv)


def plan(options: Options) -> None:
    """Choose, time and write; prints what was found and chosen."""
    output = Path(options.output)
    if output.suffix != '.py' or not output.stem.isidentifier():
        raise InputError(f'--output={output}: give the name of a Python file, such as mine.py')
    if output.exists():
        raise InputError(f'--output={output} exists; give another name, or remove it')
    options.set = []
    sets = {scans.name: scans for scans in given(options)}
    if missing := {'source', 'target'} - set(sets):
        raise InputError(f'--{min(missing)} is missing; --help shows an example')
    outputs.check_file(output, [scans.folder for scans in sets.values()])
    from synseg_jax.planning import planned  # loads JAX

    console = Console()
    say(console, 'reads all headers and a few scans, and times a few training steps: a minute or two')
    content, lines = planned.plan(sets['source'], sets['target'], output, options.hours)
    with atomic_file(output) as temporary:
        temporary.write_text(content, encoding='utf-8')
    for line in lines:
        say(console, line)


if __name__ == '__main__':
    command.start(main)
