"""Random chests with lung tumours that shrink from week to week; the tumour is a class.

Points are RAS in mm from the centre of the chest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float

from synseg_jax.phantom import chest, heart
from synseg_jax.phantom.anatomy import Layer, Protocol, couch, restricted
from synseg_jax.phantom.chest import Sample
from synseg_jax.phantom.heart import Heart
from synseg_jax.phantom.shapes import Ellipsoid, Waves

CLASSES = ('background', 'tumour')
CT = Protocol((120, 141), (4.0, 5.0), (30, 38), (-62, 96), (330, 420), (1.0, 1.1), (0.3, 2.5), edge_mm=3.0,
              spread=6.0, phase=(0.3, 1.0), noise=(12, 30))  # fmt: skip
MR = Protocol((112, 133), (4.5, 6.0), (26, 34), (-62, 96), (330, 420), (1.0, 1.12), (0.3, 2.5), edge_mm=3.2,
              spread=0.1, noise=(12, 30))  # fmt: skip


@dataclass(frozen=True)
class Thorax(Heart):
    """One patient at one time."""

    lesions: tuple[Ellipsoid, ...]
    shrinking: float  # factor of a lesion's radii per week
    collapse_mm: float  # thickness of atelectasis around the first lesion; negative for none
    lobes: Waves


def person(rng: np.random.Generator) -> Thorax:
    """A random patient with one or two lung tumours of about 8 to 26 mm radius."""
    healthy = heart.person(rng)
    lesions = []
    for _ in range(1 + (rng.random() < 0.3)):
        radius = np.exp(rng.uniform(np.log(8), np.log(26)))
        side = rng.choice((-1, 1))
        middle = np.array([side * rng.uniform(46, 102), rng.uniform(-62, 36), rng.uniform(-14, 74)])
        if side < 0 and middle[2] < 48:  # posterior, out of the heart
            middle[1] = rng.uniform(-66, -34)
        radii = radius * np.exp(rng.normal(0, 0.16, 3))
        lesions.append(Ellipsoid.rotated(middle, radii, rng.uniform(-40, 40, 3)))
    return Thorax(
        **{field.name: getattr(healthy, field.name) for field in fields(Heart)},
        lesions=tuple(lesions),
        shrinking=rng.uniform(0.84, 0.96),
        collapse_mm=rng.uniform(-14, 9),
        lobes=Waves.random(rng, (14, 34), 2),
    )


def follow_up(patient: Thorax, weeks: int, rng: np.random.Generator) -> Thorax:
    """The patient after some weeks of treatment: smaller tumours, another phase of respiration."""
    if not weeks:
        return patient
    factor = patient.shrinking**weeks
    lesions = tuple(Ellipsoid(lesion.centre, (lesion.axes / factor).astype(np.float32)) for lesion in patient.lesions)
    return replace(patient, lesions=lesions, breath=float(np.clip(patient.breath + rng.normal(0, 0.15), 0, 1)))


def layers(person: Thorax, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """All layers: couch, then the body."""
    yield from couch(person, points)
    half_x, half_y = person.half_widths_mm
    near = (np.abs(points[0]) < half_x + 25) & (np.abs(points[1]) < half_y + 25)
    yield from restricted(near, points, lambda inside: paint(person, inside))


def paint(person: Thorax, points: Float[np.ndarray, '3 n']) -> Iterator[Layer]:
    """The layers of the body; parts after the tumours cover them."""
    sample = Sample.of(person, points)
    for part in (chest.trunk, chest.lungs, tumours):
        yield from part(sample)
    for part in (chest.upper_abdomen, chest.mediastinum, chest.spine, heart_layers):
        for tissue, distance, _ in part(sample):
            yield tissue, distance, 0


def heart_layers(sample: Sample) -> Iterator[Layer]:
    yield from heart.chambers(sample.person, heart.heart_points(sample))


def tumours(sample: Sample) -> Iterator[Layer]:
    """Lobulated masses with spiculae, a necrotic core in large ones, and atelectasis around some."""
    person = sample.person
    lobes, strands = person.lobes(sample.points)
    inside = np.maximum(sample.wall + 12, 2 - sample.dome)
    for number, lesion in enumerate(person.lesions):
        radius = 1 / np.linalg.norm(lesion.axes, axis=1).mean()
        mass = lesion(sample.points) + 0.14 * radius * lobes
        if not number and person.collapse_mm > 0:
            yield 'collapsed lung', np.maximum(mass - person.collapse_mm, inside), None
        spikes = np.maximum(mass - 0.55 * radius, 4 * (np.abs(strands) - 0.16))
        yield 'strand', np.maximum(spikes, inside), None
        whole = np.maximum(mass, inside)
        yield 'tumour', whole, CLASSES.index('tumour')
        if radius > 12:
            yield 'core', np.maximum(mass + 0.55 * radius, 3 * (0.4 - strands)), None
