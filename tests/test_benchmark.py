"""The benchmark times what it says, beside a peer in turn, and its costs are those of the step."""

import json
from itertools import islice

import numpy as np
import pytest
import tiny

from synseg_jax import benchmark, timing
from synseg_jax.training.system import System, configure

PEER = """
import argparse, json
p = argparse.ArgumentParser()
for name in ('size', 'ngf', 'blocks', 'batch', 'steps', 'threads'):
    p.add_argument(f'--{name}', type=int)
p.add_argument('--infer', action='store_true')
a = p.parse_args()
print(json.dumps({'seconds_per_step': a.size * a.ngf * a.blocks * a.batch / 1e3}))
"""


def _system(**changes):
    return System(configure(tiny.config(**changes), 'synseg'), tiny.CLASSES)


def test_a_step_is_timed_alone_and_fed_by_records():
    runner = timing.Timing(_system(method='supervised', history=0, train__workers=0))
    rounds = [*islice(runner.rounds(2), 2)]
    assert [*rounds[0]] == ['step_s', 'fed_step_s'] and all(value > 0 for one in rounds for value in one.values())
    cost = runner.cost()
    pixels, width = 2 * 32 * 32, 4
    first = 2 * pixels * 49 * width / 1e9  # of the 7x7 layer alone, forward
    assert cost['gflop'] > 5 * first
    assert 0.5 < cost['estimated_gib'] / cost['compiled_gib'] < 2
    assert runner.pipeline_rate(0.2) > 0
    assert next(runner.segmenting(2, 1)) > 0


def test_records_hold_what_the_step_reads(tmp_path):
    runner = timing.Timing(_system(method='supervised', history=0))
    batch = next(runner._batches(tmp_path))
    assert batch.keys() == {'a', 'label_a'} and batch['a'].shape == (2, 32, 32, 1)
    assert batch['label_a'].dtype == np.int32 and batch['label_a'].max() < len(tiny.CLASSES)


def test_ratios_are_those_of_single_rounds():
    rounds = [
        {'step_s': 1.0, 'peer_step_s': 2.0},
        {'step_s': 9.0, 'peer_step_s': 3.0},
        {'step_s': 2.0, 'peer_step_s': 2.0},
    ]
    spread = benchmark._spread(rounds)
    assert spread['step_ratio'] == {'median': 1.0, 'least': 0.5, 'most': 3.0}
    assert spread['step_s'] == {'median': 2.0, 'least': 1.0, 'most': 9.0}


def test_the_peer_is_asked_for_the_same_work(tmp_path):
    script = tmp_path / 'peer.py'
    script.write_text(PEER)
    found = benchmark.peer_seconds(str(script), _system(), 3, '--infer')
    assert found == pytest.approx(32 * 4 * 1 * 2 / 1e3)
    script.write_text('raise SystemExit("no torch here")')
    with pytest.raises(Exception, match='no torch here'):
        benchmark.peer_seconds(str(script), _system(), 3)


def test_memory_is_said_without_compiling():
    done = tiny.command('benchmark', f'--config={tiny.ROOT}/tests/tiny.py', '--memory', '--batch=4', '--dtype=bfloat16')
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said['batch'] == 4 and said['dtype'] == 'bfloat16' and said['size'] == [32, 32]
    assert said['memory_gib'].keys() >= {'state', 'kept for gen', 'players in turn', 'players at once'}


def test_mistakes(tmp_path):
    for flags, says in (
        (['--peer=none.py', '--parts=step'], 'none.py: no such file'),
        (['--parts=speed'], "unknown part (--parts) 'speed'"),
        (['--system=other'], "unknown system 'other'"),
        ([f'--peer={__file__}', '--config.method=supervised'], '--peer does the work of SynSeg-Net'),
    ):
        config = f'--config={tiny.ROOT}/tests/tiny.py'
        done = tiny.command('benchmark', config, *flags)
        assert done.returncode == 2 and says in done.stderr, done.stderr
