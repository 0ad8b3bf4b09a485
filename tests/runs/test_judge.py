"""The judge of an earlier stage: where its weights come from, what keeps it, and which judges are refused."""

import jax
import numpy as np
import pytest
import tiny
from test_step import drawn

from configs import papers
from synseg_jax.devices import parallel
from synseg_jax.devices.signals import Signals
from synseg_jax.errors import InputError
from synseg_jax.exchange import importing
from synseg_jax.exchange.exporting import export
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.trained_model import Trained
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import first_weights, stages, train_stage
from synseg_jax.runs.check_systems import check
from synseg_jax.specification.parse import parse
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.state import LAYOUT
from synseg_jax.training.system import System, system_of

FREE = {'adv_a': 0.0, 'adv_b': 0.0, 'cyc_a': 0.0, 'cyc_b': 0.0}
PAID = {'gen': {**FREE, 'judge_a': 1.0, 'judge_b': 1.0}, 'dis': {'dis_a': 0.0, 'dis_b': 0.0}}
CHANNELS, TYPICAL = {'a': 'MR', 'b': 'CT'}, {'a': (0.0, 700.0), 'b': (-200.0, 300.0)}


def _config(first=None, records='', **translate):
    """A segmentor of width 3 on the source, then generators that pay for its judgement."""
    c = tiny.config(records, train__steps=2, train__decay_steps=0, average=0.9)
    judge = {'method': 'supervised', 'segmentor': {'width': 3}, **(first or {})}
    judged = {'method': 'cyclegan', 'judge_from': 'first', 'loss_weights': PAID, **translate}
    c.systems, c.default_system = {'one': {'stages': {'translate': judged, 'first': judge}}}, 'one'
    return c


def _stages(**changes):
    return parse(_config(**changes)).stages('one')


def _over():
    return parallel.mesh(1)


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """The folder of the earlier stage, whose moving average differs from its weights."""
    folder, config = tmp_path_factory.mktemp('judge') / 'first-0', _stages()['first']
    run = Run(folder, config, tiny.CLASSES, CHANNELS, TYPICAL)
    state = drawn(run.system.abstract_state(_over()))
    state = state.replace(average=jax.tree.map(lambda w: w + np.float32(1), state.params))
    folder.mkdir()
    run.save()
    with Checkpoints(folder / 'checkpoints') as checkpoints:
        checkpoints.save(parallel.place(state, _over(), LAYOUT), 0.5)
    return folder


@pytest.fixture(scope='module')
def state(first):
    """The first state of the second stage."""
    stage = _stages()['translate']
    return first_weights.first_state(system_of(stage, tiny.CLASSES), stage, _over(), (), first)


def test_its_weights_are_those_of_inference(first, state):
    judge = state.params['judge']
    assert tiny.same(judge, Trained(Run.load(first)).networks.params['s_a'])
    assert judge['head']['kernel'].shape[-1] == 3 and (np.asarray(judge['head']['kernel']) > 0.5).all()
    assert state.average.keys() == state.optimizer.keys() == {'g_ab', 'g_ba'}
    assert tiny.same(state.average, {name: state.params[name] for name in state.average})


def _judged(records, folder='first-0', steps=2):
    """The second stage, after a first one in a folder."""
    manifest, config = Manifest.load(records), _stages(records=records)['translate']
    sets = dict.fromkeys(manifest.sets, manifest)
    return stages.Stage('translate', config, manifest, sets, earlier={'first': stages.Done(folder, steps)})


def test_it_is_trained_first_and_found_in_its_folder(tiny_records, tmp_path, monkeypatch):
    def training(stage, folder, title, begin, judge):
        raise FileNotFoundError(str(judge))

    assert list(_stages()) == ['first', 'translate']
    monkeypatch.setattr(train_stage, 'StageTraining', training)
    job = stages.Job(_judged(tiny_records), tmp_path / 'translate-0', '', tiny.quiet(), Signals(), print)
    with pytest.raises(FileNotFoundError, match=str(tmp_path / 'first-0')):
        train_stage.run(job)


