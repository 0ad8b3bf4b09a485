"""Scans of several channels, T1 and T2 MR beside CT: read, trained on, predicted, synthesized and exported together."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tiny

import synseg_jax
from synseg_jax.batches.selection import Chosen
from synseg_jax.benchmarks.memory_estimate import estimate
from synseg_jax.errors import InputError
from synseg_jax.exchange.exporting import export
from synseg_jax.exchange.importing import with_card
from synseg_jax.formats import scan_channels, scan_file
from synseg_jax.imaging.intensity import Normalisation
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.predict_scans import predict
from synseg_jax.inference.whole_scan import ScanOptions, scan_probabilities
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import open_run
from synseg_jax.specification.parse import parse_data
from synseg_jax.training.system import System

FIELDS = {'data__channels': (2, 1), 'train__steps': 4, 'train__decay_steps': 2, 'train__save_every': 2}
T2 = 2000  # value that the second channel is inverted about


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Datasets of MR with two channels, and of CT."""
    folder = tmp_path_factory.mktemp('channels')
    source = tiny.write_dataset(folder / 'Dataset_MR', 'MR', 5)
    tiny.write_dataset(folder / 'Dataset_CT', 'CT', 4)
    for path in sorted((source / 'imagesTr').iterdir()):
        image = nib.load(path)
        second = path.with_name(path.name.replace('_0000', '_0001'))
        nib.save(nib.Nifti1Image(T2 - np.asarray(image.dataobj), image.affine), second)
    described = json.loads((source / 'dataset.json').read_text())
    described['channel_names'] = {'0': 'T1 MR', '1': 'T2 MR'}
    (source / 'dataset.json').write_text(json.dumps(described))
    return folder


@pytest.fixture(scope='module')
def records(folder):
    return made(folder, 'records')


def made(folder, name, **changes):
    """Records of both datasets, MR the source unless `data.reverse`."""
    source, target = ('CT', 'MR') if changes.get('data__reverse') else ('MR', 'CT')
    sets = [Scans('source', folder / f'Dataset_{source}', 'a'), Scans('target', folder / f'Dataset_{target}', 'b')]
    return prepare(sets, folder / name, parse_data(tiny.config(**FIELDS | changes)), progress=False)


@pytest.fixture(scope='module')
def workdir(folder, records):
    """SynSeg-Net on them, with neighbouring slices as channels too."""
    tiny.run(tiny.config(records.folder, **FIELDS, context__slices=1), folder / 'run', tiny.quiet())
    return folder / 'run'


@pytest.mark.parametrize(
    'changes', [{}, {'data__size': (8, 16, 16), 'data__spacing_mm': 4.5}], ids=['slices', 'volumes']
)
def test_records_hold_all_channels(folder, changes):
    manifest = made(folder, f'records{len(changes)}', **changes)
    assert Manifest.load(manifest.folder).channels == (2, 1)
    entry = manifest.sets['source']
    assert (entry['channel'], entry['channels']) == ('T1 MR', ['T1 MR', 'T2 MR'])
    image = manifest.records('source', 'train')[0]['image']
    case = entry['roles']['train']['cases'][0]
    assert image.shape[-1] == 2 and manifest.records('target', 'train')[0]['image'].shape[-1] == 1
    low, high = case['others'][0]
    np.testing.assert_allclose([T2 - high, T2 - low], [case['low'], case['high']], atol=2)
    inside = image[..., 0] > 0.02  # beyond the window of either, both are clipped
    np.testing.assert_allclose(image[inside].sum(-1), 1, atol=0.03)


def test_the_first_alone_is_read_unless_told(folder, caplog):
    manifest = made(folder, 'first', data__channels=(1, 1))
    assert 'of 2 channels only the first, T1 MR, is read; see data.channels' in caplog.text
    assert manifest.records('source', 'train')[0]['image'].shape[-1] == 1
    assert 'channels' not in manifest.sets['source'] and 'others' not in manifest.role('source', 'train')['cases'][0]


def test_networks_see_and_make_as_many(workdir):
    trained = open_run.find(workdir, network='g')
    system = trained.networks.system
    assert system.channels == {'a': 6, 'b': 3} and trained.run.named('a') == ('T1 MR', 'T2 MR')
    seen = {name: own['stem']['kernel'].shape[-2] for name, own in trained.networks.params.items() if 'stem' in own}
    assert (seen['g_ab'], seen['g_ba'], seen['s_b']) == (6, 3, 3)
    assert estimate(system).peak > 0


