"""Phantom scans of every body region, as CT (HU) or MR (arbitrary units) with exact labels, and nnU-Net datasets."""

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
    for region in (  # the index is part of the seed: append new ones
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
            abdomen.liver_layers,
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
            thorax.follow_up,
        ),
    )
}


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a scan."""

    shape: tuple[int, ...]
    affine: Float[np.ndarray, '4 4']  # voxel index -> RAS mm

    @classmethod
    def random(cls, person: Person, protocol: Protocol, rng: np.random.Generator) -> 'Grid':
        """A random grid around the centre of the region, in LAS, RAS or LPS orientation."""
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
        centre = np.array([rng.normal(0, 5), rng.normal(0, 8), np.mean(protocol.extent_mm) * person.scale[2]])
        affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return cls(shape, affine)

    def in_plane(self, plane: str) -> 'Grid':
        """The same field of view acquired in another plane: the slice thickness is across it, as here across axial."""
        normals = {'sagittal': 0, 'coronal': 1, 'axial': 2}
        if plane == 'axial':
            return self
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        new_spacing = np.full(3, spacing[0])
        new_spacing[normals[known('plane', plane, normals)]] = spacing[2]
        shape = tuple(int(n) for n in np.rint(self.shape * spacing / new_spacing))
        affine = self.affine.copy()
        affine[:3, :3] *= new_spacing / spacing
        affine[:3, 3] += (self.affine[:3, :3] @ (np.array(self.shape) - 1) - affine[:3, :3] @ (np.array(shape) - 1)) / 2
        return Grid(shape, affine)

    def points(self) -> Float[np.ndarray, '3 n']:
        index = np.indices(self.shape, dtype=np.float32).reshape(3, -1)
        return self.affine[:3, :3].astype(np.float32) @ index + self.affine[:3, 3:].astype(np.float32)


def render(
    region: Region, person: Person, modality: str, grid: Grid, edge_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, UInt8[np.ndarray, 'x y z']]:
    """Image one person on a grid: int16 intensities (CT in HU, MR from 0), and labels indexing the region's classes."""
    protocol, points = region.protocols[modality], grid.points()
    levels = tissue_levels(region, modality, rng)
    white = rng.standard_normal(grid.shape, np.float32)
    speckle = (2 * gaussian_filter(white, (0.8, 0.8, 0.3)) + 3.5 * gaussian_filter(white, (2.5, 2.5, 0.6))).ravel()
    image, labels = np.full(points.shape[1], levels['air'][0], np.float32), np.zeros(points.shape[1], np.uint8)
    for tissue, distance, label in region.layers(person, points):
        (level, grain), near = levels[tissue], np.flatnonzero(distance < edge_mm / 2)
        share = np.minimum(0.5 - distance[near] / edge_mm, 1)  # partial volume of this tissue
        image[near] += share * (level + grain * speckle[near] - image[near])
        if label is not None:
            labels[distance < 0] = label
    acquire = {'CT': acquire_ct, 'MR': acquire_mr}[modality]
    return acquire(image.reshape(grid.shape), points, protocol.noise, rng), labels.reshape(grid.shape)


