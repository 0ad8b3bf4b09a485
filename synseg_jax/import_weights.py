"""Import weights of an export or of the published PyTorch code into a workdir for predict and synthesize.

Usage:
    python -m synseg_jax.import_weights --config=configs/base.py --weights=weights --workdir=runs/again
    python -m synseg_jax.import_weights --config=configs/reference.py --weights=checkpoints/spleen --channels=MR,CT \\
        --workdir=runs/theirs

--weights is a folder written by synseg_jax.export, or one with the file names of SynSeg-Net and
pytorch-CycleGAN-and-pix2pix: latest_net_G_A.pth, G_B, D_A, D_B and Seg_A, some of which may be missing, as .pth or
.safetensors.  The card.json of an export overrides the configuration.  Without it the configuration gives the
architectures, the classes (data.classes) and the preprocessing, and --channels names the two modalities.  .pth files
need PyTorch, and only tensors are loaded from them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.errors import InputError
from synseg_jax.formats import outputs
from synseg_jax.runs.import_stage import import_weights
from synseg_jax.specification.parse import parse

FLAGS = (
    config_flag(example='configs/base.py', required=True, data=('weights',)),
    Flag('weights', 'Folder of the weights.', required=True),
    Flag('workdir', 'Folder to write.', required=True),
    Flag('system', 'System of the configuration to import as; default: config.default_system.'),
    Flag('stage', 'Stage of the system, if it has several.'),
    Flag('channels', 'Without card.json: the modalities, source first, e.g. MR,CT.'),
    Flag('epoch', 'Without card.json: epoch of the weights; default: latest, else the last.'),
    Flag('typical', 'Without card.json: intensity range of synthetic scans except CT.', '0,1000', flags.DEFINE_list),
)


def main(argv: Sequence[str]) -> int:
    """Import weights into a workdir; returns the exit code."""
    return command.run(make_workdir, FLAGS, argv)


def make_workdir(options: Options) -> None:
    """Import the weights given by the flags, and print their networks."""
    config = parse(options.config)
    typical = _range(options.typical)
    outputs.check(Path(options.workdir), [options.weights], flag='workdir')
    run = import_weights(
        config,
        Path(options.weights),
        Path(options.workdir),
        options.system or '',
        options.stage or '',
        options.epoch or '',
        tuple(options.channels.split(',')) if options.channels else (),
        typical,
    )
    print(f'{", ".join(run.system.networks)} in {options.workdir}')


def _range(typical) -> tuple[float, float]:
    """Parse --typical; raises InputError unless it is two increasing numbers."""
    try:
        low, high = (float(bound) for bound in typical)
    except ValueError:
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise InputError(f'--typical={",".join(typical)}: give two increasing numbers, e.g. --typical=0,1000')
    return low, high


if __name__ == '__main__':
    command.start(main)
