"""Every command explains itself, and answers a mistake in one line that names it, with exit code 2 and no debris."""

import importlib.machinery
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import forks
import pytest
import tiny
from absl import flags

from synseg_jax import main
from synseg_jax.cli import command as commands
from synseg_jax.cli.command import LARGE_PAGES, quieten_xla, start, with_large_pages, with_xla
from synseg_jax.cli.command_line import CONFIGURATIONS
from synseg_jax.inference import model_folder
from synseg_jax.runs import experiment

COMMANDS = sorted(
    path.stem for path in (tiny.ROOT / 'synseg_jax').glob('*.py') if "__name__ == '__main__'" in path.read_text()
)
WITHOUT_JAX = ('evaluate', 'main', 'prepare', 'verify')  # until they are told what to do
TINY = f'--config={tiny.ROOT}/tests/tiny.py'

# name: (command, flags, what the line says); {records} and so on are folders made below
MISTAKES = {
    'no config': ('main', '', '--config is missing, e.g. --config=configs/quickstart.py'),
    'config absent': ('main', '--config=none.py', '--config=none.py: no such file'),
    'config absent, flag and value apart': ('main', '--config none.py', '--config=none.py: no such file'),
    'config unknown by name': ('main', '--config=quikstart', 'quikstart: no such file or name; names: adapt, .*quick'),
    'config not Python': ('main', '--config={folder}/bad/bad.py', 'invalid syntax|bad.py'),
    'unknown field': ('main', TINY + ' --config.train.batc=3', r'--config.train.batc: no such field.*configuration.md'),
    'unknown group': ('main', TINY + ' --config.trian.batch=3', r'trian.*configuration.md'),
    'wrong type': ('main', TINY + ' --config.train.batch=x', r'config\.train\.batch.*x'),
    'wrong flag': ('main', TINY + ' --wrkdir=x', "'wrkdir'. Did you mean: workdir"),
    'flag without dashes': ('main', TINY + ' workdir=x', "unexpected argument 'workdir=x'; flags are written --name"),
    'unknown method': (
        'main',
        TINY + ':{records} --config.method=synsge',
        "unknown method 'synsge'; known: cut, cyclegan, generalise, mean_teacher, shape_consistency, supervised, ",
    ),
    'unknown loss': (
        'main',
        TINY + ':{records} --config.loss.cycle=l3',
        "unknown config.loss.cycle 'l3'; known: l1, l2, ssim",
    ),
    'unknown network': (
        'main',
        TINY + ':{records} --config.generator.architecture=unet9',
        "config.generator.architecture='unet9': give 'resnet' or 'unet' or 'res_unet' or 'patchgan'",
    ),
    'unknown optimizer': (
        'main',
        TINY + ':{records} --config.optimizer.rule=adm',
        "config.optimizer.rule='adm': give 'adam' or 'sgd'",
    ),
    'unknown default_system': ('main', TINY + ':{records} --config.default_system=other', "'other'; known: synseg"),
    'uneven batch': (
        'main',
        TINY + ':{records} --config.train.batch=3 --config.train.devices=2',
        'train.batch=3 is not a multiple of the 2 devices',
    ),
    'too many devices': (
        'main',
        TINY + ':{records} --config.train.devices=99',
        'train.devices=99: only 8 are visible; lower it',
    ),
    'records absent': ('main', TINY + ':{folder}/none', 'none/manifest.json: no such file; give the folder that'),
    'scans in place of records': (
        'main',
        TINY + ':{mr}',
        r'Dataset_MR: holds scans, not records; run python -m synseg_jax.prepare --config=FILE --source=\S+Dataset_MR ',
    ),
    'records of another size': (
        'main',
        TINY + ':{records} --config.data.size=(64,64)',
        r'records: prepared with other .*: data.size is \(64, 64\), in the records \(32, 32\); prepare .* again',
    ),
    'records of other percentiles': (
        'main',
        TINY + ':{records} --config.data.percentiles=(1.0,99.0)',
        r'data.percentiles is \(1.0, 99.0\), in the records \(2.5, 97.5\)',
    ),
    'target labels not let in': (
        'main',
        TINY
        + ':{records} --config.method=supervised --config.loss_weights.seg.seg_a=0 --config.loss_weights.seg.seg_b=1',
        'set target has no labels, and seg_b reads them; data.target_labels=True lets them in',
    ),
    'weights for other classes': (
        'main',
        TINY + ':{records} --config.loss.class_weights=(1.0,2.0)',
        'loss.class_weights has 2 weights for 3 classes: background, liver, spleen',
    ),
    'images too small for a discriminator': (
        'main',
        TINY + ':{records} --config.augment.window=(16,32) --config.discriminator.layers=3',
        r'augment.window \(16, 32\) is too small for discriminator.layers=3: give at least 24 in every direction',
    ),
    'workdir is a file': (
        'main',
        TINY + ':{records} --workdir={mr}/dataset.json',
        'dataset.json is not a folder; choose another',
    ),
    'prepare without output': ('prepare', TINY, '--output is missing; --help shows an example'),
    'prepare nothing': ('prepare', TINY + ' --output=out', 'no scans: give --source=FOLDER'),
    'prepare an absent folder': (
        'prepare',
        TINY + ' --source={folder}/none --output=out',
        'none: no such folder; expected: dataset.json, imagesTr/',
    ),
    'source without labels': (
        'prepare',
        TINY + ' --source={unlabelled} --target={mr} --output=out',
        r'no labels for the source scan .*ct_0_0000.nii.gz \(\d of \d in train\); expected .*labelsTr/ct_0.nii.gz',
    ),
    'prepare over other files': (
        'prepare',
        TINY + ' --source={mr} --output={mr}',
        'is the input .*; choose another --output',
    ),
    'predict without workdir': ('predict', '--input={mr} --output=out', '--workdir is missing; --help shows'),
    'predict with an absent workdir': (
        'predict',
        '--workdir={folder}/none --input={mr} --output=out',
        'none/run.json: no such file; give the folder that synseg_jax.main wrote as --workdir',
    ),
    'predict absent scans': ('predict', '--workdir={run} --input=none --output=out', '--input=none: no such file'),
    'predict before training': (
        'predict',
        '--workdir={run} --input={mr} --output=out',
        'stage/checkpoints: no readable checkpoint; train first',
    ),
    'predict an unknown system': (
        'predict',
        '--workdir={run} --input={mr} --output=out --system=other',
        "unknown system 'other'; known: synseg",
    ),
    'synthesize with an absent workdir': (
        'synthesize',
        '--workdir=none --input={mr} --output=out',
        'none/run.json: no such file',
    ),
    'compare without a table': (
        'compare',
        f'--table={tiny.ROOT}/tests/tiny.py:{{records}}',
        'it has no table; choose one of configs/tables/',
    ),
    'benchmark an absent peer': ('benchmark', TINY + ' --peer=none.py --parts=step', 'none.py: no such file'),
    'benchmark another work than the peer': (
        'benchmark',
        TINY + f' --peer={tiny.ROOT}/tests/tiny.py --config.method=supervised',
        '--peer is only comparable with ResNets; leave out --config',
    ),
    'benchmark an unknown part': ('benchmark', TINY + ' --parts=speed', r"unknown part \(--parts\) 'speed'"),
    'benchmark a flat scan': (
        'benchmark',
        TINY + ' --parts=prepare --scan=24,22',
        '--scan=24,22: give three lengths in voxels',
    ),
    'benchmark epochs of other stages': (
        'benchmark',
        TINY + ' --parts=epoch --images=350,1064',
        '--images=350,1064: give one number of images for each stage: train',
    ),
    'benchmark an unknown system': ('benchmark', TINY + ' --system=other', "unknown system 'other'"),
    'evaluate an absent folder': (
        'evaluate',
        '--predictions=none --references={mr}/labelsTr --output=out',
        'none is not a folder',
    ),
}


