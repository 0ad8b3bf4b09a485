"""Views of target images with pasted parts of the source and hidden blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from synseg_jax.batches.views import viewer
from synseg_jax.errors import InputError
from synseg_jax.objective import names
from synseg_jax.specification.views import DomainViews, Views
from synseg_jax.training.system import System

ROWS, SIZE = 3, (16, 12)


def batch():
    """Source images are the label / 4, target images .9."""
    label = jax.random.randint(jax.random.key(1), (ROWS, *SIZE), 0, 4)
    return {'a': label[..., None] / 4, 'b': jnp.full((ROWS, *SIZE, 1), 0.9), 'label_a': label}


def viewed(rows=slice(None), **fields):
    apply = viewer({'views_b'}, DomainViews(b=Views(**fields)), 4)
    keys = jax.random.split(jax.random.key(0), ROWS)[rows]
    return jax.jit(apply)(keys, {name: array[rows] for name, array in batch().items()})


@pytest.mark.parametrize('kind', ['classes', 'box'])
def test_pasted_parts_bring_their_labels(kind):
    made = viewed(count=4, paste=kind, paste_probability=0.75)
    views, pasted = np.asarray(made['views_b'])[..., 0], np.asarray(made[names.pasted('b')])
    assert views.shape == pasted.shape == (ROWS, 4, *SIZE)
    own = pasted == names.OWN
    np.testing.assert_array_equal(views[own], np.float32(0.9))
    np.testing.assert_array_equal(views[~own], pasted[~own] / 4)
    np.testing.assert_array_equal(pasted[~own], np.broadcast_to(batch()['label_a'][:, None], pasted.shape)[~own])
    assert own.any() and not own.all() and 0 < own.all((2, 3)).sum() < own.shape[0] * own.shape[1]


def test_hidden_blocks_are_dark_and_keep_their_labels():
    made = viewed(count=2, hidden=0.5, hidden_block=4)
    views = np.asarray(made['views_b'])[..., 0].reshape(ROWS, 2, 4, 4, 3, 4)
    dark = (views == 0).all((3, 5))
    assert (dark | (views != 0).all((3, 5))).all() and 0.2 < dark.mean() < 0.8
    assert names.pasted('b') not in made


def test_the_source_is_read_for_what_is_pasted():
    fields = {'method': 'mean_teacher', 'average': 0.9, 'loss_weights__seg__seg_views_a': 0.0}
    pasting = System(tiny.stage(**fields, views__b__paste='box'), tiny.CLASSES)
    assert pasting.arrays == {'a', 'label_a', 'b'} and System(tiny.stage(**fields), tiny.CLASSES).arrays == {'b'}
    with pytest.raises(InputError, match='views.a.paste: parts of source images are pasted into views of the target'):
        viewer({'views_a'}, DomainViews(a=Views(paste='box')), 4)


def test_a_row_does_not_depend_on_others():
    fields = {
        'count': 2,
        'paste': 'classes',
        'hidden': 0.3,
        'hidden_block': 4,
        'gin': 0.7,
        'class_maps': 0.5,
        'gamma': 2.0,
    }
    whole, one = viewed(**fields), viewed(slice(1, 2), **fields)
    for name in one:
        np.testing.assert_allclose(whole[name][1:2], one[name], atol=1e-6)
