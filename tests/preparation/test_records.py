"""Records come back as they were written, in any order and in any process; damage is named."""

import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest, Records, RecordWriter, decode, encode


def _write(path, count=20):
    rng = np.random.default_rng(0)
    images = rng.random((count, 6, 8, 1)).astype(np.float32)
    labels = rng.integers(0, 5, (count, 6, 8)).astype(np.uint8)
    with RecordWriter(path) as writer:
        for i in range(count):
            writer.write(encode(images[i], labels[i], 3, i))
    return images, labels


def _manifest(folder):
    case = {'id': 'x', 'subject': 'x', 'image': '/x.nii', 'label': None, 'shape': [6, 8, 20], 'affine': [[1.0]]}
    case |= {'low': 0.0, 'high': 1.0, 'records': 20, 'slice_mm': 5.0, 'kept': list(range(20))}
    role = {'file': 'source.train.array_record', 'records': 20, 'sha256': '', 'labelled': True, 'cases': [case]}
    return Manifest(
        folder=folder,
        classes=('background', 'liver'),
        size=(6, 8),
        spacing_mm=0.0,
        slice_axis='axial',
        window_hu=(-1.0, 1.0),
        percentiles=(2.5, 97.5),
        target_center=1.0,
        seed=0,
        sets={'source': {'domain': 'a', 'channel': 'MR', 'labels': {'liver': 1}, 'roles': {'train': role}}},
        packages={},
        request='',
        version='0',
    )


def test_record_bytes():
    image = np.float32([[[0], [0.25], [1]]])
    record = decode(encode(image, None, 5, 7))
    np.testing.assert_allclose(record['image'], image, atol=0.5 / 65535)
    assert record['image'].dtype == np.float32 and record['image'].max() == 1 and 'label' not in record
    assert (record['case'], record['slice']) == (5, 7) and record['case'].dtype == np.int32


def test_random_access(tmp_path):
    images, labels = _write(tmp_path / 'r.array_record')
    records = Records(tmp_path / 'r.array_record')
    assert len(records) == 20
    for i in (19, 0, 7):
        np.testing.assert_allclose(records[i]['image'], images[i], atol=1e-5)
        np.testing.assert_array_equal(records[i]['label'], labels[i])
        assert records[i]['slice'] == i
    for i in (20, -1):
        with pytest.raises(IndexError):
            records[i]


def test_pickled_after_reading(tmp_path):
    images, _ = _write(tmp_path / 'r.array_record')
    records = Records(tmp_path / 'r.array_record')
    assert records[2]['slice'] == 2
    copy = pickle.loads(pickle.dumps(records))
    np.testing.assert_allclose(copy[11]['image'], images[11], atol=1e-5)
    assert repr(copy) == repr(records)


def test_same_records_same_bytes(tmp_path):
    for name in ('a', 'b'):
        _write(tmp_path / name)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), RecordWriter(tmp_path / 'r') as writer:
        writer.write(b'x')
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / 'r.array_record'
    _write(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match='r.array_record.*damaged'):
        Records(path)[3]
    with RecordWriter(path) as writer:
        writer.write(b'not safetensors')
    with pytest.raises(InputError, match='r.array_record: record 0 is damaged'):
        Records(path)[0]
    with pytest.raises(InputError, match='no such file'):
        Records(tmp_path / 'none')


@pytest.mark.skipif(sys.platform != 'linux', reason='no /proc')
def test_a_failing_disk_is_not_damage(tmp_path):
    """Reading the first bytes of our memory is an input/output error."""
    for name in ('r.array_record', 'manifest.json'):
        (tmp_path / name).symlink_to('/proc/self/mem')
    with pytest.raises(InputError, match='r.array_record: cannot be read .Input/output error'):
        Records(tmp_path / 'r.array_record')
    with pytest.raises(OSError, match='Input/output error') as raised:
        Manifest.load(tmp_path)
    assert raised.value.filename == str(tmp_path / 'manifest.json')


def test_a_record_that_the_disk_withholds(tmp_path, monkeypatch):
    _write(tmp_path / 'r.array_record')
    records = Records(tmp_path / 'r.array_record')

    def failing(_):
        raise failures.pop()

    monkeypatch.setattr(type(records._source), '__getitem__', lambda self, index: failing(index))
    failures = [MemoryError(), RuntimeError("UNAVAILABLE: gone [os_error_code='121']")]
    for told in ('Remote I/O error', 'out of memory'):
        with pytest.raises(InputError, match=f'cannot be read .{told}'):
            records[3]


def test_manifest_round_trip(tmp_path):
    _write(tmp_path / 'source.train.array_record')
    _manifest(tmp_path).save()
    loaded = Manifest.load(tmp_path)
    assert loaded == _manifest(tmp_path)
    assert len(loaded.records('source', 'train')) == 20
    with pytest.raises(InputError, match="unknown set 'target'; known: source"):
        loaded.records('target', 'train')
    with pytest.raises(InputError, match="unknown role of set source 'val'; known: train"):
        loaded.records('source', 'val')
    _write(tmp_path / 'source.train.array_record', 3)
    with pytest.raises(InputError, match='3 records, not 20'):
        loaded.records('source', 'train')


def _drop(content):
    del content['classes']


def _size(content):
    content['size'] = [3]


def _format(content):
    content['format'] = 9


def _low(content):
    del content['sets']['source']['roles']['train']['cases'][0]['low']


def _escape(content):
    content['sets']['source']['roles']['train']['file'] = '../x'


def _case_id(content):
    content['sets']['source']['roles']['train']['cases'][0]['id'] = '../x'


@pytest.mark.parametrize(
    'change, message',
    [
        (_drop, 'classes: a list of 1 to 256 is wanted; prepare'),
        (_size, r'size: a list of 2 or 3 is wanted, found \[3\]'),
        (_format, 'format 9'),
        (_low, r'sets.source.roles.train.cases\[0\].low'),
        (_escape, 'may not leave the folder'),
        (_case_id, 'may not become a file name'),
    ],
)
def test_wrong_manifests_name_the_field(tmp_path, change, message):
    _manifest(tmp_path).save()
    content = json.loads((tmp_path / 'manifest.json').read_text())
    change(content)
    (tmp_path / 'manifest.json').write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        Manifest.load(tmp_path)


def test_a_raw_folder_gets_the_command(tmp_path):
    with pytest.raises(InputError, match='no such file'):
        Manifest.load(tmp_path)
    (tmp_path / 'dataset.json').write_text('{}')
    with pytest.raises(InputError, match=rf'python -m synseg_jax.prepare .*--source={tmp_path}'):
        Manifest.load(tmp_path)
    (tmp_path / 'manifest.json').write_text('{')
    with pytest.raises(InputError, match='invalid JSON'):
        Manifest.load(tmp_path)


def test_manifest_files_are_equal(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        replace(_manifest(tmp_path), folder=tmp_path / name).save()
    assert (tmp_path / 'a/manifest.json').read_bytes() == (tmp_path / 'b/manifest.json').read_bytes()
