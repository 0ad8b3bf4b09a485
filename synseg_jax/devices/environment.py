"""What a run had: devices, memory, versions."""

import platform
import resource
from importlib.metadata import version

import jax

import synseg_jax

GIB = 2**30


def peak_memory_gib() -> float:
    """Of the devices where they tell, else of this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    on_device = max(s.get('peak_bytes_in_use', 0) for s in stats)
    return (on_device or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**30


def versions() -> dict[str, str]:
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')
    return {
        'synseg_jax': synseg_jax.__version__,
        'python': platform.python_version(),
        **{p: version(p) for p in packages},
    }
