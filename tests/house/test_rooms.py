"""The order of imports: a room uses those on lower floors alone, and nothing goes in circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import synseg_jax

ROOT = Path(synseg_jax.__file__).parent
FLOORS = [  # from the ground up; rooms of one floor do not use each other
    'files specification',
    'imaging phantom networks objective devices',
    'dicom cli',
    'formats',
    'datasets',
    'preparation evaluation',
    'batches reports',
    'training',
    'inference',
    'exchange',
    'benchmarks runs',
    'planning',
]
ROOMS = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
COMMANDS = 'plan main prepare verify predict synthesize evaluate compare export import_weights benchmark'.split()
LARGEST = 0.12  # share of the lines that one room may have


def _modules() -> dict[str, Path]:
    """{dotted name below the package: file} of all our modules."""
    return {'.'.join(path.relative_to(ROOT).with_suffix('').parts): path for path in ROOT.rglob('*.py')}


def _imports(path: Path) -> set[str]:
    """What a file imports of us, below the package, imports inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('synseg_jax'):
            module = node.module.removeprefix('synseg_jax').removeprefix('.')
            found |= {f'{module}.{alias.name}'.removeprefix('.') for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix('synseg_jax.') for a in node.names if a.name.startswith('synseg_jax.')}
    return found


def _room(name: str) -> str:
    return name.partition('.')[0]


@pytest.mark.parametrize('name', sorted(_modules()))
def test_a_module_imports_from_lower_floors_alone(name):
    own = ROOMS.get(_room(name), len(FLOORS))
    for imported in _imports(_modules()[name]):
        other = _room(imported)
        if other in ROOMS and other != _room(name):
            assert ROOMS[other] < own, f'{name} imports {imported}: {other} is no floor below'
        assert other not in COMMANDS, f'{name} imports the command {imported}'


def test_the_root_holds_commands_errors_and_rooms():
    files = {path.stem for path in ROOT.glob('*.py')} - {'__init__', '__main__'}
    assert files == {*COMMANDS, 'errors'}
    assert {path.parent.name for path in ROOT.glob('*/__init__.py')} == set(ROOMS)


@pytest.mark.parametrize('name', COMMANDS)
def test_commands_are_thin(name):
    assert len((ROOT / f'{name}.py').read_text().splitlines()) <= 80


def test_no_circles():
    modules = _modules()
    graph = {name: {one for one in (_named(i, modules) for i in _imports(path)) if one and one != name}
             for name, path in modules.items()}  # fmt: skip
    TopologicalSorter(graph).prepare()


def _named(imported: str, modules) -> str | None:
    """The module that an import means: itself, or the one that has the imported name."""
    names = (imported, f'{imported}.__init__', imported.rpartition('.')[0], f'{imported.rpartition(".")[0]}.__init__')
    return next((name for name in names if name in modules), None)


def test_no_room_is_large():
    lines = {}
    for name, path in _modules().items():
        lines[_room(name)] = lines.get(_room(name), 0) + len(path.read_text().splitlines())
    total = sum(lines.values())
    assert {room: n for room, n in lines.items() if room in ROOMS and n > LARGEST * total} == {}


def test_a_configuration_is_parsed_once():
    """Below the commands nothing reads a ConfigDict: they parse it, and pass dataclasses on."""
    reading = {name for name, path in _modules().items() if 'ml_collections' in path.read_text()}
    assert reading == {'cli.options', 'cli.flag_errors', 'specification.parse'}
