"""Weights come back as they went, published ones give the published numbers, and no file runs code or is half right."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import weights
from safetensors.numpy import load_file, save_file

from synseg_jax.errors import InputError
from synseg_jax.exchange.exporting import export
from synseg_jax.exchange.tensors import read_tensors
from synseg_jax.exchange.torch_weights import to_torch
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference.predict_scans import predict
from synseg_jax.objective.view import View
from synseg_jax.runs import open_run
from synseg_jax.runs.import_stage import import_weights, save
from synseg_jax.specification.parse import parse

PUBLISHED = {'g_ab': 'G_A', 'g_ba': 'G_B', 'd_b': 'D_A', 'd_a': 'D_B', 's_b': 'Seg_A'}
SCAN = volume.Volume(tiny.scan(3, 'CT')[0].astype(np.float32), tiny.AFFINE)
HERE = {'channels': ('MR', 'CT')}


def config(**changes):
    """The configuration of somebody who wants to use weights of others."""
    return tiny.config(data__classes=tiny.CLASSES, **changes)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A stage with all networks that the published code has."""
    return weights.workdir(tmp_path_factory.mktemp('run'), 'published')


@pytest.fixture
def published(made, tmp_path):
    """published(*networks): a folder of .safetensors as the published code would name them."""

    def published(*names, epoch='latest', folder=tmp_path / 'published'):
        folder.mkdir(exist_ok=True)
        for name in names or PUBLISHED:
            save_file(tensors(made, name), folder / f'{epoch}_net_{PUBLISHED[name]}.safetensors')
        return folder

    return published


def tensors(trained, name):
    return to_torch(trained.networks.system.networks[name], trained.networks.params[name])


def same_weights(one, other, names=None):
    for name in names or one.networks.params:
        jax.tree.map(np.testing.assert_array_equal, one.networks.params[name], other.networks.params[name])


@pytest.mark.parametrize('kind', weights.STAGES)
def test_there_and_back(tmp_path, kind):
    """Another architecture, size, context and so on than the configuration's: the card counts."""
    before = weights.workdir(tmp_path / 'run', kind)
    export(before, tmp_path / 'out')
    import_weights(parse(tiny.config(loss_weights__gen__idt_b=2.0)), tmp_path / 'out', tmp_path / 'again')
    after = open_run.find(tmp_path / 'again', network='')
    assert after.networks.params.keys() == before.networks.params.keys()
    same_weights(before, after)
    assert (after.run.classes, after.run.channels, after.run.typical) == (
        before.run.classes, before.run.channels, before.run.typical,
    )  # fmt: skip
    for domain in 'ab' if before.segments('b') else '':
        expected = before.segment(SCAN, domain)
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(after.segment(SCAN, domain), expected)
    for domain in 'ab' if before.translates else '':
        np.testing.assert_array_equal(after.synthesize(SCAN, domain), before.synthesize(SCAN, domain))
    export(after, tmp_path / 'out2')
    cards = [json.loads((tmp_path / out / 'card.json').read_text()) for out in ('out', 'out2')]
    assert cards[0] == cards[1]


def test_the_commands_there_and_back(tmp_path):
    """Nothing but the folder is given, to commands that know nothing of one another."""
    before = weights.workdir(tmp_path / 'run', 'context')
    export(before, tmp_path / 'out')
    line = [f'--config={tiny.ROOT}/configs/base.py', f'--weights={tmp_path}/out', f'--workdir={tmp_path}/again']
    done = tiny.command('import_weights', *line)
    assert (done.returncode, done.stderr, done.stdout) == (0, '', f's_b in {tmp_path}/again\n')
    scan_file.write(tmp_path / 'scan.nii.gz', SCAN.array, SCAN)
    done = tiny.command('predict', f'--workdir={tmp_path}/again', f'--input={tmp_path}/scan.nii.gz',
                        f'--output={tmp_path}/labels')  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = scan_file.read_labels(tmp_path / 'labels' / 'scan.nii.gz').array
    np.testing.assert_array_equal(found, before.segment(SCAN, 'b'))
    for path in (tmp_path / 'again').rglob('*.json'):
        assert str(tmp_path) not in path.read_text()


