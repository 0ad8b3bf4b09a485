"""Memory used and package versions of a run."""

import platform
import resource
from importlib.metadata import version

import jax

import synseg_jax

GIB = 2**30


def peak_memory_gib() -> float:
    """Peak memory of the fullest device, or of the process where devices report none (CPU)."""
    return device_peak_gib() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def device_peak_gib() -> float:
    """Peak memory of the fullest device; 0 where devices report none."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(s.get('peak_bytes_in_use', 0) for s in stats) / GIB


def versions() -> dict[str, str]:
    """Versions of synseg_jax, Python and the packages that results depend on."""
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')
    return {
        'synseg_jax': synseg_jax.__version__,
        'python': platform.python_version(),
        **{p: version(p) for p in packages},
    }
