"""Train and evaluate every system of a configuration, resuming what is done.

Usage:
    python -m synseg_jax.main --config=configs/quickstart.py
    python -m synseg_jax.main --config=configs/synseg_abdomen.py:records/abdomen --workdir=runs/abdomen

Without data after the colon a configuration trains on the embedded phantom; with it, on the folder that
synseg_jax.prepare wrote there.  Single fields: --config.train.batch=8.  SIGTERM saves what was trained and ends with
exit code 0; at once where nothing was.

Several processes train together, each with its devices, in one workdir that all of them see: start the same command
N times with --coordinator=HOST:PORT --processes=N --process=0 to N - 1, HOST being that of process 0; or with
--distributed where Slurm, Open MPI or a TPU pod tells the rest.  The scripts in launch/ do it.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.errors import InputError
from synseg_jax.formats import outputs

DETERMINISTIC_XLA = '--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'
FLAGS = (
    config_flag(),
    Flag('coordinator', 'HOST:PORT where several processes meet: a port of process 0.', ''),
    Flag('deterministic', 'Bit-exact on GPUs too, a little slower.', False, flags.DEFINE_bool),
    Flag('distributed', 'Several processes, as Slurm, Open MPI or a TPU pod tells.', False, flags.DEFINE_bool),
    Flag('init_timeout_s', 'Seconds in which all processes must have started.', 300, flags.DEFINE_integer),
    Flag('process', 'The number of this process, from 0.', -1, flags.DEFINE_integer),
    Flag('processes', 'How many processes there are.', 0, flags.DEFINE_integer),
    Flag('workdir', 'Folder for results; default: runs/<configuration>.'),
)


def main(argv: Sequence[str]) -> int:
    """Train and evaluate the systems of a configuration; the exit code."""
    return command.run(train, FLAGS, argv)


def train(options: Options) -> None:
    """Run the configuration that --config names, alone or as one of several processes."""
    if options.config is None:
        raise InputError('--config is missing, e.g. --config=configs/quickstart.py')
    workdir = Path(options.workdir or Path('runs') / options.config_file.stem)
    records = options.config.get('data_dir')
    outputs.check(workdir, [records] if records else [], flag='workdir')
    with command.xla_flags(DETERMINISTIC_XLA if options.deterministic else ''):
        from synseg_jax.devices import processes
        from synseg_jax.runs.experiment import run  # JAX starts once the flags are right

        if options.coordinator or options.distributed:
            processes.join(options.coordinator, options.processes, options.process, options.init_timeout_s)
        with processes.fail_together():
            run(options.config, workdir, named=options.overrides)


if __name__ == '__main__':
    command.with_large_pages()
    command.start(main)
