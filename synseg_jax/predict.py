"""Segment scans with a trained system, on each scan's own grid.

Usage:
    python -m synseg_jax.predict --workdir=runs/abdomen --input=scans/imagesTs --output=labels --volumes --overlays

--input is a scan, a folder of scans, a DICOM series, or an nnU-Net dataset.  Label maps are on the grid of their scan;
dataset.json names the classes.  --straighten writes label maps of sheared scans (gantry tilt) on an orthogonal grid, as
ITK and 3D Slicer need.  --domain=a segments scans of the labelled modality instead of the target.  Scans that cannot be
segmented are listed at the end, with exit code 2; all others are segmented.

--flips=lr is for networks trained with augment.flip; --components=largest keeps the largest component of each organ.

Further outputs beside the labels have a flag each, "Also ..." below.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options
from synseg_jax.datasets import input_scans
from synseg_jax.errors import known
from synseg_jax.formats import outputs, scan_file, straight
from synseg_jax.inference.predict_scans import check_flips, predict
from synseg_jax.inference.scan_outputs import OUTPUTS
from synseg_jax.runs import open_run

FLAGS = (
    Flag('workdir', 'Workdir of synseg_jax.main.', required=True),
    Flag('input', 'A scan, a folder of scans, a DICOM series, or an nnU-Net dataset.', required=True),
    Flag('output', 'Folder to write label maps to.', required=True),
    Flag('system', 'System of the workdir; default: config.default_system.'),
    Flag('domain', 'Modality of the scans: b, the target, or a, the source.', 'b'),
    Flag('flips', "'lr': test-time augmentation, mean probability with the left-right mirrored scan."),
    Flag('components', "'largest': keep the largest component of each class except lesions."),
    *(Flag(name, output.help, False, flags.DEFINE_bool) for name, output in OUTPUTS.items()),
    Flag('straighten', 'Write on orthogonal grids where a gantry was tilted.', False, flags.DEFINE_bool),
    Flag('unfinished', open_run.UNFINISHED, False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Segment scans with a trained system; returns the exit code."""
    return command.run(segment, FLAGS, argv)


def segment(options: Options) -> None:
    """Segment the scans given by --input, and print their number."""
    scan_file.require_input(options.input)
    trained = open_run.find(options.workdir, options.system or '', 's', unfinished=options.unfinished)
    channel = trained.run.channels[known('domain', options.domain, trained.run.channels)]
    files, output = input_scans.find(options.input, channel), Path(options.output)
    extras = [name for name in OUTPUTS if getattr(options, name)]
    _check_output(options, files.values(), extras)
    wanted = {f'predict.{field}': getattr(options, field) for field in ('flips', 'components')}
    if fields := {field: value for field, value in wanted.items() if value is not None}:
        trained = trained.with_fields(fields)
    check_flips(trained)
    write = straight.writer(options.straighten)
    written = predict(trained, files, output, options.domain, input_scans.reader(channel), extras, write)
    print(f'{len(written)} label maps in {output}')


def _check_output(options, files, extras) -> None:
    """Raise InputError if an output would replace scans or be written among them."""
    output, described = Path(options.output), outputs.around(files)
    outputs.check(output, (options.input, options.workdir, *described), [*files, *described])
    for name in extras:
        outputs.check_whole(output / name, files)


if __name__ == '__main__':
    command.start(main)
