"""Small DICOM files of every transfer syntax, alone and as series, with contours and masks on them."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import odd_fields
import pydicom
import SimpleITK as sitk
from dicom_files import write_rtstruct, write_series
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from specimens import AFFINE, CLASSES, Specimen, array, judge_all, judge_labels, judge_scan, read_scan

from synseg_jax.dicom import rtstruct
from synseg_jax.formats import label_maps, scan_file

CODECS = {'jpeg': 'JPEG', 'jpeg-ls': 'JPEGLS', 'jpeg 2000': 'JPEG2000'}  # lossless, by SimpleITK's names
PLAIN = {
    'implicit': ImplicitVRLittleEndian,
    'deflated': DeflatedExplicitVRLittleEndian,
    'big endian': ExplicitVRBigEndian,
}
SYNTAXES = ('explicit', *PLAIN, 'rle', *CODECS)


def convert(file: Path, syntax: str) -> None:
    """Writes a file of `write_series` anew in another transfer syntax."""
    read = pydicom.dcmread(file)
    if syntax == 'rle':
        read.compress(RLELossless)
    elif syntax in CODECS:
        _pack(read, CODECS[syntax])
    elif syntax in PLAIN:
        read = _decoded(read, PLAIN[syntax])
        if syntax == 'big endian':
            read.PixelData = np.frombuffer(read.PixelData, '<u2').astype('>u2').tobytes()
    pydicom.dcmwrite(file, read)


def _decoded(read, syntax) -> pydicom.Dataset:
    """Elements that can be written in any byte order."""
    made = pydicom.Dataset()
    for element in read:
        made.add(element)
    made.preamble, made.file_meta = read.preamble, read.file_meta
    made.file_meta.TransferSyntaxUID = syntax
    return made


def _pack(read, compressor) -> None:
    """Takes over what SimpleITK makes of the pixels."""
    writer = sitk.ImageFileWriter()
    with tempfile.TemporaryDirectory() as folder:
        writer.SetFileName(f'{folder}/packed.dcm')
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(read.pixel_array[None]))
        packed = pydicom.dcmread(f'{folder}/packed.dcm')
    read.PixelData, read.file_meta.TransferSyntaxUID = packed.PixelData, packed.file_meta.TransferSyntaxUID
    read['PixelData'].VR = 'OB'


def _single(syntax: str) -> Specimen:
    def write(folder):
        (file,) = write_series(folder, array()[..., :1], AFFINE)
        convert(file, syntax)
        return file

    return Specimen(write, read_scan, judge_scan(lambda change: 0, False), {'.dcm': odd_fields.dicom})


def _series(syntax: str) -> Specimen:
    def write(folder):
        for name, affine in (('ct', AFFINE), ('other', AFFINE), ('elsewhere', AFFINE + np.diag([0, 0, 1.0, 0]))):
            for file in write_series(folder / name, array(), affine):
                convert(file, syntax)
        return folder / 'ct'

    judge = judge_scan(lambda change: 0, False)
    return Specimen(write, read_scan, judge, {'.dcm': odd_fields.dicom}, _shuffle)


def _shuffle(folder: Path, rng: np.random.Generator) -> str:
    """What happens to the files of a series as folders are copied."""
    files = sorted(folder.iterdir())
    at = int(rng.integers(len(files)))
    file, other = files[at], files[int(rng.integers(len(files)))]
    place = 'end slice' if at in (0, len(files) - 1) else 'slice'
    how = rng.choice([*_SHUFFLES])
    _SHUFFLES[how](folder, file, other, rng)
    return f'{place} {how}'


def _remove(folder, file, other, rng):
    file.unlink()


def _double(folder, file, other, rng):
    (folder / 'copy.dcm').write_bytes(file.read_bytes())


def _empty(folder, file, other, rng):
    file.write_bytes(b'')


def _cut_header(folder, file, other, rng):
    content = file.read_bytes()
    file.write_bytes(content[: int(rng.integers(min(len(content), 1200)))])


def _swap(folder, file, other, rng):
    """The file of another series in place of one, or beside it."""
    source = folder.parent / rng.choice(['other', 'elsewhere']) / file.name
    target = file if rng.integers(2) else folder / 'zz.dcm'
    target.write_bytes(source.read_bytes())


def _same_series(folder, file, other, rng):
    """A file of another series under this one's UID."""
    read = pydicom.dcmread(folder.parent / rng.choice(['other', 'elsewhere']) / file.name)
    read.SeriesInstanceUID = pydicom.dcmread(other).SeriesInstanceUID
    read.save_as(file if rng.integers(2) else folder / 'zz.dcm')


def _mixed(folder, file, other, rng):
    """The header of one file with the end of another."""
    one, two = file.read_bytes(), other.read_bytes()
    at = int(rng.integers(1, min(len(one), len(two))))
    file.write_bytes(one[:at] + two[at:])


def _stranger(folder, file, other, rng):
    names = ('notes.txt', 'notes.dcm', 'DICOMDIR', 'Thumbs.db', '.DS_Store', 'x\udce4.dcm')
    (folder / names[rng.integers(len(names))]).write_bytes((b'hello', b'', bytes(200), b'\xff' * 200)[rng.integers(4)])


