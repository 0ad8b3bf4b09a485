"""Folders with a dataset.json: nnU-Net raw datasets and the Medical Segmentation Decathlon (MSD)."""

from pathlib import Path

from synseg_jax.datasets import dataset_json
from synseg_jax.datasets.cases import Case, Dataset, subject_of
from synseg_jax.datasets.dataset_json import JSON
from synseg_jax.datasets.layout import hint, paired
from synseg_jax.errors import InputError
from synseg_jax.formats import names, scan_file


class NnUNet:
    """nnU-Net's raw datasets of version 2 or 1; channel numbers may be missing if no file has one.

    dataset.json            {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    imagesTr/p1_0000.nii.gz
    labelsTr/p1.nii.gz      of labelled cases
    imagesTs/, labelsTs/    likewise, test cases
    """

    name = 'nnU-Net'
    structure = f'{JSON}, imagesTr/<case>_0000.nii.gz and, where labelled, labelsTr/<case>.nii.gz'

    def fits(self, folder: Path) -> bool:
        exists = any((folder / name).exists() for name in (JSON, 'imagesTr', 'imagesTs'))
        return exists and not Decathlon().fits(folder)

    def read(self, folder: Path, subject: str) -> Dataset:
        path, channels, labels, entries, phantom = folder / JSON, (), {}, [], None
        if path.exists():
            phantom = dataset_json.phantom(path)
            channels, labels = dataset_json.channel_names(path), dataset_json.class_values(path)
            entries = dataset_json.entries(path, 'dataset')  # files elsewhere (nnU-Net 2)
        cases, test_cases = (_cases(folder, part, len(channels), subject) for part in ('Tr', 'Ts'))
        cases = tuple(_listed_case(path, *pair, subject) for pair in entries) or cases
        if not cases and not test_cases:
            raise InputError(f'{folder / "imagesTr"}: {_why_empty(folder / "imagesTr")}; expected: {self.structure}')
        return Dataset(folder, channels, labels, cases, test_cases, str(path), phantom=phantom)


class Decathlon:
    """Tasks of the Medical Segmentation Decathlon in the structure of their downloads, of one channel.

    dataset.json            {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"},
                             "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
                             "test": ["./imagesTs/b.nii.gz"]}
    """

    name = 'MSD'
    structure = f'{JSON} with a list "training"'

    def fits(self, folder: Path) -> bool:
        """Whether dataset.json lists images without channel numbers; nnU-Net 1 has the list and the numbers."""
        if not (folder / JSON).is_file() or any((folder / 'imagesTr').glob('*_0000.*')):
            return False
        try:
            entries = dataset_json.content(folder / JSON).get('training')
        except (InputError, OSError):
            return False  # reading it raises the error again
        return isinstance(entries, list) and any(
            'image' in entry for entry in entries if isinstance(entry, (dict, str)) and entry
        )

    def read(self, folder: Path, subject: str) -> Dataset:
        path = folder / JSON
        channels, labels = dataset_json.channel_names(path), dataset_json.class_values(path)
        if len(channels) > 1:
            raise InputError(
                f'{path}: {len(channels)} channels ({", ".join(channels)}) in one 4-D file per scan; write the channel '
                'to use as 3-D files, and name only it in "modality"'
            )
        cases, test_cases = (
            tuple(_listed_case(path, *pair, subject) for pair in dataset_json.entries(path, field))
            for field in ('training', 'test')
        )
        return Dataset(folder, channels, labels, cases, test_cases, str(path))


def _cases(folder, part, channels, subject):
    """Cases of one part (Tr or Ts), sorted by id; none if the part does not exist."""
    images, labels = _first_channel(folder / f'images{part}', channels), folder / f'labels{part}'
    # label maps may have the channel number too
    return paired(images, names.match_cases(scan_file.list_scans(labels), images), subject, labels)


def _first_channel(folder, channels) -> dict[str, Path]:
    """{case: file of the first channel}; if no file has a channel number, all files are cases.

    `channels` is the number of channels, 0 if unknown.
    """
    files = scan_file.list_scans(folder)
    if not any(key.endswith('_0000') for key in files):
        return files
    for key, path in files.items():
        parts = names.NUMBERED.fullmatch(key)
        if not parts or int(parts[2]) >= (channels or names.MAX_CHANNELS):
            valid = f'{channels} channels in {JSON}' if channels else 'channels of a case'
            raise InputError(f'{path}: not one of the {valid}; did you mean {key}_0000?')
    return names.split_channels(files)[0] if channels else names.select_channel(files)


def _why_empty(folder) -> str:
    """Why a folder of images gave none."""
    if not folder.is_dir():
        return f'no such folder{hint(folder.name, [path.name for path in folder.parent.iterdir() if path.is_dir()])}'
    return f'no scans in it (known formats: {scan_file.FORMATS})'


def _listed_case(path, image, label, subject) -> Case:
    """The case of an image, perhaps with a label, in a list of dataset.json."""
    for file in (image, label) if label else (image,):
        if not file.is_file():
            siblings = [sibling.name for sibling in file.parent.iterdir()] if file.parent.is_dir() else []
            raise InputError(f'{file}: no such file, though {JSON} lists it{hint(file.name, siblings)}')
    case = names.checked_id(names.case_of(scan_file.stem(image)).removesuffix('_0000'))
    return Case(case, subject_of(case, subject), image, label, path.parent / 'labelsTr' / f'{case}.nii.gz')
