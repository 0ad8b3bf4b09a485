"""Small inputs of every format that scans and label maps come in: how a good one is written, read, and judged."""

import bz2
import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import odd_fields
import SimpleITK as sitk
from damage import LENGTH

from synseg_jax.formats import label_maps, scan_file

AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.25, 0, 30], [0, 0, 4.0, -20], [0, 0, 0, 1]])
CLASSES = ('background', 'liver', 'spleen')
FAR_MM = 1e6  # no scanner is as large


@dataclass(frozen=True)
class Change:
    """What was done to a specimen, and the bytes of the one file that it was done to, before and after."""

    kind: str  # one of damage.KINDS or damage.TRANSFERS, 'misplaced', 'field' or 'folder'
    file: Path
    told: str = ''
    before: bytes = b''
    after: bytes = b''

    def reaches(self, begin: int) -> bool:
        """Whether bytes from `begin` on are others than before."""
        return self.kind not in ('field', 'folder', 'misplaced') and not self.after.endswith(self.before[begin:])


def _everything(path: Path) -> list[Path]:
    """The files of a folder, or a file with those beside it."""
    return sorted(file for file in (path if path.is_dir() else path.parent).rglob('*') if file.is_file())


def _nothing_to_judge(good: Mapping, found: Mapping, change: Change) -> str:
    return ''


@dataclass(frozen=True)
class Specimen:
    """A kind of input."""

    write: Callable[[Path], Path]  # a good one into an empty folder; returns what `read` takes
    read: Callable[[Path], Mapping]  # numbers and arrays by name
    judge: Callable[[Mapping, Mapping, Change], str] = _nothing_to_judge  # why a silent difference is wrong, or ''
    fields: Mapping[str, Callable] = field(default_factory=dict)  # suffix: function of odd_fields
    folder: Callable[[Path, np.random.Generator], str] | None = None  # changes whole files, returns how
    files: Callable[[Path], list[Path]] = _everything  # those that are damaged
    share: int = 4  # of the attempts
    several_lines: bool = False  # whether an error may have a line for each of several problems
    misplaced: bool = True  # whether pipes, devices and the like come in place of its files


def array() -> np.ndarray:
    """Voxels that no other order or size of axes gives."""
    return np.random.default_rng(0).integers(-900, 900, (12, 10, 6)).astype(np.int16)


def read_scan(path: Path) -> dict:
    """Voxels and affine, once the header alone has said the same."""
    scan_file.inputs(path)
    grid, scan = scan_file.grid(path), scan_file.read(path)
    if grid.array.shape != scan.array.shape or not np.array_equal(grid.affine, scan.affine):
        raise AssertionError('the grid by the header is another than that of the voxels')
    return {'voxels': scan.array, 'affine': scan.affine}


def judge_scan(begin: Callable[[Change], int], guarded: bool, whole: bool = False) -> Callable:
    """Judges silent differences: of voxels behind the byte that `begin` returns, and of geometry if `whole`.

    Guarded voxels have a checksum.
    """

    def judge(good: Mapping, found: Mapping, change: Change) -> str:
        shape, other = good['voxels'].shape, found['voxels'].shape
        spacing = np.linalg.norm(found['affine'][:3, :3], axis=0)
        reached = change.reaches(begin(change))
        missing = change.told in ('nothing', 'end slice removed')  # at an end, which cannot be known
        if other != shape and (np.prod(other) != np.prod(shape) or reached) and not missing:
            return f'{other} voxels, not {shape}'
        if np.abs(found['affine']).max() > FAR_MM or spacing.min() < 1 / FAR_MM:
            return f'absurd geometry: spacing {spacing}, origin {found["affine"][:3, 3]}'
        differ = other == shape and not np.array_equal(good['voxels'], found['voxels'])
        moved = not np.array_equal(good['affine'], found['affine'])
        if reached and (guarded and (differ or moved and whole) or differ and change.kind in LENGTH):
            return 'other voxels' if differ else 'other geometry'
        return ''

    return judge


def judge_labels(good: Mapping, found: Mapping, change: Change) -> str:
    """A class that is gone needs a word."""
    lost = {*np.unique(good['labels'])} - {*np.unique(found['labels'])}
    return f'classes {lost} are gone' if lost else ''


def judge_all(good: Mapping, found: Mapping, change: Change) -> str:
    """Everything has a checksum."""
    return 'another content' if change.kind != 'field' else ''


def _nifti(version: type, suffix: str) -> Specimen:
    def write(folder):
        nib.save(version(array(), AFFINE), folder / f'scan{suffix}')
        return folder / f'scan{suffix}'

    packed = suffix.endswith('.gz')
    return Specimen(write, read_scan, judge_scan(lambda change: 0, packed, packed), {suffix: odd_fields.nifti})


def image() -> sitk.Image:
    """The voxels, turned a little."""
    made = sitk.GetImageFromArray(array().T)
    made.SetDirection([0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1])
    made.SetSpacing((1.5, 1.25, 4))
    made.SetOrigin((-40, -30, 20))
    return made


def _itk(suffix: str, packed: bool) -> Specimen:
    def write(folder):
        sitk.WriteImage(image(), str(folder / f'scan{suffix}'), packed)
        return folder / f'scan{suffix}'

    return _text(write, suffix, packed)


def _text(write, suffix, packed) -> Specimen:
    return Specimen(write, read_scan, judge_scan(_begin, packed), {suffix: odd_fields.text_header})