def test_channels_of_a_slice_come_before_those_of_the_next(workdir, folder):
    trained = open_run.find(workdir, network='g')
    scan = scan_channels.read(folder / 'Dataset_MR/imagesTr/mr_0_0000.nii.gz', 2)
    images = trained._frame(scan, 'a').images(1)
    alone = trained._frame(scan, 'a').images()
    assert images.shape[-1] == 6 and alone.shape[-1] == 2
    np.testing.assert_array_equal(images[2], np.concatenate(alone[1:4], -1))  # of the slice below, itself, and above
    manifest = Manifest.load(folder / 'records')
    index = [case['id'] for case in manifest.role('source', 'train')['cases']].index('mr_0')
    excerpt = Chosen(manifest, 'source', 'train', (index,), context=1).open()
    np.testing.assert_allclose(images[2], excerpt[2]['image'], atol=2e-5)


def test_mirrored_sagittal_slices_keep_the_order_of_channels():
    """With flips a network that copies its input gives the mean of a channel and of itself."""
    array = np.random.default_rng(0).uniform(0, 1, tiny.SHAPE).astype(np.float32)
    scan = Volume(array, tiny.AFFINE, others=(Volume(1 - array, tiny.AFFINE),))
    frame = NetworkGrid.from_scan(scan, [Normalisation(0, 1)] * 2, 'sagittal', (6, 22))
    options = ScanOptions((6, 22), context=1, flips='lr')
    np.testing.assert_allclose(scan_probabilities(lambda images: images, frame, options)[..., 2:4],
                               frame.images(), atol=1e-6)  # fmt: skip


def test_prediction_reads_all_channels(workdir, folder, tmp_path):
    trained = open_run.find(workdir, network='s')
    files = scan_file.inputs(folder / 'Dataset_CT')
    assert len(predict(trained, files, tmp_path / 'ct')) == 4
    with pytest.raises(InputError, match='does not segment domain a; choose another --domain'):
        predict(trained, scan_file.inputs(folder / 'Dataset_MR', channels=2), tmp_path / 'mr', 'a')


def test_synthetic_scans_have_all_channels(workdir, folder, tmp_path):
    arguments = [f'--workdir={workdir}', f'--output={tmp_path / "mr"}', '--domain=b', '--format=scans']
    assert tiny.command('synthesize', *arguments, f'--input={folder / "Dataset_CT"}').returncode == 0
    names = sorted(path.name for path in (tmp_path / 'mr').iterdir())
    assert names[:2] == ['ct_0_0000.nii.gz', 'ct_0_0001.nii.gz'] and len(names) == 8
    first, second = (nib.load(tmp_path / 'mr' / name).get_fdata() for name in names[:2])
    assert second.mean() > first.mean()  # its window lies higher


def test_python_takes_a_list_or_the_first_path(workdir, folder):
    model = synseg_jax.load(workdir)
    path = folder / 'Dataset_MR/imagesTr/mr_0_0000.nii.gz'
    images = [nib.load(path), nib.load(path.with_name('mr_0_0001.nii.gz'))]
    from_path, from_list = model.translate(path), model.translate(images)
    np.testing.assert_array_equal(from_path.get_fdata(), from_list.get_fdata())
    with pytest.raises(InputError, match=r'the networks see 2 channels \(T1 MR, T2 MR\), the scan has 1; give all'):
        model.translate(images[0])
    back = model.translate(folder / 'Dataset_CT/imagesTr/ct_0_0000.nii.gz', 'b')
    assert len(back) == 2 and back[0].shape == tiny.SHAPE


SHORT = {'train': {'steps': 2, 'decay_steps': 1, 'save_every': 2}}
TRANSLATE = {
    'translate': {'method': 'cyclegan', **SHORT},
    'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': ('source',)}},
}
TARGET = {'loss_weights': {'seg': {'seg_a': 0.0, 'seg_b': 1.0}}, 'sets': {'b': ('synthesis',)}}


