"""A few hundred corruptions over all formats come to a good end, and what comes to a bad one is seen."""

import subprocess
import sys

import tiny

SCRIPT = tiny.ROOT / 'tests' / 'corruptions.py'
FORMATS = 'nifti,nrrd,meta,dicom,png,dataset,records,results,tables,configuration'  # which need no JAX to be read
SECONDS = 100  # that an attempt may take where many tests run at the same time


def _run(*flags):
    line = [sys.executable, SCRIPT, f'--seconds={SECONDS}', *flags]
    return subprocess.run(line, capture_output=True, text=True, env=tiny.environment(), timeout=600)


def test_corruptions():
    done = _run('--count=400', '--seed=1', f'--format={FORMATS}')
    assert done.returncode == 0, done.stdout + done.stderr
    (total,) = (line.split() for line in done.stdout.splitlines() if line.startswith('all '))
    assert int(total[1]) >= 400 and int(total[2]) > 150 and total[-1] == '0'


ENDS = """
import ctypes, sys, time
sys.path.insert(0, {tests!r})
import corruptions, numpy as np, workers
from absl import logging
from specimens import Specimen, judge_all
from synseg_jax.errors import InputError

def write(folder):
    (folder / 'good').write_bytes(b'good' * 100)
    return folder / 'good'

def reader(bad):
    reads = []
    def read(path):
        reads.append(path)
        return {{'content': b'good'}} if len(reads) == 1 else bad(path)
    return read

def raised(error):
    def bad(path):
        raise error(path)
    return bad

def refused(*forms):
    return raised(lambda path: InputError(*(form.format(path) for form in forms)))

def warned(path):
    logging.warning('%s: odd', path)
    return {{'content': b''}}

ENDS = {{
    'crash': lambda path: ctypes.string_at(0),
    'hang': lambda path: time.sleep(1000),
    'memory': lambda path: np.ones(2**26),
    'traceback': raised(lambda path: KeyError(path)),
    'silent': lambda path: {{'content': b'other'}},
    'nameless': refused('no'),
    'two lines': refused('{{}}:', 'damaged'),
    'long': refused('{{}}: ' + 'word ' * 200),
    'fine': refused('{{}}: damaged'),
    'warned': warned,
}}
workers.GIB = 0.3
for name, bad in ENDS.items():
    workers.SECONDS = 1.0 if name == 'hang' else {seconds}
    for one in corruptions.run({{name: Specimen(write, reader(bad), judge_all)}}, {{name: 2}}, 0):
        print(one.format, one.number, one.outcome, one.why, sep='; ')
"""


def test_bad_ends_are_seen():
    """Each is counted once, and the attempts after it are made all the same."""
    line = [sys.executable, '-c', ENDS.format(tests=str(SCRIPT.parent), seconds=SECONDS)]
    done = subprocess.run(line, capture_output=True, text=True, env=tiny.environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    told = {}
    for name, number, outcome, why in (line.split('; ', 3) for line in done.stdout.splitlines()):
        told.setdefault(name, {})[int(number)] = outcome, why
    assert all(sorted(of) == [0, 1] for of in told.values()) and len(told) == 10
    ends = {'crash': 'ended with -11', 'hang': 'hangs for more', 'memory': 'takes', 'traceback': 'traceback: KeyError'}
    ends |= {'silent': 'another content', 'nameless': 'names no file', 'two lines': 'no clear line', 'long': 'no clear'}
    for name, end in ends.items():
        assert all(outcome == 'WRONG' and why.startswith(end) for outcome, why in told[name].values()), told[name]
    assert {outcome for outcome, _ in told['fine'].values()} == {'refused'}
    assert {outcome for outcome, _ in told['warned'].values()} == {'warned'}


def test_every_attempt_is_made_again_alike(tmp_path):
    from bench import Bench
    from specimens import SCANS

    made = []
    for name in 'ab':
        (tmp_path / name).mkdir()
        bench = Bench('nifti', SCANS['nifti .nii.gz'], tmp_path / name)
        for number in range(30):
            change = bench.change(number, seed=4)
            made.append((number, change.kind, change.after))
            assert bench.outcome(change)[0] in ('refused', 'whole', 'harmless', 'warned') or change.told
            assert bench.path.read_bytes() == bench.contents[bench.path]
    assert sorted(made[:30]) == sorted(made[30:]) and len({kind for _, kind, _ in made}) > 6
