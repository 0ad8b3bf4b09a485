"""The tables of methods: who loss_weights, who owns, and that nobody is forgotten."""

import copy

import pytest

from synseg_jax.errors import InputError
from synseg_jax.objective import names
from synseg_jax.objective.methods import METHODS, method
from synseg_jax.objective.terms import TERMS

NETWORKS = {
    'cyclegan': {'gen': ('g_ab', 'g_ba'), 'dis': ('d_a', 'd_b')},
    'synseg': {'gen': ('g_ab', 'g_ba'), 'dis': ('d_a', 'd_b'), 'seg': ('s_b',)},
    'synseg_hc': {'gen': ('g_ab',), 'dis': ('d_b',), 'seg': ('s_b',)},
    'shape_consistency': {'gen': ('g_ab', 'g_ba'), 'dis': ('d_a', 'd_b'), 'seg': ('s_a', 's_b')},
    'tumor_aware': {
        'gen': ('g_ab', 'g_ba'),
        'dis': ('d_a', 'd_b'),
        'seg': ('s_a', 's_b', 's_head_a', 's_head_b', 's_shared'),
    },
    'cut': {'gen': ('g_ab', 'h_ab'), 'dis': ('d_b',), 'seg': ('s_b',)},
    'supervised': {'seg': ('s_a',)},
    'generalise': {'seg': ('s_a',)},
    'mean_teacher': {'seg': ('s_a',)},
}


@pytest.mark.parametrize('name', METHODS)
def test_players_own_disjoint_networks(name):
    owned = method(name).networks(TERMS)
    assert owned == NETWORKS[name]
    assert all(names.player(network) == player for player, networks in owned.items() for network in networks)
    assert method(name).cite and set(method(name).terms()) <= set(TERMS)


def test_published_weights():
    loss_weights = method('synseg').loss_weights
    assert loss_weights['gen'] == {'adv_a': 1, 'adv_b': 1, 'cyc_a': 10, 'cyc_b': 10, 'seg_fake_b': 1}
    assert loss_weights['dis'] == {'dis_a': 1, 'dis_b': 1} and loss_weights['seg'] == {'seg_fake_b': 1}
    loss_weights = method('shape_consistency').loss_weights
    assert loss_weights['gen'] == {'adv_a': 1, 'adv_b': 1, 'cyc_a': 10, 'cyc_b': 10, 'seg_fake_a': 1, 'seg_fake_b': 1}
    assert loss_weights['seg'] == {f'seg_{of}{domain}': 1 for of in ('', 'fake_', 'rec_') for domain in 'ab'}
    loss_weights = method('tumor_aware').loss_weights
    assert loss_weights['gen'] == {'adv_a': 1, 'adv_b': 1, 'cyc_a': 10, 'cyc_b': 10, 'seg_fake_b': 5, 'feat': 1}
    assert loss_weights['seg'] == {'seg_a': 1, 'seg_fake_b': 1, 'feat': 1}
    assert method('cut').loss_weights['gen'] == {'adv_b': 1, 'nce_a': 1, 'nce_b': 1, 'seg_fake_b': 1}


def test_weights_change_without_touching_the_table():
    before = copy.deepcopy(METHODS['synseg'].loss_weights)
    changed = method('synseg').pay({'gen': {'cyc_a': 5.0, 'idt_a': 2.0, 'seg_fake_b': 0.0}})
    assert changed.loss_weights['gen'] == {'adv_a': 1, 'adv_b': 1, 'cyc_a': 5, 'cyc_b': 10, 'idt_a': 2}
    assert changed.loss_weights['dis'] == before['dis'] and changed.loss_weights['seg'] == before['seg']
    assert 'seg_fake_b' in changed.terms() and changed.networks(TERMS) == NETWORKS['synseg']
    assert METHODS['synseg'].loss_weights == before and changed.name == 'synseg'
    assert method('synseg').pay({}).loss_weights == before


def test_a_term_at_weight_0_is_gone():
    changed = method('synseg').pay({'gen': {'seg_fake_b': 0.0}, 'seg': {'seg_fake_b': 0.0}})
    assert 'seg' not in changed.loss_weights and 'seg_fake_b' not in changed.terms()
    assert changed.networks(TERMS) == NETWORKS['cyclegan']


def test_a_new_player():
    assert method('cyclegan').pay({'seg': {'seg_fake_b': 1.0}}).networks(TERMS) == NETWORKS['synseg']


@pytest.mark.parametrize(
    'changes, network, owner',
    [
        ({'seg': {'seg_fake_b': 0.0}}, 's_b', 'seg'),
        ({'dis': {'dis_a': 0.0}}, 'd_a', 'dis'),
        ({'gen': {'adv_a': 0.0, 'cyc_a': 0.0, 'cyc_b': 0.0}}, 'g_ba', 'gen'),
        ({'gen': {'adv_a': 0.0, 'cyc_a': 0.0, 'cyc_b': 0.0, 'adv_b': 0.0, 'seg_fake_b': 0.0}}, 'g_ab', 'gen'),
    ],
)
def test_a_network_that_nobody_trains(changes, network, owner):
    told = f'synseg: network {network} is not trained; give player {owner} a weight for a term that uses it'
    with pytest.raises(InputError, match=told):
        method('synseg').pay(changes).networks(TERMS)


def test_a_judge_belongs_to_no_player():
    judged = method('cyclegan').pay({'gen': {'judge_a': 1.0, 'judge_b': 1.0}})
    assert judged.networks(TERMS) == NETWORKS['cyclegan'] and judged.fixed(TERMS) == ('judge',)
    assert method('cyclegan').fixed(TERMS) == () and names.is_fixed('judge') and not names.is_fixed('s_a')
    with pytest.raises(InputError, match='cyclegan: network g_ba is not trained; give player gen a weight'):
        cycles = dict.fromkeys(('adv_a', 'cyc_a', 'cyc_b'), 0.0)
        method('cyclegan').pay({'gen': cycles, 'seg': {'judge_b': 1.0}}).networks(TERMS)


def test_unknown_names():
    with pytest.raises(InputError, match="unknown method 'unit'; known: cut, cyclegan, generalise, mean_teacher, s"):
        method('unit')
    with pytest.raises(InputError, match="unknown player 'generator'; known: dis, gen, seg"):
        method('synseg').pay({'generator': {'adv_a': 1.0}})
    with pytest.raises(InputError, match=r'^config\.loss_weights\.gen\.cycle_a: no such term; is cyc_a meant\?$'):
        method('synseg').pay({'gen': {'cycle_a': 1.0}}).networks(TERMS)


def test_weights_that_are_not_given():
    assert method('synseg').pay({'gen': {'cyc_a': None, 'idt_b': None}}) == method('synseg')


def test_names():
    assert [names.domain(name) for name in ('a', 'label_a', 'd_b', 's_head_b', 'g_ab')] == ['a', 'a', 'b', 'b', 'b']
    assert (names.generator('b'), names.source('g_ab'), names.source('d_b')) == ('g_ba', 'a', 'b')
    assert names.other('a') == 'b'
    assert names.PLAYERS == ('gen', 'dis', 'seg')
    assert names.is_label('label_b') and not names.is_label('b') and names.is_generator('g_ab')
    assert [name for name in ('s_a', 's_shared', 's_head_a') if names.sees_features(name)] == ['s_shared', 's_head_a']
