"""Random continuous abdomens: signed distances in mm that any grid samples, with the tissue and class of each part.

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
INNER_MM = (145.0, 90.0)  # half axes of the muscle wall, from which every organ's place is counted
FIRST = ('vertebra', 'aorta', 'vena cava', 'left psoas', 'right psoas', 'left back', 'right back')  # have their place


@dataclass(frozen=True)
class Abdomen(Person):
    """One person: outline, organs in the frame of INNER_MM, and what bends and fills them."""

    gap_mm: float
    gas_level_mm: float
    disc_offset_mm: float
    organs: dict[str, Ellipsoid]
    bend: Waves
    ripple: Waves
    gut: Waves
    vessels: Waves


def person(rng: np.random.Generator, swelling: tuple[float, float] = (0.02, 0.9)) -> Abdomen:
    """A random person: slim to stout, spleen normal to enormous, longer by a share drawn from `swelling`."""
    width = rng.uniform(140, 178)
    depth = width * rng.uniform(0.64, 0.73)
    fat = rng.uniform(5, 10) + (width - 140) * rng.uniform(0.15, 0.5)
    swollen = rng.uniform(*swelling)  # the spleen pushes its neighbours

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
    """A random person with a spleen of about 100 to 320 mL, as healthy people have."""
    return person(rng, (0.0, 0.35))


@dataclass
class Site:
    """A person at given points: signed distances in mm and fields that several parts are painted from."""

    anatomy: Abdomen
    points: Float[np.ndarray, '3 n']  # in the frame of INNER_MM
    skin: Float[np.ndarray, ' n']
    wall: Float[np.ndarray, ' n']  # of muscle, around everything inside
    dome: Float[np.ndarray, ' n']  # of the diaphragm; the lungs are beyond it
    cavity: Float[np.ndarray, ' n']  # of the belly
    organ: dict[str, np.ndarray]
    tubes: Float[np.ndarray, ' n']  # from the middle of small vessels
    loops: Float[np.ndarray, ' n']
    filling: Float[np.ndarray, ' n']
    taken: Float[np.ndarray, ' n']  # by what was placed so far

    @classmethod
    def of(cls, anatomy: Abdomen, points: Float[np.ndarray, '3 n']) -> 'Site':
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
        taken = np.minimum.reduce([organ[name] for name in FIRST])
        return cls(anatomy, points, skin, wall, dome, cavity, organ, tubes, loops, filling, taken)

    def place(self, shape: np.ndarray, gap_mm: float | None = None) -> np.ndarray:
        """The part of `shape` that is inside the belly and keeps a gap, default the anatomy's, to what was placed."""
        gap_mm = self.anatomy.gap_mm if gap_mm is None else gap_mm
        shape = np.maximum.reduce([shape, self.cavity + 1, gap_mm - self.taken])
        self.taken = np.minimum(self.taken, shape)
        return shape