def test_published_files(made, published, tmp_path):
    import_weights(parse(config()), published(), tmp_path / 'run', **HERE)
    after = open_run.find(tmp_path / 'run')
    same_weights(made, after)
    assert after.run.channels == {'a': 'MR', 'b': 'CT'} and after.run.classes == tiny.CLASSES
    assert after.run.typical == {'a': (0.0, 1000.0), 'b': (-200.0, 300.0)}
    files = scan_file.inputs(tiny.write_dataset(tmp_path / 'set', 'CT', 1))
    assert predict(after, files, tmp_path / 'labels').keys() == {'ct_0'}
    np.testing.assert_array_equal(after.segment(SCAN, 'b'), made.segment(SCAN, 'b'))
    found = after.synthesize(SCAN, 'b')
    assert 0 <= found.min() < found.max() <= 1000


@pytest.mark.parametrize(
    'names, method',
    [
        (('g_ab', 'g_ba', 'd_a', 'd_b'), 'synseg'),
        (('g_ab', 'g_ba'), 'synseg'),
        (('g_ab',), 'synseg'),
        (('s_b',), 'synseg'),
        (('s_b',), 'supervised'),
        (('g_ab', 'd_b', 's_b'), 'synseg_hc'),
        (('g_ab', 'g_ba', 's_b'), 'cyclegan'),
    ],
)
def test_some_of_the_networks(made, published, tmp_path, names, method):
    import_weights(parse(config(method=method)), published(*names), tmp_path / 'run', **HERE)
    after = open_run.find(tmp_path / 'run', network='')
    assert set(after.networks.params) == set(names)
    same_weights(made, after, names)
    for does, network in (('segment', 's_b'), ('synthesize', 'g_ab')):
        if network in names:
            np.testing.assert_array_equal(getattr(after, does)(SCAN, 'a'), getattr(made, does)(SCAN, 'a'))
        else:
            with pytest.raises(InputError, match='trains no (segmentor|g_ab); choose another'):
                getattr(after, does)(SCAN, 'a')


def test_generators_need_no_classes(published, tmp_path):
    import_weights(parse(tiny.config()), published('g_ab', 'g_ba'), tmp_path / 'run', **HERE)
    assert open_run.find(tmp_path / 'run', network='g').run.classes == ('background',)
    with pytest.raises(InputError, match='config.data.classes is empty: give the class names'):
        import_weights(parse(tiny.config()), published('s_b'), tmp_path / 'run2', **HERE)


def test_networks_that_do_not_fit_together(published, tmp_path):
    folder = published('s_b', 'd_a')
    with pytest.raises(InputError, match=r'published: left over for method synseg: D_B \(d_a\)'):
        import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
    with pytest.raises(InputError, match=r'missing for method tumor_aware: Seg_head_A \(s_head_b\), Seg_shared'):
        import_weights(parse(config(method='tumor_aware')), folder, tmp_path / 'run', **HERE)
    assert not (tmp_path / 'run').exists()


def test_modalities_are_asked_for(published, tmp_path):
    for channels in ((), ('MR',), ('MR', '')):
        with pytest.raises(InputError, match='--channels: give the two modalities, source first'):
            import_weights(parse(config()), published(), tmp_path / 'run', channels=channels)


def test_epochs(made, published, tmp_path):
    """Named, else latest, else the highest number, else the only one; never a guess."""
    folder = published('g_ab', epoch='20')
    save_file(tensors(made, 'g_ba'), folder / '100_net_G_A.safetensors')  # tells the epochs apart
    (folder / '100_optim_G_A.txt').touch()

    def kernel(number, **options):
        import_weights(parse(config()), folder, tmp_path / f'run{number}', **HERE, **options)
        return np.asarray(
            open_run.find(tmp_path / f'run{number}', network='g').networks.params['g_ab']['stem']['kernel']
        )

    ours = {name: np.asarray(made.networks.params[name]['stem']['kernel']) for name in ('g_ab', 'g_ba')}
    np.testing.assert_array_equal(kernel(1), ours['g_ba'])
    np.testing.assert_array_equal(kernel(2, epoch='20'), ours['g_ab'])
    published('g_ab')
    np.testing.assert_array_equal(kernel(3), ours['g_ab'])
    with pytest.raises(InputError, match="unknown epoch in .*published '5'; known: 100, 20, latest"):
        kernel(4, epoch='5')
    other = published('g_ab', epoch='first', folder=tmp_path / 'two')
    import_weights(parse(config()), other, tmp_path / 'only', **HERE)
    published('g_ab', epoch='second', folder=other)
    with pytest.raises(InputError, match='two: has the epochs first, second; choose one with --epoch'):
        import_weights(parse(config()), other, tmp_path / 'run', **HERE)


