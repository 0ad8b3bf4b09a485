"""What a region of the body is to the phantom: its people, what they are painted from, and how each modality scans it.

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
    """What every region knows of its people; a region adds organs."""

    half_widths_mm: tuple[float, float]  # of the outline in x and y
    scale: Float[np.ndarray, '3']  # of the inside


@dataclass(frozen=True)
class Protocol:
    """How one modality scans one region: what is drawn per scan is drawn between two ends."""

    pixels: tuple[int, int]  # along a side of the square slice
    slice_mm: tuple[float, float]
    slices: tuple[int, int]
    extent_mm: tuple[float, float]  # in z, times the person's scale
    field_mm: tuple[float, float]  # of view in the plane
    field_share: tuple[float, float] = (1.0, 1.1)  # of the person's width, within field_mm
    oblique: tuple[float, float] = (0.3, 2.5)  # share of scans, degrees
    edge_mm: float = 3.0  # over which neighbouring tissues mix, about a voxel
    phase: tuple[float, float] = (0.2, 1.0)  # of the contrast medium, from arterial to venous
    spread: float = 5.0  # of a tissue's level between scans: HU in CT, relative in MR
    noise: tuple[float, float] = (12, 32)


@dataclass(frozen=True)
class Region:
    """A part of the body with the classes of its labels, in which 0 is the background."""

    name: str
    classes: tuple[str, ...]
    person: Callable[[np.random.Generator], Person]
    layers: Callable[[Person, Float[np.ndarray, '3 n']], Iterator[Layer]]  # everything, in the order of painting
    tissues: dict[str, Tissue]
    protocols: dict[str, Protocol]
    later: Callable[[Person, int, np.random.Generator], Person] = lambda person, weeks, rng: person  # seen again
    cohorts: Mapping[str, Callable[[np.random.Generator], Person]] = field(default_factory=dict)  # other people

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.protocols)


def couch(person: Person, points: Float[np.ndarray, '3 n'], radius_mm: float = 1100.0) -> Iterator[Layer]:
    """The table under the back, hollowed as a cylinder is."""
    yield 'couch', np.abs(points[1] + person.half_widths_mm[1] + 12 - points[0] ** 2 / (2 * radius_mm)) - 2.5, None


def only(
    near: Bool[np.ndarray, ' n'], points: Float[np.ndarray, '3 n'], paint: Callable[..., Iterator[Layer]]
) -> Iterator[Layer]:
    """The layers that `paint` finds at the points that are near; the others, infinitely far, cost nothing."""
    where = np.flatnonzero(near)
    for tissue, distance, label in paint(points[:, where]):
        everywhere = np.full(len(near), np.inf, np.float32)
        everywhere[where] = distance
        yield tissue, everywhere, label
