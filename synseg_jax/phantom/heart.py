"""Random hearts in a chest: chambers, left ventricular myocardium and great vessels, at any phase of the heart cycle.

The heart has its own frame: u from base to apex, v towards the right ventricle, w = u x v.  Points are RAS in mm from
the heart's centre.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from synseg_jax.phantom import chest
from synseg_jax.phantom.anatomy import Layer, Protocol, couch, restricted
from synseg_jax.phantom.chest import Chest, Sample
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, Waves, blend

CLASSES = ('background', 'left ventricle', 'myocardium', 'left atrium', 'right ventricle', 'right atrium')
CT = Protocol((90, 107), (2.0, 2.6), (56, 76), (-72, 72), (190, 240), (0.5, 0.7), (0.4, 4.0), edge_mm=2.2, spread=8.0,
              phase=(0.0, 0.7), noise=(14, 32))  # fmt: skip
MR = Protocol((84, 101), (2.2, 2.8), (52, 70), (-72, 72), (200, 250), (0.5, 0.72), (0.5, 5.0), edge_mm=2.4, spread=0.1,
              noise=(12, 30))  # fmt: skip
APEX = np.array([-0.62, 0.6, -0.5])  # left, forward and down
RIGHT = np.array([0.72, 0.62, -0.1])
CENTRE_MM = np.float32([-24, 14, 0])  # of the heart in the chest


@dataclass(frozen=True)
class Heart(Chest):
    """One person at one phase of the heart cycle."""

    frame: Float[np.ndarray, '3 3']  # rows: u, v and w in patient coordinates
    beat: float  # 0 end-systole, 1 end-diastole
    wall_mm: float  # of the left ventricle
    chambers: dict[str, Solid]  # in the heart's frame
    vessels_of_heart: dict[str, Solid]  # in patient axes, from the heart's centre
    trabeculae: Waves
    fat_mm: float  # around the heart


def person(rng: np.random.Generator) -> Heart:
    """A random person at a random phase of respiration and of the heart cycle."""
    fields, beat, size = chest.chest(rng), rng.uniform(0, 1), rng.uniform(0.9, 1.12)
    turn = Rotation.from_euler('xyz', rng.normal(0, 7, 3), degrees=True).as_matrix()
    u = turn @ (APEX / np.linalg.norm(APEX))
    v = turn @ RIGHT - (turn @ RIGHT @ u) * u
    v /= np.linalg.norm(v)
    frame = np.stack([u, v, np.cross(u, v)])
    wall = rng.uniform(8, 12) + 3 * (1 - beat)
    narrow = (0.74 + 0.26 * beat) * size

    def chamber(centre, radii, degrees=(0, 0, 0)):
        swell = np.exp(rng.normal(0, 0.05, 3))
        return Ellipsoid.rotated(np.array(centre) * size + rng.normal(0, 1.5, 3), np.array(radii) * swell, degrees)

    left = np.array([39 * size, 24 * narrow, 23 * narrow])
    chambers = {
        'left ventricle': Ellipsoid.rotated((12 * size, -8 * size, 0), left),
        'wall': Ellipsoid.rotated((12 * size, -8 * size, 0), left + wall),
        'right ventricle': chamber((4, 21, 2), (39 * size, 27 * narrow + 3, 33 * narrow + 3)),
        'left atrium': chamber((-37, -13, 2), np.array([21, 26, 25]) * size * (1.08 - 0.16 * beat)),
        'right atrium': chamber((-32, 33, 8), np.array([22, 24, 28]) * size * (1.06 - 0.12 * beat)),
        'left appendage': chamber((-20, -30, -12), (16, 8, 9), (0, 0, 30)),
    }

    def at(*uvw):
        return frame.T @ (size * np.array(uvw, float))

    root, outflow, atrium, vein = at(-12, 10, -8), at(-10, 26, -24), at(-32, 33, 8), at(-37, -13, 2)
    top = np.array([12, 2, 66]) + rng.normal(0, 3, 3)
    vessels = {
        'ascending aorta': Rod.between(root, top, 14 * size, 13 * size),
        'aortic arch': Rod.between(top, (2, -66, 70), 13 * size, 11.5),
        'pulmonary trunk': Rod.between(outflow, (6, -14, 50), 13 * size),
        'right pulmonary artery': Rod.between((6, -16, 50), (86, -44, 38), 11, 8),
        'left pulmonary artery': Rod.between((6, -16, 50), (-34, -44, 48), 10, 8),
        'superior vena cava': Rod.between(atrium, (46, -8, 110), 10),
        'inferior vena cava': Rod.between(atrium, (44, -28, -110), 12),
        'right upper vein': Rod.between(vein, (74, -44, 22), 7),
        'right lower vein': Rod.between(vein, (70, -64, -14), 7),
        'left upper vein': Rod.between(vein, (-44, -40, 30), 7),
        'left lower vein': Rod.between(vein, (-38, -62, -8), 7),
    }
    return Heart(
        **fields,
        frame=frame.astype(np.float32),
        beat=beat,
        wall_mm=wall,
        chambers=chambers,
        vessels_of_heart=vessels,
        trabeculae=Waves.random(rng, (11, 22), 2),
        fat_mm=rng.uniform(3, 9),
    )


def layers(person: Heart, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """All layers: couch, then the body."""
    body = points + CENTRE_MM[:, None]
    yield from couch(person, body)
    half_x, half_y = person.half_widths_mm
    near = (np.abs(body[0]) < half_x + 25) & (np.abs(body[1]) < half_y + 25)
    yield from restricted(near, points, lambda inside: paint(person, inside))


def paint(person: Heart, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """The layers of the body; later parts cover earlier ones."""
    sample = Sample.of(person, points + CENTRE_MM[:, None])
    for part in (chest.trunk, chest.lungs, chest.upper_abdomen, chest.mediastinum, chest.spine):
        yield from part(sample)
    yield from chambers(person, heart_points(sample))


def heart_points(sample: Sample) -> Float[np.ndarray, '3 n']:
    """Points from the heart's centre, which moves down with inspiration."""
    return sample.points - CENTRE_MM[:, None] + np.float32([0, 0, 9 * sample.person.breath - 4])[:, None]


