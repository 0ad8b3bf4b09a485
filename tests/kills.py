"""Kills commands at random moments: nothing that was there before may change, and the same command ends as if alone.

    python tests/kills.py --command=predict --kills=20 --seed=0

A command is killed a few times in a row, then left to end; its output must be that of a run that nobody disturbed.
Prints a line a command and exits with 1 where anything differs.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', os.path.join(tempfile.gettempdir(), 'synseg_jax_kills'))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import forks
import tiny

from synseg_jax.files import TEMPORARY

CONFIG = f'--config={tiny.ROOT}/tests/tiny.py'
SHORT = ['--config.train.steps=16', '--config.train.decay_steps=4', '--config.train.save_every=2']
SHORT += ['--config.train.log_every=1', '--config.method=supervised']
SETS = ['--source={base}/mr', '--target={base}/ct']
FLAGS = {  # {base}: what is given, {out}: where the command writes
    'main': [CONFIG + ':{base}/records', '--workdir={out}/run', *SHORT],
    'prepare': [CONFIG, *SETS, '--output={out}/records'],
    'verify': [CONFIG, *SETS, '--repair', '--output={out}/repaired'],
    'predict': ['--workdir={base}/run', '--input={base}/ct', '--output={out}/labels', '--volumes', '--probabilities'],
    'synthesize': ['--workdir={base}/translator', '--input={base}/mr', '--output={out}/Dataset001_Made'],
    'evaluate': ['--predictions={base}/ct/labelsTr', '--references={base}/ct/labelsTr', '--output={out}/measures'],
    'compare': ['--table={base}/configs/table.py:{base}/records', '--workdir={out}/run'],
    'export': ['--workdir={base}/translator', '--output={out}/weights', '--format=both'],
    'import_weights': [CONFIG, '--weights={base}/weights', '--workdir={out}/imported', '--config.method=synseg_hc'],
    'benchmark': [CONFIG, '--parts=inference', '--steps=1', '--rounds=1', '--size=32', '--output={out}/speed.json'],
}
TABLE = """
from configs import variants
from tests import tiny


def get_config(data=''):
    c = tiny.config(data, train__steps=16, train__decay_steps=4, train__save_every=2, train__log_every=1)
    c.method = 'supervised'
    rows = {'a': {'system': 'synseg', 'set': 'target', 'name': 'one', 'reported': {}}}
    c.table = variants.table('Title', 'Source', rows, runs='tiny', organs=('liver',), measures=('dice',),
                             reference='one')
    return c
"""
VOLATILE = ('seconds', 'peak_memory_gib', 'costs', 'created', 'init_timestamp_nsecs')  # fields that time decides
FOUND = {'verify': 1}  # exit code where a command has found something
IN_ROW = 4  # kills before a run is left to end


class Place:
    """What commands read, in `base`, and where one of them writes, in `out`."""

    def __init__(self, root: Path, names: list[str]):
        self.base, self.out, self.start = root / 'base', root / 'out', root / 'start'
        tiny.write_dataset(self.base / 'mr', 'MR', 4)
        tiny.write_dataset(self.base / 'ct', 'CT', 4)
        (self.base / 'configs').mkdir()
        (self.base / 'configs' / 'table.py').write_text(TABLE)
        self._made('prepare', f'--output={self.base}/records')
        if {'predict', 'compare'} & {*names}:
            self._made('main', f'--workdir={self.base}/run')
        if {'synthesize', 'export', 'import_weights'} & {*names}:
            more = ['--config.method=synseg_hc', '--config.train.steps=4']
            self._made('main', f'--workdir={self.base}/translator', *more)
        if 'import_weights' in names:
            self._made('export', f'--output={self.base}/weights', '--format=safetensors')
        self.given = self.digest(self.base)

    def _made(self, name, *flags):
        done = self.run(name, *flags)
        assert done.returncode == 0, done.stderr

    def run(self, name: str, *more: str, seconds: float = 600):
        """A command with its flags, killed after some seconds."""
        flags = [flag.format(base=self.base, out=self.out) for flag in FLAGS[name]]
        return forks.command(name, *flags, *more, timeout=seconds)

    def clear(self, name: str) -> None:
        """An output folder with nothing in it but what is the user's, and for `compare` a trained system."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        for mine in ('precious.txt', 'run.old', 'labels.partial'):
            (self.out / mine).write_text('mine')
        if name == 'compare':
            shutil.copytree(self.base / 'run', self.out / 'run', symlinks=True)

    def kept(self) -> bool:
        """Whether what was given, and what is the user's, is as it was."""
        mine = all((self.out / one).read_text() == 'mine' for one in ('precious.txt', 'run.old', 'labels.partial'))
        return mine and self.digest(self.base) == self.given

    def digest(self, folder: Path) -> dict[str, str]:
        """{file: digest of what does not depend on time}, of checkpoints the checksums of their arrays."""
        found = {}
        for path in sorted(folder.rglob('*')):
            name = str(path.relative_to(folder))
            inside = path.relative_to(folder).parts
            if any(TEMPORARY.fullmatch(part) for part in inside) or 'tensorboard' in inside or name.endswith('.lock'):
                continue
            if 'checkpoints' in inside and inside[-2:] not in (('sums', 'metadata'), ('metrics', 'metrics')):
                continue
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = hashlib.sha256(_stable(path)).hexdigest()
        return found


