"""A wheel holds all that a command needs, wherever it is installed: the configurations too."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import tiny


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The wheel of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp('wheel')
    for name in ('synseg_jax', 'configs'):
        shutil.copytree(tiny.ROOT / name, folder / 'checkout' / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(tiny.ROOT / name, folder / 'checkout')
    line = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', folder, folder / 'checkout']
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob('synseg_jax-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / 'site')
    return folder / 'site'


def test_it_holds_every_module_configuration_and_template(site):
    for package, suffixes in {'synseg_jax': ('.py', '.jinja', '.css'), 'configs': ('.py',)}.items():
        files = {path.relative_to(tiny.ROOT) for path in (tiny.ROOT / package).rglob('*') if path.suffix in suffixes}
        assert {path.relative_to(site) for path in (site / package).rglob('*') if path.suffix in suffixes} == files
        assert {path.suffix for path in files} == {*suffixes}


def test_a_command_runs_far_from_the_checkout(site, tmp_path):
    flags = ['--size=32', '--width=4', '--blocks=1', '--batch=8', '--steps=1', '--rounds=1', '--parts=inference']
    environment = {**tiny.environment(), 'PYTHONPATH': os.fspath(site)}
    line = [sys.executable, '-m', 'synseg_jax.benchmark', *flags]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'inference' in done.stdout