@pytest.fixture(scope='module')
def places(tiny_records, tmp_path_factory):
    """The folders that the flags name."""
    folder = tmp_path_factory.mktemp('places')
    (folder / 'bad').mkdir()
    (folder / 'bad' / 'bad.py').write_text('def get_config(data=:\n')
    unlabelled = tiny.write_dataset(folder / 'unlabelled', 'CT', 2, labelled=False)
    (folder / 'run').mkdir()
    config = tiny.configure(tiny.config(tiny_records), 'synseg')
    (folder / 'run' / 'stage').mkdir()
    model_folder.Run(folder / 'run' / 'stage', config, tiny.CLASSES, {'a': 'MR', 'b': 'CT'}, {'a': (0.0, 1.0)}).save()
    tiny.write_run_json(folder / 'run', systems={'synseg': ['stage']})
    named = {'records': tiny_records, 'mr': tiny_records.parent / 'Dataset_MR', 'unlabelled': unlabelled}
    return {'folder': folder, 'run': folder / 'run', **named}


@pytest.fixture(scope='module')
def answers(places, tmp_path_factory):
    """(exit code, stdout, stderr, folder it ran in) of every command's --help and of every mistake."""
    cases = {name: (name, ['--help']) for name in COMMANDS}
    for name, (command, line, _) in MISTAKES.items():
        cases[name] = (command, line.format(**places).split())
    found = {}
    for name, (command, line) in cases.items():
        folder = tmp_path_factory.mktemp('cwd')
        done = tiny.command(command, *line, cwd=folder)
        found[name] = done.returncode, done.stdout, done.stderr, folder
    return found


