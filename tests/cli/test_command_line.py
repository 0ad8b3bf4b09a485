"""Flags mean the same in every spelling, in every command."""

import importlib
import json
from pathlib import Path

import documents
import pytest
import tiny
from absl import flags

from synseg_jax.benchmarks import measurement
from synseg_jax.cli import command
from synseg_jax.cli.command_line import CONFIGURATIONS, CommandLine
from synseg_jax.errors import InputError
from synseg_jax.specification.parse import parse

TINY = str(tiny.ROOT / 'tests' / 'tiny.py')
FIELDS = {'config.data.size': '(8, 12)', 'config.seed': '3', 'config.train.balanced': 'true', 'config.dtype': 'float64'}
REQUESTS = {
    'benchmark': {'config': TINY, **FIELDS, 'parts': 'step,inference', 'steps': '3', 'peer_best': 'true'},
    'compare': {'table': f'{TINY}:records', 'table.seed': '3', 'rows': 'none', 'workdir': 'run'},
    'evaluate': {'predictions': 'p', 'references': 'r', 'output': 'out', 'partial': 'true'},
    'export': {'workdir': 'run', 'output': 'out', 'functions': 'stablehlo'},
    'import_weights': {'config': TINY, **FIELDS, 'weights': 'w', 'workdir': 'run', 'channels': 'MR,CT'},
    'main': {'config': f'{TINY}:records', **FIELDS, 'workdir': 'run', 'process': '-1', 'deterministic': 'true'},
    'plan': {'source': 'MR', 'target': 'CT', 'output': 'mine.py', 'hours': '3'},
    'predict': {'workdir': 'run', 'input': 'in', 'output': 'out', 'volumes': 'true'},
    'prepare': {'config': TINY, **FIELDS, 'source': 'MR', 'target': 'CT', 'output': 'records', 'overwrite': 'true'},
    'synthesize': {'workdir': 'run', 'input': 'in', 'output': 'out', 'format': 'scans'},
    'verify': {'config': TINY, **FIELDS, 'source': 'MR', 'set': 'more=DIR:a:train', 'repair': 'true', 'output': 'out'},
}
OPTIONAL = ('monai.',)  # packages whose commands documents show
PLANNED = 'mine.py'  # a configuration that `plan` writes
SWITCHES = ('config.train.balanced', 'peer_best', 'partial', 'deterministic', 'volumes', 'overwrite', 'repair')


def _joined(request, dashes='--'):
    return [f'{dashes}{name}={value}' for name, value in request.items()]


def _apart(request, dashes='--'):
    return [part for name, value in request.items()
            for part in ((f'{dashes}{name}',) if name in SWITCHES else (f'{dashes}{name}', value))]  # fmt: skip


def _from_file(request):
    with open('flags.txt', 'w') as file:
        file.write('\n'.join(['# a comment', *_joined(request)]))
    return ['--flagfile=flags.txt']


def _repeated(request):
    """The first flag of each name is not the one that counts."""
    wrong = {name: '1' if value == '3' else f'other_{value}' for name, value in request.items()
             if name not in (*SWITCHES, 'config.data.size', 'process', 'set')}  # fmt: skip
    off = [f'--no{name}' for name in request if name in SWITCHES]
    return [*_joined(wrong), *off, *_joined(request)]


SPELLINGS = {
    'one dash': lambda request: _joined(request, '-'),
    'apart': _apart,
    'one dash, apart': lambda request: _apart(request, '-'),
    'fields first': lambda request: [*reversed(_joined(request))],
    'fields first, apart': lambda request: _apart(dict(reversed(request.items()))),
    'ended': lambda request: [*_joined(request), '--'],
    'in a file': _from_file,
    'in a file, after others': lambda request: [
        *_apart(dict([*request.items()][:1])), *_from_file(dict([*request.items()][1:]))
    ],
    'repeated': _repeated,
}  # fmt: skip

REPEATED = {('predict', 'repeated'): {'workdir': ['other_run', 'run']}}  # an ensemble; else the last one counts


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """The values of all flags of a command, as what it calls finds them."""
    monkeypatch.chdir(tmp_path)
    found = []

    def capture(options):
        values = {name: value for name, value in vars(options).items() if name != 'arguments'}
        for name in CONFIGURATIONS:
            if values.get(name) is not None:
                values[name] = values[name].to_json_best_effort()
        values['overrides'] = sorted(values['overrides'])
        found.append(json.loads(json.dumps(values, default=str)))

    run = command.run
    monkeypatch.setattr(command, 'run', lambda _, defined, argv: run(capture, defined, argv))

    def parse(name, *arguments):
        assert importlib.import_module(f'synseg_jax.{name}').main(arguments) == 0
        return found.pop()

    return parse


@pytest.mark.parametrize('name', REQUESTS)
def test_all_spellings_are_one_request(parsed, name):
    request = REQUESTS[name]
    wanted = parsed(name, *_joined(request))
    for spelling, spell in SPELLINGS.items():
        assert parsed(name, *spell(request)) == wanted | REPEATED.get((name, spelling), {}), spelling
    if name in ('prepare', 'verify', 'import_weights'):  # else it would be at demonstration scale
        config = json.loads(wanted['config'])
        assert config['data_dir'] == {'prepare': 'records', 'verify': 'MR', 'import_weights': 'w'}[name]
        assert config['data']['size'] == [8, 12] and config['train']['balanced']


