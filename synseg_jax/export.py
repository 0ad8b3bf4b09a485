"""Export the networks of a trained stage: weights with PyTorch's tensor names, and a model card.

Usage:
    python -m synseg_jax.export --workdir=runs/abdomen --output=weights
    python -m synseg_jax.export --workdir=runs/abdomen --output=weights --format=both --functions=stablehlo,onnx

The folder contains all networks of the stage's best checkpoint, one file each with the names of the published PyTorch
code, e.g. latest_net_G_A.safetensors, and card.json with their architectures and the preprocessing of scans.  Writing
.pth files needs PyTorch.  --functions adds self-contained functions that segment and translate images:
segment_b.stablehlo for JAX, segment_b.onnx for ONNX runtimes.  synseg_jax.exchange.torch_evaluator applies the export
in PyTorch, synseg_jax.import_weights imports it again.  --format=monai writes a bundle that MONAI runs in its place.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options
from synseg_jax.exchange.exporting import export
from synseg_jax.formats import outputs
from synseg_jax.runs import open_run

FLAGS = (
    Flag('workdir', 'Workdir of synseg_jax.main.', required=True),
    Flag('output', 'Folder to write.', required=True),
    Flag('system', 'System of the workdir; default: config.default_system.'),
    Flag('stage', 'Stage of the system; default: the last that trains networks.'),
    Flag('format', 'safetensors, pth, both, or monai: a MONAI bundle.', 'safetensors'),
    Flag('functions', 'Also self-contained functions: stablehlo, onnx.', [], flags.DEFINE_list),
    Flag('unfinished', open_run.UNFINISHED, False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Export the networks of a trained stage; returns the exit code."""
    return command.run(export_stage, FLAGS, argv)


def export_stage(options: Options) -> None:
    """Export the stage that the flags select, and print its networks."""
    outputs.check(Path(options.output), [options.workdir])
    trained = open_run.find(options.workdir, options.system or '', '', options.stage or '', options.unfinished)
    card = export(trained, Path(options.output), options.format, options.functions)
    print(f'{", ".join(card.networks)} of {trained.run.folder.name} in {options.output}')


if __name__ == '__main__':
    command.start(main)
