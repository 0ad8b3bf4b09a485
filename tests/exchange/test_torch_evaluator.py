"""PyTorch finds what JAX finds: the same logits, and the same labels on scans, from an exported folder alone."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK as sitk
import tiny
import weights

from synseg_jax.errors import InputError
from synseg_jax.exchange.card import Card
from synseg_jax.exchange.exporting import export
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference.predict_scans import predict

torch = pytest.importorskip('torch', reason='PyTorch is not installed')

from synseg_jax.exchange import torch_evaluator, torch_networks  # noqa: E402
from synseg_jax.exchange.torch_evaluator import Evaluator  # noqa: E402

KINDS = [kind for kind in weights.STAGES if kind != 'generators']
SHAPE = (40, 44, 9)  # larger than the window of volumes, so that they are seen in tiles


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """both(kind): a stage in JAX, and the folder that it is exported to."""
    made = {}

    def both(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            trained = weights.workdir(folder / 'run', kind)
            export(trained, folder / 'out')
            made[kind] = trained, folder / 'out'
        return made[kind]

    return both


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """A folder of two scans, with axes of their own."""
    folder = tmp_path_factory.mktemp('scans')
    for case, modality in (('mr_1', 'MR'), ('ct_1', 'CT')):
        image = tiny.scan(3, modality, SHAPE)[0].astype(np.float32)
        scan_file.write(folder / f'{case}_0000.nii.gz', image, volume.Volume(image, tiny.AFFINE[[1, 0, 2, 3]]))
    return folder


@pytest.mark.parametrize('kind', KINDS)
def test_logits(both, kind):
    trained, folder = both(kind)
    system, card = trained.networks.system, Card.load(folder)
    stack = np.random.default_rng(0).uniform(-1, 1, (2, *system.size, system.channels['b'])).astype(np.float32)
    for names in card.segments.values():
        expected, found = jnp.asarray(stack), torch.from_numpy(np.moveaxis(stack, -1, 1).copy())
        for name in names:
            expected = system.apply[name](trained.networks.params[name], expected)
            network = torch_networks.build(
                len(card.size), card.networks[name]['channels'], card.networks[name]['fields']
            )
            network.load_state_dict({n: torch.from_numpy(t) for n, t in load(card, name).items()})
            with torch.inference_mode():
                found = network(found)
        assert np.std(expected) > 0.1
        np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), expected, atol=1e-4)


def agree(found, expected):
    """Whether labels are the same but for ties: 99.99 % of them."""
    return (found == expected).mean() > 0.9999


def load(card, name):
    return torch_evaluator.read_tensors(card.weights(name))


@pytest.mark.parametrize('kind', KINDS)
def test_labels(both, kind, dataset, tmp_path):
    """Of both domains, on the scans' own grids, by neighbours, tiles, views, pieces and holes as in predict."""
    trained, folder = both(kind)
    files, evaluator = scan_file.inputs(dataset), Evaluator(folder)
    assert len(files) == 2
    for domain, case in (('a', 'mr_1'), ('b', 'ct_1')):
        one = {case: files[case]}
        predict(trained, one, tmp_path / 'jax' / domain, domain)
        torch_evaluator.predict(evaluator, one, tmp_path / 'torch' / domain, domain)
        names = [f'{case}.nii.gz', 'dataset.json']
        assert sorted(path.name for path in (tmp_path / 'torch' / domain).iterdir()) == sorted(names)
        ours, theirs = (scan_file.read_labels(tmp_path / made / domain / names[0]) for made in ('jax', 'torch'))
        np.testing.assert_array_equal(theirs.affine, ours.affine)
        assert len(np.unique(ours.array)) > 1 and agree(theirs.array, ours.array)
        described = [json.loads((tmp_path / made / domain / names[1]).read_text()) for made in ('jax', 'torch')]
        made_by = [content.pop('prediction') for content in described]
        assert described[0] == described[1]
        assert list(made_by[0].pop('scans')) == [case]  # by which --continue knows it
        assert made_by[0].pop('fields') == made_by[1].pop('fields') | {'checkpoints': 1}
        stage = {'stage': trained.run.folder.name, 'step': 0}
        assert made_by == [{'members': [stage]}, {'members': [{'export': folder.name}]}]