def tissue_levels(region: Region, modality: str, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """{tissue: (mean, grain)} of one scan, with random enhancement in CT and random contrast in MR."""
    protocol = region.protocols[modality]
    phase, deviates = rng.uniform(*protocol.phase), rng.normal(size=len(region.tissues))
    levels = {}
    for (tissue, (arterial, venous, grain, mr_level, mr_grain)), z in zip(
        region.tissues.items(), deviates, strict=True
    ):
        if modality == 'CT':
            levels[tissue] = (1 - phase) * arterial + phase * venous + protocol.spread * z, grain
        else:
            levels[tissue] = mr_level * np.exp(protocol.spread * z), mr_grain
    return levels


def acquire_ct(image, points, noise, rng) -> np.ndarray:
    """CT: blur by the reconstruction kernel, and noise correlated in the plane, in HU."""
    blurred = gaussian_filter(image, (0.5, 0.5, 0.3))
    grain = gaussian_filter(rng.standard_normal(image.shape, np.float32), (0.6, 0.6, 0))
    return np.clip(blurred + grain * rng.uniform(*noise), -1000, 3000).round().astype(np.int16)


def acquire_mr(image, points, noise, rng) -> np.ndarray:
    """MR: slice profile, faint ghost along y, bias field, Rician noise and an arbitrary gain."""
    image = gaussian_filter(image, (0.45, 0.45, 0.35))
    image += rng.uniform(0.01, 0.05) * np.roll(image, image.shape[1] // rng.integers(3, 6), axis=1)
    image *= np.exp(rng.uniform(0.1, 0.25) * Waves.random(rng, (350, 700), 1)(points)).reshape(image.shape)
    grain = rng.standard_normal((2, *image.shape), np.float32) * rng.uniform(*noise)
    gain = rng.uniform(0.7, 1.3)
    return (gain * np.hypot(image + grain[0], grain[1])).round().astype(np.int16)


def subject(
    region: str, modality: str, seed: int, number: int, week: int = 0, cohort: str = ''
) -> tuple[Person, Grid, np.random.Generator, np.random.Generator]:
    """Person and grid of one scan, and the generators of its image and of a paired image; `week` is a follow-up.

    Except for follow-ups, no two scans of a seed, of any region and modality, share a person.  A `cohort` is another
    population of the region; use other numbers for it, as the random state is the same.
    """
    body = REGIONS[known('region', region, REGIONS)]
    index = body.modalities.index(known('modality', modality, body.modalities))
    key = (seed, index, number, tuple(REGIONS).index(region))
    rngs = np.random.default_rng(key).spawn(3)
    draw = body.cohorts[known('cohort', cohort, body.cohorts)] if cohort else body.person
    person = draw(rngs[0])
    if week:
        change, *rngs = np.random.default_rng((*key, week)).spawn(4)
        person = body.follow_up(person, week, change)
        return person, Grid.random(person, body.protocols[modality], rngs[0]), *rngs[1:]
    return person, Grid.random(person, body.protocols[modality], rngs[1]), *rngs[1:]


def generate(
    modality: str,
    seed: int,
    number: int,
    region: str = 'abdomen',
    plane: str = 'axial',
    week: int = 0,
    cohort: str = '',
) -> tuple[np.ndarray, UInt8[np.ndarray, 'x y z'], Float[np.ndarray, '4 4']]:
    """Scan `number` of the seed: int16 intensities (CT in HU, MR from 0), labels, and the RAS affine in mm."""
    person, grid, rng, _ = subject(region, modality, seed, number, week, cohort)
    grid = grid.in_plane(plane)
    edge_mm = REGIONS[region].protocols[modality].edge_mm
    return *render(REGIONS[region], person, modality, grid, edge_mm, rng), grid.affine


def generate_pair(
    modality: str,
    other: str,
    seed: int,
    number: int,
    region: str = 'abdomen',
    plane: str = 'axial',
    week: int = 0,
    cohort: str = '',
) -> tuple[np.ndarray, np.ndarray, UInt8[np.ndarray, 'x y z'], Float[np.ndarray, '4 4']]:
    """Scan `number` of the seed, the same person on the same grid in the other one, labels and RAS affine in mm.

    For measuring synthesis; the datasets of a seed are unpaired.
    """
    person, grid, rng, other_rng = subject(region, modality, seed, number, week, cohort)
    body, grid = REGIONS[region], grid.in_plane(plane)
    known('modality', other, body.modalities)
    edge_mm = body.protocols[modality].edge_mm
    image, labels = render(body, person, modality, grid, edge_mm, rng)
    return image, render(body, person, other, grid, edge_mm, other_rng)[0], labels, grid.affine


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
    """Write an nnU-Net raw dataset of scans `first` to `first + subjects - 1` of the seed, atomically.

    Unless `labelled`, it has no labelsTr.  `plane` is the acquisition plane.  With `weeks`, every subject is scanned in
    each of them, case 003 in week 2 as 003_w2; week 0 is the scan of datasets without weeks.  `cohort` is a population
    of the region, e.g. with normal spleen; '' the default one.  An existing folder with the same parameters is kept;
    any other raises InputError.  `progress(done, total)` is called after each scan.
    """
    folder, body = Path(folder), REGIONS[known('region', region, REGIONS)]
    known('modality', modality, body.modalities)
    request = {'region': region, 'modality': modality, 'subjects': subjects, 'seed': seed, 'first': first,
               'labelled': labelled, 'plane': plane, 'version': 3}  # fmt: skip
    request |= ({'weeks': list(weeks)} if weeks else {}) | ({'cohort': cohort} if cohort else {})
    if folder.exists():
        description = folder / 'dataset.json'
        existing = read_json(description) if description.is_file() else None
        if isinstance(existing, dict) and existing.get('phantom') == request:
            return
        raise InputError(f'{folder}: exists with other content than this phantom; remove it or choose another folder')
    with atomic_folder(folder) as temporary:
        (temporary / 'imagesTr').mkdir(parents=True)
        if labelled:
            (temporary / 'labelsTr').mkdir()
        for done, (number, week) in enumerate(product(range(first, first + subjects), weeks or (0,)), 1):
            case = f'{"phantom" if region == "abdomen" else region}_{modality.lower()}_{number:03d}'
            case += f'_w{week}' if weeks else ''
            image, labels, affine = generate(modality, seed, number, region, plane, week, cohort)
            save(image, affine, temporary / 'imagesTr' / f'{case}_0000.nii.gz')
            if labelled:
                save(labels, affine, temporary / 'labelsTr' / f'{case}.nii.gz')
            if progress:
                progress(done, subjects * max(1, len(weeks)))
        description = {
            'channel_names': {'0': modality},
            'labels': {name: value for value, name in enumerate(body.classes)},
            'numTraining': subjects * max(1, len(weeks)),
            'file_ending': '.nii.gz',
            'phantom': request,
        }
        write_json(temporary / 'dataset.json', description)


def save(array: np.ndarray, affine: Float[np.ndarray, '4 4'], path: Path) -> None:
    """Write NIfTI in mm with sform and qform."""
    file = nib.Nifti1Image(array, affine)
    file.set_qform(affine, code='scanner')
    file.set_sform(affine, code='scanner')
    file.header.set_xyzt_units('mm')
    nib.save(file, path)
