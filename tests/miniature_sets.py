"""Raw datasets with exactly the papers' counts of scans, each so small that hundreds are prepared in seconds."""

import inspect
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np

from synseg_jax.preparation.sets import parse_set
from synseg_jax.preparation.split import Scans

# Right and front of organs that share a scan, of a body from -1 to 1; others lie in its middle.
PLACES = {
    'liver': (0.5, 0.2), 'spleen': (-0.6, -0.2), 'stomach': (-0.4, 0.4), 'left kidney': (-0.2, -0.6),
    'right kidney': (0.3, -0.6), 'left ventricle': (-0.5, 0.2), 'myocardium': (0.0, 0.6), 'left atrium': (-0.4, -0.4),
    'right ventricle': (0.5, 0.2), 'right atrium': (0.4, -0.4),
}  # fmt: skip
HEAD = ('background', 'intracranial volume')  # where a configuration leaves the names to the source


@dataclass(frozen=True)
class RawSet:
    """The scans of a folder in nnU-Net's layout: `cases` in imagesTr, `tests`, which have labels, in imagesTs.

    `shape` and `spacing_mm` are those of an axial scan, whose slices are the last axis; the thick slices of another
    `plane` lie along the axis that it is named by.  `slices` counts those of all cases and those that show an organ,
    where a paper counts them.
    """

    modality: str
    cases: tuple[str, ...]
    tests: tuple[str, ...] = ()
    labelled: bool = True  # the cases in imagesTr
    slices: tuple[int, int] = ()
    shape: tuple[int, int, int] = (24, 24, 6)
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 5.0)
    plane: str = 'axial'


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """So many case ids."""
    return tuple(f'{prefix}_{number:03}' for number in range(1, count + 1))


def weekly(patients: Iterable[str], weeks: Iterable[int]) -> tuple[str, ...]:
    """Case ids of every patient in every week."""
    return tuple(f'{patient}_w{week}' for patient in patients for week in weeks)


LUNG = {'shape': (20, 20, 6), 'spacing_mm': (15.0, 15.0, 5.0)}
HEART = {'shape': (14, 14, 11), 'spacing_mm': (12.0, 12.0, 12.0)}
PELVIS = {'spacing_mm': (0.5, 0.5, 3.6)}
ABDOMEN = {'source': RawSet('MR', numbered('chaos', 16)), 'target': RawSet('CT', numbered('btcv', 30))}
WEEKLY = numbered('weekly', 6)
# Configuration -> set, as the docstrings name it -> its scans.
RAW_SETS = {
    'synseg_spleen': {
        'source': RawSet('MR', numbered('mr', 60)),
        'target': RawSet('CT', numbered('ct', 19)),
        'cohort': RawSet('CT', numbered('normal', 75)),
        'axial': RawSet('CT', numbered('axial', 23)),
        'coronal': RawSet('CT', numbered('coronal', 21), plane='coronal'),
        'sagittal': RawSet('CT', numbered('sagittal', 22), plane='sagittal'),
    },
    'synseg_ticv': {'source': RawSet('CT', numbered('ct', 10)), 'target': RawSet('MR', numbered('mr', 10))},
    'synseg_abdomen': ABDOMEN,
    'synseg_abdomen_laptop': ABDOMEN,
    'prostate_ssim': {
        'source': RawSet('MR', numbered('Prostate3T-01', 30) + numbered('ProstateDx-01', 30), **PELVIS),
        'source_unlabelled': RawSet('MR', numbered('ProstateX', 346), labelled=False, **PELVIS),
        'target': RawSet('CT', numbered('pelvis', 101), numbered('delineated', 19), False, spacing_mm=(0.8, 0.8, 1.0)),
    },
    'essnet_liver': {
        'source': RawSet('CT', numbered('ct', 20), slices=(2874, 2050)),
        'target': RawSet('MR', numbered('mr', 20), slices=(623, 408)),
    },
    'heart3d': {
        'source': RawSet('MR', numbered('mr', 142), **HEART),
        'target': RawSet('CT', numbered('ct', 142), **HEART),
        'more': RawSet('CT', numbered('further', 4212), **HEART),
    },
    'tumor_lung': {
        'source': RawSet('CT', numbered('LUNG1', 377), **LUNG),
        'target': RawSet('MR', weekly(WEEKLY, range(7)), **LUNG),
        'week_one': RawSet('MR', weekly(WEEKLY, [0]), **LUNG),
        'later': RawSet('MR', weekly(WEEKLY, range(1, 7)), **LUNG),
        'test': RawSet(
            'MR',
            weekly(['long_1', 'long_2'], range(7)) + weekly(['long_3'], range(6)) + weekly(numbered('before', 8), [0]),
            **LUNG,
        ),
    },
}


