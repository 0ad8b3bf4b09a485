"""Evaluate predicted label maps against references: Dice, surface distances in mm, tables and boxplots.

Reads two folders of label maps on the same grid, matched by case (x.nii.gz, x_0000.nii.gz, x_label.nii.gz and
x.seg.nrrd are case x), and writes `cases.csv`, `summary.json` and `boxplots.png`.  The references may also be an
nnU-Net dataset.  Classes are named by the `dataset.json` of the predictions, and by that of the references or of the
folder above, or --labels.  They are matched by name, whatever their values; classes of only one side are left out.  If
only one side has names, they count for both; without names, classes are the values in the files.

Example:
  python -m synseg_jax.evaluate --predictions=runs/ct --references=/data/Dataset001_Abdomen/labelsTs --output=measures
  python -m synseg_jax.evaluate --predictions=runs/ct --references=btcv --labels=liver:6,kidneys:2+3 --output=measures

--protocol=csdg and --protocol=sifa compare the slices, at the size, and sifa the subjects, that published figures are
of; docs/results.md describes them.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options
from synseg_jax.datasets import class_names
from synseg_jax.evaluation import summary
from synseg_jax.evaluation.folders import PARTS, evaluate_folder
from synseg_jax.evaluation.protocols import NATIVE, PROTOCOLS, named
from synseg_jax.formats import outputs
from synseg_jax.reports.measure_files import write

FLAGS = (
    Flag('predictions', 'Folder of predicted label maps.', required=True),
    Flag('references', 'Folder of reference label maps.', required=True),
    Flag('output', 'Folder for cases.csv, summary.json and boxplots.png.', required=True),
    Flag('labels', 'Classes and label values of the references, e.g. liver:6,kidneys:2+3.'),
    Flag(
        'protocol',
        'How scans are compared: ' + '; '.join(f'{name}: {one.text}' for name, one in PROTOCOLS.items()) + '.',
        NATIVE,
    ),
    Flag('partial', 'Allow references without prediction; they are left out.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Evaluate predicted label maps against references; returns the exit code."""
    return command.run(measure, FLAGS, argv)


def measure(options: Options) -> None:
    """Evaluate the folder given by --predictions, write the results and print the table."""
    labels = class_names.parse(options.labels) if options.labels else None
    named(options.protocol)
    _check_output(Path(options.output), Path(options.predictions), Path(options.references))
    cases, summarised = evaluate_folder(
        options.predictions, options.references, labels, partial=options.partial, protocol=options.protocol
    )
    write(options.output, cases, summarised, options.protocol)
    title = f'{len(cases)} cases, protocol {options.protocol}'
    Console().print(summary.table({'prediction': summarised}, title=title))


def _check_output(output: Path, predictions: Path, references: Path) -> None:
    """Raise InputError if results would be written among label maps."""
    folders = [predictions, references, *(references / part for part in PARTS)]
    outputs.check(output, folders, [path for folder in folders if folder.is_dir() for path in folder.iterdir()])


if __name__ == '__main__':
    command.start(main)
