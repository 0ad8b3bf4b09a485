"""Random male pelves: signed distance functions in mm, with the tissue of every part; the prostate is a class.

Points are RAS: x right, y anterior, z superior; the prostate's centre is near the origin.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer, Person, Protocol, couch, restricted
from synseg_jax.phantom.hips import BONES, MUSCLES, bone_layers, muscle_layers
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, Waves, oval, varied

CLASSES = ('background', 'prostate')
CT = Protocol((144, 169), (2.6, 3.0), (38, 50), (-62, 72), (390, 460), (1.15, 1.4), edge_mm=2.6, spread=3.0)
MR = Protocol((128, 153), (3.3, 3.9), (18, 24), (-38, 42), (180, 220), (0.52, 0.68), (0.7, 6.0), edge_mm=1.6,
              spread=0.1, noise=(10, 28))  # fmt: skip


@dataclass(frozen=True)
class Pelvis(Person):
    """One person: outline, organs, rectal filling, and random deformations and textures."""

    outline_y_mm: float
    bones: dict[str, Solid]
    muscles: dict[str, Solid]
    organs: dict[str, Solid]
    rectum_mm: tuple[float, float]  # radius, and distance of its centre behind that of the prostate
    gas: float  # level of gas in the rectum
    growth: float  # of the central gland, 0 to 1
    calcified: bool
    wall_mm: float  # of the bladder
    bend: Waves
    ripple: Waves
    nodules: Waves
    fibres: Waves
    tubes: Waves
    gut: Waves


def person(rng: np.random.Generator) -> Pelvis:
    """A random man: slim to obese, prostate about 20 to 80 mL, bladder and rectum empty to full."""
    size = rng.uniform(0.93, 1.06)
    fat = rng.gamma(4, 5.0)
    growth, full = rng.uniform(0, 1), rng.uniform(0, 1)
    prostate = np.array([22 + 6 * growth, 14 + 8 * growth, 17 + 8 * growth]) * np.exp(rng.normal(0, 0.07, 3))
    rectum = rng.choice((12, 17, 24), p=(0.3, 0.4, 0.3)) * rng.uniform(0.85, 1.15)
    front = rng.normal(2, 3)  # y of the prostate's centre
    top = prostate[2]
    bladder = np.array([26 + 20 * full, 20 + 18 * full, 13 + 24 * full]) * np.exp(rng.normal(0, 0.06, 3))
    tilt = rng.normal(-14, 5)
    organs = {
        'prostate': Ellipsoid.rotated((rng.normal(0, 2), front, 0), prostate, (tilt, 0, rng.normal(0, 4))),
        'central gland': Ellipsoid.rotated(
            (rng.normal(0, 1.5), front + 0.2 * prostate[1], 0.16 * top),
            prostate * (0.64 + 0.24 * growth, 0.62 + 0.2 * growth, 0.76 + 0.12 * growth),
            (tilt, 0, 0),
        ),
        'stroma': Ellipsoid.rotated((0, front + 0.86 * prostate[1], 0.1 * top), (11, 4.5, 0.7 * top), (tilt, 0, 0)),
        'bladder': Ellipsoid.rotated(
            (rng.normal(0, 4), front + 8 + rng.normal(0, 3), top - 7 + 0.88 * bladder[2]), bladder, (tilt, 0, 0)
        ),
        'levator': Ellipsoid.rotated((0, -15, 24), (prostate[0] + 10, 48 + 0.3 * rectum, 62 + 0.5 * (top - 20))),
        'seminal vesicle': Ellipsoid.rotated(
            (17, front - 0.8 * prostate[1] - rng.uniform(0, 3), top + 1), (18, 5.5, 7), (0, -18, -12)
        ),
        'belly': Ellipsoid.rotated((0, 6, 96), (78, 62, 50)),
        'sacrum': Rod.between((0, -68, 4), (0, -104 + rng.normal(0, 4), 84), 5, 22),
        'femoral artery': Rod.between((60, 64, -50), (48, 40, 70), 4.5),
        'femoral vein': Rod.between((50, 60, -50), (46, 28, 70), 5.5),
        'urethra': Rod.between((0, front - 2, 6), (0, front + 3, -70), 1.6, 2.2),
        'bulb': Ellipsoid.rotated((0, front + 2, -top - 28), (9, 16, 9), (25, 0, 0)),
    }
    return Pelvis(
        half_widths_mm=(148 * size + fat, (92 * size + 0.55 * fat) * rng.uniform(0.95, 1.05)),
        scale=np.float32([size, size * rng.uniform(0.96, 1.04), size * rng.uniform(0.95, 1.05)]),
        outline_y_mm=rng.normal(-9, 3),
        bones=varied(BONES, rng, 1.5, 0.04),
        muscles=varied(MUSCLES, rng, 2.5, 0.07),
        organs=organs,
        rectum_mm=(rectum, prostate[1] + 0.92 * rectum + 3 - front),
        gas=rng.uniform(-0.4, 1.1),
        growth=growth,
        wall_mm=rng.uniform(2.5, 3.5) + 2 * (1 - full),
        calcified=bool(rng.random() < 0.4),
        bend=Waves.random(rng, (130, 280), 3),
        ripple=Waves.random(rng, (28, 60), 3),
        nodules=Waves.random(rng, (11, 24), 2),
        fibres=Waves.random(rng, (22, 60), 2),
        tubes=Waves.random(rng, (16, 36), 2),
        gut=Waves.random(rng, (38, 75), 2),
    )


@dataclass
class Sample:
    """A person sampled at points: signed distances in mm and random fields that several parts share."""

    person: Pelvis
    points: Float[np.ndarray, '3 n']  # in the frame of the bones
    right: Float[np.ndarray, '3 n']  # the points with the left half mirrored onto the right
    skin: Float[np.ndarray, ' n']
    levator: Float[np.ndarray, ' n']  # levator ani, the pelvic floor
    rectum: Float[np.ndarray, ' n']

    @classmethod
    def of(cls, person: Pelvis, points: Float[np.ndarray, '3 n']) -> 'Sample':
        bend = 3.5 * person.bend(points)
        half_x, half_y = person.half_widths_mm
        about = points + 0.7 * bend - np.float32([[0], [person.outline_y_mm], [0]])
        cleft = 0.4 * (-about[1] - half_y + 30 - 0.2 * np.maximum(points[2], 0)) - np.abs(about[0])
        skin = np.maximum(oval(about, half_x, half_y), cleft)
        points = (points + bend + 1.2 * person.ripple(points)) / person.scale[:, None]
        right = np.stack([np.abs(points[0]), points[1], points[2]])
        x, y, z = points
        radius_mm, behind_mm = person.rectum_mm
        wide = 1 / (1 + np.exp(-(z + 26) / 5))  # above the anal canal
        middle = -behind_mm * wide - 40 * (1 - wide) - 0.006 * np.maximum(z - 8, 0) ** 2
        rectum = 0.9 * (np.hypot(0.93 * x, y - middle) - (10 + (radius_mm - 10) * wide))
        return cls(person, points, right, skin, person.organs['levator'](points), rectum)


def layers(person: Pelvis, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """All layers: couch, then the body."""
    yield from couch(person, points)
    half_x, half_y = person.half_widths_mm
    near = oval(points, half_x, half_y) < 20 + abs(person.outline_y_mm)
    yield from restricted(near, points, lambda inside: paint(Sample.of(person, inside)))


def paint(sample: Sample) -> Iterator[Layer]:
    """The layers of the body; later parts cover earlier ones."""
    for part in (hips, pelvic_floor, bowel, bladder, rectum, prostate):
        yield from part(sample)


def hips(sample: Sample) -> Iterator[Layer]:
    """Skin, fat, muscles and bones, and the femoral vessels."""
    person = sample.person
    yield 'skin', sample.skin, None
    yield 'fat', sample.skin + 2, None
    yield from muscle_layers(person.muscles, sample.right, sample.skin + 7, person.fibres(sample.points))
    yield from bone_layers(person.bones, sample.right)
    sacrum = person.organs['sacrum'](sample.points)
    yield 'cortical bone', sacrum, None
    yield 'marrow', sacrum + 2, None
    for name, tissue in (('femoral artery', 'artery'), ('femoral vein', 'vein')):
        vessel = person.organs[name](sample.right)
        yield 'muscle', vessel - 1, None
        yield tissue, vessel, None


def pelvic_floor(sample: Sample) -> Iterator[Layer]:
    """Levator ani, open towards the pubis, the fat above it, and the penile bulb below."""
    x, y, z = sample.points
    thickness_mm = 2.2 + 0.8 * sample.person.fibres(sample.points)[1]
    opening = 0.8 * (y - 22) + 0.5 * np.abs(x) - 12
    yield 'fat', np.maximum(sample.levator, z - 50), None
    yield 'muscle', np.maximum.reduce([np.abs(sample.levator + 1) - thickness_mm, z - 18, opening]), None
    yield 'bright nodule', sample.person.organs['bulb'](sample.points), None


def bowel(sample: Sample) -> Iterator[Layer]:
    """Loops of bowel above the bladder."""
    loops, filling = sample.person.gut(sample.points)
    wall = np.maximum(sample.person.organs['belly'](sample.points), -10 * loops - 1)
    yield 'gut wall', wall, None
    yield 'chyme', wall + 3, None
    yield 'gas', np.maximum.reduce([wall + 3, 4 + 10 * filling, 8 - sample.points[1]]), None


def bladder(sample: Sample) -> Iterator[Layer]:
    wall = sample.person.organs['bladder'](sample.points)
    yield 'fat', wall - 3, None
    yield 'bladder wall', wall, None
    yield 'urine', wall + sample.person.wall_mm, None


def rectum(sample: Sample) -> Iterator[Layer]:
    """Rectal wall, stool, and gas, which collects anteriorly in supine position."""
    radius_mm, behind_mm = sample.person.rectum_mm
    filling = sample.person.gut(2 * sample.points)[1]
    inside = sample.rectum + 3.2
    yield 'fat', sample.rectum - 2, None
    yield 'gut wall', sample.rectum, None
    yield 'stool', inside, None
    level = -behind_mm + radius_mm * (1 - 2 * sample.person.gas)
    yield 'gas', np.maximum(inside, level + 4 * filling - sample.points[1]), None
    yield 'gas', np.maximum(inside + 1, 6 * (1.3 - filling)), None


def prostate(sample: Sample) -> Iterator[Layer]:
    """Seminal vesicles, periprostatic veins, and prostate: peripheral zone and nodular central gland."""
    person, (x, y, z) = sample.person, sample.points
    patches, specks = person.nodules(sample.points)
    vesicles = np.maximum(person.organs['seminal vesicle'](sample.right), 2.5 - sample.rectum)
    yield 'septum', vesicles, None
    yield 'seminal vesicle', np.maximum(vesicles + 1, 1.2 - 4 * np.abs(patches)), None
    taper = np.clip(1 + 0.011 * z, 0.7, 1.2)  # towards the apex
    egg = np.stack([x / taper, y / taper, z])
    whole = np.maximum(person.organs['prostate'](egg), 2.5 - sample.rectum)
    veins = np.hypot(*person.tubes(sample.points)) * 4
    yield 'fat', np.maximum(whole - 3, z - 12), None
    yield 'vein', np.maximum.reduce([veins - 2.0, whole - 9, -y - 6, z - 14]), None
    yield 'capsule', whole, CLASSES.index('prostate')
    yield 'peripheral zone', whole + 1.2, None
    central = np.maximum(person.organs['central gland'](egg), whole + 1)
    yield 'capsule', central, None
    yield 'central gland', central + 1, None
    threshold = 1.5 - person.growth
    yield 'bright nodule', np.maximum(central + 2, 3 * (threshold - patches)), None
    yield 'dark nodule', np.maximum(central + 1, 3 * (threshold + patches)), None
    yield 'stroma', np.maximum(person.organs['stroma'](egg), whole + 1), None
    yield 'bright nodule', np.maximum(person.organs['urethra'](sample.points), whole + 2), None
    if person.calcified:
        yield 'calcification', np.maximum.reduce([np.abs(central) - 2, whole + 3, 2.5 * (1.9 - specks)]), None