def test_the_digest_follows_it(tiny_records):
    first, other, longer = (_judged(tiny_records, *done).key() for done in (('first-0',), ('1',), ('first-0', 4)))
    assert len({first, other, longer}) == 3 and first == _judged(tiny_records).key()


def test_a_stage_without_judge_has_the_digest_of_earlier_versions(monkeypatch):
    monkeypatch.setattr(stages, 'digest', lambda *content: str(content))
    assert 'judge' not in stages.fields(parse(tiny.config()), 'synseg')
    assert "'judge_from': 'first'" in stages.fields(parse(_config()), 'one')


def test_the_stage_is_read_and_exported_without_the_earlier_one(state, tmp_path):
    run = Run(tmp_path / 'translate-0', _stages()['translate'], tiny.CLASSES, CHANNELS, TYPICAL)
    run.folder.mkdir()
    run.save()
    with Checkpoints(run.folder / 'checkpoints') as checkpoints:
        checkpoints.save(parallel.place(jax.tree.map(np.asarray, state), _over(), LAYOUT), 0.5)
    trained = Trained(Run.load(run.folder))
    assert trained.run.config == run.config and trained.networks.params.keys() == {'g_ab', 'g_ba'}
    card = export(trained, tmp_path / 'export')
    assert card.networks.keys() == {'g_ab', 'g_ba'} and card.loss_weights['gen']['judge_a'] == 1
    imported = importing.with_card(run.config, card).config
    assert System(imported, tiny.CLASSES).networks.keys() == {'g_ab', 'g_ba'} and not imported.judge_from


def test_the_papers_table_has_its_weights():
    facts = papers.facts(_stages()['translate'], (), 'abdomen')
    assert facts['weights of G'] == 'judge_a 1, judge_b 1' and 'S' not in facts


@pytest.mark.parametrize(
    'first, translate, says',
    [
        ({}, {'judge_from': ''}, 'a judge is needed by judge_a, judge_b; name an earlier stage that trains a seg'),
        ({}, {'loss_weights': {}}, 'no term uses the judge; set loss_weights.gen.judge_a or judge_b, or leave out'),
        ({}, {'judge_from': 'nobody'}, r"unknown stage \(judge_from of translate of one\) 'nobody'; known: "),
        ({}, {'judge': {'width': 3}}, 'stage translate of one: config.judge is set by judge_from; name there'),
        ({'method': 'cyclegan'}, {}, 'judge_from first: give a stage that trains one segmentor, not none'),
        ({'kind': 'atlases'}, {}, 'judge_from first: give a stage that trains one segmentor, not none'),
        ({'method': 'shape_consistency'}, {}, 'trains one segmentor, not several, s_a, s_b'),
        ({'data': {'size': (64, 64)}}, {}, r'has data.size=\(64, 64\), this stage \(32, 32\); use the same value in'),
        ({'data': {'classes': ('background', 'liver')}}, {}, 'has data.classes=.*liver.*, this stage '),
        ({'context': {'slices': 1}}, {}, 'has context.slices=1, this stage 0'),
        ({'label_channel': True}, {}, 'has label_channel=True, this stage False'),
        ({'loss': {'segmentation': 'binary_cross_entropy'}}, {}, "has loss.segmentation='binary_cross_entropy', this"),
    ],
)
def test_what_cannot_be_judged(first, translate, says):
    with pytest.raises(InputError, match=says) as refused:
        check(parse(_config(first, **translate)))
    assert len(refused.value.args) == 1


def test_a_judge_of_other_classes_is_refused(first):
    """Records may give other classes than the configuration."""
    stage = _stages()['translate']
    with pytest.raises(InputError, match='first: its segmentor has the classes background, liver, spleen, this stage'):
        system = System(stage, ('background', 'kidney', 'spleen'))
        first_weights.first_state(system, stage, _over(), (), first)
