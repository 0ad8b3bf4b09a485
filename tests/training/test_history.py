"""The history of past fakes: what is shown, what is stored, and that rows share nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synseg_jax.training.image_pool import Past, PerRow, exchange_one


def fakes_of(step, rows):
    """Images that name their step and row."""
    return (step * 100 + jnp.arange(rows, dtype=jnp.float32)).reshape(rows, 1, 1, 1)


def keys_of(step, rows):
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.fold_in(jax.random.key(0), step), row))(jnp.arange(rows))


@pytest.mark.parametrize('size, batch, slots', [(50, 1, 50), (50, 8, 6), (16, 8, 2), (2, 8, 1), (1, 1, 1)])
def test_slots_of_a_row(size, batch, slots):
    history = PerRow(size, batch)
    assert history.slots == slots
    past = history.empty(jnp.zeros((batch, 3, 5, 2), jnp.bfloat16))
    assert past.images.shape == (batch, slots, 3, 5, 2) and past.images.dtype == jnp.bfloat16
    assert past.filled.tolist() == [0] * batch


def test_no_history():
    history = PerRow(0, 2)
    past = history.empty(fakes_of(0, 2))
    assert history.slots == 0 and past is None  # arrays without images cannot be saved
    shown, new = history.exchange(past, fakes_of(0, 2), keys_of(0, 2))
    assert shown.ravel().tolist() == [0, 1] and new is past


@pytest.mark.parametrize(
    'filled, swap, slot, shown, images, now',
    [
        (0, False, 1, 9, [9, 2, 3], 1),  # filling: shown and stored, whatever was drawn
        (2, True, 0, 9, [1, 2, 9], 3),
        (3, True, 1, 2, [1, 9, 3], 3),  # full: the fake takes the slot of the one that is shown
        (3, False, 1, 9, [1, 2, 3], 3),  # full: shown, not stored
    ],
)
def test_one_exchange(filled, swap, slot, shown, images, now):
    past = Past(jnp.asarray([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1), jnp.asarray(filled))
    found, new = exchange_one(past, jnp.full((1, 1, 1), 9.0), jnp.asarray(swap), jnp.asarray(slot))
    assert (found.item(), new.images.ravel().tolist(), int(new.filled)) == (shown, images, now)


def test_many_exchanges():
    """Half of the fakes are swapped once a row is full, all slots take part, and no fake is lost or shown twice."""
    rows, steps = 4, 150
    history = PerRow(12, rows)
    exchange, past, shown = jax.jit(history.exchange), history.empty(fakes_of(0, rows)), []
    for step in range(steps):
        now, past = exchange(past, fakes_of(step, rows), keys_of(step, rows))
        shown.append(np.asarray(now).ravel())
    shown = np.stack(shown)
    new = np.arange(steps)[:, None] * 100 + np.arange(rows)
    assert (shown % 100 == np.arange(rows)).all()  # a row is shown its own fakes only
    assert (shown[:3] == new[:3]).all() and past.filled.tolist() == [3] * rows
    assert 0.4 < (shown[3:] != new[3:]).mean() < 0.6
    for row in range(rows):
        old = set(shown[3:, row]) - set(new[3:, row]) | set(past.images[row].ravel().tolist())
        assert len(set(past.images[row].ravel().tolist())) == 3 and old <= set(new[:, row])
    assert not past.images.ravel().tolist() == new[:3].T.ravel().tolist()
    assert len({float(image) for image in past.images.ravel()} & {float(i) for i in new[:3].ravel()}) < 2


def test_a_row_does_not_see_the_others():
    rows, history = 4, PerRow(4, 4)

    def cut(tree):
        return jax.tree.map(lambda x: x[2:4], tree)

    past = Past(fakes_of(1, rows)[:, None], jnp.ones(rows, jnp.int32))
    for step in range(2, 6):
        whole = history.exchange(past, fakes_of(step, rows), keys_of(step, rows))
        half = history.exchange(cut(past), cut(fakes_of(step, rows)), cut(keys_of(step, rows)))
        jax.tree.map(np.testing.assert_array_equal, half, cut(whole))
        past = whole[1]
