"""Check of a Slurm task before training: prints its devices, or an error with exit code 2.

Usage:
    srun python launch/preflight.py HOST     # the host of the coordinator
"""

import os
import socket
import sys


def fault(host: str) -> str:
    """The error of this task, or '' after printing its host and devices."""
    rank, tasks, local = (os.environ[f'SLURM_{name}'] for name in ('PROCID', 'NTASKS', 'LOCALID'))
    gpus_on_node = int(os.environ.get('SLURM_GPUS_ON_NODE') or 0)
    task = f'task {rank} of {tasks} on {socket.gethostname()}'
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return f'{task} cannot resolve the coordinator {host}: {error.strerror}'
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # listing devices needs no memory
    try:
        import jax

        if tasks != '1':  # as jax.distributed does under Slurm
            jax.config.update('jax_cuda_visible_devices', os.environ.get('JAX_LOCAL_DEVICE_IDS', local))
        devices = jax.local_devices()
    except Exception as error:
        return f'{task} cannot start JAX: {(str(error) or repr(error)).strip().splitlines()[0]}'
    found = f'{len(devices)} {devices[0].platform} device(s), {devices[0].device_kind}'
    requested = 1 if gpus_on_node and tasks != '1' else gpus_on_node
    if requested and (devices[0].platform != 'gpu' or len(devices) != requested):
        return f'{task} sees {found}, not the {requested} requested GPU(s); is jax[cuda12] or jax[cuda13] installed?'
    print(f'{task}: {found}', flush=True)
    return ''


if __name__ == '__main__':
    if message := fault(sys.argv[1]):
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)
