"""Every configuration loads at both scales, describes systems that can be built, and says what its fields mean."""

import importlib
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import tiny
from ml_collections import ConfigDict

from configs import base
from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.objective import names as network_names
from synseg_jax.phantom.dataset import REGIONS
from synseg_jax.specification.check import affects
from synseg_jax.specification.parse import parse
from synseg_jax.specification.resolve import flat
from synseg_jax.training.state import initial_params
from synseg_jax.training.system import System

FOLDER = Path(base.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if 'def get_config' in path.read_text())
TABLES = sorted(path.stem for path in (FOLDER / 'tables').glob('*.py'))
SMALL = ('quickstart', 'synseg_abdomen_laptop', 'adapt_laptop')
OF_NO_PAPER = ('adapt',)
VOLUMES = ('heart3d',)
PAPERS = [name for name in NAMES if name not in SMALL + VOLUMES + OF_NO_PAPER]  # whose `data` means the paper's scale
CLASSES = ('background', 'spleen', 'left kidney', 'right kidney', 'stomach', 'liver', 'body')


def _load(name, data=''):
    return importlib.import_module(f'configs.{name}').get_config(data)


def _stages(config):
    """(system, name, stage) of every training stage."""
    for system, stages_of in parse(config).systems.items():
        for name, stage in stages_of.items():
            if stage.kind == 'train':
                yield system, name, stage


def _fields(config, prefix=''):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}'


@pytest.mark.parametrize('name', NAMES)
def test_loads(name):
    bare, given = _load(name), _load(name, 'records/somewhere')
    assert (bare.data_dir, given.data_dir) == ('', 'records/somewhere')
    assert bare.default_system in bare.systems and given.systems.keys() == bare.systems.keys()
    named = ('systems.', 'phantom.sets.', 'segmentor.', 'generator.')  # what a configuration may name itself
    own = {field for field in _fields(bare) if not field.startswith(named)}
    assert own == {field for field in _fields(base.get_config()) if not field.startswith(named)}
    for config in (bare, given):
        assert list(_stages(config)) and set(config.run) <= set(config.systems)  # and they name fields that exist
        assert config.phantom.region in REGIONS


@pytest.mark.parametrize('name', NAMES)
def test_bare_is_demonstration_scale(name):
    config = _load(name)
    assert config.generator.width <= 16 and config.segmentor.width <= 16 and config.discriminator.width <= 16
    assert config.data.size == {'heart3d': (32, 40, 40)}.get(name, (64, 64))
    for system, stage, own in _stages(config):
        epochs = own.train.epochs + own.train.decay_epochs
        assert 0 < own.train.steps <= 2400 or not own.train.steps and epochs <= 12, (system, stage)
        assert own.segmentor.width <= 16


@pytest.mark.parametrize('name', PAPERS)
def test_data_means_the_scale_of_the_paper(name):
    config = _load(name, 'records/somewhere')
    for system, stage, own in _stages(config):
        if system == 'self_training':  # no paper's
            continue
        simplified = 32 if own.method == 'tumor_aware' else 64  # the U-Nets that translation alone uses
        assert own.generator.width == own.discriminator.width == 64, (system, stage)
        assert own.segmentor.width == simplified, (system, stage)
        assert own.generator.blocks == 9
        assert own.train.steps == 0 and own.train.epochs >= 100
        assert System(own, CLASSES).size in ((256, 256), (284, 284))  # the second: what only cuts of are seen of


def test_volumes_at_the_scale_of_the_paper():
    config = _load('heart3d', 'x')
    assert (config.data.size, config.data.spacing_mm) == ((86, 112, 112), 1.5)
    assert (config.dtype, config.remat, config.train.batch) == ('bfloat16', True, 1)
    lengths = {stage: (own.train.epochs, own.train.decay_epochs, own.train.patience)
               for system, stage, own in _stages(config) if system == 'joint_ct_14'}  # fmt: skip
    assert lengths == {'segment': (100, 0, 0), 'translate': (60, 0, 0), 'joint': (50, 50, 5)}
    assert set(config.rate.to_dict().values()) == {2e-4}
    # no label of the scans that are kept back
    for system, a, b in (('ada_ct_14', '', ':14%'), ('ada_mr_14', ':14%', '')):
        tune = tiny.configure(config, system, 'tune').sets
        assert tune.a == (f'source{a}', f'mr{b}', f'mr_back{a}') and tune.b == (f'target{b}', f'ct{a}', f'ct_back{b}')


