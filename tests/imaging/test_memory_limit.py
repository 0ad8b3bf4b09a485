"""The memory that is left, out of what Linux says of the machine, the container and the process."""

import resource

from synseg_jax.imaging import memory_limit


def _system(folder, available_kb, group='', **files):
    """Folders that stand for /proc and /sys/fs/cgroup."""
    proc, groups = folder / 'proc', folder / 'groups'
    (proc / 'self').mkdir(parents=True)
    (proc / 'meminfo').write_text(f'MemTotal: 9999 kB\nMemAvailable: {available_kb} kB\n')
    (proc / 'self/statm').write_text('100 10 10 1 0 10 0\n')
    (proc / 'self/cgroup').write_text(group)
    for name, text in files.items():
        path = groups / name.replace('__', '/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, groups


def test_the_machine(tmp_path):
    assert memory_limit.available(*_system(tmp_path, 4000)) == 4000 * 1024


def test_a_system_that_says_nothing(tmp_path):
    assert memory_limit.available(tmp_path / 'none', tmp_path / 'none') == float('inf')


def test_a_group_above_ours(tmp_path):
    """Whose limit is 2 MB, 1.5 of them taken, of which 1 MB are files that can go."""
    files = {
        'a__memory.max': '2000000',
        'a__memory.current': '1500000',
        'a__memory.stat': 'anon 5\ninactive_file 1000000',
    }
    files |= {'a__b__memory.max': 'max', 'a__b__memory.current': '1500000'}
    assert memory_limit.available(*_system(tmp_path, 4000, '0::/a/b\n', **files)) == 1500000


def test_groups_of_the_first_kind(tmp_path):
    files = {'memory__a__memory.limit_in_bytes': '2000000', 'memory__a__memory.usage_in_bytes': '1500000'}
    assert memory_limit.available(*_system(tmp_path, 4000, '7:cpu:/x\n5:memory:/a\n', **files)) == 500000


def test_a_limit_of_the_process(tmp_path, monkeypatch):
    page = resource.getpagesize()
    monkeypatch.setattr(resource, 'getrlimit', lambda _: (150 * page, 150 * page))
    assert memory_limit.available(*_system(tmp_path, 10**9)) == 50 * page
