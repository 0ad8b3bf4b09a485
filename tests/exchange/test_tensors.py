"""Tensors are read as they were written, and nothing else is: not damage, not a claim of more than a file holds."""

import collections
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from synseg_jax.errors import InputError
from synseg_jax.exchange.tensors import check_weights, read_tensors

VALUES = np.arange(8, dtype=np.float32)


def one_line(path, said):
    """The file is refused in a line that names it."""
    with pytest.raises(InputError, match=said) as error:
        read_tensors(path)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


def entry(shape=(8,), offsets=(0, 32), dtype='F32'):
    return {'dtype': dtype, 'shape': list(shape), 'data_offsets': list(offsets)}


def write(path, header, data):
    """A safetensors file of this header, an object or its very bytes."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(header)) + header + data)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'x.safetensors'


TWICE = b'{"x":%b,"x":%b}' % tuple(json.dumps(entry((2,), (at, at + 8))).encode() for at in (0, 8))


@pytest.mark.parametrize(
    'header, size, said',
    [
        ({'x': entry(), 'y': entry()}, 32, 'not a readable safetensors file'),  # one number in two tensors
        ({'x': entry(), 'y': entry(offsets=(16, 48))}, 48, 'not a readable'),
        (TWICE, 16, 'not a readable'),
        ({'x': entry()}, 16, 'not a readable'),  # beyond the end
        ({'x': entry()}, 40, 'not a readable'),  # numbers of no tensor
        ({'x': entry((-8,))}, 32, 'not a readable'),
        ({'x': entry((2**62, 4), (0, 0))}, 0, 'not a readable'),
        ({'x': entry((2**63, 0), (0, 0))}, 0, 'tensor x of shape .* cannot be read'),
        ({'x': entry(dtype='F8_E4M3', offsets=(0, 8))}, 8, 'tensor x has the unsupported type F8_E4M3'),
        ({'x\ny': entry(dtype='C64', offsets=(0, 64))}, 64, r"tensor 'x\\ny' has the unsupported type C64"),
        (b'[' * 100_000, 0, 'not a readable'),
    ],
)
def test_safetensors_that_claim_what_they_do_not_hold(path, header, size, said):
    one_line(write(path, header, bytes(size)), said)


def test_a_header_that_claims_to_be_huge(path):
    path.write_bytes(struct.pack('<Q', 2**63) + b'{}')
    one_line(path, 'not a readable safetensors file')


def test_bfloat16_is_the_upper_half_of_float32(path):
    bits = (VALUES.view(np.uint32) >> 16).astype(np.uint16)
    found = read_tensors(write(path, {'x': entry((2, 4), (0, 16), 'BF16')}, bits.tobytes()))
    np.testing.assert_array_equal(found['x'], VALUES.reshape(2, 4))
    assert found['x'].dtype == np.float32


@pytest.mark.parametrize('dtype', [np.float64, np.float16, np.int64, np.uint16, np.uint8, np.bool_])
def test_other_types(path, dtype):
    safetensors.numpy.save_file({'x': VALUES.astype(dtype), 'y': np.zeros((), dtype)}, path)
    found = read_tensors(path)
    np.testing.assert_array_equal(found['x'], VALUES.astype(dtype))
    assert found['x'].dtype == dtype and found['y'].shape == ()


@pytest.mark.parametrize(
    'tensor, said',
    [
        (np.array([1, np.nan, np.inf]), 'file: tensor x: 2 of 3 weights are NaN or infinite; take an earlier epoch'),
        (np.array([1e300]), 'tensor x: 1 of 1 weights are NaN'),  # in float32
        (np.arange(3), 'tensor x holds int64'),
        (np.array([1j]), 'tensor x holds complex128'),
    ],
)
def test_what_is_no_weight(tensor, said):
    check_weights({'y': VALUES, 'z': VALUES.astype(np.float16)})
    with pytest.raises(InputError, match=said):
        check_weights({'y': VALUES, 'x': tensor}, 'file: ')


torch = pytest.importorskip('torch', reason='PyTorch is not installed')


PLAIN = torch.from_numpy(VALUES.copy())
NO_ARRAYS = {  # by what is said of them
    'sparse': lambda: PLAIN.to_sparse(),
    '(?:sparse)': lambda: torch.eye(3).to_sparse_csr(),
    r'without data \(meta\)': lambda: torch.ones(3, device='meta'),
    'quantised': lambda: torch.quantize_per_tensor(PLAIN, 0.1, 0, torch.quint8),
    'of complex64': lambda: PLAIN.to(torch.complex64),
    'of float8_e4m3fn': lambda: PLAIN.to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize('said', NO_ARRAYS)
@pytest.mark.filterwarnings('ignore')  # of kinds of tensors that are in beta, while they are made
def test_tensors_that_are_no_arrays_are_named(tmp_path, said):
    torch.save({'y': PLAIN, 'odd': NO_ARRAYS[said]()}, tmp_path / 'x.pth')
    one_line(tmp_path / 'x.pth', f'tensor odd is {said}; save a dense float32 tensor')


@pytest.mark.filterwarnings('ignore')
def test_nested_tensors(tmp_path):
    torch.save({'odd': torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}, tmp_path / 'x.pth')
    one_line(tmp_path / 'x.pth', 'x.pth(: tensor odd is nested| is not a state dict)')


def test_tensors_that_claim_more_than_is_stored(tmp_path):
    """A file of a kilobyte would else become 100 GB, or sixty tensors one."""
    path = tmp_path / 'x.pth'
    torch.save({'y': PLAIN, 'odd': torch.zeros(1).expand(25 * 10**9)}, path)
    assert path.stat().st_size < 2000
    one_line(path, r'tensor odd needs 100000000000 bytes, but 4 are stored')
    torch.save({'y': PLAIN, 'odd': PLAIN[None]}, path)
    one_line(path, r'tensor odd with y needs 64 bytes, but 32 are stored \(expanded or tied\); save clones')
    torch.save({'y': PLAIN[:4], 'x': PLAIN[4:].reshape(2, 2).T}, path)  # parts of one buffer
    found = read_tensors(path)
    np.testing.assert_array_equal(found['y'], VALUES[:4])
    np.testing.assert_array_equal(found['x'], VALUES[4:].reshape(2, 2).T)


@pytest.fixture
def saved(tmp_path):
    """A state dict whose bytes may be spoilt, and those bytes."""
    path = tmp_path / 'x.pth'
    torch.save({f'{name}.weight': torch.full((64,), 1.5) for name in 'abc'}, path)
    return path, path.read_bytes()


def test_a_damaged_number_is_found(saved):
    """Which PyTorch alone reads as another number."""
    path, content = saved
    at = content.index(struct.pack('<f', 1.5) * 8)
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert torch.load(path, weights_only=True)['a.weight'][0] != 1.5
    one_line(path, 'checksum error in its entry x/data/0; copy it again')


def test_every_cut_is_found(saved):
    path, content = saved
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        one_line(path, 'x.pth')


def test_bytes_lost_within_an_archive(saved):
    """Its directory then lies before its begin."""
    path, content = saved
    for begin in range(50, len(content) - 600, 97):
        path.write_bytes(content[:begin] + content[begin + 500 :])
        one_line(path, 'x.pth')


@pytest.mark.parametrize('kind', [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_archives_that_unpack_to_more_than_their_size(saved, kind):
    path, _ = saved
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content + bytes(10**6) * name.endswith('data/0'))
    one_line(path, r'unpacks to \d+ bytes, more than the file size')


def test_the_old_format_is_told(tmp_path, caplog):
    torch.save({'x': PLAIN}, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_tensors(tmp_path / 'x.pth')['x'], VALUES)
    assert 'x.pth: saved by PyTorch before 1.6, without checksums' in caplog.text


@pytest.mark.parametrize('content', [[PLAIN], {'x': 3}, {'x': {'y': PLAIN}}, PLAIN, collections.Counter()])
def test_what_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / 'x.pth')
    if content == collections.Counter():
        assert read_tensors(tmp_path / 'x.pth') == {}
    else:
        one_line(tmp_path / 'x.pth', 'is not a state dict of tensors; save the state_dict')
    (tmp_path / 'x.pth').write_bytes(pickle.dumps({'x': 3}))
    one_line(tmp_path / 'x.pth', 'is not a state dict of tensors')
