"""The numbers that fields of a configuration may hold, and every shipped configuration within them."""

import importlib
import math
import re

import pytest
import tiny
from test_configs import NAMES, TABLES

from configs import base
from synseg_jax.errors import InputError
from synseg_jax.ranges import RANGES, Range, check_complete, check_ranges

BAD = {
    'seed': (-1, 2**32),
    'fold.of': (-1,),
    'context.spacing_mm': (-1.0, math.nan),
    'pays.gen.adv_a': (-1.0, math.inf),
    'rate.generator': (math.nan, math.inf, -1e-4),
    'optimizer.b1': (1.0, -0.1, math.nan),
    'optimizer.eps': (0.0,),
    'average': (1.0, math.nan),
    'history': (-1,),
    'loss.class_weights': ((1.0, math.nan), (1.0, -1.0), ('x', 1.0)),
    'generator.width': (0, -4),
    'segmentor.blocks': (-1,),
    'augment.crop': (0.0, 1.5),
    'augment.window': ((0, 3),),
    'train.batch': (0, -1),
    'train.steps': (-1,),
    'train.epochs': (-1,),
    'train.save_every': (0,),
    'train.keep': (0,),
    'train.resident_gib': (math.inf,),
    'predict.batch': (0,),
    'atlases.spacing_mm': (0.0,),
    'data.spacing_mm': (math.nan,),
    'data.window_hu': ((-math.inf, 100.0),),
    'phantom.sets.source.subjects': (0,),
    'sets.a': ((1,),),
    'run': ((3,),),
}


@pytest.mark.parametrize('field, value', [(field, value) for field, values in BAD.items() for value in values])
def test_what_a_field_may_not_hold(field, value):
    with pytest.raises(InputError, match=rf'^config\.{re.escape(field)}={re.escape(repr(value))}: give .*$'):
        check_ranges(tiny.config(**{field.replace('.', '__'): value}))


def test_fields_of_systems_and_stages_and_all_at_once():
    config = tiny.config()
    config.systems.synseg = {'rate': {'generator': math.nan}, 'stages': {'one': {'train': {'batch': 'x'}}}}
    config.history = -1
    with pytest.raises(InputError) as refused:
        check_ranges(config)
    assert sorted(refused.value.args) == [
        'config.history=-1: give a whole number from 0 on',
        'config.systems.synseg.rate.generator=nan: give a finite number from 0 on',
        "config.systems.synseg.stages.one.train.batch='x': give a whole number from 1 on",
    ]


def test_a_field_that_is_missing():
    config = tiny.config()
    del config.train['batch'], config['average']
    check_ranges(config)
    with pytest.raises(InputError, match='^the configuration has no average, train.batch; configs/base.py has all'):
        check_complete(config)


@pytest.mark.parametrize('name', [*NAMES, *(f'tables.{name}' for name in TABLES)])
def test_shipped_configurations(name):
    for data in ('', 'records'):
        for check in (check_ranges, check_complete):
            check(importlib.import_module(f'configs.{name}').get_config(data))


def test_every_number_has_a_range():
    """All of base.py but those of data, which the settings of records check."""
    patterns = [pattern for names in RANGES.values() for pattern in names.split()]
    assert len(patterns) == len(set(patterns))
    for group in ('train', 'augment', 'rate', 'predict', 'context', 'optimizer', 'atlases'):
        for field, value in base.get_config()[group].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert {f'{group}.{field}', f'{group}.*'} & set(patterns), field


def test_ranges():
    assert Range(1, whole=True).holds(1) and not any(map(Range(1, whole=True).holds, (0, 1.0, True, 'x', None)))
    assert Range(high=1, above=True).holds(1) and not any(map(Range(high=1, above=True).holds, (0, 1.1, math.nan)))
    assert Range(high=1, below=True).holds(0.0) and not Range(high=1, below=True).holds(1)
    assert str(Range(high=1, above=True)) == 'a finite number above 0 to 1'
    assert str(Range(high=1, below=True)) == 'a finite number from 0 to below 1'
    assert str(Range(above=True)) == 'a finite number above 0'
