"""Names of the label maps that `predict` writes, and what describes them beside dataset.json: by case, or by BIDS."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import synseg_jax
from synseg_jax.files import atomic_file, write_json
from synseg_jax.formats import bids_names
from synseg_jax.inference.label_folder import DATASET
from synseg_jax.inference.scan_outputs import OUTPUTS

BIDS_VERSION = '1.10.0'


@dataclass(frozen=True)
class LabelNames:
    """How the label maps in a folder are named and described."""

    places: Callable[[Mapping[str, Path]], dict[str, str]]  # {case: scan} -> {case: path below the folder}
    describe: Callable[[Path, Sequence[str], str], None]  # of a folder, with the classes and the channel of the scans


def by_case(files: Mapping[str, Path]) -> dict[str, str]:
    """CASE.nii.gz, as nnU-Net has it."""
    return {case: f'{case}.nii.gz' for case in files}


def describe_bids(folder: Path, classes: Sequence[str], channel: str) -> None:
    """Write dataset_description.json, dseg.tsv with the classes, and .bidsignore for what BIDS has no names for."""
    program = {'Name': 'synseg_jax', 'Version': synseg_jax.__version__, 'Description': f'labels of {channel} scans'}
    content = {'Name': 'Segmentation by synseg_jax', 'BIDSVersion': BIDS_VERSION, 'DatasetType': 'derivative'}
    write_json(folder / 'dataset_description.json', {**content, 'GeneratedBy': [program]})
    _write(folder / '.bidsignore', (DATASET, *(f'{name}*' for name in OUTPUTS)))
    rows = [('index', 'name'), *enumerate(classes)]
    _write(folder / f'{bids_names.LABELS}.tsv', (f'{index}\t{name}' for index, name in rows))


def _write(path, lines) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


LABEL_NAMES = {
    'case': LabelNames(by_case, lambda *_: None),
    'bids': LabelNames(bids_names.label_maps, describe_bids),
}
