"""How much memory reading one scan may take: what the machine, the container and the process have left."""

import os
import resource
from pathlib import Path

from synseg_jax.errors import InputError

GIB = 2**30
VARIABLE = 'SYNSEG_MAX_SCAN_GIB'  # overrides what is measured
CGROUP_1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')
CGROUP_2 = ('memory.max', 'memory.current', 'inactive_file')


def require(path: str | os.PathLike, needed: int) -> None:
    """InputError where reading a scan takes `needed` bytes, more than the limit."""
    stated = os.environ.get(VARIABLE, '')
    limit = _stated(stated) if stated else available()
    if needed > limit:
        told = f'reading it takes {needed / GIB:.2f} GiB of memory'
        if stated:
            raise InputError(f'{path}: {told}, {VARIABLE} allows {stated}; raise it, or resample the scan')
        raise InputError(
            f'{path}: {told}, {limit / GIB:.2f} GiB are free; free some, resample the scan, or set {VARIABLE}=N to try '
            'with N GiB'
        )


def available(proc: Path = Path('/proc'), groups: Path = Path('/sys/fs/cgroup')) -> float:
    """Bytes that this process may still take; infinite where the system does not say."""
    return max(0.0, min(_of_machine(proc), _of_group(proc, groups), _of_process(proc)))


def _stated(text) -> float:
    try:
        if (limit := float(text) * GIB) > 0:
            return limit
    except ValueError:
        pass
    raise InputError(f'{VARIABLE}={text}: give a number of GiB, e.g. {VARIABLE}=16')


def _of_machine(proc) -> float:
    found = _fields(proc / 'meminfo').get('MemAvailable:')
    return found * 1024 if found is not None else float('inf')


def _of_group(proc, groups) -> float:
    """What the control groups of this process leave, those above them included; cached files count as free."""
    rests = [float('inf')]
    for line in _text(proc / 'self/cgroup').splitlines():
        _, kinds, name = line.split(':', 2)
        if kinds in ('', 'memory'):
            root, names = (groups / kinds, CGROUP_1) if kinds else (groups, CGROUP_2)
            own = root / name.strip('/')
            rests += [_rest(folder, *names) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return min(rests)


def _rest(folder, limit, used, cached) -> float:
    allowed, taken = _text(folder / limit).strip(), _text(folder / used).strip()
    if not allowed.isdigit() or not taken.isdigit():  # no such file, or 'max'
        return float('inf')
    return int(allowed) - int(taken) + _fields(folder / 'memory.stat').get(cached, 0)


def _of_process(proc) -> float:
    """What `ulimit -v` leaves."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = _text(proc / 'self/statm').split()
    if limit == resource.RLIM_INFINITY or not taken:
        return float('inf')
    return limit - int(taken[0]) * resource.getpagesize()


def _fields(file) -> dict[str, int]:
    """{name: number} of a file with one of each on a line."""
    lines = [line.split() for line in _text(file).splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(file) -> str:
    try:
        return file.read_text()
    except OSError:  # not Linux, or not mounted
        return ''
