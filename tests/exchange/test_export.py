"""What is exported bears the published names, computes the same elsewhere, and gives nobody away."""

import json
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import weights
from safetensors.numpy import load_file

from synseg_jax.errors import InputError
from synseg_jax.exchange.card import Card, sha256
from synseg_jax.exchange.exporting import export
from synseg_jax.exchange.tensors import read_tensors, write_tensors
from synseg_jax.exchange.torch_weights import to_torch
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.runs import open_run

PUBLISHED = {'g_ab': 'G_A', 'g_ba': 'G_B', 'd_b': 'D_A', 'd_a': 'D_B', 's_b': 'Seg_A'}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A workdir with a stage of every network that the published code has."""
    workdir = tmp_path_factory.mktemp('run')
    weights.workdir(workdir, 'published')
    return workdir


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
    """What the command writes of the chosen system."""
    output = tmp_path_factory.mktemp('exported') / 'weights'
    done = tiny.command('export', f'--workdir={trained}', f'--output={output}')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('g_ab, g_ba, d_a, d_b, s_b of published-') and done.stdout.count('\n') == 1
    return output


def test_every_network_has_a_file_with_the_published_name(trained, exported):
    names = {f'latest_net_{name}.safetensors' for name in PUBLISHED.values()}
    assert {path.name for path in exported.iterdir()} == names | {'card.json'}
    networks = open_run.find(trained).networks
    assert np.std(networks.params['g_ab']['stem']['kernel']) > 0.1  # of the best checkpoint, not of the latest
    for ours, theirs in PUBLISHED.items():
        found = load_file(exported / f'latest_net_{theirs}.safetensors')
        expected = to_torch(networks.system.networks[ours], networks.params[ours])
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
    assert found['model.1.weight'].shape == (4, 1, 7, 7)


def test_the_card(exported):
    card = Card.load(exported)
    assert (card.method, card.classes, card.size, card.slice_axis) == ('synseg', tiny.CLASSES, (32, 32), 'axial')
    assert card.domains['a']['channel'] == 'MR' and card.domains['a']['percentiles'] == (2.5, 97.5)
    assert card.domains['b']['channel'] == 'CT' and card.domains['b']['window_hu'] == (-200, 300)
    assert card.domains['b']['typical'] == (-200, 300) and 'window_hu' not in card.domains['a']
    assert card.segments == {'a': ['s_b'], 'b': ['s_b']} and card.translates == {'a': 'g_ab', 'b': 'g_ba'}
    assert [(card.networks[name]['sees'], card.networks[name]['makes']) for name in PUBLISHED] == [
        ('a', 'b'), ('b', 'a'), ('b', 'whether it is real'), ('a', 'whether it is real'), ('b', 'logits')
    ]  # fmt: skip
    fields = card.networks['s_b']['fields']
    assert fields == {'architecture': 'resnet', 'channels': 3, 'width': 4, 'blocks': 1, 'tanh': False, 'resize': False}
    for of in card.networks.values():
        assert of['files'] == {name: sha256(exported / name) for name in of['files']}


def test_the_card_names_no_place_and_nobody(tmp_path):
    config = weights.configured('published')
    config.data_dir, config.sets.a = '/data/hospital', ('anna',)
    place = tmp_path / 'hospital'
    run = model_folder.Run(
        place, tiny.configure(config, 'synseg'), tiny.CLASSES, {'a': 'MR', 'b': 'CT'}, {'a': (0.0, 700.0)}
    )
    place.mkdir()
    export(trained_model.Trained(run, tiny.first_state().params), tmp_path / 'out')
    text = (tmp_path / 'out' / 'card.json').read_text()
    assert 'percentiles' in text and not [word for word in ('hospital', 'anna', *tmp_path.parts[1:]) if word in text]


def test_a_card_of_format_1_is_read(exported, tmp_path):
    """Which had other names for two fields."""
    folder = shutil.copytree(exported, tmp_path / 'older')
    content = json.loads((folder / 'card.json').read_text())
    older = {'format': 1, 'pays': content.pop('loss_weights'), 'masked': content.pop('label_channel')}
    (folder / 'card.json').write_text(json.dumps(content | older))
    read, card = Card.load(folder), Card.load(exported)
    assert (read.loss_weights, read.label_channel) == (card.loss_weights, card.label_channel)


def test_a_stage_by_name(tmp_path):
    weights.workdir(tmp_path / 'run', 'generators', 'context')
    for stage, networks in (('', {'s_b'}), ('context', {'s_b'}), ('generators', {'g_ab', 'g_ba', 'd_a', 'd_b'})):
        assert (
            export(open_run.find(tmp_path / 'run', '', '', stage), tmp_path / f'out{stage}').networks.keys() == networks
        )
    fields = Card.load(tmp_path / 'outcontext').networks['s_b']['fields']
    assert fields['max_width'] == 5 and fields['deep_supervision'] == 1
    with pytest.raises(InputError, match="unknown trained stage of synseg 'other'; known: context, generators"):
        open_run.find(tmp_path / 'run', '', '', 'other')


def test_names_of_a_u_net(tmp_path):
    folder = tmp_path / 'out'
    card = export(weights.workdir(tmp_path / 'run', 'residual'), folder)
    assert not {'max_width', 'deep_supervision'} & card.networks['s_b']['fields'].keys()  # earlier versions read it
    tensors = load_file(folder / 'latest_net_Seg_A.safetensors')
    layers = 'down0.conv1 down0.conv2 down0.short smaller0 down1.conv1 down1.conv2 up0 '
    layers += 'join0.conv1 join0.conv2 join0.short head'
    assert tensors.keys() == {f'{layer}.{part}' for layer in layers.split() for part in ('weight', 'bias')}
    assert tensors['smaller0.weight'].shape == (6, 3, 3, 3) and tensors['up0.weight'].shape == (3, 6, 2, 2)


def test_names_of_twins(tmp_path):
    card = export(weights.workdir(tmp_path / 'run', 'twins'), tmp_path / 'out')
    named = {name: of['published'] for name, of in card.networks.items() if name[0] == 's'}
    assert named == {'s_a': 'Seg_B', 's_b': 'Seg_A', 's_shared': 'Seg_shared', 's_head_a': 'Seg_head_B',
                     's_head_b': 'Seg_head_A'}  # fmt: skip
    assert card.segments == {'a': ['s_a', 's_shared', 's_head_a'], 'b': ['s_b', 's_shared', 's_head_b']}
    assert [card.networks[name]['channels'] for name in card.segments['a']] == [1, 3, 3]
    assert [card.networks[name]['makes'] for name in card.segments['a']] == ['features', 'features', 'logits']


def test_state_dicts_hold_the_same(tmp_path):
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    export(weights.workdir(tmp_path / 'run', 'published'), tmp_path / 'out', 'both')
    found = torch.load(tmp_path / 'out' / 'latest_net_D_A.pth', weights_only=True)
    expected = load_file(tmp_path / 'out' / 'latest_net_D_A.safetensors')
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name].numpy(), expected[name])


def test_bfloat16_is_written_wider(tmp_path):
    tensor = np.asarray(jnp.asarray([[1.5, -2.0]], jnp.bfloat16))
    for suffix in ('safetensors', 'pth'):
        if suffix == 'pth':
            pytest.importorskip('torch', reason='PyTorch is not installed')
        write_tensors(tmp_path / f'x.{suffix}', {'x': tensor})
        found = read_tensors(tmp_path / f'x.{suffix}')['x']
        assert found.dtype == np.float32 and found.tolist() == [[1.5, -2.0]]


def test_modules_written_from_the_published_names(tmp_path):
    """The layers of the published code, in a list that has the indices of its names, load the files and agree."""
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    nn = torch.nn

    def norm(features):
        return nn.InstanceNorm2d(features, affine=False, track_running_stats=False)

    class Block(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.conv_block = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3), norm(n), nn.ReLU(True),
                                            nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3), norm(n))  # fmt: skip

        def forward(self, x):
            return x + self.conv_block(x)

    def resnet(out, *last):
        up = {'stride': 2, 'padding': 1, 'output_padding': 1}
        return nn.ModuleDict({'model': nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(1, 4, 7), norm(4), nn.ReLU(True),
            nn.Conv2d(4, 8, 3, stride=2, padding=1), norm(8), nn.ReLU(True),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), norm(16), nn.ReLU(True), Block(16),
            nn.ConvTranspose2d(16, 8, 3, **up), norm(8), nn.ReLU(True),
            nn.ConvTranspose2d(8, 4, 3, **up), norm(4), nn.ReLU(True),
            nn.ReflectionPad2d(3), nn.Conv2d(4, out, 7), *last,
        )})  # fmt: skip

    patchgan = nn.ModuleDict({'model': nn.Sequential(
        nn.Conv2d(1, 4, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True),
        nn.Conv2d(4, 8, 4, stride=1, padding=1), norm(8), nn.LeakyReLU(0.2, True), nn.Conv2d(8, 1, 4, padding=1),
    )})  # fmt: skip
    made = weights.workdir(tmp_path / 'run', 'published')
    export(made, tmp_path / 'out', 'pth')
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32)
    modules = {'g_ab': resnet(1, nn.Tanh()), 'g_ba': resnet(1, nn.Tanh()), 's_b': resnet(3), 'd_b': patchgan}
    for name, module in modules.items():
        module.load_state_dict(torch.load(tmp_path / 'out' / f'latest_net_{PUBLISHED[name]}.pth', weights_only=True))
        with torch.no_grad():
            found = module['model'](torch.from_numpy(np.moveaxis(images, -1, 1)))
        expected = made.networks.system.apply[name](made.networks.params[name], jnp.asarray(images))
        assert np.std(expected) > 0.05
        np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), expected, atol=2e-5, err_msg=name)


ALONE = """
import sys
sys.modules['synseg_jax'] = sys.modules['flax'] = None
import jax, numpy as np
folder, images = sys.argv[1], np.load(sys.argv[2])
for name in sys.argv[3:]:
    with open(f'{folder}/{name}.stablehlo', 'rb') as file:
        function = jax.export.deserialize(bytearray(file.read()))
    np.save(f'{folder}/{name}.npy', np.concatenate([function.call(images[:1]), function.call(images[1:])]))
