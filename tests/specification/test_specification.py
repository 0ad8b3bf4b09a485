"""The declared fields of a configuration: base.py holds them all, and what they may not hold is refused."""

import dataclasses
import importlib
import math
import re
from pathlib import Path

import pytest
import tiny
from test_configs import NAMES, TABLES

from configs import base
from synseg_jax.errors import InputError
from synseg_jax.networks import ARCHITECTURES
from synseg_jax.runs import stages
from synseg_jax.specification import page
from synseg_jax.specification.check import affects, check, check_complete, declaration, declared
from synseg_jax.specification.field import AFFECTS, FrozenMapping, Range
from synseg_jax.specification.network import Network
from synseg_jax.specification.parse import parse, replaced
from synseg_jax.specification.resolve import flat
from synseg_jax.specification.stage import Stage

BAD = {
    'seed': (-1, 2**32),
    'fold.of': (-1,),
    'context.spacing_mm': (-1.0, math.nan),
    'loss_weights.gen.adv_a': (-1.0, math.inf, 'x', ('linear', 1.0), ('linear', 0.0, 1.0, 0), ('linear', -1.0, 1.0, 9)),
    'rate.generator': (math.nan, math.inf, -1e-4),
    'optimizer.b1': (1.0, -0.1, math.nan),
    'optimizer.eps': (0.0,),
    'optimizer.rule': ('adamw',),
    'average': (1.0, math.nan),
    'image_pool': (-1,),
    'loss.class_weights': ((1.0, math.nan), (1.0, -1.0), ('x', 1.0)),
    'generator.width': (0, -4),
    'segmentor.blocks': (-1,),
    'augment.crop': (0.0, 1.5),
    'augment.flip': ('x',),
    'augment.fourier': (-0.1, 0.6),
    'augment.shear': (90.0,),
    'augment.elastic_spacing': (0.0,),
    'augment.low_resolution': (0.5,),
    'augment.blur_probability': (1.1,),
    'augment.window': ((0, 3),),
    'train.batch': (0, -1, 1.5, True, 'x'),
    'train.steps': (-1,),
    'train.epochs': (-1,),
    'train.save_every': (0,),
    'train.keep': (0,),
    'train.resident_gib': (math.inf,),
    'predict.batch': (0,),
    'predict.flips': ('ud',),
    'atlases.spacing_mm': (0.0,),
    'data.spacing_mm': (math.nan,),
    'data.window_hu': ((-math.inf, 100.0), (100.0, 0.0)),
    'phantom.sets.source.subjects': (0,),
    'sets.a': ((1,),),
    'run': ((3,),),
}


@pytest.mark.parametrize('name, value', [(name, value) for name, values in BAD.items() for value in values])
def test_what_a_field_may_not_hold(name, value):
    config = tiny.config().unlock()
    *groups, last = name.split('.')
    group = config
    for one in groups:
        group = group[one]
    del group[last]
    group[last] = value
    with pytest.raises(InputError, match=rf'^config\.{re.escape(name)}={re.escape(repr(value))}: give .*$'):
        check(config.to_dict())


def test_fields_of_systems_and_stages_and_all_at_once():
    config = tiny.config()
    config.systems.synseg = {'rate': {'generator': math.nan}, 'stages': {'one': {'train': {'batch': 'x'}}}}
    config.image_pool = -1
    with pytest.raises(InputError) as refused:
        check(config.to_dict())
    assert sorted(refused.value.args) == [
        'config.image_pool=-1: give a whole number from 0 to 65536',
        'config.systems.synseg.rate.generator=nan: give a finite number from 0 on',
        "config.systems.synseg.stages.one.train.batch='x': give a whole number from 1 to 65536",
    ]


@pytest.mark.parametrize(
    'where, told',
    [
        ('trian', r'config\.trian: no such field; is train meant\?'),
        ('train.bach', r'config\.train\.bach: no such field; is batch meant\?'),
        ('systems.synseg.rte', r'config\.systems\.synseg\.rte: no such field; is rate meant\?'),
        ('phantom.sets.source.subject', r'config\.phantom\.sets\.source\.subject: no such field; is subjects meant\?'),
        ('zebra', r'config\.zebra: no such field; docs/configuration\.md lists them'),
        ('history', r'config\.history: no such field; history is now image_pool'),
        ('systems.synseg.tests', r'config\.systems\.synseg\.tests: no such field; tests is now test_sets'),
    ],
)
def test_a_misspelt_field_is_refused(where, told):
    config = tiny.config().unlock()
    group = config
    *groups, last = where.split('.')
    for one in groups:
        group = group[one]
    group[last] = 3
    with pytest.raises(InputError, match=f'^{told}$'):
        check(config.to_dict())