@pytest.mark.parametrize('content', ['nothing', 'other files', 'no folder'])
def test_a_folder_without_weights(tmp_path, content):
    folder = tmp_path / 'weights'
    if content != 'no folder':
        folder.mkdir()
    if content == 'other files':
        (folder / 'latest_net_G_C.pth').touch()
    with pytest.raises(InputError, match='weights: (no weights; expected card.json, or files|no such folder)'):
        import_weights(parse(config()), folder, tmp_path / 'run', **HERE)


def test_an_old_workdir_is_kept(published, tmp_path):
    with pytest.raises(InputError, match='published: exists; choose another --workdir'):
        import_weights(parse(config()), published(), tmp_path / 'published', **HERE)


def test_stages_of_a_system(published, tmp_path):
    stages = {
        'translate': {'method': 'cyclegan'},
        'made': {'kind': 'synthesize', 'generators_from': 'translate'},
        'segment': {},
    }
    both = config()
    both.systems = {'two': {'stages': stages}, 'synseg': {}}
    folder = published('g_ab', 'g_ba')
    for named, said in (
        ('', 'system two has several stages: .*; name one'),
        ('made', 'stage made of two trains no networks'),
    ):
        with pytest.raises(InputError, match=said):
            import_weights(parse(both), folder, tmp_path / 'run', 'two', named, **HERE)
    run = import_weights(parse(both), folder, tmp_path / 'run', 'two', 'translate', **HERE)
    assert run.folder.name.startswith('translate-') and run.folder.is_dir()
    assert open_run.find(tmp_path / 'run', network='g').translates
    assert json.loads((tmp_path / 'run' / 'run.json').read_text())['config']['default_system'] == 'two'


def rewritten(folder, name, change):
    path = folder / f'latest_net_{PUBLISHED[name]}.safetensors'
    save_file(change(load_file(path)), path)


def test_wrong_tensors_are_named(published, tmp_path):
    folder = published()

    def refused(change, name='g_ba'):
        published()
        rewritten(folder, name, change)
        with pytest.raises(InputError) as error:
            import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
        assert not (tmp_path / 'run').exists() and '\n' not in str(error.value)
        return str(error.value)

    said = refused(
        lambda of: {name: t for name, t in of.items() if name != 'model.4.bias'} | {'odd': of['model.1.bias']}
    )
    assert said.endswith("latest_net_G_B.safetensors: weights of another network: "
                         "missing ['model.4.bias'], unexpected ['odd']")  # fmt: skip
    said = refused(lambda of: of | {'model.1.weight': np.zeros((4, 3, 7, 7), np.float32)})
    assert said.endswith('of another network: model.1.weight is (4, 3, 7, 7), not (4, 1, 7, 7)')
    said = refused(
        lambda of: of | {'model.11.weight': of['model.11.weight'][:, :5], 'model.11.bias': of['model.1.bias']}
    )
    assert said.endswith('model.11.weight is (16, 5, 3, 3), not (16, 8, 3, 3); and 1 more')
    said = refused(lambda of: {name: tensor[..., None] if tensor.ndim == 4 else tensor for name, tensor in of.items()})
    assert 'model.1.weight is (4, 1, 7, 7, 1), not (4, 1, 7, 7); and ' in said
    deep = {f'model.{n}.conv_block.{m}.{part}': np.zeros(1, np.float32)
            for n in range(11, 15) for m in (1, 5) for part in ('weight', 'bias')}  # fmt: skip
    assert "'model.11.conv_block.5.weight', 'model.12.conv_block.1.bias', 'model." in refused(lambda of: of | deep)


@pytest.mark.parametrize(
    ('kind', 'fields', 'flags'),
    [
        ('generator', {'width': 6, 'blocks': 2}, '--config.generator.width=4 --config.generator.blocks=1'),
        ('discriminator', {'layers': 2}, '--config.discriminator.layers=1'),
    ],
)
def test_networks_of_another_size_are_described(published, tmp_path, kind, fields, flags):
    """By the flags that make the configuration fit."""
    folder, other = published(), config()
    other[kind].update(fields)
    with pytest.raises(InputError) as error:
        import_weights(parse(other), folder, tmp_path / 'run', **HERE)
    assert str(error.value).endswith(f'; it would fit with {flags}')


