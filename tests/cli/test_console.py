"""`synseg-jax COMMAND` is `python -m synseg_jax.COMMAND`; configurations of the package are known by name."""

import runpy
import subprocess
import sys

import pytest
import tiny
from test_commands import COMMANDS

from synseg_jax.cli import console
from synseg_jax.cli.command_line import CommandLine
from synseg_jax.cli.options import Parser, config_flag, imports_restored


@pytest.fixture
def called(monkeypatch):
    """Run the console with arguments; the modules that it ran, each with its own command line."""
    runs = []
    monkeypatch.setattr(runpy, 'run_module', lambda module, **_: runs.append((module, sys.argv[1:])))

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['synseg-jax', *arguments])
        console.run()
        return runs

    return run


def test_every_command_has_its_name(called, capsys):
    assert sorted(console.COMMANDS) == COMMANDS
    assert called('predict', '--input=x', '--help') == [('synseg_jax.predict', ['--input=x', '--help'])]
    assert called('import-weights')[-1] == ('synseg_jax.import_weights', [])
    for asked in ([], ['--help'], ['help'], ['-h']):
        called(*asked)
        listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-len(COMMANDS) :]]
        assert listed == list(console.COMMANDS)
    assert len(called()) == 2


def test_an_unknown_command_is_one_line(called, capsys):
    with pytest.raises(SystemExit) as end:
        called('tarin')
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: unknown command 'tarin'; known: bench")


def test_as_a_program_it_answers_like_the_module():
    """Its help, its one line and its exit code, from a process of its own."""
    told = []
    for called in (('synseg_jax', 'main'), ('synseg_jax.main',)):
        line, said = [sys.executable, '-m', *called, '--config=none.py'], {'capture_output': True, 'text': True}
        done = subprocess.run(line, cwd=tiny.ROOT, env=tiny.environment(), timeout=100, **said)
        told.append((done.returncode, done.stdout, done.stderr))
    assert told[0] == told[1] == (2, '', 'error: --config=none.py: no such file\n')


@pytest.mark.parametrize('name', ['quickstart', 'tables/heart', 'configs/quickstart.py'])
def test_a_configuration_by_name(name, monkeypatch, tmp_path):
    """From anywhere; with its data and fields."""
    monkeypatch.chdir(tmp_path if name.endswith('s/heart') or '.' not in name else tiny.ROOT)
    parser = Parser('synseg_jax.main', [config_flag()])
    with imports_restored():
        options = parser.parse(parser.line([f'--config={name}:records/mine', '--config.train.batch=3']))
    assert options.config_file.name == f'{name.split("/")[-1].removesuffix(".py")}.py'
    assert options.config.data_dir == 'records/mine' and options.config.train.batch == 3


def test_the_data_stay_with_another_file():
    line = CommandLine('main', (('config', 'a:b/c'), ('workdir', 'a'), ('config', 'd')))
    assert line.with_file('config', 'e.py').flags == (('config', 'e.py:b/c'), ('workdir', 'a'), ('config', 'e.py'))
