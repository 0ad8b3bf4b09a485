"""Augmentation moves a label with its image, stays in range, and treats every row on its own key."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synseg_jax.batches.augment import augmenter
from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.specification.training import Augment

SIZE = (16, 12)
EVERYTHING = {
    'rotate': 25.0, 'shift': 0.15, 'scale': 0.2, 'crop': 0.8, 'flip': 'rc', 'shear': 20.0, 'elastic': 0.08,
}  # fmt: skip
SHADES = {'brightness': 0.4, 'contrast': 0.5, 'gamma': 2.0}
QUALITY = {
    'noise': 0.3, 'noise_probability': 0.5, 'blur': 2.0, 'blur_probability': 0.5,
    'low_resolution': 3.0, 'low_resolution_probability': 0.5,
}  # fmt: skip
ALL = {**EVERYTHING, **SHADES, **QUALITY}


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def coordinates(rows):
    """Images whose channels are the row, the column and 1, and labels that number the pixels from 1."""
    r, c = np.meshgrid(*map(np.arange, SIZE), indexing='ij')
    image = np.stack([r / (SIZE[0] - 1), c / (SIZE[1] - 1), np.ones(SIZE)], -1)
    label = 1 + r * SIZE[1] + c
    return {
        'a': jnp.asarray(np.broadcast_to(image, (rows, *image.shape)), jnp.float32),
        'label_a': jnp.asarray(np.broadcast_to(label, (rows, *SIZE)), jnp.int32),
    }


def random_images(rows):
    images = jax.random.uniform(jax.random.key(5), (2, rows, *SIZE, 1))
    labels = jax.random.randint(jax.random.key(6), (rows, *SIZE), 0, 4)
    return {'a': images[0], 'b': images[1], 'label_a': labels}


@functools.cache
def compiled(**fields):
    return jax.jit(augmenter(Augment(**fields)))


def changed(batch, seed=0, **fields):
    return compiled(**fields)(keys_of(len(batch['a']), seed), batch)


def places(batch):
    """Where every pixel came from, in pixels, and whether all of it lay inside the image."""
    image = np.asarray(batch['a'])
    return image[..., :2] * (np.asarray(SIZE) - 1), np.isclose(image[..., 2], 1, atol=1e-5)


def test_off_is_nothing():
    assert augmenter(Augment()) is None


def test_no_change_is_the_identity():
    """Geometry that happens to leave everything where it is returns the same numbers."""
    batch = coordinates(2)
    found = changed(batch, scale=1e-9)
    np.testing.assert_allclose(found['a'], batch['a'], atol=1e-5)
    np.testing.assert_array_equal(found['label_a'], batch['label_a'])


@pytest.mark.parametrize(
    'fields',
    [{'rotate': 25.0}, {'shift': 0.2}, {'scale': 0.3}, {'crop': 0.6}, {'flip': 'c'}, {'elastic': 0.1}, EVERYTHING],
    ids=lambda fields: '+'.join(fields),
)
def test_a_label_moves_with_its_image(fields):
    batch = coordinates(8)
    found = changed(batch, **fields)
    where, inside = places(found)
    assert not np.allclose(found['a'], batch['a'])
    clear = inside & (abs(where % 1 - 0.5) > 0.02).all(-1)  # nearest is ambiguous half way between two pixels
    assert clear.mean() > 0.5
    nearest = np.rint(where).astype(int)
    expected = 1 + nearest[..., 0] * SIZE[1] + nearest[..., 1]
    np.testing.assert_array_equal(np.asarray(found['label_a'])[clear], expected[clear])
    outside = np.asarray(found['a'])[..., 2] == 0
    assert not np.asarray(found['label_a'])[outside].any()


def slopes(found):
    """Of every row: how source row and column change with each step down and to the right."""
    where, inside = places(found)
    for source, ok in zip(where, inside, strict=True):
        both = [ok[1:] & ok[:-1], ok[:, 1:] & ok[:, :-1]]
        steps = source[1:] - source[:-1], source[:, 1:] - source[:, :-1]
        means = [step[good].mean(0) for step, good in zip(steps, both, strict=True)]
        for step, good, mean in zip(steps, both, means, strict=True):
            np.testing.assert_allclose(step[good] - mean, 0, atol=1e-4)  # one affine map
        yield np.stack(means, -1)


def test_how_much_may_change():
    batch = coordinates(24)
    for fields, allowed in (({'rotate': 25.0}, 25), ({'rotate': 5.0}, 5)):
        turned = np.asarray(list(slopes(changed(batch, **fields))))
        angles = np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
        np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-4)
        assert 0.7 * allowed < abs(angles).max() <= allowed + 1e-3 and angles.min() < 0 < angles.max()
    leaning = np.asarray(list(slopes(changed(batch, shear=25.0))))
    np.testing.assert_allclose(leaning[:, [0, 1, 0], [0, 1, 1]], [[1, 1, 0]] * 24, atol=1e-4)  # columns lean, rows stay
    angles = np.rad2deg(np.arctan(leaning[:, 1, 0]))
    assert 17 < abs(angles).max() <= 25 + 1e-3 and angles.min() < 0 < angles.max()
    sizes = np.linalg.det(np.asarray(list(slopes(changed(batch, scale=0.2))))) ** 0.5
    assert 1 / 1.2 - 1e-4 <= sizes.min() < 0.95 and 1.05 < sizes.max() <= 1.2 + 1e-4
    kept = np.asarray(list(slopes(changed(batch, crop=0.6))))
    sides = kept[:, [0, 1], [0, 1]]
    assert (0.6 - 1e-4 <= sides).all() and (sides <= 1 + 1e-4).all()
    assert sides.min() < 0.7 and sides.max() > 0.9
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=1e-4)  # nothing is stretched
    shifted, inside = places(changed(batch, shift=0.2))
    moves = (shifted - places(batch)[0])[inside] / SIZE
    assert abs(moves).max() <= 0.2 + 1e-5 and abs(moves).max(0).min() > 0.1


@pytest.mark.parametrize('flip, ways', [('c', {(1, 1), (1, -1)}), ('r', {(1, 1), (-1, 1)}), ('rc', None)])
def test_flips(flip, ways):
    batch = coordinates(32)
    found, seen = changed(batch, flip=flip), set()
    for image, label, flipped, flipped_label in zip(
        batch['a'], batch['label_a'], found['a'], found['label_a'], strict=True
    ):
        for way in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            if np.allclose(image[:: way[0], :: way[1]], flipped, atol=1e-5):
                np.testing.assert_array_equal(label[:: way[0], :: way[1]], flipped_label)
                seen.add(way)
                break
        else:
            pytest.fail('not a flip')
    assert seen == (ways or {(1, 1), (1, -1), (-1, 1), (-1, -1)})


def test_values_stay_in_range():
    found = changed(random_images(16), **ALL)
    for domain in 'ab':
        assert 0 <= found[domain].min() and found[domain].max() <= 1
        assert found[domain].shape == (16, *SIZE, 1) and found[domain].dtype == jnp.float32
    assert found['label_a'].dtype == jnp.int32 and set(np.unique(found['label_a'])) <= {0, 1, 2, 3}


def test_random_numbers_of_a_field_do_not_depend_on_the_fields_added_after_it():
    """What these fields did before shear, elastic displacement and image quality were added."""
    fields = {'rotate': 25.0, 'shift': 0.15, 'scale': 0.2, 'crop': 0.8, 'flip': 'rc', **SHADES}
    found = changed(coordinates(1), **fields)
    expected = [[146, 149, 141], [98, 89, 93], [37, 41, 44], [0, 0, 0]]
    np.testing.assert_array_equal(found['label_a'][0, ::5, ::4], expected)
    np.testing.assert_allclose(found['a'][0, 0, ::4, 0], [0.4530674, 0.4361427, 0.419248], atol=1e-5)


def test_every_row_and_domain_has_a_key_of_its_own():
    one = jax.random.uniform(jax.random.key(1), (1, *SIZE, 1))
    batch = {'a': jnp.repeat(one, 6, 0), 'b': jnp.repeat(one, 6, 0)}
    found = changed(batch, **ALL)
    results = np.concatenate([found['a'], found['b']]).reshape(12, -1)
    assert len(np.unique(results, axis=0)) == 12
    again = changed(batch, **ALL)
    np.testing.assert_array_equal(again['b'], found['b'])
    assert not np.array_equal(changed(batch, seed=1, **ALL)['a'], found['a'])


def test_a_row_does_not_see_the_others():
    batch, keys = random_images(4), keys_of(4)
    apply = compiled(**ALL)
    whole = apply(keys, batch)
    order = jnp.asarray([2, 0, 3, 1])
    shuffled = apply(keys[order], {name: array[order] for name, array in batch.items()})
    for name in batch:
        np.testing.assert_allclose(shuffled[name], whole[name][order], atol=1e-6)
    rows = (parallel.SHARDED, parallel.SHARDED)
    sharded = parallel.shard(augmenter(Augment(**ALL)), parallel.mesh(4), rows, parallel.SHARDED)
    alone = jax.jit(sharded)(keys, batch)  # a row on each of four devices
    for name in batch:
        np.testing.assert_allclose(alone[name], whole[name], atol=1e-6)


@pytest.mark.parametrize('fields', [{name: value} for name, value in SHADES.items()], ids=lambda fields: [*fields][0])
def test_intensity_does_not_move_geometry(fields):
    """Labels stay, and equal pixels stay equal: an image of 4 values is mapped value by value, in order."""
    levels = jnp.asarray([0.2, 0.4, 0.6, 0.8])
    labels = jax.random.randint(jax.random.key(0), (8, *SIZE), 0, 4)
    batch = {'a': levels[labels][..., None], 'label_a': labels}
    found = changed(batch, **fields)
    np.testing.assert_array_equal(found['label_a'], labels)
    assert abs(found['a'] - batch['a']).max() > 0.05
    for image, label in zip(found['a'], labels, strict=True):
        spread = [np.ptp(image[..., 0][label == level]) for level in range(4)]
        values = [float(image[..., 0][label == level].mean()) for level in range(4)]
        assert max(spread) < 1e-6 and values == sorted(values)
    if 'brightness' in fields:
        assert abs(found['a'] - batch['a']).max() <= 0.4 + 1e-6


def test_low_frequencies_of_the_target():
    """FDA: the source takes the amplitudes of low frequencies, keeps all phases and the amplitudes of the others."""
    waves = np.cos(2 * np.pi * np.arange(SIZE[0]) / SIZE[0])[:, None, None] * np.ones((*SIZE, 1))
    fine = np.cos(2 * np.pi * 6 * np.arange(SIZE[0]) / SIZE[0])[:, None, None]
    source, target = 0.3 + 0.1 * waves + 0.05 * fine, 0.5 - 0.2 * waves + 0.2 * fine
    batch = {'a': source, 'b': target, 'label_a': np.ones(SIZE)}
    batch = {
        name: jnp.asarray(array, jnp.int32 if 'label' in name else jnp.float32)[None] for name, array in batch.items()
    }
    found = changed(batch, fourier=0.1)  # up to 1 period
    np.testing.assert_allclose(found['a'][0], 0.5 + 0.2 * waves + 0.05 * fine, atol=1e-5)
    np.testing.assert_array_equal(found['b'], batch['b'])
    np.testing.assert_array_equal(found['label_a'], batch['label_a'])
    np.testing.assert_allclose(changed(batch, fourier=0.05)['a'][0], 0.5 + 0.1 * waves + 0.05 * fine, atol=1e-5)
    shown = changed(random_images(4), fourier=0.2, window=(8, 8), **SHADES)
    assert shown['a'].shape == (4, 8, 8, 1) and 0 <= shown['a'].min() and shown['a'].max() <= 1
    assert 'b' not in changed({'a': batch['a']}, fourier=0.1)


def test_window():
    batch = coordinates(16)
    found = changed(batch, window=(8, 4))
    assert found['a'].shape == (16, 8, 4, 3) and found['label_a'].shape == (16, 8, 4)
    corners = [divmod(int(label[0, 0]) - 1, SIZE[1]) for label in found['label_a']]
    for i, (r, c) in enumerate(corners):
        np.testing.assert_array_equal(found['a'][i], batch['a'][i, r : r + 8, c : c + 4])
        np.testing.assert_array_equal(found['label_a'][i], batch['label_a'][i, r : r + 8, c : c + 4])
    assert len({r for r, _ in corners}) > 3 and len({c for _, c in corners}) > 3
    assert changed(batch, window=SIZE)['a'].shape == batch['a'].shape
    with pytest.raises(InputError, match=r'augment.window \(17, 4\) is larger than the images'):
        changed(batch, window=(17, 4))