def test_what_other_programs_add_is_passed_over(made, published, tmp_path):
    """DataParallel's prefix, compiled modules', statistics of norms, and the indices of blocks with dropout."""
    folder = published()

    def older(of):
        moved = {name.replace('conv_block.5', 'conv_block.6'): tensor for name, tensor in of.items()}
        statistics = {f'model.2.{name}': np.zeros(4, np.float32) for name in ('running_mean', 'running_var')}
        statistics |= {'model.2.num_batches_tracked': np.asarray(7), 'model.10.conv_block.7.running_mean': np.zeros(16)}
        return {f'module.{name}': tensor for name, tensor in (moved | statistics).items()}

    rewritten(folder, 'g_ab', older)
    rewritten(folder, 's_b', lambda of: {f'_orig_mod.module.{name}': tensor for name, tensor in of.items()})
    import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
    same_weights(made, open_run.find(tmp_path / 'run'))


def test_half_precision_becomes_the_precision_of_the_configuration(made, published, tmp_path):
    folder = published()
    rewritten(folder, 's_b', lambda of: {name: tensor.astype(np.float16) for name, tensor in of.items()})
    import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
    found = open_run.find(tmp_path / 'run').networks.params['s_b']['head']['kernel']
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, made.networks.params['s_b']['head']['kernel'], atol=1e-3)


@pytest.mark.parametrize('wrong', [np.nan, np.inf, 1e300])
def test_weights_that_are_no_numbers(published, tmp_path, wrong):
    """Imported, they would segment nothing, with exit code 0."""
    folder = published()

    def spoil(of):
        of = {name: tensor.astype(np.float64) for name, tensor in of.items()}
        of['model.4.weight'][0, 0, 0, :2] = wrong
        return of

    rewritten(folder, 'g_ba', spoil)
    with pytest.raises(InputError) as error:
        import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
    assert str(error.value).startswith(f'{folder}/latest_net_G_B.safetensors: tensor model.4.weight: 2 of 288 weights')
    assert not (tmp_path / 'run').exists()


def test_checkpoints_that_hold_no_numbers(published, tmp_path):
    """Of whatever trained them, or imported them earlier."""
    run = import_weights(parse(config()), published('s_b'), tmp_path / 'run', **HERE)
    trained = open_run.find(tmp_path / 'run')
    params = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), trained.networks.params)
    shutil.rmtree(run.folder / 'checkpoints')
    save(run, params)
    with pytest.raises(InputError, match=f'{run.folder.name}: weights s_b.block0.conv1.bias are NaN'):
        open_run.find(tmp_path / 'run')


def test_state_dicts(made, tmp_path):
    """.pth in both of PyTorch's formats; a .safetensors beside one counts."""
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    folder = tmp_path / 'published'
    folder.mkdir()
    for name, theirs in PUBLISHED.items():
        state = {key: torch.tensor(tensor) for key, tensor in tensors(made, name).items()}
        old = {'_use_new_zipfile_serialization': False} if name in ('g_ab', 'd_b') else {}
        torch.save(state, folder / f'latest_net_{theirs}.pth', **old)
    torch.save({'odd': torch.zeros(1)}, folder / 'latest_net_D_B.pth')
    save_file(tensors(made, 'd_a'), folder / 'latest_net_D_B.safetensors')
    import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
    same_weights(made, open_run.find(tmp_path / 'run'))


def test_bfloat16_and_parameters_of_a_state_dict(tmp_path):
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    torch.save({'x': torch.nn.Parameter(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))}, tmp_path / 'x.pth')
    np.testing.assert_array_equal(read_tensors(tmp_path / 'x.pth')['x'], np.array([1.5, -2.0], np.float32))


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.mark.parametrize('form', ['zip', 'old', 'bare pickle', 'beside weights'])
def test_a_malicious_file_never_runs(made, tmp_path, form):
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    marker, folder = tmp_path / 'ran', tmp_path / 'published'
    folder.mkdir()
    path, evil = folder / 'latest_net_Seg_A.pth', Malicious(marker)
    content = {'model.1.weight': evil}
    if form == 'beside weights':
        content = {**{key: torch.tensor(tensor) for key, tensor in tensors(made, 's_b').items()}, 'model.99': evil}
    if form == 'bare pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form != 'old')
    torch.load(path, weights_only=False) if form != 'bare pickle' else pickle.loads(path.read_bytes())
    assert marker.exists()  # it is malicious
    marker.unlink()
    with pytest.raises(InputError, match='Seg_A.pth is not a state dict of tensors') as error:
        import_weights(parse(config()), folder, tmp_path / 'run', **HERE)
    assert '\n' not in str(error.value) and 'weights_only' not in str(error.value)
    assert form == 'bare pickle' or 'system' in str(error.value)
    assert not marker.exists() and not (tmp_path / 'run').exists()


