"""A configuration and its records: what it sets they must have been made with, and the rest is theirs."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import tiny

from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import experiment
from synseg_jax.runs.agreement import settled
from synseg_jax.specification.data import IMAGE_FIELDS, Data

OTHER = {  # than the defaults and than what tiny records are made with
    'size': (64, 48), 'spacing_mm': 2.0, 'slice_axis': 'coronal', 'window_hu': (-100.0, 100.0),
    'percentiles': (1.0, 99.0), 'foreground_share': 0.5, 'source_margin': 3, 'target_margin': 4, 'target_center': 0.5,
    'cut_about': 'lesion', 'antialias': True, 'bias_correction': True, 'channels': (2, 1),
    'classes': ('background', 'spleen', 'liver'), 'subject': '(..)',
    'source_split': (0.5, 0.25, 0.25), 'target_split': (0.5, 0.25, 0.25), 'target_labels': True,
    'same_patients': ('target',), 'reverse': True, 'seed': 3,
}  # fmt: skip


@pytest.fixture(scope='module')
def manifest(tiny_records):
    return Manifest.load(tiny_records)


def _remade(manifest, field, value):
    """The manifest of records that were made with another value of a setting."""
    stored = {field: value} if field in (*IMAGE_FIELDS, 'classes', 'seed') else {}
    return replace(manifest, settings={**manifest.settings, field: value}, **stored)


def test_every_setting_is_remembered(manifest):
    assert manifest.settings == vars(tiny.parsed().data) and manifest.settings.keys() == vars(Data()).keys()
    assert {*OTHER} == manifest.settings.keys()


@pytest.mark.parametrize('field', OTHER)
def test_what_is_set_and_contradicted_is_refused(manifest, field):
    config = tiny.parsed(**{f'data__{field}': OTHER[field]})
    with pytest.raises(InputError) as refused:
        settled(config, manifest)
    told = f'data.{field} is {OTHER[field]!r}, in the records '
    assert told in str(refused.value) and 'python -m synseg_jax.prepare --config=' in str(refused.value)
    assert f'--config.data.{field}=' in str(refused.value) and '\n' not in str(refused.value)
    assert settled(config, _remade(manifest, field, OTHER[field]))[1] == ''


def test_all_that_is_contradicted_is_told_at_once(manifest):
    config = tiny.parsed(data__size=(64, 48), data__slice_axis='coronal')
    with pytest.raises(InputError, match=re.escape(
        'data.size is (64, 48), in the records (32, 32); data.slice_axis is \'coronal\', in the records \'axial\'; '
        'prepare the records again'
    )) as refused:  # fmt: skip
        settled(config, manifest)
    assert '--config.data.size="(32, 32)" --config.data.slice_axis=axial' in str(refused.value)


@pytest.mark.parametrize('field', [f for f in OTHER if f not in ('size', 'window_hu', 'target_split', 'classes')])
def test_what_is_not_set_is_taken_from_the_records(manifest, field):
    """But for what tests/tiny.py sets."""
    config, records = tiny.parsed(), _remade(manifest, field, OTHER[field])
    taken, told = settled(config, records)
    assert getattr(taken.data, field) == OTHER[field] and told == f'as in the records: data.{field}={OTHER[field]!r}'
    assert getattr(config.data, field) != OTHER[field]
    with pytest.raises(InputError, match=f'data.{field} is '):  # the default, asked for by name
        settled(config, records, (f'data.{field}',))


def test_classes_and_seeds_of_records(manifest):
    records = _remade(manifest, 'classes', OTHER['classes'])
    taken, told = settled(tiny.parsed(seed=7), records)
    assert not taken.data.classes and taken.seed == 7 and not told


def test_older_records_are_known_in_part(manifest, tiny_records, tmp_path):
    content = json.loads((tiny_records / 'manifest.json').read_text())
    del content['settings'], content['antialias']
    folder = shutil.copytree(tiny_records, tmp_path / 'records')
    (folder / 'manifest.json').write_text(json.dumps(content))
    older = Manifest.load(folder)
    assert settled(tiny.parsed(data__foreground_share=0.5), older)[1] == '' and not older.antialias
    with pytest.raises(InputError, match='data.percentiles is'):
        settled(tiny.parsed(data__percentiles=(1.0, 99.0)), older)
    (folder / 'manifest.json').write_text(json.dumps({**content, 'settings': []}))
    with pytest.raises(InputError, match='settings: an object of fields is wanted'):
        Manifest.load(folder)


def test_nothing_is_trained_on_records_of_another_size(tiny_records, tmp_path):
    config = tiny.config(tiny_records, data__size=(16, 16), train__steps=1, train__decay_steps=0)
    with pytest.raises(InputError, match=re.escape('data.size is (16, 16), in the records (32, 32)')):
        tiny.run(config, tmp_path / 'run', tiny.quiet())
    assert not list((tmp_path / 'run').rglob('*.json')) and not list((tmp_path / 'run').rglob('checkpoints'))


def test_an_experiment_goes_on_with_what_the_records_say(manifest, tmp_path):
    """And tells it in one line; what is kept of the configuration is as it was given."""
    folder = shutil.copytree(manifest.folder, tmp_path / 'records')
    content = json.loads((folder / 'manifest.json').read_text())
    content |= {'percentiles': [1.0, 99.0], 'settings': {**content['settings'], 'percentiles': [1.0, 99.0]}}
    (folder / 'manifest.json').write_text(json.dumps(content))
    console = tiny.quiet()
    made = experiment.Workspace(tiny.parsed(folder), tmp_path / 'run', console, experiment.Signals())
    assert made.config.data.percentiles == (1.0, 99.0) and made.manifest.percentiles == (1.0, 99.0)
    assert console.file.getvalue().splitlines() == ['as in the records: data.percentiles=(1.0, 99.0)']
    kept = json.loads((tmp_path / 'run' / 'run.json').read_text())['config']
    assert kept['data']['percentiles'] == [2.5, 97.5]