def slices_of(raw: RawSet) -> dict[str, tuple[int, int]]:
    """{case: (its slices, those that show an organ)}."""
    depth, shown = raw.shape[2], raw.shape[2] - 2
    count = len(raw.cases)
    counted = zip(*(_shared(total, count) for total in raw.slices or (depth * count, shown * count)), strict=True)
    return dict(zip(raw.cases, counted, strict=True)) | dict.fromkeys(raw.tests, (depth, shown))


def _shared(total, count):
    """`total` in `count` parts that differ by one at most."""
    return [total // count + (i < total % count) for i in range(count)]


def write(folder: Path, raw: RawSet, classes: Sequence[str], voxels: bool = True) -> None:
    """Writes a raw dataset whose labels are these classes; empty files, if nobody will ask for `voxels`."""
    for part, labelled in (('Tr', raw.labelled), ('Ts', True)):
        for name in ('images', 'labels') if labelled else ('images',):
            (folder / f'{name}{part}').mkdir(parents=True)
    for case, (depth, organs) in slices_of(raw).items():
        part = 'Ts' if case in raw.tests else 'Tr'
        paths = [folder / f'images{part}' / f'{case}_0000.nii.gz', folder / f'labels{part}' / f'{case}.nii.gz']
        arrays = scan(case, replace(raw, shape=(*raw.shape[:2], depth)), organs, classes) if voxels else (None, None)
        for path, array in zip(paths, arrays, strict=True):
            if path.parent.is_dir():
                path.touch() if array is None else nib.save(_stored(array, raw), path)
    content = {'channel_names': {'0': raw.modality}, 'labels': {name: i for i, name in enumerate(classes)}}
    content |= {'numTraining': len(raw.cases), 'file_ending': '.nii.gz'}
    (folder / 'dataset.json').write_text(json.dumps(content))


def _stored(array, raw) -> nib.Nifti1Image:
    """With the thick slices along the axis that the plane is named by."""
    order = {'axial': (0, 1, 2), 'coronal': (0, 2, 1), 'sagittal': (2, 0, 1)}[raw.plane]
    return nib.Nifti1Image(array.transpose(order), np.diag([*np.array(raw.spacing_mm)[list(order)], 1.0]))


def scan(case: str, raw: RawSet, organs: int, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A body with a disc for every organ in the middle `organs` slices: int16 intensities and uint8 labels.

    Axes are right, front and up.  The same case is the same scan, in whatever folder.
    """
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in raw.shape[:2]), indexing='ij')
    body = (x**2 + y**2 < 0.9)[..., None]
    labels = np.zeros(raw.shape, np.uint8)
    labels[:] = body * (classes.index('body') if 'body' in classes else 0)
    first = (raw.shape[2] - organs) // 2
    for name in (name for name in classes[1:] if name != 'body'):
        at = np.array(PLACES.get(name, (0, 0))) + rng.uniform(-0.05, 0.05, 2)
        disc = (x - at[0]) ** 2 + (y - at[1]) ** 2 < (0.25 if name in PLACES else 0.4) ** 2
        labels[disc, first : first + organs] = classes.index(name)
    air, tissue, step = (-1000, 0, 40) if raw.modality == 'CT' else (0, 300, 100)
    image = np.where(body, tissue + step * labels.astype(int), air) + rng.normal(0, 15, raw.shape)
    return image.astype(np.int16), labels


def documented(*modules: ModuleType) -> list[Scans]:
    """The sets that docstrings tell to prepare."""
    text = ' '.join(inspect.getdoc(module) for module in modules)
    told = dict(re.findall(r'--(source|target)=(\w+)', text))
    further = dict.fromkeys(re.findall(r'--set=(\w+=\w+:[ab]:\w+)', text))
    first = [Scans(name, Path(told[name]), domain) for name, domain in (('source', 'a'), ('target', 'b'))]
    return first + [parse_set(text) for text in further]


def written(folder: Path, name: str, classes: Sequence[str], *modules: ModuleType, voxels: bool = True) -> list[Scans]:
    """The sets that the docstrings of a configuration and its tables prepare, each written to a folder of its name."""
    sets = [replace(scans, folder=folder / scans.name) for scans in documented(*modules)]
    for scans in sets:
        if not scans.folder.exists():
            write(scans.folder, RAW_SETS[name][scans.name], tuple(classes) or HEAD, voxels)
    return sets