@pytest.mark.parametrize('content', ['empty', 'garbage', 'cut off', 'a list', 'nested', 'a number'])
def test_a_state_dict_that_is_none(made, tmp_path, content):
    torch = pytest.importorskip('torch', reason='PyTorch is not installed')
    path = tmp_path / 'latest_net_Seg_A.pth'
    state = {key: torch.tensor(tensor) for key, tensor in tensors(made, 's_b').items()}
    torch.save({'a list': [1], 'nested': {'model': state}, 'a number': {'x': 1}}.get(content, state), path)
    if content in ('empty', 'garbage', 'cut off'):
        path.write_bytes({'empty': b'', 'garbage': b'x' * 100, 'cut off': path.read_bytes()[:-500]}[content])
    with pytest.raises(InputError, match='Seg_A.pth is (not a state dict of tensors|a damaged archive)') as error:
        import_weights(parse(config()), tmp_path, tmp_path / 'run', **HERE)
    assert '\n' not in str(error.value)


def test_without_pytorch(tmp_path, monkeypatch):
    (tmp_path / 'latest_net_Seg_A.pth').touch()
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(InputError, match=r"Seg_A.pth cannot be read: PyTorch is not installed; pip install 'synseg"):
        import_weights(parse(config()), tmp_path, tmp_path / 'run', **HERE)


def test_exported_files_that_were_changed(tmp_path):
    export(weights.workdir(tmp_path / 'run', 'context'), tmp_path / 'out')
    path = tmp_path / 'out' / 'latest_net_Seg_A.safetensors'
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    with pytest.raises(InputError, match='Seg_A.safetensors: sha256 differs'):
        import_weights(parse(tiny.config()), tmp_path / 'out', tmp_path / 'again')


@pytest.mark.parametrize('prefix, folder', [('init', ''), ('step4', 'f64')])
def test_published_weights_give_the_published_outputs(shared, tmp_path, x64, prefix, folder):
    """In float64, through the workdir; of the weights after four steps it is seen that they arrive."""
    parity = shared / 'parity' / 'cycle_seg_lsgan'
    if not parity.is_dir():
        pytest.skip('published numbers are absent')
    theirs = config(dtype='float64', param_dtype='float64', data__size=(64, 64), segmentor__tanh=True)
    theirs.data.classes = tuple('abcdefg')
    theirs.generator.width = theirs.segmentor.width = theirs.discriminator.width = 8
    theirs.generator.blocks, theirs.segmentor.blocks, theirs.discriminator.layers = 9, 9, 3
    import_weights(parse(theirs), parity / folder, tmp_path / 'run', epoch=prefix, **HERE)
    networks = open_run.find(tmp_path / 'run').networks
    for ours, name in PUBLISHED.items():
        expected = load_file(parity / folder / f'{prefix}_{name}.safetensors')
        found = to_torch(networks.system.networks[ours], networks.params[ours])
        assert found.keys() == expected.keys()
        for tensor in expected:
            assert found[tensor].dtype == np.float64
            np.testing.assert_array_equal(found[tensor], expected[tensor])
    if prefix == 'init':
        check_outputs(parity, networks)


def check_outputs(parity: Path, networks) -> None:
    with np.load(parity / 'inputs.npz') as inputs:
        a, b = (jnp.asarray(np.moveaxis(inputs[f'{d}_1'], 1, -1), jnp.float64) for d in 'AB')
    view = View(networks.system.apply, networks.params, {'a': a, 'b': b})
    found = {
        'fake_B': view.fake_b, 'fake_A': view.fake_a, 'rec_A': view.rec_a, 'rec_B': view.rec_b,
        'seg_fake_B': view.s_b(view.fake_b), 'D_A_fake_B': view.d_b(view.fake_b), 'D_B_fake_A': view.d_a(view.fake_a),
    }  # fmt: skip
    with np.load(parity / 'f64' / 'outputs_step1.npz') as expected:
        for name, value in found.items():
            value = np.moveaxis(np.asarray(value), -1, 1)
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_mistakes_in_flags_are_one_line(tmp_path):
    (tmp_path / 'x').mkdir()
    line = [f'--config={tiny.ROOT}/configs/base.py', f'--weights={tmp_path}/x', f'--workdir={tmp_path}/run']
    done = tiny.command('import_weights', *line, '--typical=0,a')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'error: --typical=0,a: give two increasing numbers, e.g. --typical=0,1000\n'
