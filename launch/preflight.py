"""One line about what a task of a Slurm job sees, before the training starts; exit code 2 if that cannot work.

Usage:
    srun python launch/preflight.py HOST     # where the tasks will meet
"""

import os
import socket
import sys


def fault(host: str) -> str:
    """What is wrong with this task, or nothing; prints where it runs and what it sees."""
    rank, tasks, local = (os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'LOCALID'))
    asked = int(os.environ.get('SLURM_GPUS_ON_NODE') or 0)
    task = f'task {rank} of {tasks} on {socket.gethostname()}'
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return f'{task} cannot find {host}, where the tasks meet: {error.strerror}'
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # of the memory, for a look
    try:
        import jax

        if tasks != '1':  # as jax.distributed does under Slurm
            jax.config.update('jax_cuda_visible_devices', os.environ.get('JAX_LOCAL_DEVICE_IDS', local))
        devices = jax.local_devices()
    except Exception as error:
        return f'{task} cannot start JAX: {(str(error) or repr(error)).strip().splitlines()[0]}'
    seen = f'{len(devices)} {devices[0].platform} device(s), {devices[0].device_kind}'
    wanted = 1 if asked and tasks != '1' else asked
    if wanted and (devices[0].platform != 'gpu' or len(devices) != wanted):
        return f'{task} sees {seen}, not the {wanted} GPU(s) asked for; is jax[cuda12] or jax[cuda13] installed?'
    print(f'{task}: {seen}', flush=True)
    return ''


if __name__ == '__main__':
    if message := fault(sys.argv[1]):
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)