def _link(folder, file, other, rng):
    (folder / 'link.dcm').symlink_to(('nowhere', file.name, '.', '/dev/null', 'link.dcm')[rng.integers(5)])


def _folder(folder, file, other, rng):
    (folder / 'deeper.dcm').mkdir()


def _no_image(folder, file, other, rng):
    """An object without pixels, and one that has lost its size alone."""
    read = pydicom.dcmread(file)
    for tag in ('Rows', 'Columns', 'PixelData')[: 1 + int(rng.integers(3))]:
        delattr(read, tag)
    read.save_as(file)


def _renamed(folder, file, other, rng):
    file.rename(folder / ('IM 0', 'a' * 200, 'x.dcm.bak', 'é日.dcm', '-rf', 'ct.nii')[rng.integers(6)])


_SHUFFLES: dict[str, Callable] = {
    'removed': _remove, 'doubled': _double, 'emptied': _empty, 'cut in its header': _cut_header, 'swapped': _swap,
    'of another series': _same_series, 'mixed': _mixed, 'beside a stranger': _stranger, 'beside a link': _link,
    'beside a folder': _folder, 'without size': _no_image, 'renamed': _renamed,
}  # fmt: skip


def _enhanced(folder: Path) -> Path:
    """Three frames in one file, each with its own place and slope."""
    files = write_series(folder, array()[..., :3], AFFINE)
    read, groups = pydicom.dcmread(files[0]), []
    for k in range(3):
        group, position, scale, measures = (pydicom.Dataset() for _ in range(4))
        position.ImagePositionPatient = [-40, -30, -20 + 4 * k]
        scale.RescaleSlope, scale.RescaleIntercept = 0.5 + k, -7 * k
        measures.PixelSpacing, measures.SliceThickness = [1.25, 1.5], 4
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [scale]
        group.PixelMeasuresSequence = [measures]
        groups.append(group)
    read.PixelData = b''.join(pydicom.dcmread(file).PixelData for file in files)
    read.NumberOfFrames, read.PerFrameFunctionalGroupsSequence = 3, groups
    for file in files:
        file.unlink()
    read.save_as(folder / 'all.dcm')
    return folder / 'all.dcm'


def _contours(folder: Path) -> Path:
    files = write_series(folder / 'ct', np.zeros((24, 20, 4)), AFFINE)
    square = np.array([[2.2, 3.3], [9.1, 3.3], [9.1, 12.2], [2.2, 12.2]])
    return write_rtstruct(folder / 'rt.dcm', files, {'liver': [(1, square), (2, square)], 'spleen': [(0, square + 9)]})


def _read_contours(path: Path) -> dict:
    image, values = path.parent / 'ct', {name: name for name in CLASSES}
    scan = scan_file.read(image)
    label_maps.present_values(path, image, scan)
    rtstruct.referenced(path)
    label_maps.check(path, image, values, CLASSES, scan)
    return {'labels': label_maps.read(path, image, values, CLASSES, scan).array}


def _judge_contours(good, found, change) -> str:
    lost = judge_labels(good, found, change)
    return lost or ('truncated and read' if change.kind == 'truncated' else '')


def _pictures(folder: Path) -> Path:
    write_series(folder / 'ct', np.zeros((24, 20, 2)), AFFINE)
    (folder / 'masks').mkdir()
    masks = np.random.default_rng(0).integers(0, 2, (2, 20, 24)).astype(np.uint8)
    for k in range(2):
        sitk.WriteImage(sitk.GetImageFromArray(masks[k]), str(folder / f'masks/{k}.png'))
    return folder / 'masks'


def _read_pictures(path: Path) -> dict:
    image = path.parent / 'ct'
    scan = scan_file.read(image)
    label_maps.present_values(path, image, scan)
    return {'labels': label_maps.read(path, image, {'liver': 1}, CLASSES[:2], scan).array}


def _shuffle_pictures(folder: Path, rng: np.random.Generator) -> str:
    files = sorted(folder.iterdir())
    file = files[rng.integers(2)]
    if (how := rng.choice(['removed', 'doubled', 'emptied'])) == 'removed':
        file.unlink()
    elif how == 'doubled':
        (folder / '3.png').write_bytes(file.read_bytes())
    else:
        file.write_bytes(b'')
    return how


DICOM = {f'dicom file {syntax}': _single(syntax) for syntax in SYNTAXES}
DICOM |= {f'dicom series {syntax}': _series(syntax) for syntax in SYNTAXES}
DICOM |= {
    'dicom enhanced': Specimen(_enhanced, read_scan, judge_scan(lambda change: 0, False), {'.dcm': odd_fields.dicom}),
    'dicom rtstruct': Specimen(
        _contours, _read_contours, _judge_contours, {'.dcm': odd_fields.dicom}, files=lambda path: [path]
    ),
    'png masks': Specimen(_pictures, _read_pictures, judge_all, folder=_shuffle_pictures),
}
