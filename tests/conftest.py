"""What all tests share: jaxtyping checks, double precision, several virtual devices, and the optional shared folder."""

import atexit
import gc
import importlib
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

from contextlib import suppress
from pathlib import Path

import jax
import pytest
from absl import flags
from jaxtyping import install_import_hook

# Imported first by a module of ours, which jaxtyping rewrites, they would be compiled anew at every start.
LIBRARIES = (
    'flax.linen optax orbax.checkpoint grain matplotlib.pyplot tensorboardX SimpleITK pydicom nibabel scipy.ndimage'
    ' scipy.stats rich.console ml_collections typecheck highdicom torch'
).split()
gc.set_threshold(100_000)  # of 700, a tenth of the time goes into looking for garbage that tracing does not make
install_import_hook('synseg_jax', 'typecheck.check')
flags.FLAGS(['pytest'])  # grain's worker processes need parsed flags

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'
# Files of ten seconds of computing and more, mostly XLA's compiling, the longest first.
SLOW = (
    'processes step import_weights stages export end_to_end whole_volumes parity resume loop predict miniatures launch'
    ' launch_slurm unet networks masked sharding oracle compare benchmark synthesize unfinished phantom pipeline kills'
    ' corruptions wheel monai_bundle'
).split()


def pytest_configure(config):
    """Loads the libraries, but where this process only hands out tests to others."""
    if not config.getoption('numprocesses', None):
        for library in LIBRARIES:
            with suppress(ImportError):
                importlib.import_module(library)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Slow files are marked, and go first, so that no process is left with one while the others are done."""
    order = {f'test_{name}': place for place, name in enumerate(SLOW)}
    assert order.keys() <= {path.stem for path in (ROOT / 'tests').rglob('test_*.py')}, 'SLOW names a file that is gone'
    for item in items:
        if item.path.stem in order:
            item.add_marker('slow')
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


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