def _stable(path) -> bytes:
    """The content of a file without what depends on time."""
    content = path.read_bytes()
    if path.name == 'speed.json':
        return b'speed' if json.loads(content) else b''
    if path.name in ('report.html', 'report.md'):
        return b'report' if len(content) > 1000 else b''  # it tells seconds
    try:
        return json.dumps(_timeless(json.loads(content))).encode() if path.suffix == '.json' else content
    except ValueError:  # half a file
        return content


def _timeless(content):
    if isinstance(content, dict):
        return {name: _timeless(part) for name, part in content.items() if name not in VOLATILE}
    return [_timeless(part) for part in content] if isinstance(content, list) else content


def _draws(seed: int, name: str):
    """Numbers in [0, 1) that depend on nothing else."""
    number = 0
    while True:
        word = hashlib.sha256(f'{seed} {name} {number}'.encode()).digest()[:8]
        yield int.from_bytes(word, 'big') / 2**64
        number += 1


def campaign(place: Place, name: str, kills: int, seed: int) -> list[str]:
    """Kills a command so often; what went wrong, each in a line."""
    place.clear(name)
    place.run(name)  # compiles
    place.clear(name)
    began = time.monotonic()
    alone = place.run(name)
    lasts, expected = time.monotonic() - began, place.digest(place.out)
    wrong = []
    if alone.returncode not in (0, FOUND.get(name)) or 'Traceback' in alone.stderr:
        wrong.append(f'{name}: undisturbed, it ends with {alone.returncode}: {alone.stderr[-500:]}')
    draws, done, early = _draws(seed, name), 0, 0
    while done < kills and not wrong:
        place.clear(name)
        for _ in range(min(IN_ROW, kills - done)):
            killed = place.run(name, seconds=lasts * next(draws))
            done, early = done + 1, early + (killed.returncode == -signal.SIGKILL)
            if not place.kept():
                wrong.append(f'{name}, kill {done}: something that was there before has changed')
        last = place.run(name)
        found = place.digest(place.out)
        over = last.returncode == 2 and 'exists' in last.stderr  # it had written all before it was killed
        if last.returncode != alone.returncode and not over or 'Traceback' in last.stderr:
            wrong.append(f'{name}, after kill {done}: exit code {last.returncode}: {last.stderr[-500:]}')
        for path in sorted(found.keys() | expected.keys()):
            if found.get(path) != expected.get(path) and not _left(path, expected):
                wrong.append(f'{name}, after kill {done}: {path} differs')
        wrong += [] if place.kept() else [f'{name}, after kill {done}: something that was there before has changed']
    print(
        f'{name:15} {lasts:6.1f} s  {done:4} kills, {early:4} before its end  {"wrong" if wrong else "as if alone"}',
        flush=True,
    )
    return wrong


def _left(path, expected) -> bool:
    """Whether it is a checkpoint of a step that others of the run do not have, as a killed one keeps its own."""
    return 'checkpoints' in path and path not in expected


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--command', default='all', help=f'one of {", ".join(FLAGS)}, several with commas, or all')
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    given = parser.parse_args()
    names = list(FLAGS) if given.command == 'all' else given.command.split(',')
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), names)
        wrong = [line for name in names for line in campaign(place, name, given.kills, given.seed)]
    print(*wrong, sep='\n', end='\n' if wrong else '')
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