def chambers(person: Heart, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """Epicardial fat, vessels, atria, then the ventricles over them."""
    in_frame = person.frame @ points
    u, rough = in_frame[0], person.trabeculae(points)
    chamber = {name: solid(in_frame) for name, solid in person.chambers.items()}
    vessel = {name: solid(points) for name, solid in person.vessels_of_heart.items()}
    cavity = np.maximum(chamber['left ventricle'], -12 - u)
    wall = np.maximum(chamber['wall'], -14 - u)
    right = np.maximum.reduce([chamber['right ventricle'], -14 - u, 1.5 - wall])
    left_atrium = np.maximum(blend(chamber['left atrium'], chamber['left appendage'], 8.0), u + 13)
    right_atrium = np.maximum.reduce([chamber['right atrium'], u + 12, 4 - left_atrium])
    sac = blend(blend(wall, right - 3, 14.0), blend(left_atrium, right_atrium, 14.0), 14.0)
    yield 'fat', sac - person.fat_mm, None
    for distance in vessel.values():
        yield 'fat', distance - 3, None
    for name, distance in vessel.items():
        tissue = 'venous blood' if 'pulmonary' in name or 'cava' in name else 'arterial blood'
        yield 'gut wall', distance - 1.5, None
        yield tissue, distance, None
    yield 'myocardium', right_atrium - 2, 0
    yield 'venous blood', right_atrium, CLASSES.index('right atrium')
    yield 'myocardium', left_atrium - 2, 0
    yield 'arterial blood', left_atrium, CLASSES.index('left atrium')
    yield 'fat', np.maximum(np.abs(u + 13) - 3, sac + 6), 0  # atrioventricular groove
    yield 'myocardium', right - 3, 0
    yield 'venous blood', right, CLASSES.index('right ventricle')
    yield 'myocardium', np.maximum(right + 1, 3 * (1.5 - rough[0])), None  # trabeculae
    yield 'myocardium', wall, CLASSES.index('myocardium')
    yield 'arterial blood', cavity, CLASSES.index('left ventricle')
    papillary = np.maximum.reduce([cavity + 1, -cavity - 11, 3 * (1.3 - rough[1]), 4 - u])
    yield 'myocardium', papillary, None
    for blood, ventricle in (('arterial blood', cavity), ('venous blood', right)):  # valve openings
        yield blood, np.maximum(np.abs(u + 13) - 4, ventricle + 9), None
