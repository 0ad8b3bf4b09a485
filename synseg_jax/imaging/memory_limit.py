"""Memory limit for reading one scan: the least that the machine, the cgroup and the process have left."""

import os
import resource
from pathlib import Path

from synseg_jax.errors import InputError

GIB = 2**30
VARIABLE = 'SYNSEG_MAX_SCAN_GIB'  # overrides the measured limit
CGROUP_1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')  # limit, usage, cache
CGROUP_2 = ('memory.max', 'memory.current', 'inactive_file')


def require(path: str | os.PathLike, needed: int) -> None:
    """Raise InputError if the `needed` bytes for reading a scan exceed the limit."""
    setting = os.environ.get(VARIABLE, '')
    limit = _parse(setting) if setting else available()
    if needed > limit:
        cause = f'reading it takes {needed / GIB:.2f} GiB of memory'
        if setting:
            raise InputError(f'{path}: {cause}, {VARIABLE} allows {setting}; raise it, or resample the scan')
        raise InputError(
            f'{path}: {cause}, {limit / GIB:.2f} GiB are free; free some, resample the scan, or set {VARIABLE}=N to '
            'allow N GiB'
        )


def available(proc: Path = Path('/proc'), groups: Path = Path('/sys/fs/cgroup')) -> float:
    """Bytes that this process may still allocate; infinite where the system reports no limit."""
    return max(0.0, min(_machine_free(proc), _cgroup_free(proc, groups), _process_free(proc)))


def _parse(text) -> float:
    try:
        if (limit := float(text) * GIB) > 0:
            return limit
    except ValueError:
        pass
    raise InputError(f'{VARIABLE}={text}: give a number of GiB, e.g. {VARIABLE}=16')


def _machine_free(proc) -> float:
    kib = _fields(proc / 'meminfo').get('MemAvailable:')
    return kib * 1024 if kib is not None else float('inf')


def _cgroup_free(proc, groups) -> float:
    """The least that this process's memory cgroups and their parents have free; page cache counts as free."""
    free = [float('inf')]
    for line in _text(proc / 'self/cgroup').splitlines():
        _, controllers, name = line.split(':', 2)
        if controllers in ('', 'memory'):
            root, files = (groups / controllers, CGROUP_1) if controllers else (groups, CGROUP_2)
            group = root / name.strip('/')
            free += [_group_free(folder, *files) for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return min(free)


def _group_free(folder, limit_file, usage_file, cache_field) -> float:
    limit, usage = _text(folder / limit_file).strip(), _text(folder / usage_file).strip()
    if not limit.isdigit() or not usage.isdigit():  # no such file, or 'max'
        return float('inf')
    return int(limit) - int(usage) + _fields(folder / 'memory.stat').get(cache_field, 0)


def _process_free(proc) -> float:
    """What `ulimit -v` leaves."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _text(proc / 'self/statm').split()
    if limit == resource.RLIM_INFINITY or not pages:
        return float('inf')
    return limit - int(pages[0]) * resource.getpagesize()


def _fields(file) -> dict[str, int]:
    """{name: number} of a file with lines `name number`."""
    lines = [line.split() for line in _text(file).splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(file) -> str:
    try:
        return file.read_text()
    except OSError:  # not Linux, or not mounted
        return ''
