"""Interface of the body regions: random persons, layers of tissue, and an acquisition protocol per modality.

Points are RAS in mm: x right, y anterior, z superior.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from synseg_jax.phantom.tissues import Tissue

Layer = tuple[str, np.ndarray, int | None]  # tissue, signed distance in mm, class or None to leave labels


@dataclass(frozen=True)
class Person:
    """Attributes of a person that all regions share; a region adds organs."""

    half_widths_mm: tuple[float, float]  # of the outline in x and y
    scale: Float[np.ndarray, '3']  # of the organs


@dataclass(frozen=True)
class Protocol:
    """Acquisition of one region by one modality; pairs are ranges of uniform distributions unless noted."""

    pixels: tuple[int, int]  # per side of the square slice
    slice_mm: tuple[float, float]
    slices: tuple[int, int]
    extent_mm: tuple[float, float]  # z range, times the person's scale
    field_mm: tuple[float, float]  # limits of the field of view in the plane
    field_share: tuple[float, float] = (1.0, 1.1)  # field of view over the person's width, within field_mm
    oblique: tuple[float, float] = (0.3, 2.5)  # share of rotated scans, standard deviation of their angles in degrees
    edge_mm: float = 3.0  # width of the partial-volume ramp between tissues, about a voxel
    phase: tuple[float, float] = (0.2, 1.0)  # of contrast enhancement, 0 arterial, 1 venous
    spread: float = 5.0  # standard deviation of a tissue's mean between scans: HU in CT, relative in MR
    noise: tuple[float, float] = (12, 32)


@dataclass(frozen=True)
class Region:
    """A body region and its classes, of which 0 is the background."""

    name: str
    classes: tuple[str, ...]
    person: Callable[[np.random.Generator], Person]
    layers: Callable[[Person, Float[np.ndarray, '3 n']], Iterator[Layer]]  # later ones cover earlier ones
    tissues: dict[str, Tissue]
    protocols: dict[str, Protocol]
    follow_up: Callable[[Person, int, np.random.Generator], Person] = lambda person, weeks, rng: person
    cohorts: Mapping[str, Callable[[np.random.Generator], Person]] = field(default_factory=dict)  # special populations

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.protocols)


def couch(person: Person, points: Float[np.ndarray, '3 n'], radius_mm: float = 1100.0) -> Iterator[Layer]:
    """The scanner couch under the back, a cylinder segment."""
    yield 'couch', np.abs(points[1] + person.half_widths_mm[1] + 12 - points[0] ** 2 / (2 * radius_mm)) - 2.5, None


def restricted(
    near: Bool[np.ndarray, ' n'], points: Float[np.ndarray, '3 n'], paint: Callable[..., Iterator[Layer]]
) -> Iterator[Layer]:
    """The layers of `paint`, evaluated only at the points that are `near`; the distance of all others is infinite."""
    indices = np.flatnonzero(near)
    for tissue, distance, label in paint(points[:, indices]):
        distances = np.full(len(near), np.inf, np.float32)
        distances[indices] = distance
        yield tissue, distances, label
