"""Copies of sets with every label resampled to the grid of its scan; the originals are not changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from scipy import ndimage

from synseg_jax.dicom import series
from synseg_jax.errors import InputError
from synseg_jax.files import atomic_folder, write_json
from synseg_jax.formats import label_maps, scan_channels, scan_file, slicer
from synseg_jax.formats.grid import check_grid
from synseg_jax.formats.label_maps import as_tuple
from synseg_jax.imaging import volume
from synseg_jax.imaging.volume import Volume
from synseg_jax.preparation.checks.case import Checked, classes_of

INSIDE = 0.5  # share of a label that must lie in its scan; below, its affine is wrong and resampling would lose it
WHOLE = ('.nii', '.nii.gz', '.nrrd', '.mha')  # single-file formats


def repair(checked: Sequence[Checked], output: str | Path) -> list[str]:
    """Write an nnU-Net raw folder of every set to `output`; a log of what was repaired and what could not be.

    Scans are links.  Wrong voxels, values or sets are copied unchanged.  Atomic; InputError if `output` exists.
    """
    output = Path(output).absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f'{output}: exists; choose another --output')
    said = []
    with atomic_folder(output) as folder:
        for one in checked:
            said += _write(one, folder / one.split.name)
        for split in {one.split.name: one.split for one in checked}.values():
            _describe(split, folder / split.name)
            said.append(
                f'{output / split.name}: written, with {len([o for o in checked if o.split.name == split.name])} scans'
            )
    return said


def on_grid(label: Volume, image: Volume, name: str = 'the label map') -> Shaped[np.ndarray, 'x y z']:
    """A label resampled to the grid of a scan by nearest neighbour, 0 outside the label's own grid.

    InputError if most of the label lies outside the scan.
    """
    inside = _inside(label, image)
    if inside < INSIDE:
        raise InputError(
            f'{name}: {1 - inside:.0%} of it lies beside its scan, so its affine is wrong; give it that of the scan if '
            'their voxels match, else draw it anew'
        )
    move = np.linalg.inv(label.affine) @ image.affine
    return ndimage.affine_transform(label.array, move, output_shape=image.array.shape, order=0, mode='grid-constant')


def _inside(label, image) -> float:
    """The share of labelled voxels whose centre lies in the scan."""
    index = np.argwhere(label.array)
    move = np.linalg.inv(image.affine) @ label.affine
    moved = index @ move[:3, :3].T + move[:3, 3]
    held = ((moved > -0.5) & (moved < np.array(image.array.shape) - 0.5)).all(1)
    return float(held.mean()) if len(index) else 1.0


def _write(one, folder) -> list[str]:
    """Write one case; a log line about its label, if it was changed."""
    case, part = one.case, 'Ts' if one.case in one.split.dataset.test_cases else 'Tr'
    images, labels = folder / f'images{part}', folder / f'labels{part}'
    for path in (images, labels):
        path.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(scan_channels.present(case.image, one.split.channels)):
        _place(path, images, f'{case.id}_{number:04d}')
    if case.label is None:
        return []
    try:
        array, line = _repaired(one)
    except InputError as error:
        array, line = None, f'not repaired: {error}'
    if array is None:
        _place(case.label, labels, case.id)
    else:
        scan_file.write(labels / f'{case.id}.nii.gz', array, scan_file.grid(case.image), 'label')
    return [line] if line else []


def _repaired(one) -> tuple[Shaped[np.ndarray, 'x y z'] | None, str]:
    """A label on the grid of its scan, and a log line; (None, '') if it needs no repair."""
    case, image = one.case, scan_file.grid(one.case.image)
    stored = label_maps.grid(case.label, image)
    if stored is image or slicer.is_segmentation(case.label):
        return _mapped(one, image), f'{case.label}: written as a label map'
    try:
        check_grid(volume.canonical(image), volume.canonical(stored), str(case.label))
        return None, ''
    except InputError:
        label = scan_file.read_labels(case.label)
        array = on_grid(label, image, str(case.label))
        sizes = [np.count_nonzero(a) * abs(np.linalg.det(v.affine)) for a, v in ((label.array, label), (array, image))]
        change = f'{sizes[0] / 1000:.4g} ml of organs became {sizes[1] / 1000:.4g}'
        return array, f'{case.label}: brought onto the grid of its scan by nearest neighbour, {change}'


def _mapped(one, image) -> Shaped[np.ndarray, 'x y z']:
    """Contours or PNG masks as a label map with the values of `_numbers`."""
    case, dataset, names = one.case, one.split.dataset, _names(one.split)
    label = label_maps.read(case.label, case.image, dataset.labels, names, image)
    values = np.array([_numbers(one.split)[name] for name in names])
    return values.astype(np.min_scalar_type(values.max()))[label.array]


def _names(split) -> tuple[str, ...]:
    return classes_of(replace(split, classes=None))  # the same for every split of a set


def _numbers(split) -> dict[str, int]:
    """The value of every class in the repaired labels: its first value, or its index if contours have none."""
    labels = split.dataset.labels
    numbers = {name: [one for one in as_tuple(labels.get(name, 0)) if isinstance(one, int)] for name in _names(split)}
    plain = all(numbers.values())
    return {name: own[0] if plain else place for place, (name, own) in enumerate(numbers.items())}


def _describe(split, folder) -> None:
    labels = split.dataset.labels
    contours = any(isinstance(one, str) for value in labels.values() for one in as_tuple(value))
    content = {
        'channel_names': dict(zip('0123456789', split.dataset.channels(split.channels), strict=False)),
        'labels': _numbers(split) if contours else labels,
        'numTraining': len(list((folder / 'imagesTr').glob('*_0000*'))),
        'file_ending': '.nii.gz',
    }
    write_json(folder / 'dataset.json', content)


def _place(path, folder, name) -> None:
    """Link a scan or label under another name; series as a folder of links, two-file formats as a converted copy."""
    kind = scan_file.suffix(path)
    if kind in WHOLE:
        (folder / f'{name}{kind}').symlink_to(path)
        return
    if kind not in ('/', '.dcm'):
        scan = scan_file.read(path)
        scan_file.write(folder / f'{name}.nii.gz', scan.array, scan)
        return
    (folder / name).mkdir()
    try:
        files = series.files(path)
    except InputError:  # damaged, or no series but contours or pictures
        files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        (folder / name / file.name).symlink_to(file)