def test_further_ct_are_read_by_the_last_stage_only():
    """Offline as MR that are made of them, jointly as CT, in both ways beside all real scans."""
    systems = _load('heart3d', 'x').systems
    for share in (0, 23, 50, 100):
        made, real = ((f'mr_more:{share}%',), (f'more:{share}%',)) if share else ((), ())
        ada, joint = (systems[f'{name}_more_{share}'].stages for name in ('ada', 'joint'))
        assert ada.tune.sets.to_dict() == {'a': ('source', 'mr', 'mr_back', *made), 'b': ('target', 'ct', 'ct_back')}
        assert joint.joint.sets.to_dict() == {'a': ('source',), 'b': ('target', *real)}
        if share:
            assert (ada.mr_more.kind, ada.mr_more.sets.to_dict()) == ('synthesize', {'a': (), 'b': ('more',)})
        for stages_of in (ada, joint):
            for stage in ('segment', 'translate'):
                assert stages_of[stage].sets.to_dict() == {'a': ('source',), 'b': ('target',)}


def test_further_ct_of_the_phantom_are_of_other_people():
    sets = importlib.import_module('configs.tables.heart_more').get_config().phantom.sets
    assert (sets.more.modality, sets.more.domain, sets.more.role) == ('CT', 'b', 'train')
    assert sets.more.first >= sets.target.first + sets.target.subjects


def test_the_papers_values():
    config = _load('synseg_spleen', 'x')
    assert config.rate.to_dict() == {'generator': 1e-4, 'discriminator': 2e-4, 'segmentor': 1e-4}
    assert config.train.epochs == 100 and config.train.batch == 1 and config.image_pool == 50
    assert tuple(config.data.classes) == CLASSES and len(config.loss.class_weights) == len(CLASSES)
    assert _load('synseg_ticv', 'x').train.epochs == 200
    published = _load('reference', 'x')
    assert set(published.rate.to_dict().values()) == {2e-4} and published.segmentor.tanh
    assert (published.train.epochs, published.train.decay_epochs) == (100, 100)


def test_essnet_is_trained_on_a_part_of_what_it_translates():
    config = _load('essnet_liver', 'x')
    for system in (name for name in config.systems if 'translate' in config.systems[name].get('stages', ())):
        read = {stage: tiny.configure(config, system, stage).sets.a for stage in ('translate', 'synthesis')}
        assert read == {'translate': ('source:350',), 'synthesis': ('source',)}, system


@pytest.mark.parametrize('data', ['', 'records/somewhere'])
def test_another_cohort_trains_ssnet_alone(data):
    """On labels of the target's modality, which no system without target labels reads; the paper's figures are its."""
    config = importlib.import_module('configs.tables.synseg_spleen').get_config(data)
    reading = {system for system, _, own in _stages(config) if not own.sets.b or 'cohort' in own.sets.b}
    assert reading == {'ssnet'} and tiny.configure(config, 'ssnet').sets.b == ('cohort',)
    rows = {row.system: row for row in parse(config).table.in_order()}
    assert rows['ssnet'].reported['dice'].startswith('.630') and not rows['source_only'].reported


@pytest.mark.parametrize('name', ['synseg_spleen', 'synseg_ticv'])
def test_the_printed_adversarial_loss_is_a_row(name):
    for data in ('', 'records/somewhere'):
        config = importlib.import_module(f'configs.tables.{name}').get_config(data)
        assert 'synseg_log_likelihood' in config.run
        losses = {s: tiny.configure(config, s).loss.adversarial for s in ('synseg', 'synseg_log_likelihood')}
        assert losses == {'synseg': 'lsgan', 'synseg_log_likelihood': 'log_likelihood'}


def _identity(config, systems=()):
    """The weights of identity losses that some system loss_weights, of those named or of all."""
    fields = flat(config.to_dict())
    paid = [(name.split('.'), weight) for name, weight in fields.items() if 'loss_weights.gen.idt_' in name and weight]
    systems = systems or config.systems
    return {(name[-1], weight) for name, weight in paid if name[0] != 'systems' or name[1] in systems}


