"""launch/slurm.sbatch on a Slurm of one node that the tests start themselves; Debian: apt-get install slurm-wlm munge.

Eight GPUs are made up, and the `jax` that the preflight imports with them.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import tiny
from test_launch import CODE, plain, stand_in, told

DAEMONS = ('munged', 'slurmctld', 'slurmd')
SBIN = f'{os.environ["PATH"]}:/usr/sbin'
GPUS = 8
CONF = """
ClusterName=tiny
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 Gres=gpu:{gpus}
PartitionName=normal Nodes={host} PriorityTier=1 PreemptMode=OFF Default=YES
PartitionName=sudden Nodes={host} PriorityTier=1
PartitionName=graceful Nodes={host} PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes={host} PriorityTier=2 PreemptMode=OFF
"""
JAX = '''
"""As many GPUs as CUDA_VISIBLE_DEVICES and jax_cuda_visible_devices leave, or a CPU."""
import os
from types import SimpleNamespace

chosen = 'all'
devices = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')


def update(name, value):
    global chosen
    assert name == 'jax_cuda_visible_devices'
    chosen = value


def local_devices():
    if 'NO_CUDA' in os.environ or devices == ['']:
        return [SimpleNamespace(platform='cpu', device_kind='cpu')]
    own = devices if chosen == 'all' else [devices[int(i)] for i in chosen.split(',')]
    return [SimpleNamespace(platform='gpu', device_kind=f'number {i}') for i in own]


config = SimpleNamespace(update=update)
'''


class Cluster:
    """One node; jobs run the stand-in, and each writes to a file of its own."""

    def __init__(self, folder: Path):
        self.folder, self.processes = folder, []
        self.env = {**plain(), 'PATH': SBIN, 'SLURM_CONF': str(folder / 'slurm.conf'), 'PYTHONPATH': str(folder)}
        self.env |= {'VENV': str(stand_in(folder)), 'http_proxy': 'http://192.0.2.1', 'HTTPS_PROXY': 'http://192.0.2.1'}

    def start(self) -> None:
        """Starts the daemons; returns when the node is ready."""
        for name in ('state', 'spool'):
            (self.folder / name).mkdir()
        for number in range(GPUS):
            (self.folder / f'gpu{number}').symlink_to('/dev/null')
        (self.folder / 'jax.py').write_text(JAX)
        (self.folder / 'munge.key').write_bytes(os.urandom(128))
        (self.folder / 'munge.key').chmod(0o400)
        host = socket.gethostname().split('.')[0]
        given = {'host': host, 'user': getpass.getuser(), 'folder': self.folder, 'ports': _free_ports(2), 'gpus': GPUS}
        (self.folder / 'slurm.conf').write_text(CONF.format(**given))
        (self.folder / 'gres.conf').write_text(f'NodeName={host} Name=gpu File={self.folder}/gpu[0-{GPUS - 1}]\n')
        at = f'{self.folder}/munge'
        files = [f'--{name}-file={at}.{name}' for name in ('key', 'pid', 'log', 'seed')]
        self._daemon('munged', '--foreground', '--force', f'--socket={at}.socket', *files)
        self._daemon('slurmctld', '-D', '-c')
        self._daemon('slurmd', '-D')
        self.wait(
            lambda: 'idle' in self.run('sinfo', '--noheader', '--format=%T', check=False), 'the node is not ready'
        )

    def _daemon(self, name, *options):
        with (self.folder / f'{name}.said').open('w') as file:
            start = {'stdout': file, 'stderr': subprocess.STDOUT, 'env': self.env, 'cwd': self.folder}
            self.processes.append(subprocess.Popen([name, *options], **start))

    def stop(self) -> None:
        """Ends all jobs, then the daemons."""
        self.run('scancel', f'--user={getpass.getuser()}', check=False)
        end = time.monotonic() + 10
        while self.run('squeue', '--noheader', check=False).strip() and time.monotonic() < end:
            time.sleep(0.2)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def run(self, *command: str, check: bool = True, env: dict | None = None) -> str:
        """What a command of Slurm prints."""
        line = {'capture_output': True, 'text': True, 'timeout': 60, 'cwd': tiny.ROOT, 'env': env or self.env}
        done = subprocess.run(command, **line)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def wait(self, until, otherwise: str, seconds: float = 90) -> None:
        """Returns once `until()` is true."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f'{otherwise}\n{self._logs()}'
            time.sleep(0.2)

    def _logs(self):
        return '\n'.join(path.read_text()[-3000:] for path in sorted(self.folder.glob('*.said')))

    def submit(self, name: str, *options: str, flags: tuple[str, ...] = (), **env: str) -> 'Job':
        """launch/slurm.sbatch as a job of this name."""
        output = self.folder / f'{name}.out'
        line = ['sbatch', '--parsable', f'--output={output}', *options, 'launch/slurm.sbatch', *flags]
        more = {'PROGRESS': str(self.folder / f'{name}.progress'), **env}
        return Job(self, self.run(*line, env={**self.env, **more}).strip(), output)


