"""Names and paths are printed to the letter, whatever rich would make of their brackets and colons."""

import ast
import io
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from rich.console import Console

from synseg_jax.benchmarks import measurement
from synseg_jax.cli.command import start
from synseg_jax.cli.terminal import plain, say
from synseg_jax.devices.signals import Signals
from synseg_jax.errors import InputError
from synseg_jax.evaluation import summary
from synseg_jax.preparation import records_table
from synseg_jax.preparation.checks import table
from synseg_jax.preparation.checks.case import Problem
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import experiment
from synseg_jax.training.metrics_log import Journal

NAMES = ('[/b]', '[red]', 'run [left]', ':bug:', '[link=x]', r'\[', 'x=1 2 "y"')


def _console(terminal=False):
    return Console(file=io.StringIO(), width=300, force_terminal=terminal, color_system=None, _environ={})


def _printed(what):
    console = _console()
    console.print(what)
    return console.file.getvalue()


@pytest.mark.parametrize('name', NAMES)
def test_lines(name):
    console = _console()
    say(console, f'in {name}')
    say(console, 'done', name)
    console.print(plain(name))
    assert console.file.getvalue() == f'in {name}\n{name}  done\n{name}\n'


def test_names_of_any_bytes_are_printed_in_plain_ascii(monkeypatch):
    """Also where a terminal knows no more: LANG=C, without Python's own way to UTF-8."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(printed, encoding='ascii', write_through=True))

    def main(_):
        print('in ä\udcff')
        say(Console(), 'in ä\udcff')
        return 0

    with pytest.raises(SystemExit) as left:
        start(main)
    assert left.value.code == 0
    assert printed.getvalue() == b'in \\xe4\\udcff\n' * 2


def test_lines_are_not_broken():
    console = _console()
    say(console, 'a ' * 400)
    assert console.file.getvalue().count('\n') == 1


def _measured(value):
    return {'dice': value, 'iou': value, 'asd_mm': 1.0, 'hd95_mm': 2.0}


@pytest.mark.parametrize('name', NAMES)
def test_tables(name, tiny_records):
    """Of results, with their captions; of records; of problems; of seconds."""
    one = summary.summarise({'case': {name: _measured(0.5)}, 'empty': {name: {**_measured(0.0), 'asd_mm': None}}})
    for systems in ({name: one}, {name: one, 'other': one}):
        assert _printed(summary.table(systems, f'{name}, test scans')).count(name) >= 3
    manifest = Manifest.load(tiny_records)
    sets = {name: manifest.sets['source']}
    text = _printed(records_table.table(replace(manifest, sets=sets, classes=(name,), folder=Path('records') / name)))
    assert text.count(name) == 2 + len(sets[name]['roles'])
    assert name in _printed(table.table([], [Problem(name=name, role='train', text='', error=True)]))
    about = dict.fromkeys(('method', 'device', 'dtype'), name) | {'size': (1,), 'width': 1, 'batch': 1, 'devices': 1}
    about |= {'versions': {'jax': '1'}, 'parameters': {}, 'measured': {}}
    assert _printed(measurement.table(about)).count(name) == 3


@pytest.mark.parametrize('name', NAMES)
def test_the_bar_of_a_training(name, tmp_path):
    console = _console(terminal=True)
    journal = Journal(tmp_path, name, console=console)
    journal.begin(0, SimpleNamespace(steps=4, steps_per_epoch=2, batch=1))
    journal.bar.stop()
    assert console.file.getvalue().count(name) >= 2


def test_an_experiment_in_a_folder_with_brackets(tmp_path, monkeypatch):
    console, folder = _console(), tmp_path / 'run [left]'

    def stop(*_, **__):
        raise InputError('the phantom is written, which is all that is asked for here')

    monkeypatch.setattr(experiment, 'prepare', stop)
    with pytest.raises(InputError, match='which is all'):
        experiment.Workspace(tiny.parsed(), folder, console, Signals())
    said = console.file.getvalue().splitlines()
    assert [line.partition('/Dataset')[0] for line in said] == [
        f'phantom: 2 {modality} scans in {folder}/phantom' for modality in ('MR', 'CT')
    ]


def test_nothing_else_prints_strings():
    """A string that goes to a console by another way would be read as markup."""
    for path in (tiny.ROOT / 'synseg_jax').rglob('*.py'):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            if ast.unparse(call.func).lower().endswith('console.print') and path.stem != 'terminal':
                assert 'table(' in ast.unparse(call.args[0]), f'{path.name}:{call.lineno}'