@pytest.mark.parametrize('command', COMMANDS)
def test_help(answers, command):
    code, out, err, folder = answers[command]
    assert (code, err) == (0, '')
    assert re.search(rf'^ +python -m synseg_jax\.{command} --\w+=', out, re.MULTILINE)
    listed = re.findall(r'^ +--(?:\[no\])?(\w+):', out, re.MULTILINE)
    defined = {flag.name for flag in importlib.import_module(f'synseg_jax.{command}').FLAGS}
    assert defined and sorted(listed) == sorted(defined)
    for flag in defined & {*CONFIGURATIONS}:
        assert f'--{flag}.FIELD=VALUE' in out
    assert not list(folder.iterdir())


def _source(command):
    return (tiny.ROOT / 'synseg_jax' / f'{command}.py').read_text()


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_one_line(answers, name):
    code, out, err, folder = answers[name]
    assert code == 2, err
    assert err.startswith('error: ') and err.count('\n') == 1, err
    assert re.search(MISTAKES[name][2], err), err
    assert 'Traceback' not in out
    left = [path for path in folder.rglob('*') if path.is_file() and path.name != '.lock']
    assert not left, left


def test_nothing_was_written_elsewhere(answers, places):
    assert {path.name for path in places['run'].rglob('*') if path.is_file()} == {'run.json', 'stage.json'}
    assert sorted(path.name for path in places['mr'].iterdir()) == ['dataset.json', 'imagesTr', 'labelsTr']


def _bare_environment():
    """No HOME, and plain ASCII."""
    named = {name: value for name, value in tiny.environment().items() if name not in ('HOME', 'LANG')}
    return {**named, 'LC_ALL': 'C'}


@pytest.mark.parametrize('command', COMMANDS)
def test_as_a_program(command, tmp_path):
    """A process in another folder, without a terminal; some need no JAX to refuse what is wrong.

    Of those that do, one is a real one, like these without a HOME; others are forked, as loading JAX takes seconds.
    """
    given = ['--workdir=ä', '--input=x', '--output=y']
    if command in WITHOUT_JAX:
        (tmp_path / 'jax.py').write_text('raise RuntimeError')  # the current folder comes first
    if command in (*WITHOUT_JAX, 'predict'):
        line, start = [sys.executable, '-m', f'synseg_jax.{command}', *given], {'cwd': tmp_path}
        start |= {'env': _bare_environment(), 'text': True, 'encoding': 'utf-8', 'timeout': 100}
        done = subprocess.run(line, **start, capture_output=True)
    else:
        done = forks.command(command, *given, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, ''), done.stderr
    said = 'Unknown command line flag|--input=x: no such file|ä/run.json: no such file'
    assert re.fullmatch(f'error: ({said}).*\n', done.stderr), done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} <= {'.py'}


def test_a_program_that_nobody_listens_to(tmp_path):
    reader, writer = subprocess.Popen(['true'], stdin=subprocess.PIPE), None
    reader.wait()
    writer = subprocess.Popen(
        [sys.executable, '-m', 'synseg_jax.main', '--help'],
        cwd=tmp_path,
        env=_bare_environment(),
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = writer.communicate(timeout=100)
    reader.stdin.close()
    assert writer.returncode in (0, 141) and 'Traceback' not in err
    assert not list(Path(tmp_path).iterdir())


def test_an_interrupted_program(monkeypatch):
    def main(_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        start(main)
    assert left.value.code == 130


def test_a_program_starts_anew_for_large_pages_unless_told_otherwise(monkeypatch):
    begun = []
    monkeypatch.setattr(os, 'execv', lambda program, line: begun.append((program, line)))
    monkeypatch.setattr(sys, 'platform', 'linux')
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'synseg_jax.main', '--config=x.py'])
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', importlib.machinery.ModuleSpec('synseg_jax.main', None))
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    with_large_pages()
    assert begun == [(sys.executable, [sys.executable, '-m', 'synseg_jax.main', '--config=x.py'])]
    assert os.environ['GLIBC_TUNABLES'] == LARGE_PAGES
    with_large_pages()  # the program that was begun
    monkeypatch.delenv('GLIBC_TUNABLES')
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-m', 'debugger', '-m', 'synseg_jax.main'])
    with_large_pages()
    assert len(begun) == 1


