"""Strong changes of intensities leave geometry, labels and air as they are, stay in range, and know their row alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_augment import keys_of

from synseg_jax.batches import randomise
from synseg_jax.batches.views import viewer
from synseg_jax.devices import parallel
from synseg_jax.specification.views import DomainViews, Views

ROWS, SIZE, CLASSES, LEVELS = 24, (16, 24), 4, (0.0, 0.2, 0.5, 0.8)
BAND = SIZE[1] // CLASSES  # columns of a class in `stripes`
STRONG = {'class_maps': 0.5, 'gin': 0.5, 'blend': 0.5, 'gamma': 1.5, 'contrast': 0.2, 'brightness': 0.1}


def stripes():
    """An image [*space, 2] whose quarters have LEVELS in every class, in both channels alike, and its labels."""
    label = jnp.broadcast_to(jnp.arange(SIZE[1]) // BAND, SIZE)
    image = jnp.broadcast_to(jnp.repeat(jnp.asarray(LEVELS), SIZE[0] // 4)[:, None, None], (*SIZE, 2))
    return image, label


def random_batch(rows=4):
    images = jax.random.uniform(jax.random.key(5), (2, rows, *SIZE, 1))
    return {'a': images[0], 'b': images[1], 'label_a': jax.random.randint(jax.random.key(6), (rows, *SIZE), 0, CLASSES)}


def by_class(mapped):
    """[row, class, level] inside of the bands; fails if equal pixels of a class became different."""
    bands = np.asarray(mapped)[..., 0].reshape(len(mapped), len(LEVELS), -1, CLASSES, BAND)[..., 2:-2]
    values = bands.transpose(0, 3, 1, 2, 4).reshape(len(mapped), CLASSES, len(LEVELS), -1)
    np.testing.assert_array_equal(np.ptp(values, -1), 0)
    return values[..., 0]


@pytest.mark.parametrize('change', [randomise.class_lines, randomise.class_curves])
def test_class_maps(change):
    image, label = stripes()
    mapped = jax.jit(jax.vmap(lambda key: change(key, image, label, CLASSES)))(keys_of(ROWS))
    assert mapped.shape == (ROWS, *SIZE, 2) and 0 <= mapped.min() and mapped.max() <= 1
    np.testing.assert_array_equal(mapped[..., 0], mapped[..., 1])
    values = by_class(mapped)
    steps = np.diff(values)
    falling, rising = (steps <= 0).all(-1), (steps >= 0).all(-1)
    assert (falling | rising).all()  # monotone
    assert 0.2 < falling[:, 1:].mean() < 0.8
    assert falling[:, 0].all() if change is randomise.class_curves else 0.2 < falling[:, 0].mean() < 0.8
    assert (values[:, 1:, 2].std(1) > 0).all()  # each class on a map of its own


def test_gain_and_offset_pass_smoothly():
    """From one class to the next, over five columns, where curves leap."""
    image, label = stripes()
    for change, leaps in ((randomise.class_lines, False), (randomise.class_curves, True)):
        mapped = np.asarray(jax.jit(jax.vmap(lambda key, change=change: change(key, image, label, 4)))(keys_of(ROWS)))
        steps = abs(np.diff(mapped[:, 9, :, 0], axis=-1))
        assert (np.count_nonzero(steps > 1e-6, axis=-1).max() <= CLASSES - 1) == leaps
        assert (steps.reshape(ROWS, -1).max(1) > 0.3).mean() > 0.5 if leaps else np.quantile(steps, 0.99) < 0.4


@pytest.mark.parametrize('size', [(32, 24), (12, 16, 20)])
def test_air_stays(size):
    """Noisy air keeps its intensities, right up to tissue where it is dark; tissue has those of the view, lifted."""
    noise = jax.random.uniform(jax.random.key(2), (*size, 2), maxval=0.04).at[:, 1].set(0.01)
    tissue = jnp.arange(size[0])[:, *[None] * len(size)] >= size[0] // 2
    before, after = jnp.where(tissue, 0.5, noise), jnp.full((*size, 2), 0.9)
    kept = np.asarray(jax.jit(lambda *images: randomise.keep_air(0.05, *images))(before, after))
    middle = size[0] // 2
    np.testing.assert_allclose(kept[middle:], 0.1 + 0.9 * 0.9, atol=1e-6)  # brighter than air, at least
    far = slice(0, middle - 2)
    assert abs(kept[far] - before[far]).mean() < 0.05 and (kept[far] == before[far]).mean() > 0.5
    np.testing.assert_allclose(kept[:middle, 1], 0.01, atol=1e-6)


@pytest.mark.parametrize('change', [randomise.class_lines, randomise.class_curves])
def test_class_maps_without_labels(change):
    """As if all were background."""
    image, label = stripes()
    keys = keys_of(4)
    found = [
        jax.jit(jax.vmap(lambda key, own=own: change(key, image, own, CLASSES)))(keys)
        for own in (None, label * 0, label * 0 - 1)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize('size', [SIZE, (6, 8, 10)])
def test_gin(size):
    image = jnp.repeat(jax.random.uniform(jax.random.key(1), (*size, 1)), 2, -1)
    mixed = np.asarray(jax.jit(jax.vmap(lambda key: randomise.gin(key, image)))(keys_of(ROWS)))
    assert mixed.shape == (ROWS, *size, 2) and np.isfinite(mixed).all()
    np.testing.assert_allclose(mixed.reshape(ROWS, -1).min(1), 0, atol=1e-6)
    np.testing.assert_allclose(mixed.reshape(ROWS, -1).max(1), 1, atol=1e-6)  # its own range
    np.testing.assert_array_equal(mixed[..., 0], mixed[..., 1])
    alike = [np.corrcoef(np.ravel(image), row.ravel())[0, 1] for row in mixed]
    assert min(alike) < 0 < 0.9 < max(alike)  # inverted contrast, and nearly the image itself


def test_gin_of_air_is_finite():
    found = jax.jit(jax.vmap(lambda key: randomise.gin(key, jnp.zeros((*SIZE, 1)))))(keys_of(4))
    assert np.isfinite(found).all() and 0 <= found.min() and found.max() <= 1


def test_gin_moves_nothing():
    """A change reaches as far as four 3-wide kernels, apart from mean, norm and range."""
    image = jnp.zeros((32, 32, 1)).at[16, 16].set(1.0)
    found = np.asarray(jax.jit(jax.vmap(lambda key: randomise.gin(key, image)))(keys_of(8)))[..., 0]
    inside = np.zeros((32, 32), bool)
    inside[12:21, 12:21] = True
    inside[[0, 1, 2, 3, -4, -3, -2, -1]] = inside[:, [0, 1, 2, 3, -4, -3, -2, -1]] = True  # zeros beyond the border
    assert np.ptp(found[:, ~inside], 1).max() < 1e-5


def test_blends():
    image, key = stripes()[0], keys_of(1)[0]
    never, alone, found = (
        jax.jit(jax.vmap(function))(keys_of(4))
        for function in (
            lambda key: randomise.blended_gin(key, image, 0.0),
            lambda key: randomise.gin(key, image),
            lambda key: randomise.blended_gin(key, image, 1.0),
        )
    )
    np.testing.assert_array_equal(never, alone)
    assert 0 <= found.min() and found.max() <= 1 and len(np.unique(found[:, 3, 3, 0])) == 4
    share = np.asarray(jax.jit(lambda key: randomise.smooth_map(key, (96, 96), jnp.float32))(key))
    np.testing.assert_allclose((share.min(), share.max()), (0, 1), atol=1e-6)
    assert max(abs(np.diff(share, axis=axis)).max() for axis in (0, 1)) < 0.1


def views(**fields):
    settings = DomainViews(Views(count=2, **fields), Views(count=1, gamma=1.5))
    return viewer(('views_a', 'views_b'), settings, CLASSES)


def test_views_keep_air():
    """Whatever class maps and GIN make of the rest."""
    label = jnp.zeros((4, 32, 32), jnp.int32).at[:, :, 20:].set(1)
    image = jnp.where(jnp.arange(32)[None, :, None, None] < 12, 0.0, jnp.linspace(0.3, 0.9, 32)[:, None])
    batch = {'a': jnp.broadcast_to(image, (4, 32, 32, 1)), 'b': jnp.zeros((4, 32, 32, 1)), 'label_a': label}
    strong = {'class_maps': 1.0, 'gin': 1.0}
    kept, lost = (jax.jit(views(**strong, air=air))(keys_of(4), batch)['views_a'] for air in (0.05, 0.0))
    np.testing.assert_array_equal(kept[:, :, :9], 0)
    assert lost[:, :, :9].max() > 0.2 and kept[:, :, 14:].std() > 0.1


def test_views_lie_beside_what_they_are_views_of():
    batch = random_batch()
    found = jax.jit(views(**STRONG))(keys_of(4), batch)
    for name in batch:
        np.testing.assert_array_equal(found[name], batch[name])
    assert found['views_a'].shape == (4, 2, *SIZE, 1) and found['views_b'].shape == (4, 1, *SIZE, 1)
    for name in ('views_a', 'views_b'):
        assert 0 <= found[name].min() and found[name].max() <= 1
        assert len(np.unique(np.asarray(found[name]).reshape(-1, 16 * 24), axis=0)) == found[name][:, :, 0, 0].size
    assert viewer(('a', 'label_a'), DomainViews(), CLASSES) is None
    alone = jax.eval_shape(viewer(('views_a',), DomainViews(), CLASSES), keys_of(4), batch)
    assert set(alone) == {*batch, 'views_a'}


def test_views_that_are_off_are_the_image():
    batch = random_batch()
    found = jax.jit(views())(keys_of(4), batch)
    np.testing.assert_array_equal(found['views_a'], jnp.stack([batch['a']] * 2, 1))


def test_a_row_of_views_does_not_see_the_others():
    """On four devices, a row on each, as on one."""
    batch, function = random_batch(), views(**STRONG)
    rows = (parallel.SHARDED, parallel.SHARDED)
    sharded = jax.jit(parallel.shard(function, parallel.mesh(4), rows, parallel.SHARDED))(keys_of(4), batch)
    whole = jax.jit(function)(keys_of(4), batch)
    for name in whole:
        np.testing.assert_allclose(sharded[name], whole[name], atol=1e-6)
