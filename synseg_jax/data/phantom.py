"""Random abdomens scanned as CT (HU) or T2-weighted MR (arbitrary units): data with known truth."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from synseg_jax.data.anatomy import CLASSES, EXTENT_MM, Anatomy, abdomen, layers
from synseg_jax.data.shapes import Waves
from synseg_jax.errors import InputError, known

MODALITIES = ('CT', 'MR')
GRIDS = {'CT': ((108, 125), (4.5, 5.0), (30, 40)), 'MR': ((96, 113), (6.6, 8.0), (20, 26))}  # pixels, mm, slices
EDGE_MM = 3.0  # about a voxel

# tissue: HU in the arterial and in the venous phase, grain in HU; MR level and grain.  The fluid of stomach and bowel
# holds oral contrast medium in CT; MR suppresses fat in part.
TISSUES = {
    'air': (-1000, -1000, 0, 0, 0),
    'couch': (20, 20, 30, 0, 0),
    'skin': (-10, 0, 15, 200, 30),
    'fat': (-104, -104, 10, 240, 24),
    'mesentery': (-98, -96, 12, 225, 32),
    'muscle': (54, 62, 11, 120, 22),
    'lung': (-850, -850, 40, 22, 14),
    'cortical bone': (560, 560, 90, 25, 8),
    'marrow': (230, 230, 60, 300, 40),
    'disc': (88, 88, 9, 130, 20),
    'cerebrospinal fluid': (15, 15, 8, 900, 50),
    'artery': (270, 150, 6, 95, 25),
    'vein': (95, 150, 8, 330, 40),
    'liver': (78, 108, 8, 215, 22),
    'liver vessel': (105, 165, 8, 400, 40),
    'bile': (8, 10, 6, 950, 30),
    'spleen': (128, 118, 7, 660, 34),
    'cortex': (205, 180, 12, 660, 45),
    'medulla': (115, 170, 14, 780, 60),
    'pelvis': (15, 60, 15, 850, 60),
    'pancreas': (92, 98, 22, 330, 60),
    'gut wall': (75, 95, 16, 300, 60),
    'fluid': (240, 240, 20, 860, 60),
    'chyme': (190, 195, 45, 560, 110),
    'gas': (-960, -960, 15, 8, 8),
}


def grid(anatomy: Anatomy, modality: str, rng: np.random.Generator) -> tuple[tuple[int, ...], Float[np.ndarray, '4 4']]:
    """Shape and RAS affine (mm) of a scan around the organs: field of view 290..400 mm, stored LAS, RAS or LPS."""
    pixels, thickness_mm, slices = GRIDS[modality]
    side, slice_mm = int(rng.integers(*pixels)), rng.uniform(*thickness_mm)
    pixel_mm = np.clip(2 * anatomy.half_widths_mm[0] * rng.uniform(1.0, 1.1), 290, 400) / side
    shape = (side, side, int(np.clip(np.ptp(EXTENT_MM) * anatomy.scale[2] / slice_mm, *slices)))
    signs = ((-1, 1, 1), (1, 1, 1), (-1, -1, 1))[rng.choice(3, p=(0.5, 0.3, 0.2))]
    oblique = Rotation.from_euler('xyz', rng.normal(0, 2.5, 3) * (rng.random() < 0.3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = oblique @ np.diag(signs * np.array([pixel_mm, pixel_mm, slice_mm]))
    middle = np.array([rng.normal(0, 5), rng.normal(0, 8), np.mean(EXTENT_MM) * anatomy.scale[2]])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return shape, affine


def render(
    anatomy: Anatomy, modality: str, rng: np.random.Generator
) -> tuple[np.ndarray, UInt8[np.ndarray, 'x y z'], Float[np.ndarray, '4 4']]:
    """One scan: int16 intensities (CT in HU, MR from 0), labels that index CLASSES, and the RAS affine in mm."""
    known('modality', modality, MODALITIES)
    shape, affine = grid(anatomy, modality, rng)
    index = np.indices(shape, dtype=np.float32).reshape(3, -1)
    points = affine[:3, :3].astype(np.float32) @ index + affine[:3, 3:].astype(np.float32)
    levels = contrast(modality, rng)
    white = rng.standard_normal(shape, np.float32)
    speckle = (2 * gaussian_filter(white, (0.8, 0.8, 0.3)) + 3.5 * gaussian_filter(white, (2.5, 2.5, 0.6))).ravel()
    image, labels = np.full(index.shape[1], levels['air'][0], np.float32), np.zeros(index.shape[1], np.uint8)
    for tissue, distance, label in layers(anatomy, points):
        (level, grain), near = levels[tissue], np.flatnonzero(distance < EDGE_MM / 2)
        share = np.minimum(0.5 - distance[near] / EDGE_MM, 1)  # of the voxel that this tissue fills
        image[near] += share * (level + grain * speckle[near] - image[near])
        if label is not None:
            labels[distance < 0] = label
    finish = {'CT': expose, 'MR': echo}[modality]
    return finish(image.reshape(shape), points, rng), labels.reshape(shape), affine


def contrast(modality: str, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Each tissue's mean and grain in one scan: CT by the contrast medium's phase, MR by the sequence's timing."""
    phase, spread = rng.uniform(0.2, 1), rng.normal(size=len(TISSUES))
    levels = {}
    for (tissue, (early, late, grain, echo_level, echo_grain)), z in zip(TISSUES.items(), spread, strict=True):
        ct, mr = ((1 - phase) * early + phase * late + 5 * z, grain), (echo_level * np.exp(0.1 * z), echo_grain)
        levels[tissue] = ct if modality == 'CT' else mr
    return levels


