"""Elastic displacement is smooth, bounded and does not fold; noise, blur and low resolution change images alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_augment import changed, coordinates, keys_of, places

from synseg_jax.batches import resampling
from synseg_jax.errors import InputError

ALWAYS = {
    'noise': {'noise': 0.2, 'noise_probability': 1.0},
    'blur': {'blur': 2.0, 'blur_probability': 1.0},
    'low_resolution': {'low_resolution': 4.0, 'low_resolution_probability': 1.0},
}


def images(rows=8, size=(16, 12), channels=1):
    """Images in [0.4, 0.6], far from both ends of the range, and labels."""
    values = 0.4 + 0.2 * jax.random.uniform(jax.random.key(5), (rows, *size, channels))
    return {'a': values, 'label_a': jax.random.randint(jax.random.key(6), (rows, *size), 0, 4)}


def test_displacement_is_smooth_and_bounded():
    field = np.asarray(
        jax.vmap(lambda key: resampling.displacement(key, (40, 32), 0.25))(keys_of(50))
    )  # control points lie 10 rows and 8 columns apart
    assert field.shape == (50, 40, 32, 2) and 0.6 < abs(field).max() <= 1
    assert abs(field.mean()) < 0.05 and (field.std(0) > 0.15).all()
    assert abs(np.diff(field, axis=1)).max() <= 2 / 10 and abs(np.diff(field, axis=2)).max() <= 2 / 8
    assert abs(np.corrcoef(field[..., 0].ravel(), field[..., 1].ravel())[0, 1]) < 0.1  # axes of their own


def test_elastic_does_not_fold():
    batch = coordinates(16)
    where, inside = places(changed(batch, elastic=0.1, elastic_spacing=0.25))
    moved = (where - places(batch)[0])[inside] / (16, 12)
    assert 0.05 < abs(moved).max() <= 0.1 + 1e-6
    down, right = where[:, 1:, :-1] - where[:, :-1, :-1], where[:, :-1, 1:] - where[:, :-1, :-1]
    areas = down[..., 0] * right[..., 1] - down[..., 1] * right[..., 0]
    whole = inside[:, :-1, :-1] & inside[:, 1:, :-1] & inside[:, :-1, 1:]
    assert (areas[whole] > 0).all() and areas[whole].std() > 0.1
    with pytest.raises(InputError, match=r'^augment.elastic=0.11: the image could fold; give at most 0.1, 0.4 of '):
        changed(batch, elastic=0.11)


def test_elastic_in_volumes():
    """Along all three axes, the label with the image."""
    size = (8, 10, 12)
    here = np.stack(np.meshgrid(*map(np.arange, size), indexing='ij'), -1)
    image, label = here / np.asarray(size), np.ravel_multi_index(tuple(np.moveaxis(here, -1, 0)), size)
    batch = {'a': jnp.asarray(image[None], jnp.float32), 'label_a': jnp.asarray(label[None], jnp.int32)}
    found = changed(batch, elastic=0.2, elastic_spacing=0.5, shear=20.0)
    where = np.asarray(found['a'][0]) * size
    nearest = np.stack(np.unravel_index(found['label_a'][0], size), -1)
    clear = (abs(where % 1 - 0.5) > 0.02).all(-1) & (nearest > 0).all(-1) & (nearest < np.asarray(size) - 1).all(-1)
    assert clear.sum() > 50 and ((nearest != here)[clear].mean(0) > 0.1).all()
    np.testing.assert_array_equal(nearest[clear], np.rint(where[clear]))


@pytest.mark.parametrize('name', ALWAYS)
def test_quality_changes_images_alone(name):
    batch = images()
    found = changed(batch, **ALWAYS[name])
    np.testing.assert_array_equal(found['label_a'], batch['label_a'])
    changes = np.asarray(abs(found['a'] - batch['a']).max((1, 2, 3)))  # few factors and sigmas are too small
    assert (changes > 1e-3).mean() > 0.7 and len(np.unique(changes)) > 5
    never = changed(batch, **ALWAYS[name] | {f'{name}_probability': 0.0})
    np.testing.assert_array_equal(never['a'], batch['a'])


@pytest.mark.parametrize('name', ALWAYS)
def test_quality_by_chance(name):
    batch = images(64)
    found = changed(batch, **ALWAYS[name] | {f'{name}_probability': 0.25})
    same = np.asarray((found['a'] == batch['a']).all((1, 2, 3)))
    assert 6 <= 64 - same.sum() <= 26
    always = changed(batch, **ALWAYS[name])
    np.testing.assert_array_equal(found['a'][~same], always['a'][~same])


def test_noise_has_its_deviation():
    batch = images(200, (8, 8))
    change = np.asarray(changed(batch, **ALWAYS['noise'] | {'noise': 0.1})['a'] - batch['a'])
    deviations = change.std((1, 2, 3))
    assert abs(change.mean()) < 2e-3 and 0.08 < deviations.max() < 0.13
    np.testing.assert_allclose(deviations.mean(), 0.05, atol=0.01)


def test_blur_is_gaussian():
    impulse = jnp.zeros((33, 21, 1)).at[16, 10].set(1.0)
    np.testing.assert_array_equal(resampling.blurred(impulse, 0.0), impulse)
    found = np.asarray(jax.jit(resampling.blurred)(impulse, 2.0))[..., 0]
    r, c = np.meshgrid(np.arange(33) - 16, np.arange(21) - 10, indexing='ij')
    np.testing.assert_allclose(found, np.exp(-(r**2 + c**2) / 8) / (8 * np.pi), atol=1e-5)  # edges
    flat = resampling.blurred(jnp.full((9, 7, 5, 2), 0.3), 4.0)
    np.testing.assert_allclose(flat, 0.3, rtol=1e-5)  # up to the border, and in volumes


def test_reduced_is_means_and_lines_between():
    ramp = jnp.broadcast_to(jnp.arange(12.0)[:, None, None], (12, 12, 1))
    np.testing.assert_array_equal(resampling.reduced(ramp, 1.0), ramp)
    found = np.asarray(resampling.reduced(ramp, 3.0))  # parts of 3 with the means 1, 4, 7 and 10
    np.testing.assert_allclose(found[:, 5, 0], np.clip(np.arange(12), 1, 10), atol=1e-5)
    fine = jnp.asarray(np.indices((12, 12)).sum(0) % 2.0)[..., None]
    np.testing.assert_allclose(resampling.reduced(fine, 2.0), 0.5, atol=1e-5)  # no aliasing
    np.testing.assert_allclose(resampling.reduced(ramp, 100.0), 5.5, atol=1e-5)
    np.testing.assert_array_equal(resampling.reduced(ramp, 2.5), resampling.reduced(ramp, 12 / 5))
