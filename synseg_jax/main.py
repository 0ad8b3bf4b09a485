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

import os
from pathlib import Path

from absl import flags

from synseg_jax import command, outputs
from synseg_jax.errors import InputError

DETERMINISTIC_XLA = '--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'


def main() -> None:
    """Runs the configuration that --config names."""
    if CONFIG.value is None:
        raise InputError('--config is missing, e.g. --config=configs/quickstart.py')
    path = command.config_path()
    workdir = Path(WORKDIR.value or Path('runs') / path.stem)
    records = CONFIG.value.get('data_dir')
    outputs.check(workdir, [records] if records else [], flag='workdir')
    if DETERMINISTIC.value:
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {DETERMINISTIC_XLA}'.strip()
    from synseg_jax.experiment import run  # JAX starts once the flags are right
    from synseg_jax.training import processes

    if COORDINATOR.value or DISTRIBUTED.value:
        processes.join(COORDINATOR.value, PROCESSES.value, PROCESS.value, INIT_TIMEOUT_S.value)
    with processes.together():
        run(CONFIG.value, workdir, named=command.overrides())


if __name__ == '__main__':
    command.with_large_pages()
    CONFIG = command.config_flag()
    COORDINATOR = flags.DEFINE_string('coordinator', '', 'HOST:PORT where several processes meet: a port of process 0.')
    DETERMINISTIC = flags.DEFINE_bool('deterministic', False, 'Bit-exact on GPUs too, a little slower.')
    DISTRIBUTED = flags.DEFINE_bool('distributed', False, 'Several processes, as Slurm, Open MPI or a TPU pod tells.')
    INIT_TIMEOUT_S = flags.DEFINE_integer('init_timeout_s', 300, 'Seconds in which all processes must have started.')
    PROCESS = flags.DEFINE_integer('process', -1, 'The number of this process, from 0.')
    PROCESSES = flags.DEFINE_integer('processes', 0, 'How many processes there are.')
    WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for results; default: runs/<configuration>.')
    command.run(main)
