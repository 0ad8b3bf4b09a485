"""The intracranial volume: cerebrospinal fluid, and brains with gyri and age-dependent atrophy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, Waves, varied

# The right half; the left is its mirror image.
SIDE: dict[str, Solid] = {
    'frontal horn': Ellipsoid.rotated((10, 30, 10), (5, 20, 9), (0, 0, -14)),
    'ventricle': Ellipsoid.rotated((13, -4, 18), (6.5, 32, 7.5), (0, 18, 8)),
    'atrium': Ellipsoid.rotated((25, -36, 8), (7, 13, 12), (0, 0, 20)),
    'caudate': Ellipsoid.rotated((16, 20, 12), (5, 18, 10), (0, 0, -10)),
    'lentiform': Ellipsoid.rotated((25, 8, 2), (8, 18, 9), (0, 0, -12)),
    'thalamus': Ellipsoid.rotated((11, -10, 4), (9, 15, 9), (0, 0, 25)),
    'insula': Ellipsoid.rotated((42, 8, 0), (3, 24, 14), (0, -12, -6)),
    'sylvian fissure': Ellipsoid.rotated((54, 10, -4), (16, 20, 2.2), (0, -18, 0)),
}
MIDDLE: dict[str, Solid] = {
    'cerebellum': Ellipsoid.rotated((0, -48, -36), (48, 32, 26)),
    'tentorium': Ellipsoid.rotated((0, -44, -44), (60, 46, 38)),
    'brainstem': Rod.between((0, -8, -10), (0, -22, -70), 14, 7),
    'pons': Ellipsoid.rotated((0, -6, -28), (17, 12, 14)),
    'callosum': Ellipsoid.rotated((0, -6, 6), (40, 46, 30)),
    'cord': Rod.between((0, -23, -62), (0, -30, -130), 6),
    'cistern': Ellipsoid.rotated((0, 8, -14), (19, 14, 9)),
    'third ventricle': Ellipsoid.rotated((0, 0, 0), (2.5, 16, 12)),
    'fourth ventricle': Ellipsoid.rotated((0, -27, -30), (8, 5, 9)),
}


@dataclass(frozen=True)
class Brain:
    """The brain of one person: its parts, atrophy and folding."""

    side: dict[str, Solid]
    middle: dict[str, Solid]
    gap_mm: float  # from the skull
    sulcus_mm: float  # half width of a sulcus
    wide_mm: float  # widening of the ventricles
    folds: Waves
    folia: Waves

    @classmethod
    def random(cls, rng: np.random.Generator) -> 'Brain':
        age = rng.uniform(0, 1)
        return cls(
            side=varied(SIDE, rng, 1.0, 0.06),
            middle=varied(MIDDLE, rng, 0.8, 0.04),
            gap_mm=1.2 + 2.5 * age * rng.uniform(0.5, 1),
            sulcus_mm=0.1 + 1.0 * age,
            wide_mm=rng.uniform(-1.5, 0.5) + 3 * age * rng.uniform(0, 1),
            folds=Waves.random(rng, (16, 29), 1, count=24),
            folia=Waves.random(rng, (9, 14), 1),
        )


def brain_layers(
    brain: Brain,
    points: Float[np.ndarray, '3 n'],
    right: Float[np.ndarray, '3 n'],
    cavity: Float[np.ndarray, ' n'],
    label: int,
) -> Iterator[Layer]:
    """All layers in the cranial cavity; `right` are the points with the left half mirrored onto the right."""
    side = {name: solid(right) for name, solid in brain.side.items()}
    middle = {name: solid(points) for name, solid in brain.middle.items()}
    x, surface = right[0], cavity + brain.gap_mm
    yield 'cerebrospinal fluid', cavity, label
    yield 'white matter', middle['cord'], None
    (folds,), (folia,) = brain.folds(points), brain.folia(points)
    tentorium = middle['tentorium']
    fissure = np.maximum(x - 0.8, -middle['callosum'])  # between the hemispheres
    sulci = np.minimum.reduce([3.5 * np.abs(folds) - brain.sulcus_mm, fissure, side['sylvian fissure']])
    cerebrum = np.maximum.reduce([surface, -tentorium, -np.maximum(sulci, -surface - 12), -fissure])
    yield 'grey matter', cerebrum, None
    deep = np.minimum(3.0 - sulci, surface + 15)  # white matter between the sulci, and deeper than they reach
    yield 'white matter', np.maximum.reduce([cerebrum + 3, deep, 4 - fissure]), None
    for nucleus in ('caudate', 'lentiform', 'thalamus', 'insula'):
        yield 'grey matter', np.maximum(side[nucleus], surface + 3), None
    yield 'cerebrospinal fluid', np.maximum(middle['cistern'], surface), None
    cerebellum = np.maximum.reduce([middle['cerebellum'], surface + 1, tentorium + 2])
    fissures = 2.0 * np.abs(folia)
    yield 'grey matter', np.maximum(cerebellum, np.minimum(0.5 - fissures, cerebellum + 7)), None
    yield 'white matter', np.maximum(cerebellum + 9, 2.0 - fissures), None
    for part in ('brainstem', 'pons'):
        yield 'white matter', np.maximum(middle[part], surface), None
    yield 'dura', np.maximum.reduce([np.abs(tentorium) - 0.7, cavity, points[1] + 18]), None
    yield 'dura', np.maximum.reduce([x - 0.7, cavity, -middle['callosum'] + 4, -tentorium]), None
    yield 'vein', np.maximum.reduce([x - 4, np.abs(cavity + 2.5) - 2.5, -points[2], points[1] - 60]), None
    ventricles = np.minimum.reduce([side['frontal horn'], side['ventricle'], side['atrium']])
    yield 'cerebrospinal fluid', np.maximum(ventricles - brain.wide_mm, 1.0 - x), None
    yield 'cerebrospinal fluid', middle['third ventricle'] - 0.4 * brain.wide_mm, None
    yield 'cerebrospinal fluid', middle['fourth ventricle'], None
