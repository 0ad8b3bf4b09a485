"""N4 finds a field that is known, the same each time, and leaves alone what has none."""

import numpy as np
import pytest

from synseg_jax.imaging import bias_field
from synseg_jax.imaging.volume import Volume

SPACING_MM = (4.0, 4.0, 8.0)


@pytest.fixture(scope='module')
def shaded():
    """(scan, its field, its body): two tissues in air, brighter towards one side by half."""
    rng = np.random.default_rng(0)
    x, y, z = np.indices((40, 36, 12)) / np.reshape((40, 36, 12), (3, 1, 1, 1)) - 0.5
    inside = x**2 + y**2 < 0.2
    tissue = np.where(inside, 400 + 300 * (x**2 + y**2 < 0.05), 20) + rng.normal(0, 10, x.shape)
    field = np.exp(0.5 * x + 0.2 * y - 0.2 * z)
    return Volume((tissue * field).astype(np.float32), np.diag([*SPACING_MM, 1.0])), field, inside


def test_a_known_field_is_removed(shaded):
    scan, field, inside = shaded
    found = scan.array / bias_field.corrected(scan, ['MR']).array
    left = np.log(found / field)[inside]
    assert np.log(field)[inside].std() > 0.12 and left.std() < 0.03
    assert abs(np.log(found)[inside].mean()) < 1e-2  # intensities stay where they were


def test_it_is_the_same_each_time(shaded):
    scan, _, _ = shaded
    once, again = (bias_field.corrected(scan, ['MR']).array for _ in range(2))
    assert np.array_equal(once, again) and once.dtype == np.float32


def test_ct_and_air_stay_as_they_are(shaded):
    scan, _, _ = shaded
    assert bias_field.corrected(scan, ['CT_portal']) is scan
    air = Volume(np.zeros((8, 8, 4), np.float32), np.eye(4))
    assert bias_field.corrected(air, ['MR']) is air
