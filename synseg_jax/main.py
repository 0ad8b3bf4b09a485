"""Train and evaluate every system of a configuration, resuming what is done.

Usage:
    python -m synseg_jax.main --config=configs/quickstart.py
    python -m synseg_jax.main --config=configs/synseg_abdomen.py:records/abdomen --workdir=runs/abdomen

Without data after the colon a configuration trains on the embedded phantom; with it, on the folder that
synseg_jax.prepare wrote there.  Single fields: --config.train.batch=8.  SIGTERM saves and ends with exit code 0.
"""

from pathlib import Path

from absl import flags

from synseg_jax import command
from synseg_jax.errors import InputError


def main() -> None:
    """Runs the configuration that --config names."""
    if CONFIG.value is None:
        raise InputError('--config is missing, e.g. --config=configs/quickstart.py')
    path = command.config_path()
    workdir = Path(WORKDIR.value or Path('runs') / path.stem)
    from synseg_jax.experiment import run  # JAX starts only once the flags are right

    run(CONFIG.value, workdir)


if __name__ == '__main__':
    CONFIG = command.config_flag()
    WORKDIR = flags.DEFINE_string('workdir', None, 'Folder for results; default: runs/<configuration>.')
    command.run(main)
