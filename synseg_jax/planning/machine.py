"""The machine at hand: what trains, and with how much memory."""

import os
from dataclasses import dataclass

import jax

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """The devices that JAX trains on; `memory_gib` of one of them, of CPUs that of the machine."""

    platform: str  # cpu, gpu or tpu
    name: str
    devices: int
    cores: int
    memory_gib: float

    @classmethod
    def here(cls) -> 'Machine':
        """This one."""
        devices, cores = jax.devices(), len(os.sched_getaffinity(0))
        first = devices[0]
        memory = (first.memory_stats() or {}).get('bytes_limit', 0) if first.platform != 'cpu' else 0
        memory = memory or os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        return cls(first.platform, first.device_kind, len(devices), cores, memory / GIB)

    def __str__(self):
        if self.platform == 'cpu':
            return f'{self.cores} CPU cores, {self.memory_gib:.0f} GiB'
        return f'{self.devices} {self.name}, {self.memory_gib:.0f} GiB each, {self.cores} CPU cores'