def test_scans_are_cropped_as_in_training(both):
    """About the body, smoothed before they are made smaller, MR without its bias field."""
    trained, folder = both('resnet_of_volumes')
    array = np.full((60, 50, 20), -1000.0, np.float32)
    array[5:35, 2:40] = np.random.default_rng(0).normal(0, 100, (30, 38, 20))
    scan = volume.Volume(array, tiny.AFFINE)
    ours, theirs = trained._frame(scan, 'b'), Evaluator(folder)._frame(scan, 'b')
    assert theirs.window == ours.window and ours.window is not None
    np.testing.assert_array_equal(theirs.images(), ours.images())
    assert theirs.images().std() < trained.with_fields({'data.antialias': False})._frame(scan, 'b').images().std()
    shaded = volume.Volume((array + 1000) * np.linspace(1, 2, 60, dtype=np.float32)[:, None, None], tiny.AFFINE)
    ours, theirs = trained._frame(shaded, 'a'), Evaluator(folder)._frame(shaded, 'a')
    np.testing.assert_array_equal(theirs.images(), ours.images())
    other = trained.with_fields({'data.bias_correction': False})._frame(shaded, 'a').images()
    assert abs(ours.images() - other).max() > 0.1


@pytest.mark.parametrize('kind', ['published', 'resize', 'generators'])
def test_translations(both, kind):
    trained, folder = both(kind)
    stack = np.random.default_rng(0).random((9, 32, 32, 1), np.float32)  # more than one batch
    for domain in 'ab':
        expected, found = (of.translate(stack, domain) for of in (trained.networks, Evaluator(folder)))
        assert np.std(expected) > 0.01
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('size', [(6, 9), (7, 8, 5), (1, 1)])
def test_sizes_that_do_not_fit_a_u_net(size):
    """Their borders are continued and cut off as in JAX, on each axis alike; one pixel alone has a norm, too."""
    from synseg_jax.exchange.torch_weights import to_torch
    from synseg_jax.networks import build

    fields = {'channels': 2, 'width': 2, 'levels': 2, 'extra': 2, 'norm': True, 'up_width': 2}
    ours, theirs = build('unet', **fields), torch_networks.build(len(size), 1, {'architecture': 'unet', **fields})
    x = np.random.default_rng(0).normal(size=(1, *size, 1)).astype(np.float32)
    params = jax.jit(ours.init)(jax.random.key(0), jnp.asarray(x))['params']
    theirs.load_state_dict({name: torch.tensor(tensor) for name, tensor in to_torch(ours, params).items()})
    with torch.inference_mode():
        found = theirs(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    expected = jax.jit(ours.apply)({'params': params}, jnp.asarray(x))
    np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), expected, atol=1e-5)


WITHOUT_JAX = """
import runpy, sys
sys.modules['jax'] = sys.modules['flax'] = None
runpy.run_module('synseg_jax.exchange.torch_evaluator', run_name='__main__', alter_sys=True)
"""


def run(*arguments):
    line = [sys.executable, '-c', WITHOUT_JAX, *map(str, arguments)]
    return subprocess.run(line, env=tiny.environment(), capture_output=True, text=True, timeout=240)


def test_the_command_runs_without_jax(both, dataset, tmp_path):
    trained, folder = both('volumes')
    done = run(f'--export={folder}', f'--input={dataset}', f'--output={tmp_path}/labels')
    assert (done.returncode, done.stderr) == (0, '') and done.stdout == f'2 label maps in {tmp_path}/labels\n'
    written = predict(trained, scan_file.inputs(dataset), tmp_path / 'jax')
    for case, path in written.items():
        found = scan_file.read_labels(tmp_path / 'labels' / f'{case}.nii.gz').array
        assert agree(found, scan_file.read_labels(path).array)


ALONE = """
import json, sys
from importlib.abc import MetaPathFinder

class Others(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in absent:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

absent, lines = (json.loads(text) for text in sys.argv[1:])
sys.meta_path.insert(0, Others())
from synseg_jax.exchange.torch_evaluator import main
print(json.dumps([main(line) for line in lines]))
"""


