"""Random chests: signed distance functions in mm, with the tissue of every part.

Points are RAS: x right, y anterior, z superior; the origin is in the midline at the level of the heart's centre.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer, Person
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, Waves, oval

INNER_MM = (152.0, 96.0)  # mean half axes of the rib cage
RIB_MM = 29.0  # distance of neighbouring ribs
VERTEBRA_MM = 26.0


@dataclass(frozen=True)
class Chest(Person):
    """One person: outline, organs, respiration, and random deformations and textures."""

    breath: float  # 0 expiration, 1 inspiration
    disc_offset_mm: float
    organs: dict[str, Solid]
    bend: Waves
    ripple: Waves
    vessels: Waves
    mottle: Waves


def chest(rng: np.random.Generator) -> dict:
    """The fields of a random chest."""
    size, fat = rng.uniform(0.92, 1.07), rng.gamma(3, 4.0)
    breath = rng.uniform(0, 1)
    deep = rng.uniform(0.95, 1.08) + 0.05 * breath
    lean = rng.normal(0, 3)
    rods = {
        'vertebra': Rod.between((0, -66, -160), (0, -74, 170), 19),
        'canal': Rod.between((0, -92, -160), (0, -100, 170), 8),
        'spinous': Rod.between((0, -112, -160), (0, -116, 170), 6),
        'descending aorta': Rod.between((-22 + lean, -62, -170), (-20 + lean, -58, 66), 11.5),
        'oesophagus': Rod.between((-9, -44, -170), (-3, -46, 170), 7),
        'trachea': Rod.between((1, -38, 66), (0, -30, 170), 9.5),
        'right bronchus': Rod.between((1, -38, 66), (44, -36, 34), 7.5, 5),
        'left bronchus': Rod.between((1, -38, 66), (-48, -38, 36), 6.5, 5),
        'sternum': Rod.between((0, 92, -40), (0, 76, 120), 9, 11),
    }
    varied = {name: rod.varied(rng, 1.2, 0.05) for name, rod in rods.items()}
    varied['mediastinum'] = Ellipsoid.rotated((0, -28, 30), (rng.uniform(24, 32), 62, 190))
    varied['back'] = Ellipsoid.rotated((38, -104, 0), (34, 22, np.inf))
    varied['pectoral'] = Ellipsoid.rotated((70, 92, 62), (78, 20, 74), (0, 0, -24))
    varied['liver'] = Ellipsoid.rotated((62, 6, -128), (112, 92, 74))
    varied['stomach'] = Ellipsoid.rotated((-76, 14, -122), (60, 60, 60))
    return {
        'half_widths_mm': (INNER_MM[0] * size + 9 + fat, (INNER_MM[1] * deep * size + 12 + 0.7 * fat)),
        'scale': np.float32([size, size * deep, rng.uniform(0.95, 1.05)]),
        'breath': breath,
        'disc_offset_mm': rng.uniform(0, VERTEBRA_MM),
        'organs': varied,
        'bend': Waves.random(rng, (150, 300), 3),
        'ripple': Waves.random(rng, (34, 70), 3),
        'vessels': Waves.random(rng, (26, 64), 2),
        'mottle': Waves.random(rng, (20, 48), 2),
    }


@dataclass
class Sample:
    """A person sampled at points: signed distances in mm and random fields that several parts share."""

    person: Chest
    points: Float[np.ndarray, '3 n']  # in the frame of INNER_MM
    right: Float[np.ndarray, '3 n']  # the points with the left half mirrored onto the right
    skin: Float[np.ndarray, ' n']
    wall: Float[np.ndarray, ' n']  # outer surface of the rib cage
    dome: Float[np.ndarray, ' n']  # diaphragm, negative in the abdomen

    @classmethod
    def of(cls, person: Chest, points: Float[np.ndarray, '3 n']) -> 'Sample':
        bend = 4 * person.bend(points)
        skin = oval(points + 0.6 * bend, *person.half_widths_mm)
        points = (points + bend + 1.2 * person.ripple(points)) / person.scale[:, None]
        x, y, z = points
        wall = oval(points, *INNER_MM)
        arch = ((np.abs(x + 4) / 118) ** 2 + ((y + 4) / 78) ** 2) ** 1.5
        dome = 0.75 * (z + 52 + 14 * person.breath + 44 * arch + 0.05 * x)
        right = np.stack([np.abs(x), y, z])
        return cls(person, points, right, skin, wall, dome)

    def organ(self, name: str) -> Float[np.ndarray, ' n']:
        return self.person.organs[name](self.points)


def trunk(sample: Sample) -> Iterator[Layer]:
    """Skin, fat, muscles, ribs with cartilage, and sternum."""
    organs, (x, y, z) = sample.person.organs, sample.points
    yield 'skin', sample.skin, None
    yield 'fat', sample.skin + 2.5, None
    pectoral = np.maximum(organs['pectoral'](sample.right), sample.skin + 6)
    yield 'muscle', np.maximum(pectoral, 14 - np.abs(x)), None
    yield 'muscle', np.maximum(np.minimum(sample.wall, organs['back'](sample.right)), sample.skin + 5), None
    yield 'fat', np.maximum.reduce([np.abs(sample.wall + 2) - 1.2, sample.skin + 6, y - 60]), None
    slope_mm = 62 * np.arctan2(np.abs(x) / INNER_MM[0], -y / INNER_MM[1])  # along the arc from the spine
    ribs = np.hypot(sample.wall + 7, ((z + slope_mm) % RIB_MM - RIB_MM / 2) * 0.8) - 5
    ribs = np.maximum.reduce([ribs, y - 62, 26 - np.abs(x)])
    cartilage = np.hypot(sample.wall + 8, ((z + slope_mm) % RIB_MM - RIB_MM / 2) * 0.8) - 4.5
    yield 'cartilage', np.maximum.reduce([cartilage, 62 - y, 10 - np.abs(x)]), None
    sternum = np.maximum(sample.organ('sternum'), np.abs(y - 84) - 7)
    for bone, shell_mm in ((ribs, 1.8), (sternum, 1.8)):
        yield 'cortical bone', bone, None
        yield 'marrow', bone + shell_mm, None


def spine(sample: Sample) -> Iterator[Layer]:
    """Vertebrae with discs, arches and processes, and the spinal canal."""
    (x, y, z), body = sample.points, sample.organ('vertebra')
    along = np.abs((z + sample.person.disc_offset_mm) % VERTEBRA_MM - VERTEBRA_MM / 2)  # mm from a disc's mid-plane
    arch = np.maximum(np.abs(sample.organ('canal') - 4) - 4, 5 - along)
    transverse = np.maximum.reduce([np.hypot(y + 98, (along - 9) * 0.9) - 6, np.abs(x) - 34, 10 - np.abs(x)])
    spinous = np.maximum(sample.organ('spinous'), 4 - along)
    for bone, shell_mm in ((np.minimum.reduce([arch, transverse, spinous]), 2.2), (body, 1.8)):
        yield 'cortical bone', bone, None
        yield 'marrow', bone + shell_mm, None
    yield 'disc', np.maximum(body, along - 3.2), None
    yield 'cerebrospinal fluid', sample.organ('canal'), None
    yield 'cord', sample.organ('canal') + 4, None


def upper_abdomen(sample: Sample) -> Iterator[Layer]:
    """The organs below the diaphragm: liver on the right, stomach on the left, fat between."""
    inside = np.maximum(sample.wall + 12, sample.dome)
    yield 'muscle', inside, None
    below = np.maximum(inside, sample.dome + 3)
    yield 'fat', below, None
    liver = np.maximum(below, sample.organ('liver'))
    yield 'liver', liver, None
    tubes = 6 * np.hypot(*sample.person.vessels(sample.points))
    yield 'vein', np.maximum(liver + 6, tubes - 1.8), None
    stomach = np.maximum(below + 2, sample.organ('stomach'))
    yield 'gut wall', stomach, None
    yield 'chyme', stomach + 4, None
    yield 'gas', np.maximum(stomach + 4, 18 - sample.points[1]), None


def lungs(sample: Sample) -> Iterator[Layer]:
    """Lungs with fissures and with vessels that taper towards the periphery."""
    inside = np.maximum(sample.wall + 13, -sample.dome)
    yield 'lung', inside, None
    x, y, z = sample.points
    hilum = np.hypot(np.hypot(np.abs(x) - 42, y + 34) * 0.75, 0.6 * (z - 36))
    tubes = 6 * np.hypot(*sample.person.vessels(sample.points))
    yield 'lung vessel', np.maximum.reduce([tubes - np.clip(2.6 - 0.022 * hilum, 0.5, 2.6), inside + 4]), None
    fissure = np.abs(0.8 * (z - 6) + 0.6 * (y + 10) + 5 * sample.person.mottle(sample.points)[0]) - 0.4
    yield 'fissure', np.maximum(fissure, inside + 2), None


def mediastinum(sample: Sample) -> Iterator[Layer]:
    """Mediastinal fat with aorta, oesophagus, trachea and lymph nodes."""
    between = np.maximum(sample.organ('mediastinum') + 3 * sample.person.mottle(sample.points)[1], -sample.dome)
    yield 'fat', between, None
    patches, _ = sample.person.mottle(1.7 * sample.points)
    yield 'node', np.maximum(between + 4, 4 * (1.9 - patches)), None
    aorta = sample.organ('descending aorta')
    yield 'fat', aorta - 4, None
    yield 'gut wall', aorta - 1.5, None
    yield 'arterial blood', aorta, None
    yield 'gut wall', sample.organ('oesophagus'), None
    airway = np.minimum.reduce([sample.organ(name) for name in ('trachea', 'right bronchus', 'left bronchus')])
    yield 'fat', airway - 4, None
    yield 'gut wall', airway - 1.6, None
    yield 'gas', airway, None