def expose(image, points, rng) -> np.ndarray:
    """CT: blur of the kernel and noise correlated in the plane, in HU."""
    blurred = gaussian_filter(image, (0.5, 0.5, 0.3))
    noise = gaussian_filter(rng.standard_normal(image.shape, np.float32), (0.6, 0.6, 0))
    return np.clip(blurred + noise * rng.uniform(12, 32), -1000, 3000).round().astype(np.int16)


def echo(image, points, rng) -> np.ndarray:
    """MR: slice profile, faint ghost along y, smooth coil sensitivity, Rician noise and an arbitrary gain."""
    image = gaussian_filter(image, (0.45, 0.45, 0.35))
    image += rng.uniform(0.01, 0.05) * np.roll(image, image.shape[1] // rng.integers(3, 6), axis=1)
    image *= np.exp(rng.uniform(0.1, 0.25) * Waves.random(rng, (350, 700), 1)(points)).reshape(image.shape)
    noise = rng.standard_normal((2, *image.shape), np.float32) * rng.uniform(10, 25)
    gain = rng.uniform(0.7, 1.3)
    return (gain * np.hypot(image + noise[0], noise[1])).round().astype(np.int16)


def write_dataset(
    folder: Path,
    modality: str,
    subjects: int,
    seed: int,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """An nnU-Net raw folder of scans `first` to `first + subjects - 1` of the seed; complete or absent, never partial.

    A folder that already holds this request is left alone; any other existing folder is an InputError.
    `progress(done, subjects)` is called after each scan.
    """
    folder, kind = Path(folder), known('modality', modality, MODALITIES)
    request = {'modality': kind, 'subjects': subjects, 'seed': seed, 'first': first, 'version': 2}
    if folder.exists():
        description = folder / 'dataset.json'
        if description.is_file() and json.loads(description.read_text()).get('phantom') == request:
            return
        raise InputError(f'{folder} exists and is not the phantom asked for; remove it or choose another folder')
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as scratch:
        unfinished = Path(scratch) / folder.name
        (unfinished / 'imagesTr').mkdir(parents=True)
        (unfinished / 'labelsTr').mkdir()
        for done in range(subjects):
            case = f'phantom_{kind.lower()}_{first + done:03d}'
            image, labels, affine = render(*subject(kind, seed, first + done))
            for array, name in ((image, f'imagesTr/{case}_0000.nii.gz'), (labels, f'labelsTr/{case}.nii.gz')):
                scan = nib.Nifti1Image(array, affine)
                scan.set_qform(affine, code='scanner')
                scan.set_sform(affine, code='scanner')
                scan.header.set_xyzt_units('mm')
                nib.save(scan, unfinished / name)
            if progress:
                progress(done + 1, subjects)
        description = {
            'channel_names': {'0': kind},
            'labels': {name: value for value, name in enumerate(CLASSES)},
            'numTraining': subjects,
            'file_ending': '.nii.gz',
            'phantom': request,
        }
        (unfinished / 'dataset.json').write_text(json.dumps(description, indent=1))
        unfinished.rename(folder)


def subject(modality: str, seed: int, number: int) -> tuple[Anatomy, str, np.random.Generator]:
    """What `render` needs for one scan of a data set; no two of a seed's scans, of either modality, share a person."""
    kind = MODALITIES.index(known('modality', modality, MODALITIES))
    person, scan = np.random.default_rng((seed, kind, number)).spawn(2)
    return abdomen(person), modality, scan
