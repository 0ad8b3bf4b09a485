"""Time the train step of SynSeg-Net on random images, beside a PyTorch peer if one is given.

Usage:
    python -m synseg_jax.benchmark --size=64 --width=16 --batch=4 --peer=torch_peer.py

--peer is a script that takes --size --ngf --blocks --batch --steps --threads and prints one JSON line with
`seconds_per_step`.  Ours and the peer run in turn, --rounds times, so that a machine whose speed drifts is fair to
both.  The result is one JSON line.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from synseg_jax import command
from synseg_jax.errors import InputError
from synseg_jax.training import parallel
from synseg_jax.training.system import System, configure


def step_seconds(system: System, size: int, rounds: int, steps: int):
    """Yields the median seconds of a train step, one number a round, after compiling."""
    batch, over = system.config.train.batch, parallel.mesh()
    state = system.first_state(over)
    step = system.step(1000, over)
    keys = jax.random.split(jax.random.key(0), 3)
    images = {d: jax.random.uniform(k, (batch, size, size, 1)) for d, k in zip('ab', keys[:2], strict=True)}
    labels = jax.random.randint(keys[2], (batch, size, size), 0, len(system.classes)).astype(jnp.int32)
    data = parallel.place({**images, 'label_a': labels}, over, parallel.SHARDED)
    for _ in range(3):
        state, metrics = step(state, data)
    jax.block_until_ready(metrics)
    for _ in range(rounds):
        times = []
        for _ in range(steps):
            began = time.perf_counter()
            state, metrics = step(state, data)
            jax.block_until_ready((state, metrics))
            times.append(time.perf_counter() - began)
        yield statistics.median(times)


def peer_seconds(script: str, size: int, width: int, blocks: int, batch: int, steps: int, threads: int) -> float:
    """The median seconds of the peer's train step."""
    if not Path(script).is_file():
        raise InputError(f'--peer={script}: no such file')
    options = {'size': size, 'ngf': width, 'blocks': blocks, 'batch': batch, 'steps': steps, 'threads': threads}
    call = [sys.executable, script, *(f'--{name}={value}' for name, value in options.items())]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f'--peer={script} failed: {done.stderr.strip().splitlines()[-1:]}')
    return json.loads(done.stdout.strip().splitlines()[-1])['seconds_per_step']


def main() -> None:
    """Prints the timing that the flags ask for."""
    from configs import base

    config = base.get_config()
    for kind in ('generator', 'segmentor', 'discriminator'):
        config[kind].width = WIDTH.value
    config.generator.blocks = config.segmentor.blocks = BLOCKS.value
    config.train.batch, config.history, config.dtype = BATCH.value, 0, DTYPE.value
    config.data.size = (SIZE.value, SIZE.value)
    system = System(configure(config, 'synseg'), tuple(map(str, range(7))))
    ours, peers = [], []
    for seconds in step_seconds(system, SIZE.value, ROUNDS.value, STEPS.value):
        ours.append(seconds)
        if PEER.value:
            threads = len(os.sched_getaffinity(0))
            shape = (SIZE.value, WIDTH.value, BLOCKS.value, BATCH.value, STEPS.value, threads)
            peers.append(peer_seconds(PEER.value, *shape))
    result = {'size': SIZE.value, 'width': WIDTH.value, 'blocks': BLOCKS.value, 'batch': BATCH.value}
    result |= {'device': jax.devices()[0].device_kind, 'seconds': ours, 'median': statistics.median(ours)}
    if peers:
        ratio = statistics.median(o / p for o, p in zip(ours, peers, strict=True))
        result |= {'peer_seconds': peers, 'peer_median': statistics.median(peers), 'ratio': ratio}
    print(json.dumps(result))


if __name__ == '__main__':
    SIZE = flags.DEFINE_integer('size', 256, 'Rows and columns of an image.')
    WIDTH = flags.DEFINE_integer('width', 64, 'Features of the networks at full resolution.')
    BLOCKS = flags.DEFINE_integer('blocks', 9, 'Residual blocks.')
    BATCH = flags.DEFINE_integer('batch', 1, 'Pairs in a batch.')
    DTYPE = flags.DEFINE_string('dtype', 'float32', 'Computation in float32 or bfloat16.')
    STEPS = flags.DEFINE_integer('steps', 10, 'Steps in a round.')
    ROUNDS = flags.DEFINE_integer('rounds', 3, 'Rounds.')
    PEER = flags.DEFINE_string('peer', None, 'A PyTorch script to time in turn.')
    command.run(main)