"""


@pytest.mark.parametrize('kind', ['volumes', 'residual', 'twins'])
def test_functions_need_no_code_of_ours(tmp_path, kind):
    pytest.importorskip('flatbuffers', reason='flatbuffers is not installed')
    networks = weights.workdir(tmp_path / 'run', kind).networks
    out = tmp_path / 'out'
    card = export(open_run.find(tmp_path / 'run', network=''), out, functions=('stablehlo',))
    names = [f'segment_{domain}' for domain in card.segments] + [f'translate_{domain}' for domain in card.translates]
    assert card.functions.keys() == {f'{name}.stablehlo' for name in names}
    takes = card.functions['segment_b.stablehlo']['takes']
    assert takes == ['any', *card.size, networks.system.channels['b']]
    images = np.random.default_rng(0).random((3, *takes[1:]), np.float32)
    np.save(tmp_path / 'images.npy', images)
    line = [sys.executable, '-c', ALONE, str(out), str(tmp_path / 'images.npy'), *names]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for name in names:
        does, domain = name.split('_')
        expected = (networks.probabilities if does == 'segment' else networks.translate)(images, domain)
        assert np.std(expected) > 0.01
        np.testing.assert_allclose(np.load(out / f'{name}.npy'), expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize('kind', ['generators', 'volumes'])
def test_functions_for_onnx(tmp_path, kind):
    for package in ('torch', 'onnxscript', 'onnxruntime'):
        runtime = pytest.importorskip(package, reason=f'{package} is not installed')
    networks = weights.workdir(tmp_path / 'run', kind).networks
    card = export(open_run.find(tmp_path / 'run', network=''), tmp_path / 'out', functions=('onnx',))
    images = np.random.default_rng(0).random((3, *card.size, 1), np.float32)
    names = {'translate_a': networks.translate} if card.translates else {'segment_b': networks.probabilities}
    for name, expected in names.items():
        assert card.functions[f'{name}.onnx']['takes'] == ['any', 1, *card.size]
        session = runtime.InferenceSession(tmp_path / 'out' / f'{name}.onnx')
        found = session.run(None, {'images': np.moveaxis(images, -1, 1)})[0]
        np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected(images, name[-1]), atol=1e-5, err_msg=name)


def test_what_is_there_is_not_lost(tmp_path, monkeypatch):
    made = weights.workdir(tmp_path / 'run', 'context')
    for output in (tmp_path / 'run', tmp_path / 'run' / 'run.json'):
        with pytest.raises(InputError, match='exists and is not empty; choose another --output'):
            export(made, output)
    with pytest.raises(InputError, match="unknown format 'onnx'; known: both, monai, pth, safetensors"):
        export(made, tmp_path / 'out', 'onnx')
    with pytest.raises(InputError, match="unknown function format 'tf'; known: onnx, stablehlo"):
        export(made, tmp_path / 'out', functions=('tf',))
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(InputError, match=r"Seg_A.pth cannot be written: PyTorch .*pip install 'synseg_jax\[torch"):
        export(made, tmp_path / 'out', 'both')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['run']
    (tmp_path / 'out').mkdir()
    export(made, tmp_path / 'out')
    assert json.loads((tmp_path / 'out' / 'card.json').read_text())['format'] == 2


@pytest.mark.parametrize('kind, said', [('stablehlo', r'\[stablehlo\]'), ('onnx', r'\[onnx\]')])
def test_packages_that_are_not_installed(tmp_path, monkeypatch, kind, said):
    if kind == 'onnx':
        pytest.importorskip('torch', reason='PyTorch is not installed')
    monkeypatch.setattr(f'synseg_jax.exchange.{kind}.find_spec', lambda name: None)
    with pytest.raises(InputError, match=f"cannot be written.*pip install 'synseg_jax{said}'"):
        export(weights.workdir(tmp_path / 'run', 'context'), tmp_path / 'out', functions=(kind,))
    assert not (tmp_path / 'out').exists()


def test_a_mistake_is_one_line(trained, tmp_path):
    done = tiny.command('export', f'--workdir={trained}', f'--output={tmp_path}/x', '--stage=t')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == "error: unknown trained stage of synseg 't'; known: published\n"
    assert not list(tmp_path.iterdir())
