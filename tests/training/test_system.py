"""What is compiled once: systems of one make are one, and networks alike are traced once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from synseg_jax.devices import parallel
from synseg_jax.networks import backend
from synseg_jax.networks.resnet import ResNet
from synseg_jax.training.optimizers import in_game
from synseg_jax.training.system import system_of


def _system(**changes):
    return system_of(tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES)


@pytest.mark.parametrize(
    'elsewhere',
    [
        {'data_dir': 'x'},
        {'test_sets': ('a',)},
        {'predict__batch': 3},
        {'train__workers': 2},
        {'train__keep': 9},
        {'train__resident_gib': 1.0},
    ],
)
def test_what_is_not_compiled_changes_no_system(elsewhere):
    one, other = _system(), _system(**elsewhere)
    over = parallel.mesh(1)
    assert one is other and one.step(6, over) is other.step(6, over)


def test_augmentation_may_read_images_of_the_target():
    plain, styled = _system(method='supervised'), _system(method='supervised', augment__fourier=0.05)
    assert plain.domains == ('a',) and plain.arrays == {'a', 'label_a'}
    assert styled.domains == ('a', 'b') and styled.arrays == {'a', 'b', 'label_a'}


@pytest.mark.parametrize(
    'changed',
    [{'seed': 1}, {'rate__generator': 1.0}, {'train__steps': 6}, {'generator__width': 8}, {'loss__cycle': 'l2'}],
)
def test_what_is_compiled_changes_the_system(changed):
    assert _system() is not _system(**changed)


def test_a_step_for_every_mesh_and_length_of_an_epoch():
    system, steps = _system(), set()
    for devices, epoch in ((1, 6), (1, 7), (2, 6)):
        steps.add(system.step(epoch, parallel.mesh(devices)))
    assert len(steps) == 3


def test_networks_alike_are_traced_once_for_a_kind_of_device(monkeypatch):
    """Both generators have 3 blocks, which no other test traces."""
    called, call = [], ResNet.__call__

    def counted(self, x, keys=None):
        called.append(backend.kind())
        return call(self, x, keys)

    monkeypatch.setattr(ResNet, '__call__', counted)
    made = _system(method='cyclegan', generator__blocks=3, image_pool=0)
    image = jax.ShapeDtypeStruct((2, 32, 32, 1), 'float32')
    weights = made.abstract_state(parallel.mesh(1)).params
    called.clear()

    for kind in ('cpu', 'gpu', 'cpu'):
        for name in ('g_ab', 'g_ba', 'g_ab'):
            with backend.assumed(kind):
                jax.eval_shape(lambda params, x, name=name: made.apply[name](params, x), weights[name], image)
    assert called == ['cpu', 'gpu']


@pytest.mark.parametrize('method, network, b1', [('synseg', 's_b', 0.5), ('supervised', 's_a', 0.9)])
def test_adam_has_a_short_memory_in_games_with_discriminators_alone(method, network, b1):
    optimizer = _system(method=method).optimizers[network]
    _, state = optimizer.update({'w': jnp.ones(1)}, optimizer.init({'w': jnp.zeros(1)}))
    np.testing.assert_allclose(state.mu['w'], 1 - b1, rtol=1e-6)


def test_descent_without_adam():
    optimizer = _system(optimizer__rule='sgd').optimizers['s_b']
    moved, _ = optimizer.update({'w': jnp.ones(1)}, optimizer.init({'w': jnp.zeros(1)}))
    np.testing.assert_array_equal(moved['w'], 1)


def test_stages_of_earlier_versions_have_one_b1():
    assert in_game({'rule': 'adam', 'b1': 0.5}, adversarial=False) == {'rule': 'adam', 'b1': 0.5}
