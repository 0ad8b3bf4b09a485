"""Bones and muscles of the right hip, relative to the prostate; the left one is its mirror image."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom.anatomy import Layer
from synseg_jax.phantom.shapes import Ellipsoid, Rod, Solid, blend

BONES: dict[str, Solid] = {
    'femoral head': Ellipsoid.rotated((88, 4, 14), (24, 24, 24)),
    'femoral neck': Rod.between((92, 2, 13), (128, -8, -10), 15, 14),
    'trochanter': Ellipsoid.rotated((130, -12, -6), (15, 20, 23)),
    'shaft': Rod.between((122, -4, -24), (110, 6, -120), 16, 15),
    'ilium': Ellipsoid.rotated((84, -12, 78), (11, 44, 48), (0, 18, 14)),
    'superior ramus': Rod.between((68, 24, 8), (14, 43, -10), 11, 9),
    'pubis': Ellipsoid.rotated((10, 43, -17), (12, 9, 20), (20, 0, 0)),
    'inferior ramus': Rod.between((10, 39, -32), (48, -22, -60), 6, 8),
    'ischium': Rod.between((66, -20, 14), (54, -30, -52), 12, 15),
}
MUSCLES: dict[str, Solid] = {
    'obturator internus': Ellipsoid.rotated((51, -8, 2), (12, 46, 44), (0, 6, -8)),
    'obturator externus': Ellipsoid.rotated((56, 24, -36), (36, 13, 17), (0, 0, -30)),
    'pectineus': Ellipsoid.rotated((42, 58, -12), (32, 11, 30), (0, 20, -28)),
    'adductors': Ellipsoid.rotated((40, 36, -78), (25, 30, 44)),
    'iliopsoas': Ellipsoid.rotated((86, 44, 20), (24, 20, 78), (-8, -8, 0)),
    'rectus femoris': Ellipsoid.rotated((108, 60, -14), (19, 14, 64)),
    'tensor': Ellipsoid.rotated((132, 34, 0), (12, 24, 64), (0, 0, 10)),
    'vastus': Ellipsoid.rotated((128, 14, -70), (26, 26, 48)),
    'gluteus minimus': Ellipsoid.rotated((114, -8, 56), (15, 36, 50), (0, 12, 18)),
    'gluteus medius': Ellipsoid.rotated((130, -22, 54), (12, 36, 54), (0, 14, 14)),
    'gluteus maximus': Ellipsoid.rotated((74, -74, 8), (70, 22, 92), (0, 0, 28)),
    'quadratus': Ellipsoid.rotated((94, -38, -20), (32, 12, 28)),
    'piriformis': Ellipsoid.rotated((62, -62, 46), (44, 10, 13), (0, 14, 22)),
    'rectus abdominis': Ellipsoid.rotated((26, 72, 50), (28, 7, 66), (-6, 0, -10)),
}


def muscle_layers(
    muscles: dict[str, Solid],
    right: Float[np.ndarray, '3 n'],
    within: Float[np.ndarray, ' n'],
    fibres: Float[np.ndarray, '2 n'],
) -> Iterator[Layer]:
    """Fasciae in the fat, and muscles with streaks of fat; `right` are points with the left half mirrored."""
    yield 'fascia', np.maximum(within + 2, 8 * np.abs(fibres[1]) - 0.35), None
    streaks = 10 * np.abs(fibres).min(axis=0) - 0.6
    for solid in muscles.values():
        muscle = np.maximum(solid(right) + 2.2 * fibres[0], within)
        yield 'muscle', muscle, None
        yield 'fat', np.maximum(muscle + 2, streaks), None


def bone_layers(bones: dict[str, Solid], right: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """Hip bones, joint space, femora and pubic symphysis."""
    x, y, z = right
    bones = {name: solid(right) for name, solid in bones.items()}
    head, pubis = bones.pop('femoral head'), bones['pubis']
    cup = np.maximum.reduce([head - 11, 3 - head, 0.8 * (x - 88) + 0.25 * (y - 4) - 0.55 * (z - 14) - 6])
    femur = np.minimum(blend(blend(bones.pop('femoral neck'), bones.pop('trochanter')), bones.pop('shaft')), head)
    yield 'cartilage', np.maximum(head - 3, cup - 4), None
    for bone, shell_mm in ((np.minimum.reduce([cup, *bones.values()]), 2.0), (femur, 1.6)):
        yield 'cortical bone', bone, None
        yield 'marrow', bone + shell_mm, None
    yield 'cartilage', np.maximum(pubis, x - 2.5), None
