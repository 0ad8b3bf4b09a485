"""A few of the kills of tests/kills.py, and that it would notice what they may do."""

import subprocess

import kills
import pytest


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return kills.Place(tmp_path_factory.mktemp('kills'), ['prepare', 'evaluate'])


@pytest.mark.parametrize('name', ['prepare', 'evaluate', 'verify'])
def test_killed_commands_end_as_if_alone(place, name):
    assert kills.campaign(place, name, 2, 0) == []


@pytest.mark.parametrize(
    'harm, told',
    [
        ('out/measures/cases.csv', 'after kill 2: measures/cases.csv differs'),
        ('out/more.txt', 'after kill 2: more.txt differs'),
        ('out/precious.txt', 'kill 1: something that was there before has changed'),
        ('base/ct/dataset.json', 'kill 1: something that was there before has changed'),
    ],
)
def test_harm_is_noticed(place, monkeypatch, harm, told):
    """A command that, killed, leaves half a file where others look."""
    path, killed = place.base.parent / harm, []
    before = path.read_bytes() if 'base' in harm else None

    def run(name, *flags, seconds=None):
        (place.out / 'measures').mkdir(exist_ok=True)
        if seconds is None and not killed:
            (place.out / 'measures' / 'cases.csv').write_text('whole')
        else:
            killed.append(name)
            path.write_text('half')
        return subprocess.CompletedProcess([name], -9 if seconds else 0, '', '')

    monkeypatch.setattr(place, 'run', run)
    try:
        assert any(line.endswith(told) for line in kills.campaign(place, 'evaluate', 2, 0))
    finally:
        if before is not None:
            path.write_bytes(before)
