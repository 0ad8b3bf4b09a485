"""Masks that paste or hide: whole classes, boxes and blocks, each row of a batch on its own key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_augment import keys_of

from synseg_jax.batches.mixing import block_mask, box_mask, class_mask, paste
from synseg_jax.errors import InputError

SIZE = (16, 12)


def rows(function, *arrays, count=64):
    """The masks of `count` rows, as one jitted function of their keys."""
    return np.asarray(jax.jit(jax.vmap(function))(keys_of(count), *arrays))


def test_class_mask_takes_half_of_the_classes():
    label = jax.random.choice(jax.random.key(2), jnp.asarray([0, 2, 3]), SIZE)
    masks = rows(lambda key: class_mask(key, label, 5))
    drawn = {tuple(sorted(set(np.asarray(label)[mask].tolist()))) for mask in masks}
    assert drawn == {(0, 2), (0, 3), (2, 3)}  # half of three, rounded up
    for mask in masks:
        assert not set(np.asarray(label)[mask].tolist()) & set(np.asarray(label)[~mask].tolist())  # whole classes
    unlabelled = jnp.full(SIZE, 255).at[0].set(1)
    np.testing.assert_array_equal(class_mask(keys_of(1)[0], unlabelled, 5), unlabelled == 1)


def test_box_mask_is_one_box():
    masks = rows(lambda key: box_mask(key, SIZE, 0.25))
    places = set()
    for mask in masks:
        r, c = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (len(r), len(c)) == (8, 6) and mask.sum() == 48  # half of each side
        places.add((r[0], c[0]))
    first = np.asarray(sorted(places))
    assert first.min(0).tolist() == [0, 0] and first.max(0).tolist() == [8, 6]  # up to both borders
    np.testing.assert_allclose(rows(lambda key: box_mask(key, (4, 8, 8), 0.125)).mean((1, 2, 3)), 0.125)
    drawn = rows(lambda key, share: box_mask(key, SIZE, share), jnp.linspace(0, 1, 64))
    assert not drawn[0].any() and drawn[-1].all()
    np.testing.assert_allclose(drawn.mean((1, 2)), np.linspace(0, 1, 64), atol=0.1)


@pytest.mark.parametrize('size', [(16, 12), (8, 16, 12)])
def test_block_mask(size):
    masks = rows(lambda key: block_mask(key, size, 5, 0.7))
    assert masks.shape == (64, *size)
    corners = masks[(slice(None), *(slice(0, side, 5) for side in size))]
    np.testing.assert_allclose(corners.mean(), 0.7, atol=0.04)
    for axis in range(len(size)):
        corners = np.repeat(corners, 5, axis + 1)
    np.testing.assert_array_equal(masks, corners[(slice(None), *(slice(side) for side in size))])
    with pytest.raises(InputError, match='blocks of 17 pixels'):
        block_mask(keys_of(1)[0], size, 17, 0.7)


def test_paste_images_and_labels():
    mask = box_mask(keys_of(1)[0], SIZE, 0.3)
    image, label = jnp.ones((*SIZE, 3)), jnp.full(SIZE, 2, jnp.int32)
    pasted, classes = paste(mask, image, image * 0.2), paste(mask, label, label * 0)
    np.testing.assert_array_equal(pasted == 1, np.broadcast_to(mask[..., None], (*SIZE, 3)))
    np.testing.assert_array_equal(classes, 2 * mask)
    assert classes.dtype == jnp.int32 and pasted.dtype == image.dtype
    np.testing.assert_array_equal(paste(mask, 0.0, image)[..., 0], ~mask)


def test_rows_do_not_see_each_other():
    labels = jax.random.randint(jax.random.key(3), (4, *SIZE), 0, 5)
    keys = keys_of(4)
    for function in (
        lambda key, label: class_mask(key, label, 5),
        lambda key, label: box_mask(key, SIZE, 0.3),
        lambda key, label: block_mask(key, SIZE, 4, 0.5),
    ):
        whole = jax.jit(jax.vmap(function))(keys, labels)
        np.testing.assert_array_equal(jax.jit(function)(keys[2], labels[2]), whole[2])
        assert len(np.unique(whole, axis=0)) > 1