class Job:
    def __init__(self, cluster: Cluster, number: str, output: Path):
        self.cluster, self.number, self.output = cluster, number, output

    def said(self) -> str:
        """Its output so far."""
        return self.output.read_text() if self.output.exists() else ''

    def known(self) -> dict[str, str]:
        """What Slurm knows of it."""
        shown = self.cluster.run('scontrol', 'show', 'job', '--oneliner', self.number)
        return dict(word.split('=', 1) for word in shown.split() if '=' in word)

    def await_begin(self, count: int) -> None:
        """Returns when so many tasks have begun in all."""
        self.cluster.wait(lambda: len(told(self.said(), 'argv')) >= count, f'no {count} tasks began: {self.said()}')

    def end(self) -> tuple[str, str]:
        """(state, output) once it has ended."""
        ended = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'PREEMPTED')
        self.cluster.wait(lambda: self.known()['JobState'] in ended, f'the job did not end: {self.said()}')
        return self.known()['JobState'], self.said()


def _free_ports(count):
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(('127.0.0.1', 0))
    numbers = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return numbers


CPU = ('--gpus-per-task=0', '--ntasks-per-node=2', '--cpus-per-task=1')


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    if missing := [name for name in (*DAEMONS, 'sbatch') if not shutil.which(name, path=SBIN)]:
        pytest.skip(f'no Slurm here: {", ".join(missing)} not found')
    made = Cluster(tmp_path_factory.mktemp('slurm'))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope='module')
def limited(cluster):
    """A job whose time is up in a minute.  Slurm looks at the clock twice a minute: other tests run meanwhile."""
    return cluster.submit('limited', *CPU, '--time=1', STEPS='5000')


def test_one_task_for_each_gpu(cluster, limited):
    flags = ('--config=a.py', '--config.note=two words; $HOME')
    state, said = cluster.submit('gpus', '--ntasks-per-node=3', flags=flags).end()
    assert state == 'COMPLETED', said
    begun = told(said, 'argv')
    given = ['-m', 'synseg_jax.main', '--distributed', '--init_timeout_s=1800', *flags]
    assert [one['argv'] for one in begun] == [given] * 3
    env = [one['env'] for one in begun]
    assert [one['SLURM_PROCID'] for one in env] == [one['SLURM_LOCALID'] for one in env] == ['0', '1', '2']
    assert {one['CUDA_VISIBLE_DEVICES'] for one in env} == {'0,1,2'}  # of which JAX takes the SLURM_LOCALID-th
    assert {(one['SLURM_NTASKS'], one['SRUN_CPUS_PER_TASK']) for one in env} == {('3', '4')}
    assert not {'JAX_LOCAL_DEVICE_IDS', 'http_proxy', 'HTTPS_PROXY'} & {name for one in env for name in one}
    for number in range(3):
        assert f'task {number} of 3 on {socket.gethostname()}: 1 gpu device(s), number {number}\n' in said


def test_one_task_is_not_told_of_others(cluster, limited):
    state, said = cluster.submit('one', flags=('--config=a.py',)).end()
    assert state == 'COMPLETED', said
    [one] = told(said, 'argv')
    assert one['argv'] == ['-m', 'synseg_jax.main', '--config=a.py']
    assert one['env']['JAX_LOCAL_DEVICE_IDS'] == '0'  # the only one that it sees
    assert 'task 0 of 1' in said