def layers(anatomy: Abdomen, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """Everything in the scanner, in the order of painting."""
    yield from couch(anatomy, points)
    site = Site.of(anatomy, points)
    for part in PAINTING:
        yield from part(site)


def trunk(site: Site) -> Iterator[Layer]:
    """Skin, fat, muscles, the belly's fat with its vessels, lungs and heart."""
    yield 'skin', site.skin, BODY
    yield 'fat', site.skin + 2.5, BODY
    yield 'muscle', np.maximum(site.wall, site.skin + 4), BODY
    yield 'mesentery', site.cavity, BODY
    yield 'vein', np.maximum(site.tubes - 1.4, site.cavity + 4), BODY
    yield 'lung', np.maximum(site.wall + 12, -site.dome), BODY
    yield 'muscle', np.maximum(site.organ['heart'], site.wall + 14), BODY
    for name in ('left back', 'right back', 'left psoas', 'right psoas'):
        yield 'muscle', np.maximum(site.organ[name], site.wall + 3), BODY


def skeleton(site: Site) -> Iterator[Layer]:
    """Ribs that fall towards the front, vertebrae with discs, arches and processes, and the canal."""
    (x, y, z), organ = site.points, site.organ
    along = np.abs((z + site.anatomy.disc_offset_mm) % 34 - 17)  # mm from a disc's middle plane
    fall = 55 * np.arctan2(np.abs(x) / INNER_MM[0], -y / INNER_MM[1])  # along the arc from the back's middle
    ribs = np.hypot(site.wall + 7, ((z + fall) % 28 - 14) * 0.85) - 5
    ribs = np.maximum.reduce([ribs, y - 45 - 0.6 * z, 28 - np.abs(x)])
    arch = np.minimum.reduce([organ['arch'], np.maximum(organ['transverse'], 11 - along), organ['spinous']])
    for bone, shell_mm in ((ribs, 2.0), (arch, 2.5), (organ['vertebra'], 2.0)):
        yield 'cortical bone', bone, BODY
        yield 'marrow', bone + shell_mm, BODY
    yield 'disc', np.maximum(organ['vertebra'], along - 4), BODY
    yield 'cerebrospinal fluid', organ['canal'], BODY


def great_vessels(site: Site) -> Iterator[Layer]:
    yield 'gut wall', site.organ['aorta'] - 1.5, BODY
    yield 'artery', site.organ['aorta'], BODY
    yield 'vein', site.organ['vena cava'], BODY


def kidneys(site: Site) -> Iterator[Layer]:
    for side in ('left', 'right'):
        whole, sinus = site.organ[f'{side} kidney'], site.organ[f'{side} sinus']
        kidney = site.place(np.maximum(whole, -sinus))
        yield 'cortex', kidney, CLASSES.index(f'{side} kidney')
        yield 'medulla', np.maximum(kidney + 7, 0.35 - np.abs(site.filling)), None
        yield 'pelvis', np.maximum(sinus + 5, whole + 3), None


def spleen(site: Site) -> Iterator[Layer]:
    yield 'spleen', site.place(site.organ['spleen']), CLASSES.index('spleen')


def liver(site: Site) -> Iterator[Layer]:
    yield 'bile', site.place(site.organ['gallbladder'], 0.0), BODY
    whole = site.place(blend(site.organ['right lobe'], site.organ['left lobe']), site.anatomy.gap_mm * 0.6)
    yield 'liver', whole, CLASSES.index('liver')
    yield 'liver vessel', np.maximum(site.tubes - 2.0, whole + 6), None


def stomach(site: Site) -> Iterator[Layer]:
    wall = site.place(blend(site.organ['fundus'], site.organ['antrum']))
    gas_level_mm = site.anatomy.gas_level_mm
    yield 'gut wall', wall, CLASSES.index('stomach')
    yield 'chyme' if gas_level_mm > 50 else 'fluid', wall + 4, None
    yield 'gas', np.maximum(wall + 4, gas_level_mm - site.points[1]), None


def bowel(site: Site) -> Iterator[Layer]:
    """What is left of the belly: pancreas, then loops of bowel."""
    _, y, z = site.points
    yield 'pancreas', site.place(site.organ['pancreas'] + 2 * site.filling), BODY
    wall = site.place(np.maximum(-10 * site.loops - 1, z - 30))
    yield 'gut wall', wall, BODY
    yield 'chyme', wall + 3.5, None
    yield 'fluid', np.maximum(wall + 3.5, 4 - 10 * site.filling), None
    yield 'gas', np.maximum.reduce([wall + 3.5, 5 + 10 * site.filling, 12 - y]), None


# Later parts are painted over earlier ones, and organs that are placed later give way.
PAINTING = (trunk, skeleton, great_vessels, kidneys, spleen, liver, stomach, bowel)


def livers(anatomy: Abdomen, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """The same, with every class but the liver in the background."""
    classes = {None: None, CLASSES.index('liver'): 1}
    for tissue, distance, label in layers(anatomy, points):
        yield tissue, distance, classes.get(label, 0)
