"""Random three-dimensional abdomens, scanned as CT (HU) or T2-weighted MR (arbitrary units): data with known truth.

An anatomy is continuous: signed distances in mm that any grid samples. Points are RAS: x right, y anterior, z superior.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from synseg_jax.errors import InputError, known

CLASSES = ('background', 'spleen', 'left kidney', 'right kidney', 'stomach', 'liver', 'body')
MODALITIES = ('CT', 'MR')
GRIDS = {'CT': ((108, 125), (4.5, 5.0), (30, 40)), 'MR': ((96, 113), (6.6, 8.0), (20, 26))}  # pixels, mm, slices
BODY = CLASSES.index('body')
EDGE_MM = 3.0  # about a voxel
EXTENT_MM = (-76.0, 98.0)  # from below the kidneys to the domes of the diaphragm
INNER_MM = (145.0, 90.0)  # half axes of the muscle wall, from which every organ's place is counted

# tissue: HU in the arterial and in the venous phase, grain in HU; MR level and grain (fat not suppressed)
TISSUES = {
    'air': (-1000, -1000, 0, 0, 0),
    'couch': (20, 20, 30, 0, 0),
    'skin': (-10, 0, 15, 200, 30),
    'fat': (-104, -104, 10, 370, 28),
    'mesentery': (-98, -96, 12, 345, 40),
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
    'fluid': (14, 14, 9, 860, 60),
    'chyme': (45, 50, 45, 480, 150),
    'gas': (-960, -960, 15, 8, 8),
}


@dataclass(frozen=True)
class Waves:
    """A smooth random field: plane waves summed, with unit variance per channel."""

    vectors: Float[np.ndarray, 'k 3']  # rad per mm
    phases: Float[np.ndarray, 'k 1']
    amplitudes: Float[np.ndarray, 'c k']

    @classmethod
    def random(cls, rng, wavelengths_mm: tuple[float, float], channels: int, count: int = 12) -> 'Waves':
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        vectors = directions * (2 * np.pi / rng.uniform(*wavelengths_mm, (count, 1)))
        phases, amplitudes = rng.uniform(0, 2 * np.pi, (count, 1)), rng.normal(size=(channels, count))
        amplitudes *= np.sqrt(2) / np.linalg.norm(amplitudes, axis=1, keepdims=True)
        return cls(*(a.astype(np.float32) for a in (vectors, phases, amplitudes)))

    def __call__(self, points: Float[np.ndarray, '3 n']) -> Float[np.ndarray, 'c n']:
        return self.amplitudes @ np.cos(self.vectors @ points + self.phases)


@dataclass(frozen=True)
class Ellipsoid:
    """The points whose image under `axes`, about `centre`, is in the unit ball; infinite radii make cylinders."""

    centre: Float[np.ndarray, '3']
    axes: Float[np.ndarray, '3 3']

    @classmethod
    def turned(cls, centre_mm, radii_mm, degrees=(0.0, 0.0, 0.0)) -> 'Ellipsoid':
        turn = Rotation.from_euler('xyz', degrees, degrees=True).as_matrix()
        return cls(np.float32(centre_mm), (turn.T / np.array(radii_mm)[:, None]).astype(np.float32))

    def __call__(self, points: Float[np.ndarray, '3 n']) -> Float[np.ndarray, ' n']:
        """Signed distance in mm to first order, negative inside."""
        unit = self.axes @ (points - self.centre[:, None])
        radius, slope = (np.sqrt(np.einsum('dn,dn->n', v, v)) for v in (unit, self.axes.T @ unit))
        return radius * (radius - 1) / np.maximum(slope, 1e-6)


@dataclass(frozen=True)
class Anatomy:
    """One person: outline, organs in the frame of INNER_MM, and what bends and fills them."""

    half_widths_mm: tuple[float, float]
    scale: Float[np.ndarray, '3']
    gap_mm: float
    gas_level_mm: float
    disc_offset_mm: float
    organs: dict[str, Ellipsoid]
    bend: Waves
    ripple: Waves
    gut: Waves
    vessels: Waves


def abdomen(rng: np.random.Generator) -> Anatomy:
    """A random person: slim to stout, spleen normal to enormous."""
    width = rng.uniform(140, 178)
    depth = width * rng.uniform(0.64, 0.73)
    fat = rng.uniform(5, 10) + (width - 140) * rng.uniform(0.15, 0.5)
    swollen = rng.uniform(0.02, 0.9)  # of the spleen, which pushes its neighbours

    def organ(centre, radii, degrees=(0, 0, 0), move=5.0, size=0.07):
        angles = np.array(degrees) + rng.normal(0, 6, 3)
        return Ellipsoid.turned(centre + rng.normal(0, move, 3), radii * np.exp(rng.normal(0, size, 3)), angles)

    def column(centre, radii):
        return Ellipsoid.turned((*centre, 0), (*radii, np.inf))

    spleen = (1 + swollen) * np.array([27, 45, 46])
    organs = {
        'spleen': organ([-104 + 18 * swollen, -26 + 24 * swollen, 34 - 30 * swollen], spleen, (0, 0, -20)),
        'right lobe': organ([74, 2, 34], [70, 76, 74]),
        'left lobe': organ([10, 34, 56], [70, 38, 40], (0, 14, 0)),
        'gallbladder': organ([48, 44, -6], [14, 15, 27], (25, 0, 0)),
        'fundus': organ([-62 + 30 * swollen, 14, 50], [43, 48, 46]),
        'antrum': organ([-24 + 12 * swollen, 44, 10], [52, 28, 26], (0, -20, 0)),
        'pancreas': organ([-8, 8, 2], [60, 11, 14], (0, 12, 0), move=4),
        'heart': organ([-22, 24, 122], [62, 52, 40]),
        'vertebra': column((0, -38), (23, 18)),
        'arch': column((0, -62), (15, 12)),
        'canal': column((0, -62), (10, 8)),
        'transverse': column((0, -60), (40, 5)),
        'spinous': column((0, -80), (4.5, 17)),
        'aorta': column((-8, -9), (9, 9)),
        'vena cava': column((20, -9), (12, 9)),
    }
    for side, sign, pushed in (('left', -1, swollen), ('right', 1, 0)):
        centre, turn = (
            np.array([sign * (60 - 6 * pushed), -40, -17 - 3 * sign - 8 * pushed]),
            (8, -12 * sign, -35 * sign),
        )
        centre = centre + rng.normal(0, 4, 3)
        organs |= {
            f'{side} kidney': organ(centre, [29, 27, 54], turn, move=0),
            f'{side} sinus': organ(centre + [-16 * sign, 6, 0], [14, 8, 20], turn, move=2),
            f'{side} psoas': organ([38 * sign, -44, -80], [15, 17, 95], move=1),
            f'{side} back': column((32 * sign, -72), (30, 18)),
        }
    return Anatomy(
        half_widths_mm=(width, depth),
        scale=np.float32([(width - fat) / INNER_MM[0], (depth - fat) / INNER_MM[1], rng.uniform(0.94, 1.04)]),
        gap_mm=rng.uniform(1.5, 5),
        gas_level_mm=rng.uniform(25, 60),
        disc_offset_mm=rng.uniform(0, 34),
        organs=organs,
        bend=Waves.random(rng, (120, 260), 3),
        ripple=Waves.random(rng, (35, 70), 3),
        gut=Waves.random(rng, (38, 75), 2),
        vessels=Waves.random(rng, (26, 60), 2),
    )


def oval(points: Float[np.ndarray, '3 n'], half_x_mm: float, half_y_mm: float) -> Float[np.ndarray, ' n']:
    """Signed distance in mm, to first order, to a rounded box without ends."""
    x, y = np.abs(points[0]) / half_x_mm, np.abs(points[1]) / half_y_mm
    radius = (x**2.4 + y**2.4) ** (1 / 2.4)
    slope = np.sqrt((x / half_x_mm) ** 2 + (y / half_y_mm) ** 2) / np.maximum(radius, 1e-6)
    return (radius - 1) / np.maximum(slope, 1e-3)


def blend(a: np.ndarray, b: np.ndarray, radius_mm: float = 18.0) -> np.ndarray:
    """The union of two signed distances with a rounded seam."""
    near = np.maximum(radius_mm - np.abs(a - b), 0)
    return np.minimum(a, b) - near**2 / (4 * radius_mm)


def layers(anatomy: Anatomy, points: Float[np.ndarray, '3 n']) -> Iterator[tuple[str, np.ndarray, int | None]]:
    """(tissue, signed distance in mm, class or None to leave labels) in the order of painting."""
    yield 'couch', np.abs(points[1] + anatomy.half_widths_mm[1] + 12 - points[0] ** 2 / 2200) - 2.5, None
    bend = 5 * anatomy.bend(points)
    skin = oval(points + 0.7 * bend, *anatomy.half_widths_mm)
    points = (points + bend + 1.3 * anatomy.ripple(points)) / anatomy.scale[:, None]
    x, y, z = points
    wall = oval(points, *INNER_MM)
    organ = {name: shape(points) for name, shape in anatomy.organs.items()}
    loops, filling = anatomy.gut(points)
    tubes = np.hypot(*anatomy.vessels(points)) * 6  # zero-level surfaces of two fields cross in curves
    dome = (z - 104 + 62 * (((x - 8) / 130) ** 2 + ((y - 6) / 80) ** 2) ** 2) * 0.7
    cavity = np.maximum(wall + 13, dome + 2)

    yield 'skin', skin, BODY
    yield 'fat', skin + 2.5, BODY
    yield 'muscle', np.maximum(wall, skin + 4), BODY
    yield 'mesentery', cavity, BODY
    yield 'vein', np.maximum(tubes - 1.4, cavity + 4), BODY
    yield 'lung', np.maximum(wall + 12, -dome), BODY
    yield 'muscle', np.maximum(organ['heart'], wall + 14), BODY
    for name in ('left back', 'right back', 'left psoas', 'right psoas'):
        yield 'muscle', np.maximum(organ[name], wall + 3), BODY
    yield from skeleton(anatomy, organ, points, wall)
    yield 'gut wall', organ['aorta'] - 1.5, BODY
    yield 'artery', organ['aorta'], BODY
    yield 'vein', organ['vena cava'], BODY

    taken = np.minimum.reduce([organ[n] for n in ('vertebra', 'aorta', 'vena cava', 'left psoas', 'right psoas')])
    taken = np.minimum.reduce([taken, organ['left back'], organ['right back']])

    def place(shape: np.ndarray, gap_mm: float = anatomy.gap_mm) -> np.ndarray:
        nonlocal taken
        shape = np.maximum.reduce([shape, cavity + 1, gap_mm - taken])
        taken = np.minimum(taken, shape)
        return shape

    for side in ('left', 'right'):
        sinus = organ[f'{side} sinus']
        kidney = place(np.maximum(organ[f'{side} kidney'], -sinus))
        yield 'cortex', kidney, CLASSES.index(f'{side} kidney')
        yield 'medulla', np.maximum(kidney + 7, 0.35 - np.abs(filling)), None
        yield 'pelvis', np.maximum(sinus + 5, organ[f'{side} kidney'] + 3), None
    yield 'spleen', place(organ['spleen']), CLASSES.index('spleen')
    yield 'bile', place(organ['gallbladder'], 0.0), BODY
    liver = place(blend(organ['right lobe'], organ['left lobe']), anatomy.gap_mm * 0.6)
    yield 'liver', liver, CLASSES.index('liver')
    yield 'liver vessel', np.maximum(tubes - 2.0, liver + 6), None
    stomach = place(blend(organ['fundus'], organ['antrum']))
    yield 'gut wall', stomach, CLASSES.index('stomach')
    yield 'chyme' if anatomy.gas_level_mm > 50 else 'fluid', stomach + 4, None
    yield 'gas', np.maximum(stomach + 4, anatomy.gas_level_mm - y), None
    yield 'pancreas', place(organ['pancreas'] + 2 * filling), BODY
    bowel = place(np.maximum(-10 * loops - 1, z - 30))
    yield 'gut wall', bowel, BODY
    yield 'chyme', bowel + 3.5, None
    yield 'fluid', np.maximum(bowel + 3.5, 4 - 10 * filling), None
    yield 'gas', np.maximum.reduce([bowel + 3.5, 5 + 10 * filling, 12 - y]), None


def skeleton(anatomy: Anatomy, organ: dict, points: Float[np.ndarray, '3 n'], wall: np.ndarray) -> Iterator[tuple]:
    """Layers of ribs that fall towards the front, vertebrae with discs, arches and processes, and the canal."""
    x, y, z = points
    along = np.abs((z + anatomy.disc_offset_mm) % 34 - 17)  # mm from a disc's middle plane
    fall = 55 * np.arctan2(np.abs(x) / INNER_MM[0], -y / INNER_MM[1])  # along the arc from the back's middle
    ribs = np.hypot(wall + 7, ((z + fall) % 28 - 14) * 0.85) - 5
    ribs = np.maximum.reduce([ribs, y - 45 - 0.6 * z, 28 - np.abs(x)])
    arch = np.minimum.reduce([organ['arch'], np.maximum(organ['transverse'], 11 - along), organ['spinous']])
    for bone, shell_mm in ((ribs, 2.0), (arch, 2.5), (organ['vertebra'], 2.0)):
        yield 'cortical bone', bone, BODY
        yield 'marrow', bone + shell_mm, BODY
    yield 'disc', np.maximum(organ['vertebra'], along - 4), BODY
    yield 'cerebrospinal fluid', organ['canal'], BODY


def grid(anatomy: Anatomy, modality: str, rng: np.random.Generator) -> tuple[tuple[int, ...], Float[np.ndarray, '4 4']]:
    """Shape and RAS affine (mm) of a scan around the organs: field of view 300..420 mm, stored LAS, RAS or LPS."""
    pixels, thickness_mm, slices = GRIDS[modality]
    side, slice_mm = int(rng.integers(*pixels)), rng.uniform(*thickness_mm)
    pixel_mm = np.clip(2 * anatomy.half_widths_mm[0] * rng.uniform(1.05, 1.2), 300, 420) / side
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
    for (tissue, (early, late, grain, echo_level, echo_grain)), z in zip(TISSUES.items(), spread):
        ct, mr = ((1 - phase) * early + phase * late + 5 * z, grain), (echo_level * np.exp(0.1 * z), echo_grain)
        levels[tissue] = ct if modality == 'CT' else mr
    return levels


def expose(image, points, rng) -> np.ndarray:
    """CT: blur of the kernel and noise correlated in the plane, in HU."""
    blurred = gaussian_filter(image, (0.5, 0.5, 0.3))
    noise = gaussian_filter(rng.standard_normal(image.shape, np.float32), (0.6, 0.6, 0))
    return np.clip(blurred + noise * rng.uniform(15, 40), -1000, 3000).round().astype(np.int16)


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
    request = {'modality': kind, 'subjects': subjects, 'seed': seed, 'first': first, 'version': 1}
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