def test_fields_that_earlier_versions_lack_may_be_missing():
    """As where a configuration replaces a whole group."""
    config = tiny.config()
    del config.optimizer['weight_decay'], config['segmentor_from']
    assert parse(config) == tiny.parsed()


def test_a_field_that_is_missing():
    config = tiny.config()
    del config.train['batch'], config['average'], config['generators_from'], config.generator['width']
    check(config.to_dict())
    with pytest.raises(InputError, match='^the configuration has no average, generators_from, train.batch; '):
        check_complete(config.to_dict())


@pytest.mark.parametrize('name', [*NAMES, *(f'tables.{name}' for name in TABLES)])
def test_shipped_configurations(name):
    for data in ('', 'records'):
        config = importlib.import_module(f'configs.{name}').get_config(data)
        check(config.to_dict())
        check_complete(config.to_dict())


def test_base_holds_every_field_at_its_default():
    given = flat(base.get_config('records').to_dict())
    assert not [name for name in given if not name.startswith(('systems', 'stages')) and declaration(name) is None]
    for name, one in declared().items():
        if (
            not name.startswith(('phantom.sets', 'loss_weights.', 'table.'))
            and one.default is not None
            and name != 'data_dir'
        ):
            assert given[name] == one.default, name


def test_choices_are_those_that_there_are():
    """Declarations know no networks; the names that they list are these."""
    fields = {f.name for network in ARCHITECTURES.values() for f in dataclasses.fields(network)}
    assert {f.name for f in dataclasses.fields(Network)} - {'architecture'} <= fields
    assert set(dataclasses.fields(Network)[0].metadata['allowed']) == set(ARCHITECTURES)


def test_what_fields_affect():
    assert affects('train.batch') == affects('loss_weights.gen.idt_b') == affects('segmentor.norm') == 'result'
    assert affects('train.epochs') == 'length' and affects('train.workers') == 'speed' and affects('run') == 'display'
    assert affects('systems.synseg.stages.train.predict.flips') == 'measures' and affects('data.size') == 'records'
    assert affects('runtime') == 'display' and declaration('runtime') is None  # no field whose name begins like another
    assert {one.affects for one in declared().values()} == set(AFFECTS)


def test_stages_are_values():
    assert Stage() == Stage() and hash(Stage()) == hash(Stage(image_pool=50)) and Stage(image_pool=3) != Stage()
    assert hash(FrozenMapping({'a': 1.0})) == hash(FrozenMapping({'a': 1.0})) and FrozenMapping({'a': 1}) == {'a': 1}


@pytest.mark.parametrize(
    'name, whole, decimal',
    [
        ('loss_weights__gen__cyc_a', 2, 2.0),
        ('loss_weights__seg__seg_a', ('linear', 0, 1, 10), ('linear', 0.0, 1.0, 10)),
        ('loss__class_weights', (1, 2, 1), (1.0, 2.0, 1.0)),
    ],
)
def test_whole_numbers_digest_as_decimals(name, whole, decimal):
    one, other = (tiny.parsed(**{name: value}) for value in (whole, decimal))
    assert stages.fields(one, 'synseg') == stages.fields(other, 'synseg') != stages.fields(tiny.parsed(), 'synseg')
    assert replaced(one.stage('synseg'), {'seed': 0}) == other.stage('synseg')


def test_ranges():
    assert Range(1, whole=True).holds(1) and not any(map(Range(1, whole=True).holds, (0, 1.0, True, 'x', None)))
    assert Range(high=1, above=True).holds(1) and not any(map(Range(high=1, above=True).holds, (0, 1.1, math.nan)))
    assert Range(high=1, below=True).holds(0.0) and not Range(high=1, below=True).holds(1)
    assert str(Range(high=1, above=True)) == 'a finite number above 0 to 1'
    assert str(Range(high=1, below=True)) == 'a finite number from 0 to below 1'
    assert str(Range(above=True)) == 'a finite number above 0'


def test_the_page_is_what_the_declarations_print():
    committed = Path(base.__file__).parents[1] / 'docs/configuration.md'
    assert committed.read_text(encoding='utf-8') == page.page(), f'python -m {page.__name__} > docs/configuration.md'
    assert all(one.text for name, one in declared().items()), 'a field without a word on what it means'
