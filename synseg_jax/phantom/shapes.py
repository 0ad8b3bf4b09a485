"""Building blocks of anatomies: signed distance functions of solids in mm, and smooth random fields."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Waves:
    """A smooth random field: a sum of plane waves with unit variance per channel."""

    vectors: Float[np.ndarray, 'k 3']  # rad per mm
    phases: Float[np.ndarray, 'k 1']
    amplitudes: Float[np.ndarray, 'c k']

    @classmethod
    def random(cls, rng, wavelengths_mm: tuple[float, float], channels: int, count: int = 12) -> 'Waves':
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        vectors = directions * (2 * np.pi / rng.uniform(*wavelengths_mm, (count, 1)))
        phases, amplitudes = rng.uniform(0, 2 * np.pi, (count, 1)), rng.normal(size=(channels, count))
        amplitudes *= np.sqrt(2) / np.linalg.norm(amplitudes, axis=1, keepdims=True)
        return cls(*(a.astype(np.float32) for a in (vectors, phases, amplitudes)))

    def __call__(self, points: Float[np.ndarray, '3 n']) -> Float[np.ndarray, 'c n']:
        return self.amplitudes @ np.cos(self.vectors @ points + self.phases)


@dataclass(frozen=True)
class Ellipsoid:
    """The points p with |axes (p - centre)| < 1; infinite radii give cylinders."""

    centre: Float[np.ndarray, '3']
    axes: Float[np.ndarray, '3 3']

    @classmethod
    def rotated(cls, centre_mm, radii_mm, degrees=(0.0, 0.0, 0.0)) -> 'Ellipsoid':
        """An ellipsoid by its radii and Euler angles (xyz)."""
        rotation = Rotation.from_euler('xyz', degrees, degrees=True).as_matrix()
        return cls(np.float32(centre_mm), (rotation.T / np.array(radii_mm)[:, None]).astype(np.float32))

    def varied(self, rng, move_mm: float, swell: float) -> 'Ellipsoid':
        """A copy with random shift and scale."""
        centre, factor = self.centre + rng.normal(0, move_mm, 3), np.exp(rng.normal(0, swell))
        return Ellipsoid(centre.astype(np.float32), (self.axes / factor).astype(np.float32))

    def __call__(self, points: Float[np.ndarray, '3 n']) -> Float[np.ndarray, ' n']:
        """Signed distance in mm (first-order approximation), negative inside."""
        unit = self.axes @ (points - self.centre[:, None])
        radius, slope = (np.sqrt(np.einsum('dn,dn->n', v, v)) for v in (unit, self.axes.T @ unit))
        return radius * (radius - 1) / np.maximum(slope, 1e-6)


@dataclass(frozen=True)
class Rod:
    """A capsule: the points within a radius, linear along it, of a line segment."""

    start: Float[np.ndarray, '3']
    end: Float[np.ndarray, '3']
    radii_mm: tuple[float, float]  # at the start and at the end

    @classmethod
    def between(cls, start_mm, end_mm, *radii_mm: float) -> 'Rod':
        return cls(np.float32(start_mm), np.float32(end_mm), (radii_mm[0], radii_mm[-1]))

    def varied(self, rng, move_mm: float, swell: float) -> 'Rod':
        """A copy with random shift and radius."""
        shift, factor = rng.normal(0, move_mm, 3), float(np.exp(rng.normal(0, swell)))
        return Rod.between(self.start + shift, self.end + shift, *(factor * r for r in self.radii_mm))

    def __call__(self, points: Float[np.ndarray, '3 n']) -> Float[np.ndarray, ' n']:
        """Signed distance in mm (first-order approximation), negative inside."""
        line, offset = self.end - self.start, points - self.start[:, None]
        along = np.clip(line @ offset / (line @ line), 0, 1)
        offset -= line[:, None] * along
        first, last = self.radii_mm
        return np.sqrt(np.einsum('dn,dn->n', offset, offset)) - (first + (last - first) * along)


Solid = Ellipsoid | Rod


def varied(solids: dict[str, Solid], rng, move_mm: float, swell: float) -> dict[str, Solid]:
    """Copies of the solids, each with its own random shift and scale."""
    return {name: solid.varied(rng, move_mm, swell) for name, solid in solids.items()}


def oval(points: Float[np.ndarray, '3 n'], half_x_mm: float, half_y_mm: float) -> Float[np.ndarray, ' n']:
    """Signed distance in mm (first-order approximation) to an infinite superelliptic cylinder along z."""
    x, y = np.abs(points[0]) / half_x_mm, np.abs(points[1]) / half_y_mm
    radius = (x**2.4 + y**2.4) ** (1 / 2.4)
    slope = np.sqrt((x / half_x_mm) ** 2 + (y / half_y_mm) ** 2) / np.maximum(radius, 1e-6)
    return (radius - 1) / np.maximum(slope, 1e-3)


def blend(a: np.ndarray, b: np.ndarray, radius_mm: float = 18.0) -> np.ndarray:
    """Smooth minimum: the union of two signed distances, blended within `radius_mm`."""
    near = np.maximum(radius_mm - np.abs(a - b), 0)
    return np.minimum(a, b) - near**2 / (4 * radius_mm)
