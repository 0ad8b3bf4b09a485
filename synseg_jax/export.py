"""Write the networks of a trained stage for other programs: tensors under PyTorch's names, and a card that explains.

Usage:
    python -m synseg_jax.export --workdir=runs/abdomen --output=weights
    python -m synseg_jax.export --workdir=runs/abdomen --output=weights --format=both --functions=stablehlo,onnx

The folder holds all networks of the stage's best checkpoint, each in a file named as the published PyTorch code names
it, latest_net_G_A.safetensors, and card.json, which says what they are and how scans become what they see.  .pth files
are PyTorch's, and need it.  --functions adds what segments and translates images without any code of ours:
segment_b.stablehlo for JAX, segment_b.onnx for ONNX runtimes.  synseg_jax.exchange.torch_evaluator applies such a
folder in PyTorch, synseg_jax.import_weights brings it back.
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
    Flag('workdir', 'Folder that synseg_jax.main trained in.', required=True),
    Flag('output', 'Folder to write.', required=True),
    Flag('system', 'Which system of the run; default: config.chosen.'),
    Flag('stage', 'Which stage of the system; default: the last that trains networks.'),
    Flag('format', 'safetensors, pth or both.', 'safetensors'),
    Flag('functions', 'Also functions that need no code of ours: stablehlo, onnx.', [], flags.DEFINE_list),
    Flag('unfinished', open_run.UNFINISHED, False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Write the networks of a trained stage for other programs; the exit code."""
    return command.run(export_stage, FLAGS, argv)


def export_stage(options: Options) -> None:
    """Export the stage that the flags name, and print its networks."""
    outputs.check(Path(options.output), [options.workdir])
    found = options.workdir, options.system or '', '', options.stage or '', options.unfinished
    trained = open_run.find(*found)
    card = export(trained, Path(options.output), options.format, options.functions)
    print(f'{", ".join(card.networks)} of {trained.run.folder.name} in {options.output}')


if __name__ == '__main__':
    command.start(main)
