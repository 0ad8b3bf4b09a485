"""The launch scripts, with a program in the place of synseg_jax.main that says what it was given and what it caught."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from synseg_jax import main

LAUNCH = tiny.ROOT / 'launch'
CODE = 3  # of the process that FAILS names
SHOWN = [
    'CUDA_VISIBLE_DEVICES',
    'JAX_LOCAL_DEVICE_IDS',
    'JAX_PLATFORMS',
    'http_proxy',
    'HTTPS_PROXY',
    'SRUN_CPUS_PER_TASK',
]
SHOWN += [f'SLURM_{name}' for name in ('LOCALID', 'NTASKS', 'PROCID', 'RESTART_COUNT')]
STAND_IN = """#!{python}
import json, os, signal, sys, time
from pathlib import Path

if sys.argv[1] != '-m':
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
flags = dict(argument.split('=', 1) for argument in sys.argv if argument.startswith('--') and '=' in argument)
rank = int(os.environ.get('SLURM_PROCID') or flags.get('--process', 0))
caught, env = [], {{name: os.environ[name] for name in {shown!r} if name in os.environ}}
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: caught.append(signal.Signals(number).name))
progress = Path(os.environ['PROGRESS'])
done = int(progress.read_text()) if progress.exists() else 0


def say(**what):
    line = json.dumps({{'rank': rank, 'done': done, **what}}) + '\\n'
    os.write(1, line.encode())  # at once: others write there too


say(argv=sys.argv[1:], pid=os.getpid(), cores=sorted(os.sched_getaffinity(0)), env=env)
if str(rank) == os.environ.get('FAILS'):
    sys.exit({code})
last = done + 5 if done else int(os.environ.get('STEPS', 5))
while done < last and (not caught or 'DEAF' in os.environ):
    time.sleep(0.05)
    done += 1
if caught:
    say(saving=True)
    time.sleep(float(os.environ.get('SAVING', 0.5)))  # in which a second signal would come
    if rank == 0:
        progress.write_text(str(done))
