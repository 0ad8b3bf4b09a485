"""No command writes to what it reads, however it is named, nor where it cannot write."""

import os
import shutil

import dicom_files
import pytest
import tiny
import untrained

from synseg_jax.errors import InputError
from synseg_jax.formats import outputs
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.parse import parse_data


@pytest.fixture
def scans(tmp_path):
    """A folder with one file."""
    (tmp_path / 'scans').mkdir()
    (tmp_path / 'scans' / 'ct.nii.gz').write_bytes(b'voxels')
    return tmp_path / 'scans'


WAYS = {
    'itself': lambda folder: folder,
    'by a detour': lambda folder: folder / '..' / folder.name / '.',
    'by a link': lambda folder: _linked(folder),
    'a link to the file': lambda folder: _with(folder, os.symlink),
    'a hard link to the file': lambda folder: _with(folder, os.link),
    'the file': lambda folder: folder / 'ct.nii.gz',
}


def _linked(folder):
    folder.with_name('link').symlink_to(folder)
    return folder.with_name('link')


def _with(folder, link):
    """Another folder that holds the file too."""
    folder.with_name('other').mkdir()
    link(folder / 'ct.nii.gz', folder.with_name('other') / 'x.nii.gz')
    return folder.with_name('other')


@pytest.mark.parametrize('way', WAYS)
def test_an_output_that_is_or_holds_an_input(scans, way):
    with pytest.raises(InputError, match='--output=.*: (is|contains) the input .*; choose another --output'):
        outputs.check(WAYS[way](scans), [scans], [scans / 'ct.nii.gz'])


def test_outputs_that_are_no_inputs(scans, tmp_path):
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / 'ct.nii.gz').write_bytes(b'labels')
    for output in (tmp_path, scans / 'labels', tmp_path / 'old', tmp_path / 'new' / 'deep'):
        outputs.check(output, [scans], [scans / 'ct.nii.gz'])


def test_all_of_a_folder_is_replaced(scans, tmp_path):
    for output in (scans, tmp_path, _linked(scans)):
        with pytest.raises(InputError, match='contains the input .*scans/ct.nii.gz; choose another --output'):
            outputs.check_whole(output, [scans / 'ct.nii.gz'])
    outputs.check_whole(scans / 'new', [scans / 'ct.nii.gz'])


def test_folders_that_cannot_be_written_to(scans, monkeypatch):
    with pytest.raises(InputError, match=r'--workdir=.*ct.nii.gz/new: .*ct.nii.gz is not a folder'):
        outputs.check(scans / 'ct.nii.gz' / 'new', [], flag='workdir')
    monkeypatch.setattr(os, 'access', lambda *_: False)
    with pytest.raises(InputError, match=r'--output=.*scans/new: .*scans is not writable; choose another'):
        outputs.check(scans / 'new', [])


