"""Every configuration loads at both scales, describes systems that can be built, and says what its fields mean."""

import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs import base
from synseg_jax.training import parallel
from synseg_jax.training.state import initial_params
from synseg_jax.training.system import System, configure

FOLDER = Path(base.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem != '__init__')
SMALL = ('quickstart', 'synseg_abdomen_laptop')
PAPERS = [name for name in NAMES if name not in SMALL]  # whose `data` means the paper's scale
CLASSES = ('background', 'spleen', 'left kidney', 'right kidney', 'stomach', 'liver', 'body')


def _load(name, data=''):
    return importlib.import_module(f'configs.{name}').get_config(data)


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
    assert bare.chosen in bare.systems and given.systems.keys() == bare.systems.keys()
    own = {field for field in _fields(bare) if not field.startswith('systems.')}
    assert own == {field for field in _fields(base.get_config()) if not field.startswith('systems.')}
    for config in (bare, given):
        for system in config.systems:
            configure(config, system)  # names fields that exist


@pytest.mark.parametrize('name', NAMES)
def test_bare_is_demonstration_scale(name):
    config = _load(name)
    assert config.generator.width <= 16 and config.segmentor.width <= 16 and config.discriminator.width <= 16
    assert config.data.size == (64, 64)
    for system in config.systems:
        assert 0 < configure(config, system).train.steps <= 2000


@pytest.mark.parametrize('name', PAPERS)
def test_data_means_the_scale_of_the_paper(name):
    config = _load(name, 'records/somewhere')
    assert config.generator.width == config.segmentor.width == config.discriminator.width == 64
    assert config.generator.blocks == config.segmentor.blocks == 9
    for system in config.systems:
        own = configure(config, system)
        assert own.train.steps == 0 and own.train.epochs >= 100
        assert System(own, CLASSES).size == (256, 256)


def test_the_papers_values():
    config = _load('synseg_spleen', 'x')
    assert config.rate.to_dict() == {'generator': 1e-4, 'discriminator': 2e-4, 'segmentor': 1e-4}
    assert config.train.epochs == 100 and config.train.batch == 1 and config.history == 50
    assert tuple(config.data.classes) == CLASSES and len(config.loss.class_weights) == len(CLASSES)
    assert _load('synseg_ticv', 'x').train.epochs == 200
    published = _load('reference', 'x')
    assert set(published.rate.to_dict().values()) == {2e-4} and published.segmentor.tanh
    assert (published.train.epochs, published.train.decay_epochs) == (100, 100)


@pytest.mark.parametrize('data', ['', 'records/somewhere'], ids=['bare', 'data'])
@pytest.mark.parametrize('name', NAMES)
def test_systems_can_be_built(name, data):
    """Shapes only: nothing is computed."""
    config = _load(name, data)
    for chosen in config.systems:
        own = configure(config, chosen)
        classes = tuple(own.data.classes) or CLASSES
        system = System(own, classes)
        image = jax.ShapeDtypeStruct((1, *system.size, 1), jnp.float32)

        def build(image, system=system):
            images = dict.fromkeys(system.networks, image)
            params = initial_params(system.networks, images, jax.random.key(0))
            return {name: run(params[name], image) for name, run in system.apply.items()}

        outputs = jax.eval_shape(build, image)
        for network, output in outputs.items():
            expected = {'g': 1, 's': len(classes), 'd': 1}[network[0]]
            assert output.shape[-1] == expected
            assert output.shape[1:3] == system.size or network[0] == 'd'
        assert system.steps(100) > 0 and system.rates(100).keys() == system.networks.keys()
        assert callable(system.step(100, parallel.mesh(1)))


def test_every_field_has_a_comment():
    """On its line, or on the line above its group."""
    lines = (FOLDER / 'base.py').read_text(encoding='utf-8').splitlines()
    assignments = [i for i, line in enumerate(lines) if re.match(r'    c\.[\w.]+(, c\.[\w.]+)* = ', line)]
    first = next(i for i, line in enumerate(lines) if line.startswith('def demonstrate'))
    found = 0
    for i in (i for i in assignments if i < first):
        found += 1
        above = i
        while lines[above - 1].startswith('    c.') or lines[above - 1].startswith('    terms'):
            above -= 1
        commented = '  # ' in lines[i] or lines[above - 1].strip().startswith('#') or _obvious(lines[i])
        assert commented, f'configs/base.py:{i + 1}: {lines[i].strip()}'
    assert found > 40


def _obvious(line):
    return line.strip() in ('c.data_dir = data', 'c.seed = 0')


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'base'])
def test_a_configuration_says_what_it_reproduces(name):
    text = importlib.import_module(f'configs.{name}').__doc__
    assert len(text.splitlines()[0]) > 30
    if name.startswith('synseg_'):
        assert '--config=configs/' + name + '.py' in text and 'synseg_jax.prepare' in text
        assert re.search('Reported|Published', text)
