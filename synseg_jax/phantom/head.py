"""Random continuous heads: signed distances in mm, with the tissue of each part and the intracranial volume as a class.

Points are RAS: x right, y anterior, z superior; the origin is in the middle of the brain, near the third ventricle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer, Person, Protocol, couch, only
from synseg_jax.phantom.brain import Brain, matter
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, Waves, blend, varied

CLASSES = ('background', 'TICV')
CT = Protocol((112, 133), (4.0, 5.0), (34, 46), (-80, 106), (210, 260), (1.35, 1.55), (0.8, 7.0), edge_mm=2.0,
              spread=1.5, noise=(4, 9))  # fmt: skip
MR = Protocol((112, 133), (4.0, 5.5), (30, 44), (-76, 106), (210, 260), (1.4, 1.6), (0.7, 6.0), edge_mm=2.0,
              spread=0.06, noise=(8, 20))  # fmt: skip

# The right half of what is in the skull and before it; the left is its mirror image.
SIDE: dict[str, Solid] = {
    'temporal fossa': Ellipsoid.turned((34, 16, -20), (29, 32, 24)),
    'petrous': Ellipsoid.turned((40, -10, -39), (30, 9, 12), (0, 0, -32)),
    'mastoid': Ellipsoid.turned((56, -24, -44), (9, 13, 16)),
    'orbit': Ellipsoid.turned((31, 66, -20), (18, 24, 17), (0, 0, 12)),
    'eye': Ellipsoid.turned((32, 74, -20), (12, 12, 12)),
    'optic nerve': Rod.between((31, 62, -20), (10, 28, -16), 2.2),
    'maxilla': Ellipsoid.turned((22, 62, -56), (24, 24, 22)),
    'antrum': Ellipsoid.turned((26, 58, -50), (13, 15, 15)),
    'cheek': Rod.between((46, 70, -38), (66, 20, -36), 5, 3),
    'jaw': Rod.between((52, 10, -50), (46, 18, -95), 5, 6),
    'masseter': Ellipsoid.turned((58, 22, -70), (8, 18, 32)),
    'temporalis': Ellipsoid.turned((68, 26, -6), (9, 32, 40), (0, -8, -16)),
    'pterygoid': Ellipsoid.turned((34, 18, -68), (12, 20, 22)),
    'neck': Ellipsoid.turned((30, -50, -90), (26, 24, 50)),
    'ear': Ellipsoid.turned((79, -12, -26), (5, 14, 28), (0, 8, 20)),
}
MIDDLE: dict[str, Solid] = {
    'posterior fossa': Ellipsoid.turned((0, -40, -34), (52, 40, 34)),
    'face': Ellipsoid.turned((0, 34, -52), (62, 66, 72)),
    'nose': Ellipsoid.turned((0, 100, -46), (13, 18, 22), (-15, 0, 0)),
    'nape': Rod.between((0, -22, -60), (0, -30, -150), 60, 56),
    'clivus': Rod.between((0, 16, -22), (0, -2, -56), 10, 9),
    'sphenoid sinus': Ellipsoid.turned((0, 28, -26), (12, 11, 9)),
    'ethmoid': Ellipsoid.turned((0, 58, -24), (11, 26, 14)),
    'frontal sinus': Ellipsoid.turned((0, 86, -2), (20, 5, 12)),
    'nasal cavity': Ellipsoid.turned((0, 66, -54), (11, 34, 18)),
    'pharynx': Rod.between((0, 22, -54), (0, 6, -110), 9, 8),
    'canal': Rod.between((0, -24, -48), (0, -30, -130), 15, 11),
    'spine': Rod.between((0, -4, -68), (0, -8, -140), 12, 11),
    'arch': Rod.between((0, -42, -72), (0, -46, -140), 7),
    'tongue': Ellipsoid.turned((0, 48, -92), (24, 36, 18)),
}


@dataclass(frozen=True)
class Head(Person):
    """One person: skull, what lies in and before it, and the brain."""

    vault: Ellipsoid  # what the skull holds, were it not for its base
    side: dict[str, Solid]
    middle: dict[str, Solid]
    bone_mm: float
    scalp_mm: float
    diploe: float  # share of the bone
    bend: Waves
    ripple: Waves
    cells: Waves
    brain: Brain


def person(rng: np.random.Generator) -> Head:
    """A random adult: narrow to broad, thin to thick skull, brain full to shrunk."""
    radii = np.array([66, 84, 70]) * np.exp(rng.normal(0, (0.03, 0.03, 0.02)))
    bone, scalp = rng.uniform(5, 8.5), rng.gamma(9, 0.7)
    return Head(
        half_widths_mm=(radii[0] + bone + scalp + 3, radii[1] + bone + scalp + 3),
        scale=np.float32([1, 1, 1]) * np.float32(rng.uniform(0.96, 1.04)),
        vault=Ellipsoid.turned((0, 0, 14), radii),
        side=varied(SIDE, rng, 1.0, 0.05),
        middle=varied(MIDDLE, rng, 0.8, 0.04),
        bone_mm=bone,
        scalp_mm=scalp,
        diploe=rng.uniform(0.3, 0.55),
        bend=Waves.random(rng, (120, 260), 3),
        ripple=Waves.random(rng, (35, 70), 3),
        cells=Waves.random(rng, (9, 16), 1),
        brain=Brain.random(rng),
    )


@dataclass
class Site:
    """A person at given points: signed distances in mm and fields that several parts are painted from."""

    person: Head
    points: Float[np.ndarray, '3 n']
    right: Float[np.ndarray, '3 n']  # the same, with the left mirrored onto the right
    vault: Float[np.ndarray, ' n']
    cavity: Float[np.ndarray, ' n']  # inside the inner table
    skull: Float[np.ndarray, ' n']
    skin: Float[np.ndarray, ' n']
    cells: Float[np.ndarray, ' n']

    @classmethod
    def of(cls, person: Head, points: Float[np.ndarray, '3 n']) -> 'Site':
        points = (points + 2.5 * person.bend(points) + 0.7 * person.ripple(points)) / person.scale[:, None]
        x, y, z = points
        right = np.stack([np.abs(x), y, z])
        vault, (cells,) = person.vault(points), person.cells(points)
        base = -z - 22 + 0.38 * (y + 12)  # rises to the roof of the orbits
        fossae = np.minimum(person.side['temporal fossa'](right), person.middle['posterior fossa'](points))
        cavity = np.maximum(blend(np.maximum(vault, 0.9 * base), fossae, 12), vault)
        bone_mm = person.bone_mm + 0.8 * person.ripple(points)[0]
        cover = person.bone_mm + person.scalp_mm
        skin = blend(blend(vault - cover, person.middle['face'](points), 30), person.middle['nape'](points), 40)
        skin = blend(np.minimum(skin, person.side['ear'](right)), person.middle['nose'](points), 12)
        return cls(person, points, right, vault, cavity, cavity - bone_mm, skin, cells)


def layers(person: Head, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """Everything in the scanner, in the order of painting."""
    yield from couch(person, points, radius_mm=110)
    half_x, half_y = person.half_widths_mm
    near = (np.abs(points[0]) < half_x + 25) & (points[1] > -half_y - 20) & (points[1] < half_y + 45)
    yield from only(near, points, lambda inside: paint(Site.of(person, inside)))


def paint(site: Site) -> Iterator[Layer]:
    """The head; later parts are painted over earlier ones."""
    for part in (flesh, skull, airways, eyes, spine):
        yield from part(site)
    yield from matter(site.person.brain, site.points, site.right, site.cavity, CLASSES.index('TICV'))
    for bone in (site.person.side['petrous'](site.right), site.person.middle['clivus'](site.points)):
        yield 'cortical bone', np.maximum(bone, site.cavity - 4), CLASSES.index('background')


def flesh(site: Site) -> Iterator[Layer]:
    """Skin, fat under it, and muscles."""
    yield 'skin', site.skin, None
    yield 'fat', site.skin + 2.2, None
    yield 'muscle', np.maximum(site.person.middle['nape'](site.points) + 9, site.skin + 7), None
    for name in ('temporalis', 'masseter', 'pterygoid', 'neck'):
        yield 'muscle', np.maximum(site.person.side[name](site.right), site.skin + 5), None
    yield 'muscle', site.person.middle['tongue'](site.points), None


def skull(site: Site) -> Iterator[Layer]:
    """Two tables with diploe between, and the bones of the face."""
    person, half_mm = site.person, 0.5 * (site.cavity - site.skull)
    yield 'cortical bone', np.maximum(site.skull, site.skin + 3), None
    between = np.abs(site.cavity - half_mm) - person.diploe * half_mm
    yield 'diploe', np.maximum(between, -site.points[2] - 5), None
    maxilla, mastoid = (person.side[name](site.right) for name in ('maxilla', 'mastoid'))
    for bone in (maxilla, person.side['jaw'](site.right), person.side['cheek'](site.right)):
        yield 'cortical bone', np.maximum(bone, site.skin + 5), None
        yield 'diploe', np.maximum(bone + 2, site.skin + 7), None
    yield 'cortical bone', np.maximum(mastoid, site.skin + 4), None
    yield 'sinus', np.maximum(mastoid + 2, 4 * (0.1 - np.abs(site.cells)) + 0.5), None


def airways(site: Site) -> Iterator[Layer]:
    """Sinuses in thin walls, the nose with its septum, and the throat."""
    middle, free = site.person.middle, 2 - site.cavity
    caves = [site.person.side['antrum'](site.right)]
    caves += [middle[name](site.points) for name in ('sphenoid sinus', 'ethmoid', 'frontal sinus')]
    cave = np.maximum.reduce([np.minimum.reduce(caves), free, site.skin + 5])
    yield 'cortical bone', np.maximum(cave - 1.5, site.skin + 4), None
    yield 'mucosa', cave, None
    yield 'sinus', np.maximum(cave + 1, 0.5 - 4 * np.abs(site.cells)), None
    nose = np.maximum(np.minimum(middle['nasal cavity'](site.points), middle['pharynx'](site.points)), free)
    yield 'mucosa', nose - 2, None
    yield 'sinus', np.maximum.reduce([nose, 1.2 - np.abs(site.points[0]), 2 * (site.cells - 0.8)]), None


def eyes(site: Site) -> Iterator[Layer]:
    """Eyeballs and optic nerves in the fat of bony orbits."""
    side = site.person.side
    orbit, eye = side['orbit'](site.right), side['eye'](site.right)
    yield 'cortical bone', np.maximum(np.abs(orbit) - 1.2, site.points[1] - 74), None
    yield 'fat', np.maximum(orbit + 1, 1.5 - site.cavity), None
    yield (
        'muscle',
        np.maximum.reduce([np.abs(orbit + 5) - 1.2, 2 * (np.abs(site.cells) - 0.7), site.points[1] - 72]),
        None,
    )
    yield 'muscle', side['optic nerve'](site.right), None
    yield 'sclera', eye, None
    yield 'vitreous', eye + 1.5, None
    yield 'lens', np.maximum(eye + 2, side['eye'].centre[1] + 6 - site.points[1]), None


def spine(site: Site) -> Iterator[Layer]:
    """Vertebrae, and the canal that leaves the skull."""
    middle = site.person.middle
    along = np.abs(site.points[2] % 17 - 8.5)  # mm from the middle of a vertebra
    for name in ('spine', 'arch'):
        bone = np.maximum(middle[name](site.points), along - 7)
        yield 'cortical bone', bone, None
        yield 'diploe', bone + 2, None
    yield 'cerebrospinal fluid', middle['canal'](site.points), None