def _begin(change) -> int:
    return odd_fields.header_end(change.before) if change.file.suffix in ('.nrrd', '.nhdr', '.mha', '.mhd') else 0


def _bzip2(folder: Path) -> Path:
    """An NRRD file by hand: ITK writes none packed by bzip2."""
    sitk.WriteImage(image(), str(folder / 'scan.nrrd'))
    content = (folder / 'scan.nrrd').read_bytes()
    end = odd_fields.header_end(content)
    head = re.sub(rb'encoding: \w+', b'encoding: bzip2', content[:end])
    (folder / 'scan.nrrd').write_bytes(head + bz2.compress(content[end:]))
    return folder / 'scan.nrrd'


def _gzipped_beside(folder: Path) -> Path:
    sitk.WriteImage(image(), str(folder / 'scan.nhdr'))
    head, data = (folder / 'scan.nhdr').read_bytes(), (folder / 'scan.raw').read_bytes()
    head = re.sub(rb'encoding: \w+', b'encoding: gzip', head).replace(b'scan.raw', b'scan.raw.gz')
    (folder / 'scan.nhdr').write_bytes(head)
    (folder / 'scan.raw.gz').write_bytes(gzip.compress(data, mtime=0))
    (folder / 'scan.raw').unlink()
    return folder / 'scan.nhdr'


def _long_zlib(folder: Path) -> Path:
    """A MetaImage whose packed voxels are larger than one block of what reads them."""
    made = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 2000, (20, 96, 64)).astype(np.int16))
    sitk.WriteImage(made, str(folder / 'scan.mha'), True)
    return folder / 'scan.mha'


def _judge_digits(good: Mapping, found: Mapping, change: Change) -> str:
    """Digits that are others cannot be known; what is no number, or one number more or less, can."""
    told = change.after[odd_fields.header_end(change.before) :].split()
    numbers = sum(bool(re.fullmatch(rb'[-+]?\d+', word)) for word in told)
    odd = change.reaches(_begin(change)) and (numbers != len(told) or numbers != array().size)
    return judge_scan(_begin, odd)(good, found, change if odd else replace(change, kind='field'))


def _digits(folder: Path) -> Path:
    """An NRRD file whose voxels are written in digits."""
    head = 'NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 12 10 6\n'
    head += 'space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: ascii\nspace origin: (0,0,0)\n\n'
    (folder / 'scan.nrrd').write_text(head + ' '.join(map(str, array().ravel(order='F'))))
    return folder / 'scan.nrrd'


def labels() -> np.ndarray:
    """Two organs on the grid of `array`."""
    made = np.zeros(array().shape, np.uint8)
    made[2:6, 2:8, 1:5], made[7:11, 3:7, 2:4] = 1, 2
    return made


def _segmentation(folder: Path) -> Path:
    """Labels as 3D Slicer writes them, beside the scan that they belong to."""
    (folder / 'labels').mkdir()
    sitk.WriteImage(image(), str(folder / 'scan.nrrd'))
    made = sitk.GetImageFromArray(labels().T)
    made.CopyInformation(image())
    for number, name in enumerate(CLASSES[1:]):
        for key, value in {'ID': f'Segment_{number + 1}', 'Name': name, 'LabelValue': number + 1, 'Layer': 0}.items():
            made.SetMetaData(f'Segment{number}_{key}', str(value))
    sitk.WriteImage(made, str(folder / 'labels' / 'scan.seg.nrrd'), True)
    return folder / 'labels' / 'scan.seg.nrrd'


def _read_segmentation(path: Path) -> dict:
    scan = path.parent.parent / 'scan.nrrd'
    values = {name: number for number, name in enumerate(CLASSES)}
    label_maps.present_values(path, scan, scan_file.read(scan))
    return {'labels': label_maps.read(path, scan, values, CLASSES).array}


def _judge_segmentation(good, found, change) -> str:
    return judge_labels(good, found, change) or ('other labels' if change.reaches(_begin(change)) else '')


SCANS = {
    'nifti .nii': _nifti(nib.Nifti1Image, '.nii'),
    'nifti .nii.gz': _nifti(nib.Nifti1Image, '.nii.gz'),
    'nifti 2 .nii': _nifti(nib.Nifti2Image, '.nii'),
    'nifti 2 .nii.gz': _nifti(nib.Nifti2Image, '.nii.gz'),
    'nrrd raw': _itk('.nrrd', False),
    'nrrd gzip': _itk('.nrrd', True),
    'nrrd bzip2': _text(_bzip2, '.nrrd', True),
    'nrrd ascii': Specimen(_digits, read_scan, _judge_digits, {'.nrrd': odd_fields.text_header}),
    'nrrd .nhdr raw': _itk('.nhdr', False),
    'nrrd .nhdr gzip': _text(_gzipped_beside, '.nhdr', True),
    'nrrd .seg.nrrd': Specimen(
        _segmentation, _read_segmentation, _judge_segmentation, {'.nrrd': odd_fields.text_header}
    ),
    'meta .mha raw': _itk('.mha', False),
    'meta .mha zlib': _itk('.mha', True),
    'meta .mha long zlib': _text(_long_zlib, '.mha', True),
    'meta .mhd raw': _itk('.mhd', False),
    'meta .mhd zlib': _itk('.mhd', True),
}