@pytest.mark.parametrize(
    'name, options, more, expected',
    [
        (
            'no CUDA',
            ['--ntasks-per-node=2'],
            {'NO_CUDA': '1'},
            'sees 1 cpu device(s), cpu, not the 1 requested GPU(s);',
        ),
        ('no CUDA, one task', ['--gpus-per-task=2'], {'NO_CUDA': '1'}, 'not the 2 requested GPU(s); is jax[cuda12]'),
        ('too few', ['--ntasks-per-node=3', '--gpus-per-task=0', '--gres=gpu:2'], {}, 'cannot start JAX: list index'),
    ],
)
def test_a_task_without_its_gpu_is_told_before_training(cluster, limited, name, options, more, expected):
    state, said = cluster.submit(name, *options, **more).end()
    assert state == 'FAILED' and not told(said, 'argv')
    wrong = [line for line in said.splitlines() if line.startswith('error: task ')]
    assert wrong and all(expected in line for line in wrong), said


def test_an_error_of_one_task_ends_the_job(cluster, limited):
    job = cluster.submit('error', *CPU, STEPS='5000', FAILS='1')
    state, said = job.end()
    assert state == 'FAILED' and job.known()['ExitCode'] == f'{CODE}:0', said
    assert job.known()['Restarts'] == '0'


def test_preempted_it_saves_goes_back_into_the_queue_and_on(cluster, limited):
    """With a GraceTime, in which Slurm requeues nothing, and without."""
    jobs = [
        cluster.submit(name, f'--partition={name}', '--ntasks-per-node=2', '--cpus-per-task=1', STEPS='5000')
        for name in ('graceful', 'sudden')
    ]
    for job in jobs:
        job.await_begin(2)
    line = ['sbatch', '--partition=urgent', f'--gres=gpu:{GPUS}', '--output=/dev/null', '--wrap=sleep 1']
    cluster.run(*line)
    for job in jobs:
        state, said = job.end()
        assert state == 'COMPLETED' and job.known()['Restarts'] == '1', said
        _check_resumed(said)


def _check_resumed(said):
    """Two tasks began, were stopped, saved, began again in the same file, and went on from there to the end."""
    begun, ended = told(said, 'argv'), told(said, 'caught')
    assert [one['env'].get('SLURM_RESTART_COUNT') for one in begun] == [None, '1'] * 2, said
    first, resumed = ended[::2], ended[1::2]
    assert all(set(one['caught']) == {'SIGTERM'} and one['done'] > 0 for one in first)
    assert all(one['done'] == first[0]['done'] for one in begun[1::2])
    assert all(one['caught'] == [] and one['done'] == first[0]['done'] + 5 for one in resumed)


@pytest.mark.parametrize('before', ['training', 'saving'])
def test_cancelled_it_saves_and_stays_away(cluster, limited, before):
    """Also as it saves because its time is nearly up."""
    job = cluster.submit(f'cancelled {before}', *CPU, STEPS='5000', SAVING='3')
    job.await_begin(2)
    if before == 'saving':
        cluster.run('scancel', '--batch', '--signal=USR1', job.number)
        cluster.wait(lambda: len(told(job.said(), 'saving')) == 2, 'the tasks were not told')
    cluster.run('scancel', job.number)
    state, said = job.end()
    assert state == 'CANCELLED' and job.known()['Restarts'] == '0', said
    assert [set(one['caught']) for one in told(said, 'caught')] == [{'SIGTERM'}] * 2


def test_a_moment_before_its_time_is_up_it_saves_and_goes_back_into_the_queue(cluster, limited):
    state, said = limited.end()
    assert state == 'COMPLETED' and limited.known()['Restarts'] == '1', said
    _check_resumed(said)
    assert 'DUE TO TIME LIMIT' not in said
    assert f'interrupted; job {limited.number} goes back into the queue and on from there\n' in said


def test_without_the_project_it_says_where_it_looked(cluster):
    state, said = cluster.submit('absent', '--gpus-per-task=0', VENV='nowhere').end()
    assert state == 'FAILED' and said.startswith(f'error: no nowhere/bin/python in {tiny.ROOT}; ')
    assert said.count('\n') == 1
