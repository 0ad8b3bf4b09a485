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


@pytest.fixture(scope='module')
def console(site, tmp_path_factory):
    """Runs `synseg-jax` of the wheel, installed with its dependencies into an environment of its own."""
    folder = tmp_path_factory.mktemp('installed')
    subprocess.run([sys.executable, '-m', 'venv', folder / 'env'], check=True, timeout=300)
    (wheel,) = site.parent.glob('synseg_jax-*.whl')
    pip = [folder / 'env' / 'bin' / 'pip', 'install', '--quiet', '--disable-pip-version-check']
    done = subprocess.run([*pip, wheel], capture_output=True, text=True, timeout=600)
    if done.returncode and any(words in done.stderr.lower() for words in ('connection', 'no matching distribution')):
        pytest.skip('no package index to install the dependencies from')
    assert done.returncode == 0, done.stderr
    environment = {name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'XLA_FLAGS')}

    def run(command, *flags):
        line = [folder / 'env' / 'bin' / 'synseg-jax', command, *map(str, flags)]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run


def test_it_holds_every_module_configuration_and_template(site):
    for package, suffixes in {'synseg_jax': ('.py', '.jinja', '.json', '.css', '.typed'), 'configs': ('.py',)}.items():
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


def test_a_newcomer_plans_trains_and_predicts_far_from_the_checkout(console):
    """By the installed command alone, with a configuration by name and one that a plan has written."""
    mr, ct = (tiny.write_dataset(console.folder / name, name, 5) for name in ('MR', 'CT'))
    assert 'mine.py: about' in console('plan', f'--source={mr}', f'--target={ct}', '--output=mine.py')
    train = '--config.systems.generalise.stages.generalise.train'
    short = [f'{train}.{field}=2' for field in ('steps', 'decay_steps')]
    fields = ['--config.segmentor.width=4', '--config.run=("generalise",)', *short]
    console('prepare', '--config=mine.py', f'--source={mr}', f'--target={ct}', '--output=records')
    console('main', '--config=mine.py:records', '--workdir=runs/mine', *fields)
    asked = ['--workdir=runs/mine', '--system=generalise', f'--input={ct}', '--output=labels']
    assert '5 label maps' in console('predict', *asked)
    console('verify', '--config=quickstart', f'--source={mr}', f'--target={ct}')
