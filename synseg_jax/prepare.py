"""Write scans as records of normalised slices, with a manifest that says what was done.

Usage:
    python -m synseg_jax.prepare --config=configs/synseg_abdomen.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen

--source is the labelled modality, --target the other; both are split into train, val and test by subject.
--set=name=FOLDER:domain:role (repeatable; domain a or b) adds a whole folder in one role.
Target labels are not opened unless data.target_labels is True.

A folder may be nnU-Net raw, a task of the Medical Segmentation Decathlon, images/ beside labels/ or masks/, or a
download of CHAOS, PROSTATEx, NCI-ISBI 2013, NSCLC-Radiomics, MM-WHS 2017 or BTCV as it unpacks; a wrong one is told
which trees are expected.  Where it holds several sequences, FOLDER#word names one, e.g. Train_Sets/MR#T2SPIR.
Scans are NIfTI, NRRD, MetaImage or folders of DICOM, labels these or RTSTRUCT.

Classes are matched by name, whatever numbers each set gives them.  Where nothing in the folder names them, or
otherwise than wanted (each flag repeatable, for every set):

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
from synseg_jax.preparation.sets import SETS, given
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.parse import parse_data

FLAGS = (
    config_flag(required=True, data=('output',)),
    *SETS,
    Flag('output', 'Folder to write.', required=True),
    Flag('overwrite', 'Replace other records in the output folder.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Write the records of sets of scans; the exit code."""
    return command.run(write_records, FLAGS, argv)


def write_records(options: Options) -> None:
    """Prepare the scans that the flags name, and print the table of what was written."""
    sets = given(options)
    outputs.check(Path(options.output), [scans.folder for scans in sets])
    manifest = prepare(sets, options.output, parse_data(options.config), options.overwrite)
    Console().print(table(manifest))


if __name__ == '__main__':
    command.start(main)