def _state(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file() and path.name != '.lock'}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Scans, datasets, records, a series and a workdir, by name."""
    folder = tmp_path_factory.mktemp('made')
    records = tiny.write_records(folder)
    shutil.copytree(folder / 'Dataset_CT' / 'labelsTr', folder / 'labels')
    (folder / 'scans').mkdir()
    shutil.copy(folder / 'Dataset_CT' / 'imagesTr' / 'ct_0_0000.nii.gz', folder / 'scans' / 'ct.nii.gz')
    dicom_files.write_series(folder / 'study' / 'ct', tiny.scan(3, 'CT')[0], tiny.AFFINE)
    (folder / 'weights').mkdir()
    (folder / 'weights' / 'latest_net_G_A.pth').write_bytes(b'')
    shutil.copytree(folder / 'scans', folder / 'out' / 'overlays')
    work = untrained.workdir(folder / 'work')
    return {'work': work, 'records': records, 'mr': folder / 'Dataset_MR', 'ct': folder / 'Dataset_CT', 'in': folder}


CASES = {
    'predict a scan': ('predict', '--workdir={work} --input={in}/scans/ct.nii.gz --output={in}/scans'),
    'predict a folder': ('predict', '--workdir={work} --input={in}/scans --output={in}/scans/'),
    'predict a dataset': ('predict', '--workdir={work} --input={ct} --output={ct}'),
    'predict over its scans': ('predict', '--workdir={work} --input={ct} --output={ct}/imagesTr'),
    'predict over its labels': ('predict', '--workdir={work} --input={ct} --output={ct}/labelsTr'),
    'predict over its names': ('predict', '--workdir={work} --input={ct}/imagesTr --output={ct}'),
    'predict a series': ('predict', '--workdir={work} --input={in}/study/ct --output={in}/study/ct'),
    'predict a study': ('predict', '--workdir={work} --input={in}/study --output={in}/study'),
    'predict beside labels': ('predict', '--workdir={work} --input={in}/out/overlays --output={in}/out --overlays'),
    'predict in the workdir': ('predict', '--workdir={work} --input={in}/scans --output={work}'),
    'synthesize': ('synthesize', '--workdir={work} --input={mr} --output={mr} --format=scans'),
    'synthesize real': ('synthesize', '--workdir={work} --input={mr} --real={ct} --output={ct}'),
    'synthesize in the workdir': ('synthesize', '--workdir={work} --input={mr} --output={work} --format=scans'),
    'evaluate predictions': ('evaluate', '--predictions={in}/labels --references={ct}/labelsTr --output={in}/labels'),
    'evaluate references': ('evaluate', '--predictions={in}/labels --references={ct} --output={ct}/labelsTr'),
    'export': ('export', '--workdir={work} --output={work}'),
    'prepare source': ('prepare', '--config=tests/tiny.py --source={mr} --target={ct} --output={mr}'),
    'prepare above': ('prepare', '--config=tests/tiny.py --source={mr} --target={ct} --output={in} --overwrite'),
    'repair': ('verify', '--config=tests/tiny.py --source={mr} --target={ct} --repair --output={ct}'),
    'import': ('import_weights', '--config=configs/base.py --weights={in}/weights --workdir={in}/weights'),
    'main': ('main', '--config=tests/tiny.py:{records} --workdir={records}'),
    'compare': ('compare', '--table=configs/tables/synseg_spleen.py:{records} --workdir={records}'),
    'benchmark': ('benchmark', '--config=tests/tiny.py --output=tests/tiny.py'),
}  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_commands_refuse_to_write_to_what_they_read(made, case):
    command, line = CASES[case]
    before = _state(made['in'])
    done = tiny.command(command, *line.format(**made).split())
    assert done.returncode == 2, done.stdout + done.stderr
    flag = 'workdir' if command in ('import_weights', 'main', 'compare') else 'output'
    (told,) = [text for text in done.stderr.splitlines() if text.startswith('error: ')]
    assert told.startswith(f'error: --{flag}=') and (' the input ' in told), told
    assert _state(made['in']) == before


def test_labels_may_lie_in_a_folder_of_their_own_beside_scans(made, tmp_path):
    shutil.copytree(made['in'] / 'scans', tmp_path / 'scans')
    line = f'--workdir={made["work"]} --input={tmp_path}/scans --output={tmp_path}/scans/labels'
    for _ in range(2):  # a second time over the first
        done = tiny.command('predict', *line.split())
        assert done.returncode == 0, done.stderr
    assert (tmp_path / 'scans' / 'labels' / 'ct.nii.gz').is_file()


def test_records_are_not_made_of_scans_among_them(tmp_path):
    """Whatever calls `prepare`: all of the folder would be replaced."""
    records = tiny.write_records(tmp_path)
    moved = records / 'Dataset_MR'
    (tmp_path / 'Dataset_MR').rename(moved)
    sets = [Scans('source', moved, 'a'), Scans('target', tmp_path / 'Dataset_CT', 'b')]
    with pytest.raises(InputError, match=r'--output=.*records: contains the input .*records/Dataset_MR/imagesTr/mr_'):
        prepare(sets, records, parse_data(tiny.config(data__seed=3)), overwrite=True, progress=False)
    assert len(list((moved / 'imagesTr').iterdir())) == tiny.SUBJECTS['MR']


def test_records_are_not_replaced_with_what_is_no_record_among_them(tmp_path):
    records = tiny.write_records(tmp_path)
    (records / 'notes.txt').write_text('of the user')
    sets = [Scans('source', tmp_path / 'Dataset_MR', 'a'), Scans('target', tmp_path / 'Dataset_CT', 'b')]
    with pytest.raises(InputError, match='records: holds notes.txt, which is no record; move it, or choose another'):
        prepare(sets, records, parse_data(tiny.config(data__seed=3)), overwrite=True, progress=False)
    assert (records / 'notes.txt').read_text() == 'of the user'
    prepare(sets, records, parse_data(tiny.config()), progress=False)  # up to date, and nothing is replaced
