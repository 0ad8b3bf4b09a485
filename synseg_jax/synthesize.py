"""Turn scans into the other modality: synthetic target scans that carry the source's labels.

Usage:
    python -m synseg_jax.synthesize --workdir=runs/abdomen --input=Dataset101_AbdomenMR --output=Dataset201_SyntheticCT
    nnUNetv2_plan_and_preprocess -d 201 --verify_dataset_integrity

--input is a labelled dataset of the source modality in any layout that synseg_jax.prepare reads, or scans of an nnU-Net
dataset; their labels come along, numbered as the system's classes are.  Where nothing in it names its labels,
--labels=liver:6,kidneys:2+3 does.  --real=FOLDER adds the labelled scans of a dataset of the target modality, whose
labels --real_labels may name.  Synthetic scans lie on the grid of their source, in Hounsfield units where the target is
CT, else in its typical range, as float32 where int16 would be too coarse or too small; the output is a raw dataset for
nnU-Net v2.  Scans that cannot be translated are named at the end, with exit code 2; all others are written.

--straighten resamples scans of a tilted gantry, linearly, and their labels, by the nearest voxel, onto a grid without
its shear, which ITK, 3D Slicer and nnU-Net need.

--format=scans writes the scans alone, CASE.nii.gz, of any scan, folder or DICOM series: no labels are needed.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options
from synseg_jax.datasets import input_scans
from synseg_jax.errors import InputError, known
from synseg_jax.formats import outputs, straight
from synseg_jax.inference.synthesize_scans import OTHER, labelled_set, synthesize, translate
from synseg_jax.runs import open_run

FLAGS = (
    Flag('workdir', 'Folder that synseg_jax.main trained in.', required=True),
    Flag('input', 'A labelled dataset, or scans in one; with --format=scans, any scans.', required=True),
    Flag('output', 'Folder to write to; for nnU-Net named DatasetNNN_Name.', required=True),
    Flag('format', 'nnunet: a raw dataset with labels; scans: the scans alone.', 'nnunet'),
    Flag('real', 'Dataset of the other modality whose labelled scans are added.'),
    Flag('labels', 'liver:6,kidneys:2+3, the classes of --input by their values.'),
    Flag('real_labels', 'The same of --real.'),
    Flag('straighten', 'Write on grids without shear where a gantry was tilted.', False, flags.DEFINE_bool),
    Flag('system', 'Which system of the run; default: config.chosen.'),
    Flag('domain', 'Modality of the scans: a, the source, or b, the target.', 'a'),
    Flag('unfinished', open_run.UNFINISHED, False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Translate scans into the other modality; the exit code."""
    return command.run(write_scans, FLAGS, argv)


def write_scans(options: Options) -> None:
    """Translate the scans that --input names, and print how many there are."""
    raw, domain = known('format', options.format, ('nnunet', 'scans')) == 'nnunet', options.domain
    if options.real and not raw:
        raise InputError('--real adds to a dataset for nnU-Net; leave --format=scans out')
    known('domain', domain, OTHER)
    write = straight.writer(options.straighten)
    output = Path(options.output)
    outputs.check(output, [path for path in (options.input, options.real, options.workdir) if path])
    trained = open_run.find(options.workdir, options.system or '', 'g', unfinished=options.unfinished)
    needed = raw or trained.config.masked
    labels = labelled_set(trained, 'input', options.input, options.labels, domain) if needed else None
    if raw:
        added = options.real and labelled_set(trained, 'real', options.real, options.real_labels, OTHER[domain])
        print(f'{synthesize(trained, labels, output, domain, added or None, write)} labelled scans in {output}')
    else:
        channel = trained.run.channels[domain]
        files = {case.id: case.image for case in labels.cases} if labels else input_scans.scans(options.input, channel)
        print(f'{translate(trained, files, output, domain, labels, write)} synthetic scans in {output}')


if __name__ == '__main__':
    command.start(main)
