"""Folders that a dataset.json describes: nnU-Net raw, and the Medical Segmentation Decathlon (MSD)."""

from pathlib import Path

from synseg_jax.datasets import dataset_json
from synseg_jax.datasets.cases import Case, Dataset, subject_of
from synseg_jax.datasets.dataset_json import JSON
from synseg_jax.datasets.layout import hint, paired
from synseg_jax.errors import InputError, warn
from synseg_jax.formats import names, scan_file


class NnUNet:
    """nnU-Net's raw folders, of version 2 or 1; names without the channel's number are taken as they are, if all are.

    dataset.json            {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    imagesTr/p1_0000.nii.gz
    labelsTr/p1.nii.gz      where labelled
    imagesTs/, labelsTs/    likewise, test cases
    """

    word = 'nnU-Net'
    tree = f'{JSON}, imagesTr/<case>_0000.nii.gz and, where labelled, labelsTr/<case>.nii.gz'

    def fits(self, folder: Path) -> bool:
        there = any((folder / name).exists() for name in (JSON, 'imagesTr', 'imagesTs'))
        return there and not Decathlon().fits(folder)

    def read(self, folder: Path, subject: str) -> Dataset:
        path, channels, labels, listed = folder / JSON, (), {}, []
        if path.exists():
            channels, labels = dataset_json.channel_names(path), dataset_json.label_table(path)
            listed = dataset_json.entries(path, 'dataset')  # of files that lie otherwise
        if len(channels) > 1:
            warn('%s: of %d channels only the first, %r, is read', folder, len(channels), channels[0])
        cases, test_cases = (_cases(folder, part, len(channels), subject) for part in ('Tr', 'Ts'))
        cases = tuple(_listed(path, *pair, subject) for pair in listed) or cases
        if not cases and not test_cases:
            raise InputError(f'{folder / "imagesTr"}: {_emptiness(folder / "imagesTr")}; expected: {self.tree}')
        return Dataset(folder, channels, labels, cases, test_cases, str(path))


class Decathlon:
    """Tasks of the Medical Segmentation Decathlon as they unpack, of one channel.

    dataset.json            {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"},
                             "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
                             "test": ["./imagesTs/b.nii.gz"]}
    """

    word = 'MSD'
    tree = f'{JSON} with a list "training"'

    def fits(self, folder: Path) -> bool:
        """Not nnU-Net's version 1, which has the same list and numbers the channels of its files."""
        if not (folder / JSON).is_file() or any((folder / 'imagesTr').glob('*_0000.*')):
            return False
        try:
            listed = dataset_json.content(folder / JSON).get('training')
        except (InputError, OSError):
            return False  # whoever reads it is told
        return isinstance(listed, list) and any(
            'image' in entry for entry in listed if isinstance(entry, (dict, str)) and entry
        )

    def read(self, folder: Path, subject: str) -> Dataset:
        path = folder / JSON
        channels, labels = dataset_json.channel_names(path), dataset_json.label_table(path)
        if len(channels) > 1:
            raise InputError(
                f'{path}: {len(channels)} channels ({", ".join(channels)}) in one 4-D file a scan; write the '
                'one that is meant as 3-D files, and name it alone in "modality"'
            )
        cases, test_cases = (
            tuple(_listed(path, *pair, subject) for pair in dataset_json.entries(path, field))
            for field in ('training', 'test')
        )
        return Dataset(folder, channels, labels, cases, test_cases, str(path))


def _cases(folder, part, channels, subject):
    """Cases of one part (Tr or Ts), sorted by id; none where the part is not there."""
    image_of, labels = _image_of(folder / f'images{part}', channels), folder / f'labels{part}'
    # labels that carry the channel's number too are understood
    return paired(image_of, names.match_cases(scan_file.list_scans(labels), image_of), subject, labels)


def _image_of(images, channels):
    """The first channel's file of every case; names without `_0000` are taken as they are, if all are.

    `channels` is their number, 0 where nothing says it.
    """
    scans = scan_file.list_scans(images)
    if not any(key.endswith('_0000') for key in scans):
        return scans
    for key, path in scans.items():
        parts = names.NUMBERED.fullmatch(key)
        if not parts or int(parts[2]) >= (channels or names.MOST):
            told = f'{channels} channels in {JSON}' if channels else 'channels of a case'
            raise InputError(f'{path}: not one of the {told}; did you mean {key}_0000?')
    return names.split_channels(scans)[0] if channels else names.select_channel(scans)


def _emptiness(images):
    """What is wrong with a folder of images that gave none."""
    if not images.is_dir():
        return f'no such folder{hint(images.name, [path.name for path in images.parent.iterdir() if path.is_dir()])}'
    return f'no scans in it (known formats: {scan_file.FORMATS})'


def _listed(path, image, label, subject) -> Case:
    """The case of an image, and a label if there is one, that a dataset.json lists."""
    for file in (image, label) if label else (image,):
        if not file.is_file():
            near = hint(file.name, _names_in(file.parent))
            raise InputError(f'{file}: no such file, though {JSON} lists it{near}')
    key = names.checked_id(names.case_of(scan_file.stem(image)).removesuffix('_0000'))
    return Case(key, subject_of(key, subject), image, label, path.parent / 'labelsTr' / f'{key}.nii.gz')


def _names_in(folder) -> list[str]:
    """The names of the files in a folder, none where it is not there."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