def test_a_flag_of_xla_is_set_unless_named_or_on_cpu_alone(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=x')
    with_xla('--xla_gpu_force_conv_nhwc', 'true')
    assert os.environ['XLA_FLAGS'] == '--xla_dump_to=x'  # the tests run on CPU alone
    monkeypatch.delenv('JAX_PLATFORMS')
    for _ in range(2):
        with_xla('--xla_gpu_force_conv_nhwc', 'true')
        assert os.environ['XLA_FLAGS'] == '--xla_dump_to=x --xla_gpu_force_conv_nhwc=true'
    monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_force_conv_nhwc=false')
    with_xla('--xla_gpu_force_conv_nhwc', 'true')
    assert os.environ['XLA_FLAGS'] == '--xla_gpu_force_conv_nhwc=false'


def _process():
    """What calls share: flags, environment, search path, modules of configurations, handlers."""
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    logs = {name: [*logging.getLogger(name).handlers] for name in (None, 'absl')}
    configurations = [name for name in sys.modules if name in ('config_config', 'table_config')]
    return [*flags.FLAGS], dict(os.environ), [*sys.path], handlers, logs, configurations


def test_calls_are_independent(tiny_records, tmp_path, monkeypatch, capsys):
    """None sees a flag, field or configuration of those before it, and none leaves anything in the process."""
    trained = []
    monkeypatch.setattr(experiment, 'run', lambda c, workdir, named: trained.append((c.seed, workdir.name, named)))
    (tmp_path / 'empty.py').write_text('')
    before, config = _process(), f'{TINY}:{tiny_records}'
    assert main.main([config, '--config.seed=3', '--deterministic', f'--workdir={tmp_path}/w']) == 0
    assert main.main([config, f'--workdir={tmp_path}/v']) == 0
    assert main.main([f'--config={tmp_path}/empty.py']) == 2
    assert main.main(['--help']) == 0
    assert trained == [(3, 'w', ('seed',)), (0, 'v', ())]
    assert 'empty.py: it has no get_config(data); see configs/quickstart.py' in capsys.readouterr().err
    assert _process() == before


def test_xla_is_told_of_a_deterministic_run(tiny_records, tmp_path, monkeypatch):
    told = []
    monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=x')
    monkeypatch.setattr(experiment, 'run', lambda *_, **__: told.append(os.environ['XLA_FLAGS']))
    for more in (['--deterministic'], []):
        assert main.main([f'{TINY}:{tiny_records}', f'--workdir={tmp_path}', *more]) == 0
    assert told == [f'--xla_dump_to=x {main.DETERMINISTIC_XLA}', '--xla_dump_to=x']


def test_slow_compilation_is_no_bug(monkeypatch):
    """XLA asks for a bug report at the level of errors: not heard on CPUs alone, where true errors are raised."""
    monkeypatch.setattr(commands, 'ACCELERATORS', ('/dev/null',))
    for platforms, given, wanted in (('cpu', None, '3'), ('cpu', '0', '0'), (None, None, None), (None, '2', '2')):
        for name, value in (('JAX_PLATFORMS', platforms), ('TF_CPP_MIN_LOG_LEVEL', given)):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        quieten_xla()
        assert os.environ.get('TF_CPP_MIN_LOG_LEVEL') == wanted
    monkeypatch.setattr(commands, 'ACCELERATORS', ('/nothing/of/that/name',))
    monkeypatch.delenv('TF_CPP_MIN_LOG_LEVEL')
    quieten_xla()
    assert os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3'


def test_commands_are_quietened_before_jax_is_loaded():
    """JAX reads the level once, and sets one of its own; import_weights compiles nothing that is slow."""
    for name in (name for name in COMMANDS if name != 'import_weights'):
        text = _source(name)
        first = re.search(r'^(from synseg_jax|import jax|from flax)[^\n]*', text, re.MULTILINE)[0]
        assert re.match(r'from synseg_jax.cli import command\b', first), name
