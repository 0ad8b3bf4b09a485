"""`test_all` tests every labelled target scan, of systems that train on none of their patients."""

from types import SimpleNamespace
from unittest import mock

import pytest
import tiny

from synseg_jax.batches.selection import Fold, cases_to_test
from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import unseen
from synseg_jax.specification.parse import parse

SEEN = r'system {}: test_all would test patients whose scans stage {} reads \({}\); leave test_all out'
ALL = r'ct_\d, ct_\d, ct_\d'


def check(records, systems, folds=(Fold(),), manifest=None, **changes):
    """Checks the systems in order."""
    config = tiny.config(records, **{'test_all': True, **changes})
    config.systems = systems
    experiment = parse(config)
    for name in systems:
        unseen.check(name, experiment.stages(name), manifest or Manifest.load(records), folds)


def test_a_system_that_reads_the_source_alone(tiny_records):
    check(tiny_records, {'alone': {'method': 'supervised'}})
    manifest = Manifest.load(tiny_records)
    tested = cases_to_test('target', {'target': manifest}, Fold(), manifest, all_labelled=True)
    assert len(tested) == 4 > len(manifest.role('target', 'test')['cases']) == 1


@pytest.mark.parametrize(
    ('fields', 'stage', 'seen'),
    [
        ({'method': 'synseg'}, 'train', ALL),
        ({'method': 'supervised', 'augment': {'fourier': 0.5}}, 'train', ALL),
        ({'method': 'synseg', 'transductive': True}, 'train', ALL + ', ...'),
        ({'stages': {'atlases': {'kind': 'atlases'}}}, 'atlases', ALL),
        ({'stages': {'translate': {'method': 'cyclegan'}, 'train': {'method': 'supervised'}}}, 'translate', ALL),
        ({'stages': {'train': {'method': 'supervised'}, 'label': {'kind': 'label', 'segmentor_from': 'train',
                                                                 'sets': {'b': ('target',)}}}}, 'label', ALL),
    ],
)  # fmt: skip
def test_a_system_that_reads_the_target_is_refused(tiny_records, fields, stage, seen):
    with pytest.raises(InputError, match=SEEN.format('wrong', stage, seen)):
        check(tiny_records, {'wrong': fields})


def test_a_system_that_is_chosen_by_scores_of_target_scans(tiny_records):
    for judged in ({'selection': 'label_free'}, {'train': SimpleNamespace(guard=True)}):
        assert unseen._judged_on_target(SimpleNamespace(**{'selection': 'last', 'train': None} | judged))
    assert not unseen._judged_on_target(parse(tiny.config(tiny_records)).stage('synseg'))
    with mock.patch.object(unseen, '_judged_on_target', return_value=True):
        with pytest.raises(InputError, match=SEEN.format('alone', 'train', ALL)):
            check(tiny_records, {'alone': {'method': 'supervised'}})


def test_the_same_patient_in_another_set(tiny_records):
    """A patient of the source who is tested as well, in the split that is trained on or in that for validation."""
    for role in ('train', 'val'):
        manifest = Manifest.load(tiny_records)
        manifest.role('source', role)['cases'][0]['subject'] = 'ct_0'
        manifest.role('target', 'test')['cases'][0]['subject'] = 'ct_0'
        with pytest.raises(InputError, match=SEEN.format('alone', 'train', 'ct_0')):
            check(tiny_records, {'alone': {'method': 'supervised'}}, manifest=manifest)


def test_folds_over_the_source(tiny_records):
    """A patient held out of the first fold is trained on in the second; the target is tested whole in each."""
    folds, manifest = [Fold('source', 2, index) for index in range(2)], Manifest.load(tiny_records)
    check(tiny_records, {'alone': {'method': 'supervised'}}, folds)
    manifest.role('source', 'train')['cases'][0]['subject'] = 'ct_0'
    folds.sort(key=lambda fold: 'ct_0' not in fold.held_out(manifest))
    with pytest.raises(InputError, match=SEEN.format('alone', 'train', 'ct_0')):
        check(tiny_records, {'alone': {'method': 'supervised'}}, folds, manifest)


def test_other_systems_are_not_asked(tiny_records):
    check(tiny_records, {'synseg': {}}, test_all=False)


def test_it_is_refused_before_anything_is_trained(tiny_records, tmp_path):
    config = tiny.config(tiny_records)
    config.systems = {'alone': {'method': 'supervised'}, 'synseg': {'test_all': True}}
    with pytest.raises(InputError, match=SEEN.format('synseg', 'train', ALL)):
        tiny.run(config, tmp_path / 'run', tiny.quiet())
    assert not [*tmp_path.glob('run/stages/*/stage.json')]
