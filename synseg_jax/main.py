"""Train and evaluate every system of a configuration, resuming what is done.

Usage:
    python -m synseg_jax.main --config=configs/quickstart.py
    python -m synseg_jax.main --config=configs/synseg_abdomen.py:records/abdomen --workdir=runs/abdomen

Without data after the colon a configuration trains on the embedded phantom; with it, on the folder that
synseg_jax.prepare wrote there.  Single fields: --config.train.batch=8.  SIGTERM saves and ends with exit code 0.
"""

import os
from pathlib import Path

from absl import flags

from synseg_jax import command
from synseg_jax.errors import InputError

DETERMINISTIC_XLA = '--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'


def main() -> None:
    """Runs the configuration that --config names."""
    if CONFIG.value is None:
        raise InputError('--config is missing, e.g. --config=configs/quickstart.py')
    path = command.config_path()
    workdir = Path(WORKDIR.value or Path('runs') / path.stem)
    if DETERMINISTIC.value:
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {DETERMINISTIC_XLA}'.strip()
    from synseg_jax.experiment import run  # JAX starts once the flags are right

    run(CONFIG.value, workdir)


if __name__ == '__main__':
    CONFIG = command.config_flag()
    DETERMINISTIC = flags.DEFINE_bool('deterministic', False, 'Bit-exact on GPUs too, a little slower.')
    WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for results; default: runs/<configuration>.')
    command.run(main)
