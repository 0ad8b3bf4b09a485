"""Train and evaluate all systems of a configuration, resuming from what is done.

Usage:
    python -m synseg_jax.main --config=configs/quickstart.py
    python -m synseg_jax.main --config=configs/synseg_abdomen.py:records/abdomen --workdir=runs/abdomen

Without data after the colon a configuration trains on the embedded phantom; with it, on the records that
synseg_jax.prepare wrote to that folder.  Single fields: --config.train.batch=8.  SIGTERM saves a checkpoint, if
anything was trained, and ends with exit code 0.

Distributed training: start the same command N times with --coordinator=HOST:PORT --processes=N --process=0 to N - 1,
HOST being that of process 0; or with --distributed under Slurm, Open MPI or on a TPU pod, which provide the rest.  Each
process uses its own devices; all share one workdir.  The scripts in launch/ do this.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.errors import InputError
from synseg_jax.formats import outputs
from synseg_jax.specification.parse import parse

DETERMINISTIC_XLA = '--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'
FLAGS = (
    config_flag(),
    Flag('coordinator', 'HOST:PORT of process 0, of distributed training.', ''),
    Flag('deterministic', 'Bit-exact on GPUs too, a little slower.', False, flags.DEFINE_bool),
    Flag('distributed', 'Distributed training, set up by Slurm, Open MPI or a TPU pod.', False, flags.DEFINE_bool),
    Flag('init_timeout_s', 'Seconds within which all processes must start.', 300, flags.DEFINE_integer),
    Flag('process', 'Index of this process, from 0.', -1, flags.DEFINE_integer),
    Flag('processes', 'Number of processes.', 0, flags.DEFINE_integer),
    Flag('workdir', 'Folder for results; default: runs/<configuration>.'),
)


def main(argv: Sequence[str]) -> int:
    """Train and evaluate the systems of a configuration; returns the exit code."""
    return command.run(train, FLAGS, argv)


def train(options: Options) -> None:
    """Run the configuration given by --config, as one or one of several processes."""
    if options.config is None:
        raise InputError('--config is missing, e.g. --config=configs/quickstart.py')
    workdir = Path(options.workdir or Path('runs') / options.config_file.stem)
    config = parse(options.config)
    outputs.check(workdir, [config.data_dir] if config.data_dir else [], flag='workdir')
    with command.xla_flags(DETERMINISTIC_XLA if options.deterministic else ''):
        from synseg_jax.devices import processes
        from synseg_jax.runs.experiment import run  # only now: this loads JAX, which takes seconds

        if options.coordinator or options.distributed:
            processes.join(options.coordinator, options.processes, options.process, options.init_timeout_s)
        with processes.together():
            run(config, workdir, named=options.overrides)


if __name__ == '__main__':
    command.with_large_pages()
    command.start(main)
