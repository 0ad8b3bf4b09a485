"""Runs the commands of README and docs, page by page, on the phantom at the smallest scale.

    python tests/run_documents.py                            # all pages
    python tests/run_documents.py docs/prediction.md         # some; README always comes first

Every block fenced as bash or python is run, in order.  README begins in a folder with the phantom as MR, CT,
new_ct_scans and new_ct_labels; each other page in a copy of the folder that README leaves.  To each command flags are
added that make networks, images and lengths small.  Prints a line a command; exit code 1 if any fails.
"""

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import documents  # noqa: E402
import miniatures  # noqa: E402

from synseg_jax.phantom.dataset import write_dataset  # noqa: E402

FULL_SCALE = {'prepare', 'verify', 'import_weights'}  # which take a configuration as one with data
SMALL = {'.subjects': 4, '.of': 2}
BENCHMARK = ['--size=32', '--width=4', '--blocks=1', '--batch=1']  # of its own configuration
TIMED = ['--steps=1', '--rounds=1', '--scan=32,32,8']
LINKED = ('configs', 'launch', 'synseg_jax', 'setup.cfg')


def main() -> int:
    """Runs the pages that the flags name; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pages', nargs='*', type=Path, help='all unless given')
    wanted = [path.resolve() for path in parser.parse_args().pages]
    readme, *others = documents.pages()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        first = Path(temporary, readme.stem)
        _begin(first)
        for page in [readme, *(page for page in others if not wanted or page in wanted)]:
            folder = first if page == readme else shutil.copytree(first, Path(temporary, page.stem), symlinks=True)
            failed += sum([not _done(page, kind, code, folder) for kind, code in _programs(page)])
    print(f'{failed} failed' if failed else 'all done')
    return int(failed > 0)


def _begin(folder: Path) -> None:
    """The phantom as people have scans, beside the project's own folders."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name, modality, subjects, first in (('MR', 'MR', 4, 0), ('CT', 'CT', 4, 0), ('new', 'CT', 2, 50)):
        write_dataset(folder / name, modality, subjects, seed=0, first=first)
    (folder / 'new' / 'imagesTr').rename(folder / 'new_ct_scans')
    (folder / 'new' / 'labelsTr').rename(folder / 'new_ct_labels')
    shutil.copy(folder / 'new' / 'dataset.json', folder / 'new_ct_labels')
    shutil.rmtree(folder / 'new')


def _programs(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of what a page has to run."""
    for block in documents.blocks(page):
        if block.language == 'bash':
            yield from (('bash', command) for command in block.commands)
        elif block.language == 'python':
            yield 'python', block.text


def _done(page, kind, text, folder) -> bool:
    """Runs one program in a folder and says what became of it."""
    began, log = time.monotonic(), StringIO()
    with chdir(folder), redirect_stdout(log), redirect_stderr(log):
        try:
            code = _command(text, log) if kind == 'bash' else _process([sys.executable, '-c', text], log)
        except Exception:  # whatever fails, the others are run
            traceback.print_exc(file=log)
            code = 'a traceback'
    told = f'{page.name:18} {time.monotonic() - began:6.1f} s  {text.strip().splitlines()[0]}'
    print(told if not code else f'{told}\n    FAILED: {code}\n{log.getvalue()}', flush=True)
    return not code


def _command(text: str, log: StringIO) -> int:
    module, *arguments = shlex.split(text)[2:]
    package, _, name = module.rpartition('.')
    arguments += smaller(name, arguments)
    if package != 'synseg_jax' or name == 'compare':  # which starts processes of its own
        return _process([sys.executable, '-m', module, *arguments], log)
    return importlib.import_module(module).main(arguments)


def _process(command, log) -> int:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log.write(done.stdout)
    return done.returncode


def smaller(command: str, arguments: list[str]) -> list[str]:
    """Flags that make what a command does small."""
    given = dict(argument.lstrip('-').partition('=')[::2] for argument in arguments)
    added = []
    for flag in {'config', 'table'} & given.keys():
        path, _, data = given[flag].partition(':')
        found = _small_fields(Path(path), 'data' if command in FULL_SCALE else data)
        added += [f'--{flag}.{name}={value}' for name, value in found.items()]
    if command == 'benchmark':
        added += TIMED + (BENCHMARK if 'config' not in given else [])
    return added


def _small_fields(path: Path, data: str) -> dict[str, object]:
    """The fields of a configuration that are larger than they need be, with smaller values."""
    module = _module(path)
    config, small = module.get_config(data), module.get_config(data)
    miniatures.shrink(small)
    before, after = _flat(config), _flat(small)
    after |= {name: min(after[name], most) for name in after for end, most in SMALL.items() if name.endswith(end)}
    return {name: value for name, value in after.items() if value != before[name]}


def _module(path: Path) -> ModuleType:
    """A configuration of the project, or a file that a plan wrote."""
    if len(path.parts) > 1:
        return importlib.import_module('.'.join(path.with_suffix('').parts))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _flat(tree, prefix='') -> dict[str, object]:
    fields = {}
    for name, value in tree.items():
        fields |= _flat(value, f'{prefix}{name}.') if hasattr(value, 'items') else {f'{prefix}{name}': value}
    return fields


if __name__ == '__main__':
    sys.exit(main())
