"""Prepare scans for training: records of normalised slices or volumes, and a manifest.

Usage:
    python -m synseg_jax.prepare --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen

--source is the labelled modality, --target the other; both are split into train, val and test by subject.
--set=name=FOLDER:domain:role (repeatable; domain a or b) adds a whole folder as train, val or test.
Target labels are not read unless data.target_labels is True.

A folder may be an nnU-Net raw dataset, a task of the Medical Segmentation Decathlon, images/ with labels/ or masks/, or
an unpacked download of CHAOS, PROSTATEx, NCI-ISBI 2013, NSCLC-Radiomics, MM-WHS 2017 or BTCV.  If it holds several
sequences, FOLDER#name selects one, e.g. Train_Sets/MR#T2SPIR.  Scans are NIfTI, NRRD, MetaImage or DICOM series, labels
also RTSTRUCT.

Classes are matched by name, whatever their label values in each set.  To name channel and classes of a folder that does
not, or to override its names (repeatable, per set):

    --channel=target=CT --labels=source=background:0,liver:6,kidneys:2+3 --labels=target=tumour:GTV-1*
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.cli import command
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.formats import outputs
from synseg_jax.preparation.records_table import table
from synseg_jax.preparation.sets import SETS, exchanged, given
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.parse import parse_data

FLAGS = (
    config_flag(required=True, data=('output',)),
    *SETS,
    Flag('output', 'Folder to write.', required=True),
    Flag('overwrite', 'Replace other records in the output folder.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Prepare sets of scans; returns the exit code."""
    return command.run(write_records, FLAGS, argv)


def write_records(options: Options) -> None:
    """Prepare the scans given by the flags, and print a table of the records."""
    settings = parse_data(options.config)
    sets = exchanged(given(options)) if settings.reverse else given(options)
    outputs.check(Path(options.output), [scans.folder for scans in sets])
    manifest = prepare(sets, options.output, settings, options.overwrite)
    Console().print(table(manifest))


if __name__ == '__main__':
    command.start(main)
