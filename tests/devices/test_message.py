"""Messages between processes arrive unchanged, and loading one runs no code."""

import io
import pickle

import numpy as np
import pytest

from synseg_jax.devices import message
from synseg_jax.runs.test_set import CaseResult


def test_round_trip():
    value = {
        ('a', 3): (0.1, float('nan')),
        'array': [None, True, 'ä', np.float32(0.5), np.int64(7)],
        '': {'images': np.arange(6, dtype=np.uint8).reshape(2, 3), 'there': np.array([True, False])},
    }
    loaded = message.loads(message.dumps(value))
    assert list(loaded) == list(value)
    assert loaded['a', 3][0] == 0.1 and np.isnan(loaded['a', 3][1]) and isinstance(loaded['a', 3], tuple)
    assert loaded['array'] == [None, True, 'ä', 0.5, 7]
    assert loaded['']['images'].dtype == np.uint8 and np.array_equal(loaded['']['images'], value['']['images'])
    assert loaded['']['there'].tolist() == [True, False]


def test_the_case_of_a_test_set():
    image = np.ones((2, 3), np.float32)
    scan = ('p1', image, None, image.astype(int), (1.0, 2.5))
    content = message.dumps({'p1': CaseResult({'liver': {'dice': None}}, (None, scan), None, {})})
    case = CaseResult.from_tuples(*message.loads(content)['p1'])
    assert case.measures == {'liver': {'dice': None}} and case.ranked is None
    assert case.shown[1].title == 'p1' and case.shown[1].spacing_mm == (1.0, 2.5)
    assert np.array_equal(case.shown[1].image, image) and case.shown[1].reference is None


class Harm:
    def __reduce__(self):
        return exec, ('raise SystemExit("it ran")',)


def test_a_pickle_is_refused():
    with pytest.raises(ValueError, match='pickle'):
        message.loads(pickle.dumps(Harm()))
    file = io.BytesIO()
    np.savez(file, json=np.array([Harm()], object))
    with pytest.raises(ValueError, match='allow_pickle=False'):
        message.loads(file.getvalue())
