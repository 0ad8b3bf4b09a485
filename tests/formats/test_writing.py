"""What commands write appears whole or not at all, and what users have beside it stays.

Where a disk is full the system lets no file grow, as it does here, but with another reason.
"""

import errno
import resource
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
import untrained
import weights

from synseg_jax.datasets import nnunet_writer
from synseg_jax.exchange.exporting import export
from synseg_jax.formats import scan_file
from synseg_jax.imaging import volume
from synseg_jax.inference.predict_scans import predict
from synseg_jax.inference.synthesize_scans import synthesize, translate
from synseg_jax.preparation import write_records
from synseg_jax.preparation.checks.repair import repair
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs.import_stage import import_weights
from synseg_jax.specification.parse import parse, parse_data


@contextmanager
def full(size):
    """No file grows beyond `size` bytes."""
    before, largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, largest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, largest))


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    """What commands read; programs are compiled already, for what JAX keeps of them would be cut short too."""
    folder = tmp_path_factory.mktemp('given')
    mr, ct = (tiny.write_dataset(folder / name, name, count) for name, count in tiny.SUBJECTS.items())
    published, trained = weights.workdir(folder / 'published', 'published'), untrained.trained(folder / 'run')
    export(published, folder / 'weights')
    sets = [Scans('source', mr, 'a'), Scans('target', ct, 'b')]
    beside = tiny.write_dataset(folder / 'beside', 'MR', 1)
    label = scan_file.read_labels(beside / 'labelsTr' / 'mr_0.nii.gz')
    smaller = volume.Volume(label.array[:-1], label.affine)
    scan_file.write(beside / 'labelsTr' / 'mr_0.nii.gz', smaller.array, smaller)
    settings = parse_data(tiny.config())
    checked, _ = survey([Scans('source', beside, 'a', 'train')], settings)
    scan = mr / 'imagesTr' / 'mr_0_0000.nii.gz'
    trained.segment(scan_file.read(scan), 'a'), trained.synthesize(scan_file.read(scan), 'a')
    return SimpleNamespace(**locals())


# What commands do, by the size that files may have until the disk is full.
COMMANDS = {
    'prepare': (4000, lambda of, out: prepare(of.sets, out, of.settings, progress=False)),
    'synthesize': (100, lambda of, out: synthesize(of.trained, nnunet_writer.labelled(of.scan, tiny.CLASSES), out)),
    'translate': (100, lambda of, out: translate(of.trained, {'x': of.scan}, out)),
    'export': (4000, lambda of, out: export(of.published, out)),
    'export for PyTorch': (4000, lambda of, out: export(of.published, out, 'pth')),
    'import': (
        4000,
        lambda of, out: import_weights(parse(weights.configured('published')), of.folder / 'weights', out),
    ),
    'repair': (100, lambda of, out: repair(of.checked, out)),
}
NAME = 'Dataset201_Made'


def _require(command):
    if command == 'export for PyTorch':
        pytest.importorskip('torch')


@pytest.mark.parametrize('command', COMMANDS)
def test_a_full_disk_leaves_nothing(given, tmp_path, command):
    _require(command)
    size, run = COMMANDS[command]
    with full(size), pytest.raises(OSError) as refused:
        run(given, tmp_path / NAME)
    assert refused.value.strerror == 'File too large'
    assert refused.value.filename.startswith(str(tmp_path / NAME))
    assert not [path for path in tmp_path.iterdir() if path.name != f'.{NAME}.lock']


@pytest.mark.parametrize('command', COMMANDS)
def test_folders_of_the_user_stay(given, tmp_path, command):
    """Whatever they are called."""
    _require(command)
    theirs = [tmp_path / f'{NAME}{end}' for end in ('.partial', '.old', '.tmp')]
    theirs += [tmp_path / f'.{NAME}.partial', tmp_path / f'.{NAME}']
    for folder in theirs:
        folder.mkdir()
        (folder / 'notes.txt').write_text('of the user')
    COMMANDS[command][1](given, tmp_path / NAME)
    assert all((folder / 'notes.txt').read_text() == 'of the user' for folder in theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(path.name for path in theirs), NAME])


@pytest.mark.parametrize('extra, size', [('', 100), ('volumes', 30), ('overlays', 2000), ('probabilities', 2000)])
def test_predict_on_a_full_disk(given, tmp_path, extra, size):
    """Labels that were written stay."""
    with full(size), pytest.raises(OSError) as refused:
        predict(given.trained, {'x': given.scan}, tmp_path / 'out', 'a', extras=[extra] if extra else ())
    assert refused.value.errno == errno.EFBIG and refused.value.filename.startswith(f'{tmp_path}/out/')
    files = [path.name for path in (tmp_path / 'out').rglob('*') if path.is_file()]
    assert files == (['x.nii.gz'] if size == 2000 else [])


def test_the_command_says_which_file_and_why(given, tmp_path):
    workdir = untrained.workdir(tmp_path / 'work', method='supervised')
    (tmp_path / 'out' / 'ct_1.nii.gz').mkdir(parents=True)  # where a label map is to be
    done = tiny.command('predict', f'--workdir={workdir}', f'--input={given.ct}', f'--output={tmp_path / "out"}')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1] == f'error: {tmp_path}/out/ct_1.nii.gz: Is a directory'
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['ct_0.nii.gz', 'ct_1.nii.gz', 'dataset.json']


def test_links_are_replaced_and_not_followed(given, tmp_path):
    """Neither where labels are to be, nor at any name that a temporary file might have."""
    secret, out = tmp_path / 'secret', tmp_path / 'out'
    secret.write_text('of the user')
    out.mkdir()
    names = ['x.nii.gz', 'dataset.json', 'volumes.csv']
    planted = [*names, *(f'.{name}.partial' for name in names), *(f'{name}.tmp' for name in names)]
    for name in planted:
        (out / name).symlink_to(secret)
    predict(given.trained, {'x': given.scan}, out, 'a', extras=['volumes'])
    assert secret.read_text() == 'of the user'
    assert [(out / name).is_symlink() for name in planted] == [name not in names for name in planted]
    assert scan_file.read_labels(out / 'x.nii.gz').array.shape == tiny.SHAPE


def test_a_link_to_records_is_replaced_and_what_it_links_to_stays(given, tmp_path):
    prepare(given.sets, tmp_path / 'real', given.settings, progress=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / 'real').iterdir()}
    (tmp_path / 'out').symlink_to(tmp_path / 'real')
    other = replace(given.settings, seed=3)
    prepare(given.sets, tmp_path / 'out', other, overwrite=True, progress=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / 'real').iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'real']


def test_two_prepare_at_once(given, tmp_path, monkeypatch, capsys):
    """One writes, the other waits and finds the records made."""
    write, written, found, both = write_records._write, [], [], threading.Barrier(2)

    def slow(*arguments):
        with suppress(threading.BrokenBarrierError):
            both.wait(1)  # for the other, if it does not wait for us
        written.append(write(*arguments))
        return written[-1]

    def run():
        found.append(prepare(given.sets, tmp_path / 'out', given.settings))

    monkeypatch.setattr(write_records, '_write', slow)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(written) == 1 and len(found) == 2 and found[0] == found[1]
    assert capsys.readouterr().out.count('out is up to date') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['out']