def test_commands_in_documents_are_taken(parsed, monkeypatch):
    """Their modules, configurations and flags exist, and the parts, systems and stages that a benchmark names."""
    monkeypatch.chdir(tiny.ROOT)
    calls = [(page.name, *call) for page in documents.with_tables() for call in documents.calls(page)]
    for where, module, line in calls:
        package, _, name = module.rpartition('.')
        assert module.startswith(OPTIONAL) or importlib.util.find_spec(module), (where, module)
        if package == 'synseg_jax':
            told = parsed(name, *(flag.replace(PLANNED, 'configs/adapt.py') for flag in line))
            if name == 'benchmark':
                _check_benchmark(told, dict(flag.lstrip('-').partition('=')[::2] for flag in line))
        elif name == 'torch_evaluator':
            assert vars(pytest.importorskip(module).flags(line))


def _check_benchmark(told, given):
    assert set(told['parts']) <= set(measurement.PARTS), given
    assert not told['peer'] or Path(told['peer']).is_file(), given
    if 'system' in given:
        config = importlib.import_module(f'configs.{Path(given["config"].partition(":")[0]).stem}').get_config()
        config = parse(config)
        assert set(given['stage'].split(',')) <= set(config.stages(given['system'])), given


def test_records_of_every_spelling_are_the_same(tmp_path):
    """At the size of the configuration with data, not at demonstration scale."""
    scans, config = tiny.write_dataset(tmp_path / 'MR', 'MR', 4), tiny.ROOT / 'configs' / 'base.py'
    given = f'--config={config} --source={scans} --output=r1 --config.data.source_split=(0.5,0.25,0.25)'.split()
    spellings = [given, [*given[:2], '--output', 'r1', given[3]], ['--config', config, *given[1:]],
                 [f'-config={config}', *given[1:]]]  # fmt: skip
    made = []
    for number, arguments in enumerate(spellings):
        folder = tmp_path / f'{number}'
        folder.mkdir()
        done = tiny.command('prepare', *arguments, cwd=folder)
        assert not done.returncode, done.stderr
        made.append([(path.name, path.read_bytes()) for path in sorted((folder / 'r1').iterdir())])
    assert json.loads(dict(made[0])['manifest.json'])['size'] == [256, 256]
    assert made[1:] == made[:1] * 3


def test_every_command_is_tried():
    commands = (path for path in (tiny.ROOT / 'synseg_jax').glob('*.py') if 'def main(argv' in path.read_text())
    assert {path.stem for path in commands} == set(REQUESTS)


FLAGS = flags.FlagValues()
flags.DEFINE_string('workdir', None, 'A folder.', flag_values=FLAGS)
flags.DEFINE_string('config', None, 'A file.', flag_values=FLAGS)
flags.DEFINE_bool('repair', False, 'A switch.', flag_values=FLAGS)
flags.DEFINE_bool('no', False, 'A switch with an odd name.', flag_values=FLAGS)


def _read(*arguments):
    return CommandLine.read(['program', *arguments], FLAGS)


def test_one_spelling():
    line = _read(
        '--config.seed',
        '-1',
        '-workdir',
        'a b',
        '--norepair',
        '--config',
        'x.py',
        '--no',
        '--config.remat',
        '--noconfig.label_channel',
    )
    assert line.flags == (
        ('config.seed', '-1'), ('workdir', 'a b'), ('repair', 'false'), ('config', 'x.py'), ('no', 'true'),
        ('config.remat', None), ('noconfig.label_channel', None),
    )  # fmt: skip
    assert line.argv() == [
        'program', '--config=x.py', '--config.seed=-1', '--workdir=a b', '--repair=false', '--no=true',
        '--config.remat=true', '--config.label_channel=false',
    ]  # fmt: skip
    assert line.overrides('config') == {'seed': '-1', 'remat': None, 'label_channel': None} and not line.overrides(
        'table'
    )


def test_what_is_no_flag_stays():
    for arguments in (['x', '--repair'], ['--', '--repair'], ['-', '--repair']):
        line = _read('--workdir=y', *arguments)
        assert (line.flags, line.rest) == ((('workdir', 'y'),), tuple(arguments))
    assert _read('--wrkdir', 'x').argv() == ['program', '--wrkdir', 'x']  # absl names what is near


@pytest.mark.parametrize('arguments', [['--workdir'], ['--workdir', '--repair'], ['-workdir', '-config=x.py']])
def test_a_value_is_never_the_next_flag(arguments):
    with pytest.raises(InputError, match='--workdir: its value is missing; write --workdir=VALUE'):
        _read(*arguments)


def test_data_of_a_configuration():
    line = _read('--config', 'x.py', '--workdir', 'y')
    assert line.argv(('none', 'workdir')) == ['program', '--config=x.py:y', '--workdir=y']
    assert _read('--config=x.py:z', '--workdir=y').argv(('workdir',))[1] == '--config=x.py:z'
    assert _read('--config=x.py:', '--workdir=y').argv(('workdir',))[1] == '--config=x.py:'
    assert _read('--config=x.py').argv(('workdir',))[1] == '--config=x.py'


@pytest.mark.parametrize('spelling, asked', [('-h', True), ('--help', True), ('-help', True), ('--workdir=-h', False)])
def test_help_is_asked_for(spelling, asked):
    assert _read('--repair', spelling).asks_for_help == asked


def test_a_file_of_flags_that_cannot_be_read(tmp_path):
    (tmp_path / 'bytes').write_bytes(b'--workdir=\xff\xfe')
    for name in ('none', 'bytes', ''):
        with pytest.raises(InputError, match='^--flagfile: .*'):
            _read(f'--flagfile={tmp_path}/{name}')