@pytest.mark.parametrize('name', [name for name in TABLES if (FOLDER / 'tables' / f'{name}.md').is_file()])
def test_a_table_names_the_identity_losses_of_its_systems(name):
    """Of one that was run: the papers have none."""
    text = (FOLDER / 'tables' / f'{name}.md').read_text(encoding='utf-8')
    data = 'records/abdomen' if 'laptop' in name else ''
    config = importlib.import_module(f'configs.tables.{name}').get_config(data)
    paid = _identity(config, config.run)
    assert all(f'`{term}` {weight:g}' in text for term, weight in paid)
    assert bool(paid) == ('identity' in text)


def test_the_methods_page_names_the_configurations_with_identity_losses():
    text = (FOLDER.parent / 'docs' / 'methods.md').read_text(encoding='utf-8')
    listed = re.search(r'some configurations \(([^)]*)\)\s+let\s+generators\s+pay', text)[1]
    paid = {name for name in NAMES if _identity(_load(name)) or _identity(_load(name, 'records'))}
    assert set(re.findall(r'`(\w+)`', listed)) == paid


def test_folds_of_the_target_are_not_stratified_by_names_of_the_source():
    config = _load('prostate_ssim', 'records')
    assert config.fold.strata and config.fold.set == 'source'
    for name, data in itertools.product(NAMES, ('', 'records')):
        config = _load(name, data)
        parsed = parse(config)
        own = [name for name, fields in config.systems.items() if 'fold' in fields]
        strata = {(s, name): stage.fold.strata for s in own for name, stage in parsed.stages(s).items()}
        assert not any(strata.values()), name


OUTPUTS = {}  # of networks that configurations share


def _output(system, name, shape):
    """What a network of a system makes of an image: shapes only, nothing is computed."""

    def build(image):
        params = initial_params({name: system.networks[name]}, {name: image}, jax.random.key(0))
        return system.apply[name](params[name], image)

    key = system.networks[name], shape
    if key not in OUTPUTS:
        OUTPUTS[key] = jax.eval_shape(build, jax.ShapeDtypeStruct(shape, jnp.float32))
    return OUTPUTS[key]


@pytest.mark.parametrize('data', ['', 'records/somewhere'], ids=['bare', 'data'])
@pytest.mark.parametrize('name', NAMES)
def test_systems_can_be_built(name, data):
    config = _load(name, data)
    seen = set()
    for _, _, own in _stages(config):
        classes = own.data.classes or REGIONS[config.phantom.region].classes
        shape = str(
            (
                own.method,
                own.loss_weights,
                own.segmentor,
                own.generator,
                own.context,
                own.data.size,
                own.loss,
                own.augment,
            )
        )
        if shape in seen:
            continue
        seen.add(shape)
        system = System(own, classes)
        for network in system.networks:
            inner = system.method.shared_layer and network.startswith(('s_shared', 's_head'))
            depth = own.segmentor.width if inner else system.channels[network_names.source(network)]
            output = _output(system, network, (1, *system.size, depth))
            one = own.loss.segmentation == 'binary_cross_entropy'
            features = system.method.shared_layer and not network.startswith('s_head')
            logits = own.segmentor.width if features else 1 if one else len(classes)
            expected = {'g': system.channels.get(network_names.domain(network)), 's': logits, 'd': 1}[network[0]]
            assert output.shape[-1] == expected
            assert output.shape[1:-1] == system.size or network[0] == 'd'
        assert system.steps(100) > 0 and system.rates(100).keys() == system.networks.keys()
        assert callable(system.step(100, parallel.mesh(1)))


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'base'])
def test_a_configuration_says_what_it_reproduces(name):
    text = importlib.import_module(f'configs.{name}').__doc__
    assert len(text.splitlines()[0]) > 30
    if name.startswith(('synseg_', 'prostate', 'essnet', 'heart', 'tumor')):
        assert '--config=configs/' + name + '.py' in text and 'synseg_jax.prepare' in text
        assert re.search('Reported|Published', text)


