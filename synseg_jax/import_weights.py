"""Make a workdir for predict and synthesize out of weights: of our own export, or of the published PyTorch code.

Usage:
    python -m synseg_jax.import_weights --config=configs/base.py --weights=weights --workdir=runs/again
    python -m synseg_jax.import_weights --config=configs/reference.py --weights=checkpoints/spleen --channels=MR,CT \\
        --workdir=runs/theirs

--weights is a folder that synseg_jax.export wrote, or one with files as SynSeg-Net and pytorch-CycleGAN-and-pix2pix
name them: latest_net_G_A.pth, G_B, D_A, D_B and Seg_A, of which any may be absent, as .pth or .safetensors.  An export
brings its card.json, which counts where the configuration says otherwise.  Without one the configuration says what the
networks are, which classes they know (data.classes) and how scans become what they see, and --channels names the two
modalities.  Of a .pth file nothing but tensors is read; that needs PyTorch.
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
    Flag('workdir', 'Folder to make.', required=True),
    Flag('system', 'Which system of the configuration it becomes; default: chosen.'),
    Flag('stage', 'Which stage of the system, if it has several.'),
    Flag('channels', 'Without card.json: the modalities, source first, e.g. MR,CT.'),
    Flag('epoch', 'Without card.json: which weights; default: latest, else the last.'),
    Flag('typical', 'Without card.json: the range of synthetic scans, but of CT.', '0,1000', flags.DEFINE_list),
)


def main(argv: Sequence[str]) -> int:
    """Make a workdir out of weights; the exit code."""
    return command.run(make_workdir, FLAGS, argv)


def make_workdir(options: Options) -> None:
    """Import the weights that the flags name, and print their networks."""
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
    """The two numbers that --typical gives."""
    try:
        low, high = (float(bound) for bound in typical)
    except ValueError:
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise InputError(f'--typical={",".join(typical)}: give two rising numbers, e.g. --typical=0,1000')
    return low, high


if __name__ == '__main__':
    command.start(main)
