"""Random heads: signed distance functions in mm, with the tissue of every part; the intracranial volume is a class.

Points are RAS: x right, y anterior, z superior; the origin is near the third ventricle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer, Person, Protocol, couch, restricted
from synseg_jax.phantom.brain import Brain, brain_layers
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, Waves, blend, varied

CLASSES = ('background', 'TICV')
CT = Protocol((112, 133), (4.0, 5.0), (34, 46), (-80, 106), (210, 260), (1.35, 1.55), (0.8, 7.0), edge_mm=2.0,
              spread=1.5, noise=(4, 9))  # fmt: skip
MR = Protocol((112, 133), (4.0, 5.5), (30, 44), (-76, 106), (210, 260), (1.4, 1.6), (0.7, 6.0), edge_mm=2.0,
              spread=0.06, noise=(8, 20))  # fmt: skip

# Structures of the right half of skull and face; the left is its mirror image.
SIDE: dict[str, Solid] = {
    'temporal fossa': Ellipsoid.rotated((34, 16, -20), (29, 32, 24)),
    'petrous': Ellipsoid.rotated((40, -10, -39), (30, 9, 12), (0, 0, -32)),
    'mastoid': Ellipsoid.rotated((56, -24, -44), (9, 13, 16)),
    'orbit': Ellipsoid.rotated((31, 66, -20), (18, 24, 17), (0, 0, 12)),
    'eye': Ellipsoid.rotated((32, 74, -20), (12, 12, 12)),
    'optic nerve': Rod.between((31, 62, -20), (10, 28, -16), 2.2),
    'maxilla': Ellipsoid.rotated((22, 62, -56), (24, 24, 22)),
    'antrum': Ellipsoid.rotated((26, 58, -50), (13, 15, 15)),
    'cheek': Rod.between((46, 70, -38), (66, 20, -36), 5, 3),
    'jaw': Rod.between((52, 10, -50), (46, 18, -95), 5, 6),
    'masseter': Ellipsoid.rotated((58, 22, -70), (8, 18, 32)),
    'temporalis': Ellipsoid.rotated((68, 26, -6), (9, 32, 40), (0, -8, -16)),
    'pterygoid': Ellipsoid.rotated((34, 18, -68), (12, 20, 22)),
    'neck': Ellipsoid.rotated((30, -50, -90), (26, 24, 50)),
    'ear': Ellipsoid.rotated((79, -12, -26), (5, 14, 28), (0, 8, 20)),
}
MIDDLE: dict[str, Solid] = {
    'posterior fossa': Ellipsoid.rotated((0, -40, -34), (52, 40, 34)),
    'face': Ellipsoid.rotated((0, 34, -52), (62, 66, 72)),
    'nose': Ellipsoid.rotated((0, 100, -46), (13, 18, 22), (-15, 0, 0)),
    'nape': Rod.between((0, -22, -60), (0, -30, -150), 60, 56),
    'clivus': Rod.between((0, 16, -22), (0, -2, -56), 10, 9),
    'sphenoid sinus': Ellipsoid.rotated((0, 28, -26), (12, 11, 9)),
    'ethmoid': Ellipsoid.rotated((0, 58, -24), (11, 26, 14)),
    'frontal sinus': Ellipsoid.rotated((0, 86, -2), (20, 5, 12)),
    'nasal cavity': Ellipsoid.rotated((0, 66, -54), (11, 34, 18)),
    'pharynx': Rod.between((0, 22, -54), (0, 6, -110), 9, 8),
    'canal': Rod.between((0, -24, -48), (0, -30, -130), 15, 11),
    'spine': Rod.between((0, -4, -68), (0, -8, -140), 12, 11),
    'arch': Rod.between((0, -42, -72), (0, -46, -140), 7),
    'tongue': Ellipsoid.rotated((0, 48, -92), (24, 36, 18)),
}


@dataclass(frozen=True)
class Head(Person):
    """One person: skull, face and brain."""

    vault: Ellipsoid  # cranial cavity without the skull base
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
    """A random adult: skull narrow to broad and thin to thick, brain without to with atrophy."""
    radii = np.array([66, 84, 70]) * np.exp(rng.normal(0, (0.03, 0.03, 0.02)))
    bone, scalp = rng.uniform(5, 8.5), rng.gamma(9, 0.7)
    return Head(
        half_widths_mm=(radii[0] + bone + scalp + 3, radii[1] + bone + scalp + 3),
        scale=np.float32([1, 1, 1]) * np.float32(rng.uniform(0.96, 1.04)),
        vault=Ellipsoid.rotated((0, 0, 14), radii),
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
class Sample:
    """A person sampled at points: signed distances in mm and random fields that several parts share."""

    person: Head
    points: Float[np.ndarray, '3 n']
    right: Float[np.ndarray, '3 n']  # the points with the left half mirrored onto the right
    vault: Float[np.ndarray, ' n']
    cavity: Float[np.ndarray, ' n']  # cranial cavity
    skull: Float[np.ndarray, ' n']
    skin: Float[np.ndarray, ' n']
    cells: Float[np.ndarray, ' n']

    @classmethod
    def of(cls, person: Head, points: Float[np.ndarray, '3 n']) -> 'Sample':
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
    """All layers: couch, then the body."""
    yield from couch(person, points, radius_mm=110)
    half_x, half_y = person.half_widths_mm
    near = (np.abs(points[0]) < half_x + 25) & (points[1] > -half_y - 20) & (points[1] < half_y + 45)
    yield from restricted(near, points, lambda inside: paint(Sample.of(person, inside)))


def paint(sample: Sample) -> Iterator[Layer]:
    """The layers of the head; later parts cover earlier ones."""
    for part in (soft_tissue, skull, airways, eyes, spine):
        yield from part(sample)
    yield from brain_layers(sample.person.brain, sample.points, sample.right, sample.cavity, CLASSES.index('TICV'))
    for bone in (sample.person.side['petrous'](sample.right), sample.person.middle['clivus'](sample.points)):
        yield 'cortical bone', np.maximum(bone, sample.cavity - 4), CLASSES.index('background')


def soft_tissue(sample: Sample) -> Iterator[Layer]:
    """Skin, subcutaneous fat and muscles."""
    yield 'skin', sample.skin, None
    yield 'fat', sample.skin + 2.2, None
    yield 'muscle', np.maximum(sample.person.middle['nape'](sample.points) + 9, sample.skin + 7), None
    for name in ('temporalis', 'masseter', 'pterygoid', 'neck'):
        yield 'muscle', np.maximum(sample.person.side[name](sample.right), sample.skin + 5), None
    yield 'muscle', sample.person.middle['tongue'](sample.points), None


def skull(sample: Sample) -> Iterator[Layer]:
    """Inner and outer table with diploe between, and the facial bones."""
    person, half_mm = sample.person, 0.5 * (sample.cavity - sample.skull)
    yield 'cortical bone', np.maximum(sample.skull, sample.skin + 3), None
    between = np.abs(sample.cavity - half_mm) - person.diploe * half_mm
    yield 'diploe', np.maximum(between, -sample.points[2] - 5), None
    maxilla, mastoid = (person.side[name](sample.right) for name in ('maxilla', 'mastoid'))
    for bone in (maxilla, person.side['jaw'](sample.right), person.side['cheek'](sample.right)):
        yield 'cortical bone', np.maximum(bone, sample.skin + 5), None
        yield 'diploe', np.maximum(bone + 2, sample.skin + 7), None
    yield 'cortical bone', np.maximum(mastoid, sample.skin + 4), None
    yield 'sinus', np.maximum(mastoid + 2, 4 * (0.1 - np.abs(sample.cells)) + 0.5), None


def airways(sample: Sample) -> Iterator[Layer]:
    """Paranasal sinuses in thin walls, the nasal cavity with its septum, and the pharynx."""
    middle, outside_skull = sample.person.middle, 2 - sample.cavity
    sinuses = [sample.person.side['antrum'](sample.right)]
    sinuses += [middle[name](sample.points) for name in ('sphenoid sinus', 'ethmoid', 'frontal sinus')]
    sinus = np.maximum.reduce([np.minimum.reduce(sinuses), outside_skull, sample.skin + 5])
    yield 'cortical bone', np.maximum(sinus - 1.5, sample.skin + 4), None
    yield 'mucosa', sinus, None
    yield 'sinus', np.maximum(sinus + 1, 0.5 - 4 * np.abs(sample.cells)), None
    nose = np.maximum(
        np.minimum(middle['nasal cavity'](sample.points), middle['pharynx'](sample.points)), outside_skull
    )
    yield 'mucosa', nose - 2, None
    yield 'sinus', np.maximum.reduce([nose, 1.2 - np.abs(sample.points[0]), 2 * (sample.cells - 0.8)]), None


def eyes(sample: Sample) -> Iterator[Layer]:
    """Eyeballs and optic nerves in the fat of the bony orbits."""
    side = sample.person.side
    orbit, eye = side['orbit'](sample.right), side['eye'](sample.right)
    yield 'cortical bone', np.maximum(np.abs(orbit) - 1.2, sample.points[1] - 74), None
    yield 'fat', np.maximum(orbit + 1, 1.5 - sample.cavity), None
    yield (
        'muscle',
        np.maximum.reduce([np.abs(orbit + 5) - 1.2, 2 * (np.abs(sample.cells) - 0.7), sample.points[1] - 72]),
        None,
    )
    yield 'muscle', side['optic nerve'](sample.right), None
    yield 'sclera', eye, None
    yield 'vitreous', eye + 1.5, None
    yield 'lens', np.maximum(eye + 2, side['eye'].centre[1] + 6 - sample.points[1]), None


def spine(sample: Sample) -> Iterator[Layer]:
    """Cervical vertebrae and the spinal canal."""
    middle = sample.person.middle
    along = np.abs(sample.points[2] % 17 - 8.5)  # mm from the mid-plane of a vertebra
    for name in ('spine', 'arch'):
        bone = np.maximum(middle[name](sample.points), along - 7)
        yield 'cortical bone', bone, None
        yield 'diploe', bone + 2, None
    yield 'cerebrospinal fluid', middle['canal'](sample.points), None