say(caught=caught)
"""


def stand_in(folder: Path) -> Path:
    """A virtual environment for VENV whose Python runs the program above as synseg_jax.main, and all else as it is."""
    python = folder / 'venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN.format(python=sys.executable, shown=SHOWN, code=CODE))
    python.chmod(0o755)
    return folder / 'venv'


def plain() -> dict[str, str]:
    """The environment without what chooses devices or tells of a job."""
    return {name: value for name, value in os.environ.items() if not name.startswith(('CUDA_', 'JAX_', 'SLURM'))}


def told(text: str, key: str) -> list[dict]:
    """What the processes said of `key`, in the order of their numbers."""
    whole = [line for line in text.splitlines(keepends=True) if line.startswith('{') and line.endswith('}\n')]
    lines = [json.loads(line) for line in whole]
    return sorted((line for line in lines if key in line), key=lambda line: line['rank'])


@pytest.fixture
def env(tmp_path):
    """An environment in which scripts run the program; without GPUs, whatever the machine has."""
    commands = tmp_path / 'commands'
    commands.mkdir()
    _command(commands / 'nvidia-smi', 'exit 9')
    path = f'{commands}:{os.environ["PATH"]}'
    return {**plain(), 'PATH': path, 'VENV': str(stand_in(tmp_path)), 'PROGRESS': str(tmp_path / 'progress')}


def _command(path, *lines):
    path.write_text('\n'.join(['#!/usr/bin/env bash', *lines, '']))
    path.chmod(0o755)


class Script:
    """A script of the launch folder that has been started, in a process group of its own as from a terminal."""

    def __init__(self, name: str, *arguments: str, env: dict[str, str], cwd: Path = tiny.ROOT):
        self.output = Path(env['PROGRESS']).with_name('output')
        # Tests that a script runs in the background are deaf to Ctrl-C, and so would be what they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with self.output.open('w') as file:
            line = ['bash', str(LAUNCH / name), *arguments]
            start = {'stdout': file, 'stderr': subprocess.STDOUT, 'start_new_session': True}
            self.process = subprocess.Popen(line, env=env, cwd=cwd, **start)

    def await_begin(self, count: int) -> None:
        """Returns when so many processes have begun."""
        end = time.monotonic() + 30
        while len(told(self.output.read_text(), 'argv')) < count:
            assert self.process.poll() is None and time.monotonic() < end, self.output.read_text()
            time.sleep(0.05)

    def end(self, timeout: float = 40) -> tuple[int, str]:
        """(exit code, what was printed)."""
        try:
            return self.process.wait(timeout), self.output.read_text()
        finally:
            self.process.kill()


def test_local_gives_each_process_its_flags_and_cores(env):
    code, said = Script('local.sh', '2', '--config=a.py', '--config.note=two words', env=env).end()
    assert code == 0, said
    begun = told(said, 'argv')
    [port] = {flag for one in begun for flag in one['argv'] if flag.startswith('--coordinator=')}
    assert re.fullmatch(r'--coordinator=127\.0\.0\.1:\d{4,5}', port)
    given = ['-m', 'synseg_jax.main', '--config=a.py', '--config.note=two words', port, '--processes=2']
    assert [one['argv'] for one in begun] == [[*given, '--process=0'], [*given, '--process=1']]
    assert [one['env']['JAX_PLATFORMS'] for one in begun] == ['cpu', 'cpu']
    cores = os.sched_getaffinity(0)
    if len(cores) > 1 and shutil.which('taskset'):
        assert begun[0]['cores'] and begun[1]['cores']
        assert sorted(begun[0]['cores'] + begun[1]['cores']) == sorted(cores)


@pytest.mark.parametrize(
    'listed, visible, count, expected',
    [
        ('0 1 2', None, 2, ['0', '1']),
        ('0 1 2', None, 3, ['0', '1', '2']),
        ('0 1', None, 3, None),
        ('0 1 2 3', '3,1', 2, ['3', '1']),
        ('0 1 2 3', '', 2, None),
        ('No devices were found', None, 1, None),
    ],
)
def test_local_gives_each_process_its_gpu(env, listed, visible, count, expected):
    _command(Path(env['PATH'].split(':')[0]) / 'nvidia-smi', f'tr " " "\\n" <<<"{listed}"')
    more = {} if visible is None else {'CUDA_VISIBLE_DEVICES': visible}
    code, said = Script('local.sh', str(count), env={**env, **more, 'STEPS': '0'}).end()
    begun = [one['env'] for one in told(said, 'argv')]
    assert code == 0 and len(begun) == count, said
    if expected is None:
        assert all(one['JAX_PLATFORMS'] == 'cpu' for one in begun)
        assert (f'{count} processes, 2 GPU(s): training on the CPU\n' in said) == (listed == '0 1')
    else:
        assert [one['CUDA_VISIBLE_DEVICES'] for one in begun] == expected
        assert not any('JAX_PLATFORMS' in one for one in begun)


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_local_passes_a_signal_on_once_and_waits(env, name):
    """Ctrl-C is sent as a terminal does, to all processes of the group."""
    script = Script('local.sh', '2', env={**env, 'STEPS': '2000'})
    script.await_begin(2)
    os.killpg(script.process.pid, getattr(signal, name))
    code, said = script.end()
    assert code == 0, said
    assert [one['caught'] for one in told(said, 'caught')] == [[name], [name]]


@pytest.mark.parametrize('deaf', [False, True])
def test_local_ends_the_others_if_one_fails(env, deaf):
    more = {'STEPS': '2000', 'FAILS': '1', 'GRACE_S': '1', **({'DEAF': ''} if deaf else {})}
    code, said = Script('local.sh', '3', env={**env, **more}).end()
    assert code == CODE, said
    assert [one['caught'] for one in told(said, 'caught')] == ([] if deaf else [['SIGTERM'], ['SIGTERM']])
    for one in told(said, 'argv'):
        with pytest.raises(ProcessLookupError):
            os.kill(one['pid'], 0)


@pytest.mark.parametrize('line', ['local.sh', 'local.sh --config=a.py', 'local.sh 0', 'tpu.sh NAME ZONE'])
def test_usage(env, line):
    code, said = Script(*line.split(), env=env).end()
    assert code == 2 and said.startswith(f'usage: bash launch/{line.split()[0]} ') and said.count('\n') == 1


@pytest.mark.parametrize('fails, expected', [('', 0), ('0', CODE)])
def test_worker_ends_as_its_process_does(env, fails, expected):
    code, said = Script('worker.sh', '--config=a.py', '--config.note=two words', env={**env, 'FAILS': fails}).end()
    assert code == expected
    assert told(said, 'argv')[0]['argv'] == ['-m', 'synseg_jax.main', '--config=a.py', '--config.note=two words']


def test_worker_that_is_stopped_saves_and_does_not_end_as_if_done(env):
    script = Script('worker.sh', env={**env, 'STEPS': '2000'})
    script.await_begin(1)
    script.process.terminate()
    code, said = script.end()
    assert code == 143 and told(said, 'caught')[0]['caught'] == ['SIGTERM']
    assert Path(env['PROGRESS']).exists()


def test_worker_takes_the_python_of_the_image(env, tmp_path):
    path = f'{env.pop("VENV")}/bin:{env["PATH"]}'
    code, said = Script('worker.sh', env={**env, 'PATH': path}, cwd=tmp_path).end()
    assert code == 0 and told(said, 'argv')


GCLOUD = r"""
printf '%s\n' "$*" >> "$CALLS"
for last in "$@"; do :; done
for worker in "$WORKERS"/*/; do
    case "$4" in
        scp) cp "$5" "$worker/${6#*:}" ;;
        ssh) (cd "$worker" && bash -c "${last#--command=}") ;;
    esac
done
"""


def test_tpu_installs_and_starts_the_project_on_every_worker(env, tmp_path):
    """A gcloud that runs, in a folder for each worker, what is meant for it."""
    for worker in '01':
        (tmp_path / 'workers' / worker).mkdir(parents=True)
    commands = Path(env['PATH'].split(':')[0])
    _command(commands / 'gcloud', GCLOUD)
    _command(commands / 'snake', f'cp -r {env["VENV"]} "$3"')  # -m venv FOLDER
    pip = '[ "$2" != pip ] || { shift 2; echo "$PWD pip $*"; exit; }'
    python = Path(env['VENV']) / 'bin' / 'python'
    python.rename(python.with_name('program'))
    _command(python, pip, f'exec {python.with_name("program")} "$@"')
    more = {'PYTHON': 'snake', 'CALLS': str(tmp_path / 'calls'), 'WORKERS': str(tmp_path / 'workers')}
    flags = ['--config=a.py', '--config.note=two words; $HOME']
    code, said = Script('tpu.sh', 'my-tpu', 'us-central2-b', *flags, env={**env, **more}).end()
    assert code == 0, said
    calls = re.findall(r'^compute tpus tpu-vm (.*)', (tmp_path / 'calls').read_text(), re.MULTILINE)
    assert [call.split()[0] for call in calls] == ['scp', 'ssh', 'ssh']
    assert all('--zone=us-central2-b --worker=all' in call for call in calls)
    assert calls[0].split()[2] == 'my-tpu:synseg_jax.tar.gz' and all(
        call.startswith('ssh my-tpu ') for call in calls[1:]
    )
    given = ['-m', 'synseg_jax.main', '--distributed', '--init_timeout_s=1800', *flags]
    assert [one['argv'] for one in told(said, 'argv')] == [given, given]
    for worker in '01':
        copy = tmp_path / 'workers' / worker / 'synseg_jax'
        assert f'{copy} pip install --quiet --disable-pip-version-check --editable .[tpu]\n' in said
        for file in ('synseg_jax/main.py', 'configs/base.py', 'setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
            assert (copy / file).read_bytes() == (tiny.ROOT / file).read_bytes()


@pytest.fixture(scope='module')
def documents():
    """The claim and the JobSet of launch/kubernetes.yaml."""
    yaml = pytest.importorskip('yaml', exc_type=ImportError)
    return list(yaml.safe_load_all((LAUNCH / 'kubernetes.yaml').read_text()))


def test_kubernetes_has_the_fields_of_a_jobset(documents):
    jsonschema = pytest.importorskip('jsonschema', exc_type=ImportError)
    schema = json.loads((tiny.ROOT / 'tests' / 'data' / 'jobset.schema.json').read_text())
    jsonschema.Draft202012Validator(schema).validate(documents[1])


def test_kubernetes_agrees_with_itself(documents):
    claim, jobset = documents
    name, [workers] = jobset['metadata']['name'], jobset['spec']['replicatedJobs']
    job, pod = workers['template']['spec'], workers['template']['spec']['template']['spec']
    [container] = pod['containers']
    flags = dict(argument.removeprefix('--').split('=', 1) for argument in container['args'])
    assert int(flags['processes']) == job['completions'] == job['parallelism'] and workers['replicas'] == 1
    assert job['completionMode'] == 'Indexed' and flags['process'] == '$(JOB_COMPLETION_INDEX)'
    [port] = container['ports']
    assert flags['coordinator'] == f'{name}-{workers["name"]}-0-0.{name}:{port["containerPort"]}'
    assert claim['kind'] == 'PersistentVolumeClaim' and claim['spec']['accessModes'] == ['ReadWriteMany']
    mounts = {mount['name']: mount['mountPath'] for mount in container['volumeMounts']}
    claims = {
        v['persistentVolumeClaim']['claimName']: v['name'] for v in pod['volumes'] if 'persistentVolumeClaim' in v
    }
    assert mounts.keys() == {volume['name'] for volume in pod['volumes']}
    data = mounts[claims[claim['metadata']['name']]]
    assert flags['workdir'].startswith(f'{data}/')
    path, records = flags['config'].split(':')
    assert records.startswith(f'{data}/') and (tiny.ROOT / path).is_file()
    assert pod['terminationGracePeriodSeconds'] >= 120 and job['backoffLimit'] == 0
    assert (tiny.ROOT / container['command'][1]).is_file()


@pytest.mark.parametrize('script', ['local.sh', 'slurm.sbatch', 'tpu.sh', 'kubernetes.yaml'])
def test_flags_that_scripts_give_are_those_of_main(script):
    given = set(
        re.findall(
            r'--(coordinator|processes|process|distributed|init_timeout\w*|workdir|config)\b',
            (LAUNCH / script).read_text(),
        )
    )
    assert given and given <= {flag.name for flag in main.FLAGS}