def test_sets_that_stages_make_have_the_channels_of_their_domain(folder, tmp_path):
    """T1 and T2 become CT, CT becomes T1 and T2, and pseudo labels keep the channels of their scans."""
    both = made(folder, 'reversed', data__channels=(1, 2), data__reverse=True)
    config = tiny.config(both.folder, data__channels=(1, 2))
    config.systems.synseg = {'stages': {
        **TRANSLATE,
        'segment': {'method': 'supervised', **TARGET, **SHORT},
        'pseudo': {'kind': 'label', 'segmentor_from': 'segment', 'sets': {'b': ('target',)}},
        'again': {'method': 'supervised', **TARGET, 'sets': {'b': ('pseudo',)}, **SHORT},
    }}  # fmt: skip
    results = tiny.run(config, tmp_path, tiny.quiet())
    assert results
    for stage in ('synthesis', 'pseudo'):
        (path,) = (tmp_path / 'stages').glob(f'{stage}-*/records')
        manifest = Manifest.load(path)
        assert manifest.sets[stage]['channels'] == ['T1 MR', 'T2 MR']
        assert manifest.records(stage, 'train')[0]['image'].shape[-1] == 2
        assert len(manifest.role(stage, 'train')['cases'][0]['others']) == 1
    config.systems.synseg.stages.segment = {'method': 'supervised', 'sets': {'a': ('synthesis',)}, **SHORT}
    with pytest.raises(InputError, match='sets.a: synthesis has other channels'):
        tiny.run(config, tmp_path / 'other', tiny.quiet())


def test_pytorch_sees_them_too(workdir, folder, tmp_path):
    pytest.importorskip('torch', reason='PyTorch is not installed')
    from synseg_jax.exchange.torch_evaluator import Evaluator

    trained = open_run.find(workdir, network='')
    card = export(trained, tmp_path / 'out')
    assert [one['channel'] for one in card.channels('a')] == ['T1 MR', 'T2 MR']
    again = with_card(trained.config, card)
    assert again.others == trained.run.others and again.config.data.channels == (2, 1)
    assert card.networks['g_ab']['channels'] == 6 and card.networks['g_ba']['channels'] == 3
    scan = scan_channels.read(folder / 'Dataset_MR/imagesTr/mr_0_0000.nii.gz', 2)
    images = trained._frame(scan, 'a').images(1)
    with pytest.raises(InputError, match='a bundle reads scans of one channel'):
        export(with_two(trained), tmp_path / 'bundle', 'monai')
    evaluator = Evaluator(tmp_path / 'out')
    np.testing.assert_array_equal(images, evaluator._frame(scan, 'a').images(1))
    np.testing.assert_allclose(evaluator.translate(images, 'a'), trained.networks.translate(images, 'a'), atol=2e-5)


def with_two(trained):
    """The same, as if its target had two channels."""
    others = {**trained.run.others, 'b': [{'channel': 'PET', 'typical': (0.0, 1.0)}]}
    return type(trained)(replace(trained.run, others=others), trained.networks.params, trained.step)


def test_a_missing_channel_and_another_grid_are_told(folder, tmp_path):
    path = folder / 'Dataset_CT/imagesTr/ct_0_0000.nii.gz'
    with pytest.raises(InputError, match=r'ct_0_0001.nii.gz: no such file, though 2 channels are wanted'):
        scan_channels.read(path, 2)
    image = nib.load(path)
    for name, array in (('x_0000', np.asarray(image.dataobj)), ('x_0001', np.zeros((4, 4, 4), np.int16))):
        nib.save(nib.Nifti1Image(array, image.affine), tmp_path / f'{name}.nii.gz')
    with pytest.raises(InputError, match=r'x_0001.nii.gz: channel has shape \(4, 4, 4\), its image'):
        scan_channels.read(tmp_path / 'x_0000.nii.gz', 2)
    nib.save(image, tmp_path / 'scan.nii.gz')
    with pytest.raises(InputError, match=r'name their files scan_0000, scan_0001 and so on'):
        scan_channels.read(tmp_path / 'scan.nii.gz', 2)


def test_prepare_tells_all_scans_without_a_channel(folder):
    with pytest.raises(InputError, match='4 problems'):
        made(folder, 'refused', data__channels=(1, 2))
    assert not (folder / 'refused').exists()


@pytest.mark.parametrize('changes, what', [
    ({'loss_weights__gen__idt_b': 1.0}, 'the term idt_b'), ({'augment__fourier': 0.05}, 'augment.fourier'),
    ({'method': 'generalise', 'views__b__paste': 'classes'}, 'views.b.paste')])  # fmt: skip
def test_what_mixes_both_domains_needs_as_many_channels(changes, what):
    with pytest.raises(InputError, match=rf'data.channels=\(2, 1\): {what} needs as many channels in both domains'):
        _ = System(tiny.stage(data__channels=(2, 1), **changes), tiny.CLASSES).networks
    assert System(tiny.stage(data__channels=(2, 2), **changes), tiny.CLASSES).networks


def test_a_segmentor_of_the_source_does_not_fit_other_scans():
    system = System(tiny.stage(data__channels=(2, 1), method='supervised'), tiny.CLASSES)
    assert system.segmentor('a') == 's_a' and system.segmentor('b') is None
