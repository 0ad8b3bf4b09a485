"""What all tests share: jaxtyping checks, double precision, several virtual devices, and the optional shared folder."""

import atexit
import gc
import os
import shutil
import tempfile

import quick

os.environ.setdefault('XLA_FLAGS', f'--xla_force_host_platform_device_count=8 {quick.FLAGS}')  # 8 virtual devices
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_ENABLE_X64', '0')
# Most programs here compile within the second from which on JAX keeps them.
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:  # what one test has compiled, the others and their commands reuse
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='synseg_jax_tests_')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)

from pathlib import Path

import jax
import pytest
from absl import flags
from jaxtyping import install_import_hook

gc.set_threshold(100_000)  # of 700, a tenth of the time goes into looking for garbage that tracing does not make
install_import_hook('synseg_jax', 'typecheck.check')
flags.FLAGS(['pytest'])  # grain's worker processes need parsed flags

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'
LONG = ('processes', 'resume', 'stages', 'phantom', 'step', 'whole_volumes', 'parity', 'loop', 'sharding')


def pytest_collection_modifyitems(items):
    """Files that take a minute or more go first, so that no process is left with one while the others are done."""
    first = [f'test_{name}' for name in LONG]
    items.sort(key=lambda item: first.index(item.path.stem) if item.path.stem in first else len(first))


@pytest.fixture
def x64():
    """Double precision for the duration of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def shared():
    """The folder of reference material beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f'reference material is absent: {SHARED.name}/ beside the repository')
    return SHARED


@pytest.fixture(scope='session')
def tiny_records(tmp_path_factory):
    """Records of tiny scans; tests that change them work on a copy."""
    import tiny

    return tiny.write_records(tmp_path_factory.mktemp('tiny'))
