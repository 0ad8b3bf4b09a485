"""Random abdomens: signed distance functions in mm, with the tissue and class of every part.

Points are RAS: x right, y anterior, z superior.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer, Person, couch
from synseg_jax.phantom.shapes import Ellipsoid, Waves, blend, oval

CLASSES = ('background', 'spleen', 'left kidney', 'right kidney', 'stomach', 'liver', 'body')
BODY = CLASSES.index('body')
EXTENT_MM = (-76.0, 98.0)  # from below the kidneys to the domes of the diaphragm
INNER_MM = (145.0, 90.0)  # half axes of the muscle wall; organs are given in this frame
FIXED = ('vertebra', 'aorta', 'vena cava', 'left psoas', 'right psoas', 'left back', 'right back')  # never displaced


@dataclass(frozen=True)
class Abdomen(Person):
    """One person: outline, organs in the frame of INNER_MM, and random deformations and textures."""

    gap_mm: float
    gas_level_mm: float
    disc_offset_mm: float
    organs: dict[str, Ellipsoid]
    bend: Waves
    ripple: Waves
    gut: Waves
    vessels: Waves


def person(rng: np.random.Generator, swelling: tuple[float, float] = (0.02, 0.9)) -> Abdomen:
    """A random person, slim to obese; `swelling` is the range of the relative enlargement of the spleen in length."""
    width = rng.uniform(140, 178)
    depth = width * rng.uniform(0.64, 0.73)
    fat = rng.uniform(5, 10) + (width - 140) * rng.uniform(0.15, 0.5)
    swollen = rng.uniform(*swelling)  # also displaces the neighbouring organs

    def organ(centre, radii, degrees=(0, 0, 0), move=5.0, size=0.07):
        angles = np.array(degrees) + rng.normal(0, 6, 3)
        return Ellipsoid.rotated(centre + rng.normal(0, move, 3), radii * np.exp(rng.normal(0, size, 3)), angles)

    def column(centre, radii):
        return Ellipsoid.rotated((*centre, 0), (*radii, np.inf))

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
    return Abdomen(
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


def normal_spleen(rng: np.random.Generator) -> Abdomen:
    """A random person with a spleen of normal size, about 100 to 320 mL."""
    return person(rng, (0.0, 0.35))


@dataclass
class Sample:
    """A person sampled at points: signed distances in mm and random fields that several parts share."""

    anatomy: Abdomen
    points: Float[np.ndarray, '3 n']  # in the frame of INNER_MM
    skin: Float[np.ndarray, ' n']
    wall: Float[np.ndarray, ' n']  # muscle wall
    dome: Float[np.ndarray, ' n']  # diaphragm, positive in the thorax
    cavity: Float[np.ndarray, ' n']  # peritoneal cavity
    organ: dict[str, np.ndarray]
    tubes: Float[np.ndarray, ' n']  # distance from the centre lines of small vessels
    loops: Float[np.ndarray, ' n']
    filling: Float[np.ndarray, ' n']
    taken: Float[np.ndarray, ' n']  # union of the organs placed so far

    @classmethod
    def of(cls, anatomy: Abdomen, points: Float[np.ndarray, '3 n']) -> 'Sample':
        bend = 5 * anatomy.bend(points)
        skin = oval(points + 0.7 * bend, *anatomy.half_widths_mm)
        points = (points + bend + 1.3 * anatomy.ripple(points)) / anatomy.scale[:, None]
        x, y, z = points
        wall = oval(points, *INNER_MM)
        organ = {name: shape(points) for name, shape in anatomy.organs.items()}
        loops, filling = anatomy.gut(points)
        tubes = np.hypot(*anatomy.vessels(points)) * 6  # the zero level sets of two fields intersect in curves
        dome = (z - 104 + 62 * (((x - 8) / 130) ** 2 + ((y - 6) / 80) ** 2) ** 2) * 0.7
        cavity = np.maximum(wall + 13, dome + 2)
        taken = np.minimum.reduce([organ[name] for name in FIXED])
        return cls(anatomy, points, skin, wall, dome, cavity, organ, tubes, loops, filling, taken)

    def place(self, shape: np.ndarray, gap_mm: float | None = None) -> np.ndarray:
        """`shape` clipped to the cavity and to a distance of `gap_mm` (default the anatomy's) from placed organs."""
        gap_mm = self.anatomy.gap_mm if gap_mm is None else gap_mm
        shape = np.maximum.reduce([shape, self.cavity + 1, gap_mm - self.taken])
        self.taken = np.minimum(self.taken, shape)
        return shape


def layers(anatomy: Abdomen, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """All layers: couch, then the body."""
    yield from couch(anatomy, points)
    sample = Sample.of(anatomy, points)
    for part in PARTS:
        yield from part(sample)


def trunk(sample: Sample) -> Iterator[Layer]:
    """Skin, fat, muscles, mesentery with vessels, lungs and heart."""
    yield 'skin', sample.skin, BODY
    yield 'fat', sample.skin + 2.5, BODY
    yield 'muscle', np.maximum(sample.wall, sample.skin + 4), BODY
    yield 'mesentery', sample.cavity, BODY
    yield 'vein', np.maximum(sample.tubes - 1.4, sample.cavity + 4), BODY
    yield 'lung', np.maximum(sample.wall + 12, -sample.dome), BODY
    yield 'muscle', np.maximum(sample.organ['heart'], sample.wall + 14), BODY
    for name in ('left back', 'right back', 'left psoas', 'right psoas'):
        yield 'muscle', np.maximum(sample.organ[name], sample.wall + 3), BODY


def skeleton(sample: Sample) -> Iterator[Layer]:
    """Ribs that slope down to the front, vertebrae with discs, arches and processes, and the spinal canal."""
    (x, y, z), organ = sample.points, sample.organ
    along = np.abs((z + sample.anatomy.disc_offset_mm) % 34 - 17)  # mm from the mid-plane of a disc
    slope_mm = 55 * np.arctan2(np.abs(x) / INNER_MM[0], -y / INNER_MM[1])  # along the arc from the spine
    ribs = np.hypot(sample.wall + 7, ((z + slope_mm) % 28 - 14) * 0.85) - 5
    ribs = np.maximum.reduce([ribs, y - 45 - 0.6 * z, 28 - np.abs(x)])
    arch = np.minimum.reduce([organ['arch'], np.maximum(organ['transverse'], 11 - along), organ['spinous']])
    for bone, shell_mm in ((ribs, 2.0), (arch, 2.5), (organ['vertebra'], 2.0)):
        yield 'cortical bone', bone, BODY
        yield 'marrow', bone + shell_mm, BODY
    yield 'disc', np.maximum(organ['vertebra'], along - 4), BODY
    yield 'cerebrospinal fluid', organ['canal'], BODY


def great_vessels(sample: Sample) -> Iterator[Layer]:
    yield 'gut wall', sample.organ['aorta'] - 1.5, BODY
    yield 'artery', sample.organ['aorta'], BODY
    yield 'vein', sample.organ['vena cava'], BODY


def kidneys(sample: Sample) -> Iterator[Layer]:
    for side in ('left', 'right'):
        whole, sinus = sample.organ[f'{side} kidney'], sample.organ[f'{side} sinus']
        kidney = sample.place(np.maximum(whole, -sinus))
        yield 'cortex', kidney, CLASSES.index(f'{side} kidney')
        yield 'medulla', np.maximum(kidney + 7, 0.35 - np.abs(sample.filling)), None
        yield 'pelvis', np.maximum(sinus + 5, whole + 3), None


def spleen(sample: Sample) -> Iterator[Layer]:
    yield 'spleen', sample.place(sample.organ['spleen']), CLASSES.index('spleen')


def liver(sample: Sample) -> Iterator[Layer]:
    yield 'bile', sample.place(sample.organ['gallbladder'], 0.0), BODY
    whole = sample.place(blend(sample.organ['right lobe'], sample.organ['left lobe']), sample.anatomy.gap_mm * 0.6)
    yield 'liver', whole, CLASSES.index('liver')
    yield 'liver vessel', np.maximum(sample.tubes - 2.0, whole + 6), None


def stomach(sample: Sample) -> Iterator[Layer]:
    wall = sample.place(blend(sample.organ['fundus'], sample.organ['antrum']))
    gas_level_mm = sample.anatomy.gas_level_mm
    yield 'gut wall', wall, CLASSES.index('stomach')
    yield 'chyme' if gas_level_mm > 50 else 'fluid', wall + 4, None
    yield 'gas', np.maximum(wall + 4, gas_level_mm - sample.points[1]), None


def bowel(sample: Sample) -> Iterator[Layer]:
    """Pancreas, then loops of bowel in the remaining cavity."""
    _, y, z = sample.points
    yield 'pancreas', sample.place(sample.organ['pancreas'] + 2 * sample.filling), BODY
    wall = sample.place(np.maximum(-10 * sample.loops - 1, z - 30))
    yield 'gut wall', wall, BODY
    yield 'chyme', wall + 3.5, None
    yield 'fluid', np.maximum(wall + 3.5, 4 - 10 * sample.filling), None
    yield 'gas', np.maximum.reduce([wall + 3.5, 5 + 10 * sample.filling, 12 - y]), None


# Later parts cover earlier ones; organs placed later are clipped by earlier ones.
PARTS = (trunk, skeleton, great_vessels, kidneys, spleen, liver, stomach, bowel)


def liver_layers(anatomy: Abdomen, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """`layers` with only the liver labelled."""
    classes = {None: None, CLASSES.index('liver'): 1}
    for tissue, distance, label in layers(anatomy, points):
        yield tissue, distance, classes.get(label, 0)
