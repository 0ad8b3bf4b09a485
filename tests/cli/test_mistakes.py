"""What is wrong with a flag, a field or a configuration is one line that names it and says what to write."""

import re

import pytest
import tiny

from synseg_jax.cli.command import run
from synseg_jax.errors import InputError

TINY = f'--config={tiny.ROOT}/tests/tiny.py'

FIELDS = {  # of the configuration: what the line says
    '--config.train.batch=1.5': '--config.train.batch=1.5: give a whole number',
    '--config.rate.generator=x': '--config.rate.generator=x: give a number',
    '--config.remat=2': '--config.remat=2: give true or false',
    '--config.train.batch': '--config.train.batch: its value is missing; write --config.train.batch=VALUE',
    '--config.augment.flip --config.seed=1': '--config.augment.flip: its value is missing; write --config',
    '--noconfig.augment.flip': '--config.augment.flip: its value is missing; write --config.augment.flip=VALUE',
    '--config.train=3': '--config.train=3: a group of fields; set them one by one, --config.train.FIELD=VALUE',
    '--config.optimizer={}': 'no optimizer.b1, optimizer.b1_alone, optimizer.b2',
    '--config.train.batch.x=3': '--config.train.batch.x: no such field; docs/configuration.md lists them',
    '--config.data.size.x=3': '--config.data.size.x: no such field; docs/configuration.md lists them',
    '--config.data.size[0]=3': '--config.data.size[0]: no such field; docs/configuration.md lists them',
    '--config.loss_weights.gen.cyc_x=1': '--config.loss_weights.gen.cyc_x: no such field; is cyc_b meant?',
    "--config.loss_weights.gen.cyc_a=('linear',1)": "cyc_a=('linear', 1): give a finite number from 0 on, or a",
    '--config.segmentor.levels=4': '--config.segmentor.levels: no such field; the configuration leaves it out; set',
    '--config.history=3': '--config.history: no such field; history is now image_pool',
    '--config.=3': '--config.: no such field; docs/configuration.md lists them',
    '--config.data.classes=a,b': """=a,b: a tuple is written --config.data.classes="('a','b')"\n""",
    '--config.data.classes=(a,)': """=(a,): a tuple is written --config.data.classes="('a',)"\n""",
    '--config.data.size=(64,64': '=(64,64: a tuple is written --config.data.size="(64,64)"\n',
    '--config.rate.generator=nan': 'config.rate.generator=nan: give a finite number from 0 on',
}
FLAGS = {
    '--config.seed=3': '--config.seed: --config=FILE is missing',
    '--processes=abc': '--processes=abc: give a whole number',
    '--deterministic=2': '--deterministic=2: give true or false',
    '--workdir': '--workdir: its value is missing; write --workdir=VALUE',
    '--wrkdir=x': "'wrkdir'. Did you mean: workdir",
    '--flagfile=none': "--flagfile: Unable to open flagfile: [Errno 2] No such file or directory: 'none'",
    '--config=': '--config=: no such file',
}
TYPES = """
def get_config(data):
    from tests import tiny
    c = tiny.get_config(data)
    c.train.batch = 'x'
    return c
"""
FILES = {  # their content, and what the line says
    'number.py': ('number = 1 / 0\n', 'number.py, line 1: division by zero'),
    'import.py': ('import nothing_of_that_name\n', "import.py, line 1: No module named 'nothing_of_that_name'"),
    'empty.py': ('', '--config=empty.py: it has no get_config(data); see configs/quickstart.py'),
    'three.py': ('def get_config(data): return 3\n', '--config=three.py: get_config returns no ConfigDict'),
    'few.py': (
        'from ml_collections import ConfigDict\ndef get_config(data):\n    return ConfigDict({"seed": 0})\n',
        'the configuration has no atlases.spacing_mm, augment.brightness,',
    ),
    'data.py': ('def get_config():\n    pass\n', 'takes 0 positional arguments but 1 was given'),
    'types.py': (TYPES, 'types.py, line 5: '),
    'renamed.py': (TYPES.replace("train.batch = 'x'", 'pays.gen.idt_b = 2.0'), 'line 5: pays is now loss_weights'),
    'syntax.py': ('def get_config(:\n', '--config=syntax.py: invalid syntax (syntax.py, line 1)'),
    'latin1.py': (b"x = '\xff'\n", '--config=latin1.py: '),
}


def _refused(folder, *arguments):
    """The one line that `main` answers with."""
    done = tiny.command('main', *arguments, cwd=folder)
    assert done.returncode == 2 and not [path for path in folder.iterdir() if path.suffix != '.py'], done.stderr
    assert re.fullmatch(r'error: .+\n', done.stderr), done.stderr
    return done.stderr


@pytest.mark.parametrize('given', FIELDS)
def test_fields(given, tmp_path):
    assert FIELDS[given] in _refused(tmp_path, TINY, *given.split())


@pytest.mark.parametrize('given', FLAGS)
def test_flags(given, tmp_path):
    assert FLAGS[given] in _refused(tmp_path, given)


@pytest.mark.parametrize('name', FILES)
def test_configurations(name, tmp_path):
    content, says = FILES[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert says in _refused(tmp_path, f'--config={name}:data')


def test_mistakes_found_together_are_a_line_each(capsys):
    def body(_):
        raise InputError('2 of 9 scans left out:', 'a.nii: damaged', 'b.nii: empty')

    assert run(body, [], []) == 2
    assert capsys.readouterr().err == 'error: 2 of 9 scans left out:\n  a.nii: damaged\n  b.nii: empty\n'
