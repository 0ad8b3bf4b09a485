"""Writing raw datasets for nnU-Net v2: DatasetNNN_Name, labels 0 to K, one file ending."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

import synseg_jax
from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import Case, Dataset
from synseg_jax.datasets.dataset_json import JSON
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError, warn
from synseg_jax.files import atomic_folder, write_json
from synseg_jax.formats import label_maps, scan_channels, scan_file
from synseg_jax.formats.label_maps import Values
from synseg_jax.imaging.volume import Volume

NAME = re.compile(r'Dataset\d{3}_[\w.+-]+')
ENDING = '.nii.gz'


@dataclass(frozen=True, eq=False)
class RawDataset:
    """A raw dataset being written; labels are indices into `classes`, the background first."""

    folder: Path
    channels: Sequence[str]  # nnU-Net normalises 'CT' as CT, every other by the scan's own mean and standard deviation
    classes: Sequence[str]
    write: Callable = scan_file.write
    kinds: dict[str, str] = field(default_factory=dict)  # {case: 'synthetic' or 'real'}

    def add(
        self,
        case: str,
        images: Sequence[Shaped[np.ndarray, 'x y z']],
        labels: Integer[np.ndarray, 'x y z'],
        like: Volume,
    ) -> None:
        """Write the channels of a synthetic scan and its labels on the grid of `like`."""
        for number, image in enumerate(images):
            self.write(self._image(case, number), image, like)
        self._label(case, labels, like, 'synthetic')

    def add_real(self, case: Case, scan: Volume, labels: Integer[np.ndarray, 'x y z']) -> None:
        """Write a real scan with unchanged values and its labels, without the free text of its header."""
        for number, one in enumerate(scan.channels):
            integers = np.rint(one.array)
            fits = np.array_equal(integers, one.array) and np.abs(integers).max(initial=0) < 2**15
            self.write(self._image(case.id, number), integers.astype(np.int16) if fits else one.array, one)
        self._label(case.id, labels, scan, 'real')

    def describe(self, text: str) -> None:
        """Write dataset.json."""
        labels = {name if index else 'background': index for index, name in enumerate(self.classes)}
        names = {str(number): name for number, name in enumerate(self.channels)}
        content = {'channel_names': names, 'labels': labels, 'numTraining': len(self.kinds)}
        origin = {kind: sorted(c for c, own in self.kinds.items() if own == kind) for kind in ('synthetic', 'real')}
        about = {'description': text, 'generator': f'synseg_jax {synseg_jax.__version__}', **origin}
        write_json(self.folder / JSON, {**content, 'file_ending': ENDING, **about})

    def _image(self, case, channel) -> Path:
        return self.folder / 'imagesTr' / f'{case}_{channel:04d}{ENDING}'

    def _label(self, case, labels, like, kind) -> None:
        self.write(self.folder / 'labelsTr' / f'{case}{ENDING}', labels, like, intent='label')
        self.kinds[case] = kind


@contextmanager
def writing(
    output: Path, channels: Sequence[str], classes: Sequence[str], write: Callable = scan_file.write
) -> Iterator[RawDataset]:
    """Yields a dataset to add cases to and to describe; `output` appears atomically at the end of the block.

    Raises InputError unless `output` is named DatasetNNN_Name and is empty or missing.
    """
    if not NAME.fullmatch(output.name):
        raise InputError(f'{output}: nnU-Net needs folders named DatasetNNN_Name; write to e.g. Dataset201_SyntheticCT')
    check_free(output)
    with atomic_folder(output.absolute()) as folder:
        for part in ('imagesTr', 'labelsTr'):
            (folder / part).mkdir()
        yield RawDataset(folder, channels, classes, write)


def labelled(path: str | Path, classes: Sequence[str], channel: str = '', labels: Values | None = None) -> Dataset:
    """The labelled cases of a dataset without its test cases, or those in a subfolder or file of it.

    `channel` is the channel if the dataset names none, `labels` override its own; both get the spelling of `classes`.
    Raises InputError if there are no labelled cases or a class is not labelled: it would be learnt as background.
    """
    path = Path(path)
    candidates = (path, *path.absolute().parents[:2])
    root = next((folder for folder in candidates if (folder / JSON).is_file()), path)
    dataset = read_dataset(root, labels=labels, unsaid=channel)
    dataset = replace(dataset, labels=class_names.match_names(dataset.labels, classes))
    selected, cases = {path.resolve(), path.parent.resolve() / path.name}, dataset.cases
    if dataset.folder not in selected:
        cases = [case for case in (*cases, *dataset.test_cases) if selected & {case.image, case.image.parent}]
    cases = tuple(case for case in cases if case.label is not None)
    if not cases:
        raise InputError(f'{path}: no labels for its scans, which a dataset for nnU-Net needs; expected labelsTr/')
    if not dataset.labels:
        raise InputError(f'{dataset.named_in}: no classes; name them, e.g. --labels=liver:6,kidneys:2+3')
    if absent := [name for name in classes[1:] if name not in dataset.labels]:
        raise InputError(f'{dataset.named_in}: no label {", ".join(absent)}, a class of the system; label it')
    if extra := [name for name in dataset.labels if name not in (*classes, 'background')]:
        warn('%s: labels %s become %s', dataset.named_in, ', '.join(extra), classes[0])
    return replace(dataset, cases=cases, test_cases=())


def read(
    dataset: Dataset, case: Case, classes: Sequence[str], channels: int = 1
) -> tuple[Volume, UInt8[np.ndarray, 'x y z']]:
    """Read the scan of a labelled case, and its labels as indices into `classes`."""
    scan = scan_channels.read(case.image, channels)
    return scan, label_maps.read(case.label, case.image, dataset.labels, classes, scan).array


def check_free(output: Path) -> None:
    """Raise InputError if `output` exists and is not an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f'{output}: exists and is not empty; remove it or choose another --output')
