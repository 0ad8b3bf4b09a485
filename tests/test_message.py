"""What processes give one another arrives as it was, and nothing that is read runs."""

import pickle

import numpy as np
import pytest

from synseg_jax.devices import message
from synseg_jax.runs.test_set import Case


def test_round_trip(tmp_path):
    value = {
        ('a', 3): (0.1, float('nan')),
        'array': [None, True, 'ä', np.float32(0.5), np.int64(7)],
        '': {'images': np.arange(6, dtype=np.uint8).reshape(2, 3), 'there': np.array([True, False])},
    }
    message.write(tmp_path / 'm.npz', value)
    found = message.read(tmp_path / 'm.npz')
    assert list(found) == list(value)
    assert found['a', 3][0] == 0.1 and np.isnan(found['a', 3][1]) and isinstance(found['a', 3], tuple)
    assert found['array'] == [None, True, 'ä', 0.5, 7]
    assert found['']['images'].dtype == np.uint8 and np.array_equal(found['']['images'], value['']['images'])
    assert found['']['there'].tolist() == [True, False]


def test_what_is_found_of_a_scan(tmp_path):
    image = np.ones((2, 3), np.float32)
    scan = ('p1', image, None, image.astype(int), (1.0, 2.5))
    message.write(tmp_path / 'm.npz', {'p1': Case({'liver': {'dice': None}}, (None, scan), None, {})})
    found = Case.of(*message.read(tmp_path / 'm.npz')['p1'])
    assert found.measures == {'liver': {'dice': None}} and found.ranked is None
    assert found.shown[1].title == 'p1' and found.shown[1].spacing_mm == (1.0, 2.5)
    assert np.array_equal(found.shown[1].image, image) and found.shown[1].reference is None


class Harm:
    def __reduce__(self):
        return exec, ('raise SystemExit("it ran")',)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / 'm.npz'
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ValueError, match='pickle'):
        message.read(path)
    with path.open('wb') as file:
        np.savez(file, json=np.array([Harm()], object))
    with pytest.raises(ValueError, match='allow_pickle=False'):
        message.read(path)
