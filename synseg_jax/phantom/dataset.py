"""Random people scanned as CT (HU) or MR (arbitrary units): data with known truth, by region of the body."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from synseg_jax.errors import InputError, known
from synseg_jax.files import atomic_folder, read_json, write_json
from synseg_jax.phantom import abdomen, head, heart, pelvis, thorax, tissues
from synseg_jax.phantom.anatomy import Person, Protocol, Region
from synseg_jax.phantom.shapes import Waves

ABDOMEN_CT = Protocol((108, 125), (4.5, 5.0), (30, 40), abdomen.EXTENT_MM, (290, 400))
ABDOMEN_MR = Protocol((96, 113), (6.6, 8.0), (20, 26), abdomen.EXTENT_MM, (290, 400), spread=0.1, noise=(10, 25))
REGIONS = {
    region.name: region
    for region in (  # their order is part of the seed: add new ones at the end
        Region(
            'abdomen',
            abdomen.CLASSES,
            abdomen.person,
            abdomen.layers,
            tissues.ABDOMEN,
            {'CT': ABDOMEN_CT, 'MR': ABDOMEN_MR},
            cohorts={'normal spleen': abdomen.normal_spleen},
        ),
        Region(
            'pelvis', pelvis.CLASSES, pelvis.person, pelvis.layers, tissues.PELVIS, {'CT': pelvis.CT, 'MR': pelvis.MR}
        ),
        Region(
            'liver',
            ('background', 'liver'),
            abdomen.person,
            abdomen.livers,
            tissues.LIVER,
            {'CT': replace(ABDOMEN_CT, phase=(0.85, 1.0)), 'MR': replace(ABDOMEN_MR, noise=(6, 16))},  # portal venous
        ),
        Region('head', head.CLASSES, head.person, head.layers, tissues.HEAD, {'CT': head.CT, 'MR': head.MR}),
        Region('heart', heart.CLASSES, heart.person, heart.layers, tissues.HEART, {'CT': heart.CT, 'MR': heart.MR}),
        Region(
            'thorax',
            thorax.CLASSES,
            thorax.person,
            thorax.layers,
            tissues.THORAX,
            {'CT': thorax.CT, 'MR': thorax.MR},
            thorax.later,
        ),
    )
}


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a scan are."""

    shape: tuple[int, ...]
    affine: Float[np.ndarray, '4 4']  # to RAS in mm

    @classmethod
    def random(cls, person: Person, protocol: Protocol, rng: np.random.Generator) -> 'Grid':
        """A scan around the middle of the region, stored LAS, RAS or LPS."""
        side, slice_mm = int(rng.integers(*protocol.pixels)), rng.uniform(*protocol.slice_mm)
        width_mm = 2 * person.half_widths_mm[0]
        pixel_mm = np.clip(width_mm * rng.uniform(*protocol.field_share), *protocol.field_mm) / side
        extent_mm = np.ptp(protocol.extent_mm) * person.scale[2]
        shape = (side, side, int(np.clip(extent_mm / slice_mm, *protocol.slices)))
        signs = ((-1, 1, 1), (1, 1, 1), (-1, -1, 1))[rng.choice(3, p=(0.5, 0.3, 0.2))]
        share, degrees = protocol.oblique
        oblique = Rotation.from_euler('xyz', rng.normal(0, degrees, 3) * (rng.random() < share), degrees=True)
        affine = np.eye(4)
        affine[:3, :3] = oblique.as_matrix() @ np.diag(signs * np.array([pixel_mm, pixel_mm, slice_mm]))
        middle = np.array([rng.normal(0, 5), rng.normal(0, 8), np.mean(protocol.extent_mm) * person.scale[2]])
        affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return cls(shape, affine)

    def acquired(self, plane: str) -> 'Grid':
        """The same box of space in voxels that are as thick across another plane as these are across the axial one."""
        across = {'sagittal': 0, 'coronal': 1, 'axial': 2}
        if plane == 'axial':
            return self
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        wanted = np.full(3, spacing[0])
        wanted[across[known('plane', plane, across)]] = spacing[2]
        shape = tuple(int(n) for n in np.rint(self.shape * spacing / wanted))
        affine = self.affine.copy()
        affine[:3, :3] *= wanted / spacing
        affine[:3, 3] += (self.affine[:3, :3] @ (np.array(self.shape) - 1) - affine[:3, :3] @ (np.array(shape) - 1)) / 2
        return Grid(shape, affine)

    def points(self) -> Float[np.ndarray, '3 n']:
        index = np.indices(self.shape, dtype=np.float32).reshape(3, -1)
        return self.affine[:3, :3].astype(np.float32) @ index + self.affine[:3, 3:].astype(np.float32)


