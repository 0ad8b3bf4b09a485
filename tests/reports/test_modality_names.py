"""Pictures speak of modalities: no network, term or domain is called by a letter."""

import pytest

from synseg_jax.objective import methods, names
from synseg_jax.objective.terms import TERMS
from synseg_jax.reports.modality_names import LETTERS, column, modalities

MR_CT = {'a': 'MR', 'b': 'CT'}


@pytest.mark.parametrize(
    'channels, called',
    [
        ({'a': 'T2-SPIR MR', 'b': 'CT_portal'}, MR_CT),
        ({'a': 'MR', 'b': 'camera'}, {'a': 'MR', 'b': 'camera'}),
        ({'a': 'T1 MR', 'b': 'T2 MR'}, {'a': 'T1 MR', 'b': 'T2 MR'}),
        ({'a': 'CT', 'b': 'CT'}, {'a': 'source CT', 'b': 'target CT'}),
        ({'a': 'MR'}, {'a': 'MR', 'b': 'b'}),
        ({}, LETTERS),
    ],
)
def test_modalities(channels, called):
    assert modalities(channels) == called


@pytest.mark.parametrize(
    'name, words',
    [
        ('adv_b', 'MR to CT'),
        ('cyc_a', 'MR'),
        ('seg_fake_b', 'synthetic CT'),
        ('dice_fake_b', 'synthetic CT'),
        ('grad_norm/g_ba', 'CT to MR'),
        ('lr/d_a', 'MR discr.'),
        ('grad_norm/s_head_b', 'CT head'),
        ('volume/left_a', 'left_a'),
        ('change', ''),
        ('agreement', 'agreement'),
    ],
)
def test_columns(name, words):
    assert column(name, MR_CT) == words


def test_no_letter_is_left():
    networks = {
        network for method in methods.METHODS.values() for of in method.networks(TERMS).values() for network in of
    }
    assert names.PATCHES in networks and names.SHARED in networks
    for name in (*TERMS, *(f'lr/{network}' for network in networks)):
        assert not {*column(name, MR_CT).replace(':', ' ').split()} & {'a', 'b', 'ab', 'ba'}, name
        assert '_' not in column(name, MR_CT), name
