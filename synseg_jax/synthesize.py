"""Translate scans into the other modality: synthetic target scans with the labels of the source.

Usage:
    python -m synseg_jax.synthesize --workdir=runs/abdomen --input=Dataset101_AbdomenMR --output=Dataset201_SyntheticCT
    nnUNetv2_plan_and_preprocess -d 201 --verify_dataset_integrity

--input is a labelled dataset of the source modality in any layout of synseg_jax.prepare, or scans of an nnU-Net
dataset.  Its labels are written with the class indices of the system; --labels=liver:6,kidneys:2+3 names them if the
dataset does not.  --real=FOLDER adds the labelled scans of a dataset of the target modality, with --real_labels
likewise.  Synthetic scans are on the grid of their source, in Hounsfield units if the target is CT, else in its typical
range; int16, or float32 where int16 would lose range or resolution.  The output is a raw dataset for nnU-Net v2.  Scans
that cannot be translated are listed at the end, with exit code 2; all others are written.

--straighten resamples sheared scans (gantry tilt) linearly, and their labels by nearest neighbour, to an orthogonal
grid, as ITK, 3D Slicer and nnU-Net need.

--format=scans writes only scans, CASE.nii.gz, from any scan, folder or DICOM series, without labels.  --format=dicom
writes each as a series of CT or MR images, CASE/0001.dcm and so on, in the study and frame of reference of the DICOM
series that it was made of, on the slices of that series.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options
from synseg_jax.datasets import input_scans
from synseg_jax.devices import choice
from synseg_jax.errors import known
from synseg_jax.formats import outputs, straight
from synseg_jax.inference import synthetic_files
from synseg_jax.inference.synthesize_scans import OTHER, labelled_set, synthesize, translate
from synseg_jax.runs import open_run

FLAGS = (
    Flag('workdir', 'Workdir of synseg_jax.main.', required=True),
    Flag('input', 'A labelled dataset, or scans in one; without labels, any scans.', required=True),
    Flag('output', 'Folder to write to; for nnU-Net named DatasetNNN_Name.', required=True),
    Flag('format', 'nnunet: a raw dataset with labels; scans: only scans; dicom: only DICOM series.', 'nnunet'),
    Flag('real', 'Dataset of the other modality whose labelled scans are added.'),
    Flag('labels', 'Classes and label values of --input, e.g. liver:6,kidneys:2+3.'),
    Flag('real_labels', 'Classes and label values of --real.'),
    Flag('straighten', 'Write on orthogonal grids where a gantry was tilted.', False, flags.DEFINE_bool),
    Flag('system', 'System of the workdir; default: config.default_system.'),
    Flag('domain', 'Modality of the scans: a, the source, or b, the target.', 'a'),
    Flag('unfinished', open_run.UNFINISHED, False, flags.DEFINE_bool),
    Flag('device', choice.FLAG),
)


def main(argv: Sequence[str]) -> int:
    """Translate scans into the other modality; returns the exit code."""
    return command.run(write_scans, FLAGS, argv)


@choice.on_device
def write_scans(options: Options) -> None:
    """Translate the scans given by --input, and print their number."""
    synthetic_files.check_flags(options.format, options.real, options.straighten)
    raw, domain = options.format == 'nnunet', known('domain', options.domain, OTHER)
    write = straight.writer(options.straighten)
    output = Path(options.output)
    outputs.check(output, [path for path in (options.input, options.real, options.workdir) if path])
    trained = open_run.find(options.workdir, options.system or '', 'g', unfinished=options.unfinished)
    needed = raw or trained.config.label_channel
    labels = labelled_set(trained, 'input', options.input, options.labels, domain) if needed else None
    if raw:
        added = options.real and labelled_set(trained, 'real', options.real, options.real_labels, OTHER[domain])
        print(f'{synthesize(trained, labels, output, domain, added or None, write)} labelled scans in {output}')
    else:
        found = {case.id: case.image for case in labels.cases} if labels else None
        files = found or input_scans.find(options.input, trained.run.named(domain))
        save = synthetic_files.writer(options.format, write, files, trained.run.named(OTHER[domain]))
        print(f'{translate(trained, files, output, domain, labels, save)} synthetic scans in {output}')


if __name__ == '__main__':
    command.start(main)