def render(
    region: Region, person: Person, modality: str, grid: Grid, edge_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, UInt8[np.ndarray, 'x y z']]:
    """One scan on a grid: int16 intensities (CT in HU, MR from 0), and labels that index the region's classes."""
    protocol, points = region.protocols[modality], grid.points()
    levels = contrast(region, modality, rng)
    white = rng.standard_normal(grid.shape, np.float32)
    speckle = (2 * gaussian_filter(white, (0.8, 0.8, 0.3)) + 3.5 * gaussian_filter(white, (2.5, 2.5, 0.6))).ravel()
    image, labels = np.full(points.shape[1], levels['air'][0], np.float32), np.zeros(points.shape[1], np.uint8)
    for tissue, distance, label in region.layers(person, points):
        (level, grain), near = levels[tissue], np.flatnonzero(distance < edge_mm / 2)
        share = np.minimum(0.5 - distance[near] / edge_mm, 1)  # of the voxel that this tissue fills
        image[near] += share * (level + grain * speckle[near] - image[near])
        if label is not None:
            labels[distance < 0] = label
    finish = {'CT': expose, 'MR': echo}[modality]
    return finish(image.reshape(grid.shape), points, protocol.noise, rng), labels.reshape(grid.shape)


def contrast(region: Region, modality: str, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Each tissue's mean and grain in one scan: CT by the contrast medium's phase, MR by the sequence's timing."""
    protocol = region.protocols[modality]
    phase, deviates = rng.uniform(*protocol.phase), rng.normal(size=len(region.tissues))
    levels = {}
    for (tissue, (early, late, grain, echo_level, echo_grain)), z in zip(region.tissues.items(), deviates, strict=True):
        if modality == 'CT':
            levels[tissue] = (1 - phase) * early + phase * late + protocol.spread * z, grain
        else:
            levels[tissue] = echo_level * np.exp(protocol.spread * z), echo_grain
    return levels


def expose(image, points, noise, rng) -> np.ndarray:
    """CT: blur of the kernel and noise correlated in the plane, in HU."""
    blurred = gaussian_filter(image, (0.5, 0.5, 0.3))
    grain = gaussian_filter(rng.standard_normal(image.shape, np.float32), (0.6, 0.6, 0))
    return np.clip(blurred + grain * rng.uniform(*noise), -1000, 3000).round().astype(np.int16)


def echo(image, points, noise, rng) -> np.ndarray:
    """MR: slice profile, faint ghost along y, smooth coil sensitivity, Rician noise and an arbitrary gain."""
    image = gaussian_filter(image, (0.45, 0.45, 0.35))
    image += rng.uniform(0.01, 0.05) * np.roll(image, image.shape[1] // rng.integers(3, 6), axis=1)
    image *= np.exp(rng.uniform(0.1, 0.25) * Waves.random(rng, (350, 700), 1)(points)).reshape(image.shape)
    grain = rng.standard_normal((2, *image.shape), np.float32) * rng.uniform(*noise)
    gain = rng.uniform(0.7, 1.3)
    return (gain * np.hypot(image + grain[0], grain[1])).round().astype(np.int16)


def subject(
    region: str, modality: str, seed: int, number: int, week: int = 0, cohort: str = ''
) -> tuple[Person, Grid, np.random.Generator, np.random.Generator]:
    """The person of one scan, its grid, and the chance of its image and of a paired one; some weeks after the first.

    But for weeks, no two scans of a seed, of any region and modality, share a person.  A `cohort` of the region draws
    people of another kind, whose numbers must be others too.
    """
    about = REGIONS[known('region', region, REGIONS)]
    kind = about.modalities.index(known('modality', modality, about.modalities))
    chances = np.random.default_rng((seed, kind, number, tuple(REGIONS).index(region))).spawn(3)
    draw = about.cohorts[known('cohort', cohort, about.cohorts)] if cohort else about.person
    person = draw(chances[0])
    if week:
        since = np.random.default_rng((seed, kind, number, tuple(REGIONS).index(region), week)).spawn(4)
        person, chances = about.later(person, week, since[0]), since[1:]
        return person, Grid.random(person, about.protocols[modality], chances[0]), *chances[1:]
    return person, Grid.random(person, about.protocols[modality], chances[1]), *chances[1:]


def scan(
    modality: str,
    seed: int,
    number: int,
    region: str = 'abdomen',
    plane: str = 'axial',
    week: int = 0,
    cohort: str = '',
) -> tuple[np.ndarray, UInt8[np.ndarray, 'x y z'], Float[np.ndarray, '4 4']]:
    """Scan `number` of a modality: int16 intensities (CT in HU, MR from 0), labels, and the RAS affine in mm."""
    person, grid, chance, _ = subject(region, modality, seed, number, week, cohort)
    grid = grid.acquired(plane)
    edge_mm = REGIONS[region].protocols[modality].edge_mm
    return *render(REGIONS[region], person, modality, grid, edge_mm, chance), grid.affine


def paired(
    modality: str,
    other: str,
    seed: int,
    number: int,
    region: str = 'abdomen',
    plane: str = 'axial',
    week: int = 0,
    cohort: str = '',
) -> tuple[np.ndarray, np.ndarray, UInt8[np.ndarray, 'x y z'], Float[np.ndarray, '4 4']]:
    """Scan `number` of a modality, the same person at the same voxels in the other one, labels and RAS affine in mm.

    For measuring synthesis: the data sets of one seed hold no such pairs.
    """
    person, grid, chance, another = subject(region, modality, seed, number, week, cohort)
    about, grid = REGIONS[region], grid.acquired(plane)
    known('modality', other, about.modalities)
    edge_mm = about.protocols[modality].edge_mm
    image, labels = render(about, person, modality, grid, edge_mm, chance)
    return image, render(about, person, other, grid, edge_mm, another)[0], labels, grid.affine


def write_dataset(
    folder: Path,
    modality: str,
    subjects: int,
    seed: int,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
    region: str = 'abdomen',
    labelled: bool = True,
    plane: str = 'axial',
    weeks: tuple[int, ...] = (),
    cohort: str = '',
) -> None:
    """An nnU-Net raw folder of scans `first` to `first + subjects - 1` of the seed; complete or absent, never partial.

    Not `labelled`, it has no labelsTr; `plane` is that of acquisition, across which voxels are thick; with `weeks`,
    everybody is scanned in each of them, case 003 in week 2 as 003_w2; week 0 is that of a scan without.  `cohort` is
    one of the region's, such as people with a normal spleen; '' the usual people.  A folder that
    already holds this request is left alone; any other existing folder is an InputError.  `progress(done, subjects)`
    is called after each scan.
    """
    folder, about = Path(folder), REGIONS[known('region', region, REGIONS)]
    known('modality', modality, about.modalities)
    request = {'region': region, 'modality': modality, 'subjects': subjects, 'seed': seed, 'first': first,
               'labelled': labelled, 'plane': plane, 'version': 3}  # fmt: skip
    request |= ({'weeks': list(weeks)} if weeks else {}) | ({'cohort': cohort} if cohort else {})
    if folder.exists():
        description = folder / 'dataset.json'
        said = read_json(description) if description.is_file() else None
        if isinstance(said, dict) and said.get('phantom') == request:
            return
        raise InputError(f'{folder} exists and is not the phantom asked for; remove it or choose another folder')
    with atomic_folder(folder) as unfinished:
        (unfinished / 'imagesTr').mkdir(parents=True)
        if labelled:
            (unfinished / 'labelsTr').mkdir()
        for done, (number, week) in enumerate(product(range(first, first + subjects), weeks or (0,)), 1):
            case = f'{"phantom" if region == "abdomen" else region}_{modality.lower()}_{number:03d}'
            case += f'_w{week}' if weeks else ''
            image, labels, affine = scan(modality, seed, number, region, plane, week, cohort)
            save(image, affine, unfinished / 'imagesTr' / f'{case}_0000.nii.gz')
            if labelled:
                save(labels, affine, unfinished / 'labelsTr' / f'{case}.nii.gz')
            if progress:
                progress(done, subjects * max(1, len(weeks)))
        description = {
            'channel_names': {'0': modality},
            'labels': {name: value for value, name in enumerate(about.classes)},
            'numTraining': subjects * max(1, len(weeks)),
            'file_ending': '.nii.gz',
            'phantom': request,
        }
        write_json(unfinished / 'dataset.json', description)


def save(array: np.ndarray, affine: Float[np.ndarray, '4 4'], path: Path) -> None:
    """A NIfTI file in mm with both of its transforms."""
    file = nib.Nifti1Image(array, affine)
    file.set_qform(affine, code='scanner')
    file.set_sform(affine, code='scanner')
    file.header.set_xyzt_units('mm')
    nib.save(file, path)