def distributions(*names) -> set[str]:
    """The distributions of these names, and those that they require."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub('[-_.]+', '-', waiting.pop()).lower()
        if name not in found:
            found.add(name)
            with contextlib.suppress(metadata.PackageNotFoundError):
                needs = [need for need in metadata.requires(name) or () if 'extra ==' not in need]
                waiting += [re.match(r'[\w.-]+', need)[0] for need in needs]
    return found


def run_alone(folder, *lines):
    """The command in an environment of the packages and files that its docstring names: exit codes and errors."""
    for name in re.search(r'copied:\n\n(.*?)\n\n', torch_evaluator.__doc__, re.DOTALL)[1].split():
        file = folder / 'synseg_jax' / f'{name}.py'
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny.ROOT / 'synseg_jax' / f'{name}.py', file)
    there = distributions('torch', 'numpy', 'nibabel', 'safetensors')
    absent = [
        name
        for name, of in metadata.packages_distributions().items()
        if name != 'synseg_jax' and not there & {re.sub('[-_.]+', '-', one).lower() for one in of}
    ]
    assert {'jax', 'absl', 'scipy', 'jaxtyping', 'pydicom', 'SimpleITK', 'ml_collections'} <= {*absent}
    lines = json.dumps([[f'--{name}={value}' for name, value in line.items()] for line in lines])
    line = [sys.executable, '-c', ALONE, json.dumps(absent), lines]
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr.splitlines()


def test_the_command_runs_with_nothing_but_what_it_names(both, dataset, tmp_path):
    (trained, folder), (_, pieces) = both('context'), both('residual')
    (tmp_path / 'series').mkdir()
    (tmp_path / 'series' / '1.dcm').write_bytes(bytes(128) + b'DICM')
    first = next(iter(scan_file.inputs(dataset).values()))
    sitk.WriteImage(sitk.ReadImage(str(first)), str(tmp_path / 'scan.nrrd'))
    inputs = dataset, tmp_path / 'series', tmp_path / 'scan.nrrd'
    lines = [{'export': folder, 'input': path, 'output': tmp_path / 'labels'} for path in inputs]
    codes, errors = run_alone(tmp_path / 'alone', *lines, {**lines[0], 'export': pieces})
    assert codes == [0, 2, 0, 2]
    assert errors == [
        'error: DICOM cannot be read: the package pydicom is not installed; pip install pydicom',
        f'error: {pieces} needs connected components: the package scipy is not installed; pip install scipy',
    ]
    again = scan_file.read_labels(tmp_path / 'labels' / 'scan.nii.gz').array
    assert agree(again, scan_file.read_labels(tmp_path / 'labels' / f'{scan_file.stem(first)[:-5]}.nii.gz').array)
    for case, path in predict(trained, scan_file.inputs(dataset), tmp_path / 'jax').items():
        found = scan_file.read_labels(tmp_path / 'labels' / f'{case}.nii.gz').array
        assert len(np.unique(found)) > 1 and agree(found, scan_file.read_labels(path).array)


def test_the_command_answers_a_mistake_in_one_line(both, dataset, tmp_path):
    done = run(f'--export={tmp_path}', f'--input={dataset}', f'--output={tmp_path}/labels')
    assert (done.returncode, done.stdout) == (2, '') and done.stderr.count('\n') == 1
    assert done.stderr == f'error: {tmp_path}/card.json: no such file; give the folder that synseg_jax.export wrote\n'
    assert not list(tmp_path.iterdir())


def test_one_bad_scan_does_not_end_the_others(both, dataset, tmp_path, capsys):
    _, folder = both('context')
    shutil.copytree(dataset, tmp_path / 'scans')
    (tmp_path / 'scans' / 'bad_0000.nii.gz').write_bytes(b'no scan')
    flags = [f'--export={folder}', f'--input={tmp_path}/scans', f'--output={tmp_path}/labels']
    assert torch_evaluator.main(flags) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == 'error: 1 of 3 scans left out, the others segmented:'
    assert second.strip().startswith(f'{tmp_path}/scans/bad_0000.nii.gz: ')
    names = ['ct_1.nii.gz', 'dataset.json', 'mr_1.nii.gz']
    assert sorted(path.name for path in (tmp_path / 'labels').iterdir()) == names
    assert json.loads((tmp_path / 'labels' / 'dataset.json').read_text())['numTraining'] == 2


@pytest.mark.parametrize('output', ['scans', 'scans/../scans', 'export'])
def test_an_output_that_is_an_input(both, dataset, tmp_path, capsys, output):
    shutil.copytree(dataset, tmp_path / 'scans')
    shutil.copytree(both('context')[1], tmp_path / 'export')
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    flags = [f'--export={tmp_path}/export', f'--input={tmp_path}/scans', f'--output={tmp_path}/{output}']
    assert torch_evaluator.main(flags) == 2
    assert re.fullmatch(r'error: --output=.+: is the input .+; choose another --output\n', capsys.readouterr().err)
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


@pytest.fixture
def copy(both, tmp_path):
    """A folder of two files that may be spoilt."""
    _, folder = both('context')
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def spoil(folder, **changes):
    content = json.loads((folder / 'card.json').read_text())
    (folder / 'card.json').write_text(json.dumps(content | changes))


SCAN = volume.Volume(tiny.scan(3, 'CT')[0].astype(np.float32), tiny.AFFINE)


def test_files_that_are_not_what_the_card_says(copy):
    file = copy / 'latest_net_Seg_A.safetensors'
    content = file.read_bytes()
    Evaluator(copy).segment(SCAN, 'b')
    file.write_bytes(content[:-1] + b'x')
    with pytest.raises(InputError, match='Seg_A.safetensors: sha256 differs from card.json'):
        Evaluator(copy).segment(SCAN, 'b')
    file.unlink()
    with pytest.raises(InputError, match='Seg_A.safetensors: missing, although listed in card.json'):
        Evaluator(copy).segment(SCAN, 'b')


def test_a_card_that_leads_elsewhere(copy):
    networks = json.loads((copy / 'card.json').read_text())['networks']
    networks['s_b']['files'] = {'../weights.safetensors': ''}
    spoil(copy, networks=networks)
    with pytest.raises(InputError, match='card.json: networks.s_b.files: no readable file'):
        Evaluator(copy).segment(SCAN, 'b')


def test_a_card_that_leaves_out_a_field_of_a_network(copy):
    networks = json.loads((copy / 'card.json').read_text())['networks']
    del networks['s_b']['fields']['width']
    spoil(copy, networks=networks)
    with pytest.raises(InputError, match='card.json: .*width.*; export again'):
        Evaluator(copy).segment(SCAN, 'b')


def test_a_card_of_another_network(copy):
    networks = json.loads((copy / 'card.json').read_text())['networks']
    networks['s_b']['fields']['width'] = 5
    spoil(copy, networks=networks)
    with pytest.raises(InputError, match='does not match networks.s_b of card.json: .*mismatch for down0') as error:
        Evaluator(copy).segment(SCAN, 'b')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'format': 3}, 'format 3, not 2; export again with this version'),
        ({'method': 'x'}, "card.json: method: unknown 'x', known: .*cyclegan, .+; export again"),
        ({'size': 5}, 'card.json: size: a list is wanted, found 5; export again'),
        ({'domains': {'b': {'channel': 'CT'}}}, 'domains.b.center: a number from 0.001 to 1 is wanted; export'),
        ({'networks': {'s_b': []}}, r'networks.s_b: an object of fields is wanted, found \[\]'),
    ],
)
def test_a_wrong_card(copy, changes, said):
    spoil(copy, **changes)
    with pytest.raises(InputError, match=said):
        Evaluator(copy)


@pytest.mark.parametrize('content', ['', '[1]'])
def test_a_card_that_is_none(copy, content):
    (copy / 'card.json').write_text(content)
    with pytest.raises(InputError, match='card.json: (the file: an object of fields is wanted|invalid JSON)'):
        Evaluator(copy)


def test_what_is_not_there(both, monkeypatch):
    _, folder = both('context')
    with pytest.raises(InputError, match='has no network to translate domain a; export another stage'):
        Evaluator(folder).translate(np.zeros((1, 32, 32, 1), np.float32), 'a')
    with pytest.raises(InputError, match="unknown domain 'c'; known: a, b"):
        Evaluator(folder).segment(SCAN, 'c')
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(InputError, match=r"PyTorch is not installed; pip install 'synseg_jax\[torch\]'"):
        Evaluator(folder)
