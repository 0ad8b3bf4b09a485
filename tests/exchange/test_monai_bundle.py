"""A MONAI bundle is one by its specification, and MONAI labels scans with it as `predict` does."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tiny
import weights
from jsonschema import Draft202012Validator

from synseg_jax.errors import InputError
from synseg_jax.exchange.exporting import export
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference.predict_scans import predict

torch = pytest.importorskip('torch', reason='PyTorch is not installed')

from synseg_jax.exchange.torch_evaluator import Evaluator  # noqa: E402

# What MONAI's schema of metadata.json (meta_schema_20240725) requires.
TEXTS = 'schema version monai_version pytorch_version numpy_version task description authors copyright'.split()
TENSOR = {
    'type': 'object',
    'required': ['type', 'format', 'num_channels', 'spatial_shape', 'dtype', 'value_range'],
    'properties': {
        **{name: {'type': 'string'} for name in ('type', 'format', 'dtype', 'modality')},
        'num_channels': {'type': 'integer'},
        'spatial_shape': {'type': 'array', 'items': {'type': ['string', 'integer']}},
        'value_range': {'type': 'array', 'items': {'type': 'number'}},
        'is_patch_data': {'type': 'boolean'},
        'channel_def': {'type': 'object'},
    },
}
TENSORS = {'type': 'object', 'minProperties': 1, 'additionalProperties': TENSOR}
SCHEMA = {
    'type': 'object',
    'required': [*TEXTS, 'required_packages_version', 'network_data_format'],
    'properties': {
        **{name: {'type': 'string', 'minLength': 1} for name in TEXTS},
        'changelog': {'type': 'object'},
        'required_packages_version': {'type': 'object'},
        'network_data_format': {
            'type': 'object',
            'required': ['inputs', 'outputs'],
            'properties': dict.fromkeys(('inputs', 'outputs', 'post_processed_outputs'), TENSORS),
        },
    },
}
ALONE = """
import runpy, sys
sys.modules['jax'] = sys.modules['flax'] = None
sys.path.insert(0, '')  # as python -m does
runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)
"""


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """bundle(kind): a stage in JAX, and the bundle of it."""
    made = {}

    def bundle(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            trained = weights.workdir(folder / 'run', kind)
            export(trained, folder / 'bundle', 'monai')
            made[kind] = trained, folder / 'bundle'
        return made[kind]

    return bundle


@pytest.fixture(scope='module')
def monai_bundle():
    """The module monai.bundle, where it can run an evaluator."""
    pytest.importorskip('ignite', reason='pytorch-ignite is not installed')
    return pytest.importorskip('monai.bundle', reason='MONAI is not installed')


@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    """A folder of two CT scans, with axes of their own."""
    folder = tmp_path_factory.mktemp('scans')
    for number, order in enumerate(([1, 0, 2, 3], [0, 1, 2, 3])):
        image = tiny.scan(number, 'CT', (40, 44, 9))[0].astype(np.float32)
        scan_file.write(folder / f'ct_{number}.nii.gz', image, volume.Volume(image, tiny.AFFINE[order]))
    return folder


def content(folder, name):
    return json.loads((folder / 'configs' / f'{name}.json').read_text())


@pytest.mark.parametrize('kind', ['context', 'twins', 'volumes'])
def test_the_folder(bundle, kind):
    trained, folder = bundle(kind)
    assert {path.name for path in folder.iterdir()} == {'configs', 'models', 'docs', 'LICENSE', 'synseg_jax'}
    assert {path.name for path in (folder / 'configs').iterdir()} == {'card.json', 'inference.json', 'metadata.json'}
    assert (folder / 'LICENSE').read_text() == (tiny.ROOT / 'LICENSE').read_text()
    metadata, classes = content(folder, 'metadata'), trained.run.classes
    Draft202012Validator(SCHEMA).validate(metadata)
    image, pred = (metadata['network_data_format'][part] for part in ('inputs', 'outputs'))
    images, parts = image['image'], pred['pred']
    assert images['num_channels'] == trained.networks.system.channels['b'] == len(images['channel_def'])
    assert images['spatial_shape'] == parts['spatial_shape'] == list(trained.networks.system.size)
    assert parts['channel_def'] == {str(label): name for label, name in enumerate(classes)}
    page = (folder / 'docs' / 'README.md').read_text()
    assert all(f'| {label} | {name} |' in page for label, name in enumerate(classes))
    assert '-200.0 to 300.0 HU' in page and not re.search(r'{[{%]|\n\n\n', page)


def test_monai_labels_scans_as_predict_does_without_jax(bundle, monai_bundle, scans, tmp_path):
    pytest.importorskip('fire', reason='the package fire, with which MONAI has a command, is not installed')
    trained, folder = bundle('context')
    flags = ['--config_file=configs/inference.json', f'--dataset_dir={scans}', f'--output_dir={tmp_path}/monai']
    environment = {name: value for name, value in tiny.environment().items() if name != 'PYTHONPATH'}
    line = [sys.executable, '-c', ALONE, 'run', *flags]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    compare(trained, scans, tmp_path)


@pytest.mark.filterwarnings('ignore')  # MONAI's, about what configurations can run
@pytest.mark.parametrize('kind', ['residual', 'resnet_of_volumes'])
def test_monai_labels_scans_as_predict_does(bundle, monai_bundle, scans, tmp_path, kind):
    """By slices and in 3-D, about the body, with views, components and holes."""
    trained, folder = bundle(kind)
    places = {'bundle_root': str(folder), 'dataset_dir': str(scans), 'output_dir': str(tmp_path / 'monai')}
    config = str(folder / 'configs' / 'inference.json')
    workflow = monai_bundle.ConfigWorkflow(config, workflow_type='inference', device='cpu', **places)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    compare(trained, scans, tmp_path)


def compare(trained, scans, folder):
    """The label maps in `folder`/monai are those of `predict` but for ties: 99.99 % of their voxels."""
    for case, path in predict(trained, scan_file.inputs(scans), folder / 'jax').items():
        ours, theirs = scan_file.read_labels(path), scan_file.read_labels(folder / 'monai' / f'{case}_seg.nii.gz')
        np.testing.assert_allclose(theirs.affine, ours.affine)
        assert len(np.unique(ours.array)) > 1 and (theirs.array == ours.array).mean() > 0.9999


@pytest.mark.filterwarnings('ignore')
def test_monai_loads_the_network_and_finds_it_as_described(bundle, monai_bundle, tmp_path):
    trained, folder = bundle('context')
    network = monai_bundle.load(folder.name, bundle_dir=folder.parent, workflow_type='inference', device='cpu')
    images = np.random.default_rng(0).random((2, *trained.networks.system.size, 3), np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
    export(trained, tmp_path / 'export')
    expected = Evaluator(tmp_path / 'export').probabilities(images, 'b')
    np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1), expected, atol=1e-6)
    config, meta = (str(folder / 'configs' / f'{name}.json') for name in ('inference', 'metadata'))
    monai_bundle.verify_net_in_out('network_def', meta, config, device='cpu')
    (tmp_path / 'schema.json').write_text(json.dumps(SCHEMA))  # in place of the one that MONAI would download
    monai_bundle.verify_metadata(meta, tmp_path / 'schema.json')


def test_what_makes_no_bundle(bundle, tmp_path, monkeypatch):
    generators = weights.workdir(tmp_path / 'run', 'generators')
    with pytest.raises(InputError, match='the stage has no segmentor of the target; export another stage'):
        export(generators, tmp_path / 'out', 'monai')
    with pytest.raises(InputError, match='--functions: a MONAI bundle holds none'):
        export(generators, tmp_path / 'out', 'monai', ('stablehlo',))
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(InputError, match=r"MONAI bundle cannot be written: PyTorch .*pip install 'synseg_jax\[torch\]"):
        export(bundle('context')[0], tmp_path / 'out', 'monai')
    assert [path.name for path in tmp_path.iterdir()] == ['run']