@pytest.mark.parametrize(
    'system, message',
    [
        ({'train': {'batch': 'x'}}, "config.systems.odd.train.batch='x': give a whole number from 1 to 65536"),
        ({'train': 3}, 'config.systems.odd.train=3: give a dictionary of fields'),
        ({'seed': {'x': 1}}, 'config.systems.odd.seed.x: no such field'),
        ({'stages': {'train': {'rate': {'segmentor': (1.0,)}}}}, 'odd.stages.train.rate.segmentor=.1.0,.: give a fin'),
        ({'stages': {'train': 'x'}}, "config.systems.odd.stages.train='x': give a dictionary"),
        ({'stages': 'x'}, "config.systems.odd.stages='x': give a dictionary"),
        ({'stages': {}}, 'config.systems.odd.stages: empty; name at least one'),
        ({'loss_weights': {'gen': 3}}, 'config.systems.odd.loss_weights.gen=3: give a dictionary of fields'),
        (3, 'config.systems.odd=3: give a dictionary of fields'),
    ],
)
def test_what_a_system_changes_is_of_its_type(system, message):
    config = base.get_config('records')
    config.systems = ConfigDict({'odd': system})
    with pytest.raises(InputError, match=message):
        parse(config)


@pytest.mark.parametrize('name', TABLES)
def test_tables(name):
    """Every row is a system of the configuration and a set that it is measured on; the words fit a report."""
    for data in ('', 'records/somewhere'):
        config = parse(importlib.import_module(f'configs.tables.{name}').get_config(data))
        table = config.table
        wanted = table.in_order()
        assert len(wanted) >= 3 and table.reference in {'', *(row.name for row in wanted)}
        assert {row.system for row in wanted} == set(config.run) <= set(config.systems)
        assert len({(row.name, row.set) for row in wanted}) == len(wanted)
        text = importlib.import_module(f'configs.tables.{name}').__doc__
        assert f'--table=configs/tables/{name}.py' in text
        for row in wanted:
            assert set(row.reported) <= set(table.measures)
            tests = list(config.stages(row.system).values())[-1].test_sets
            assert not tests or row.set in tests, (row.system, row.set)
    assert table.runs  # the folder that tables of the same systems share


def test_tables_that_share_a_folder_share_a_configuration(tmp_path):
    """But for what decides which systems are run and shown."""
    shared = {}
    for name in TABLES:
        config = importlib.import_module(f'configs.tables.{name}').get_config()
        shared.setdefault(config.table.runs, []).append(config)
    assert {len(configs) for configs in shared.values()} == {1, 2, 4}
    for runs, configs in shared.items():
        fields = [{k: v for k, v in flat(c.to_dict()).items()
                   if affects(k) not in ('display', 'speed')} for c in configs]  # fmt: skip
        assert all(own == fields[0] for own in fields), runs


@pytest.mark.parametrize('data', ['', 'records/somewhere'], ids=['bare', 'data'])
def test_bounds_of_tumours_are_trained_as_the_rows_that_they_bound(data):
    """In the same patches and slices, with the slices beside, augmentation, network, loss and rate of the others."""
    config = _load('tumor_lung', data)
    trained = {(system, stage): own for system, stage, own in _stages(config) if stage != 'translate'}
    assert {'week_one', 'mr_labels', 'kept_cyclegan', 'unsupervised'} <= {system for system, _ in trained}
    first = trained['unsupervised', 'segment']
    for place, own in trained.items():
        for field in ('data', 'context', 'augment', 'segmentor', 'loss', 'rate', 'optimizer', 'average'):
            assert getattr(own, field) == getattr(first, field), (place, field)
        assert own.train.batch == first.train.batch and own.train.balanced == first.train.balanced
    synthesis = tiny.configure(config, 'unsupervised', 'synthesis')
    assert first.data.size == synthesis.data.size and first.data.source_margin == synthesis.data.source_margin
    assert first.data.target_margin == first.data.source_margin in (-1, 4)  # slices without tumours too


def test_the_u_nets_of_translation_are_simpler_than_the_final_one():
    for data in ('', 'records/somewhere'):
        config = _load('tumor_lung', data)
        simple, final = (tiny.configure(config, 'tumor_aware', stage).segmentor for stage in ('translate', 'segment'))
        assert (simple.width, simple.levels) < (final.width, final.levels) and simple.levels < final.levels
        assert tiny.configure(config, 'tumor_aware', 'translate').loss.segmentation == 'dice'
