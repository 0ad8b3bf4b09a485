"""Time training and segmenting on random images: with and without the data pipeline, beside a PyTorch peer if given.

Usage:
    python -m synseg_jax.benchmark --size=256 --width=64 --batch=16 --dtype=bfloat16
    python -m synseg_jax.benchmark --config=configs/heart3d.py:records/heart --system=joint_ct --stage=joint
    python -m synseg_jax.benchmark --size=64 --width=16 --batch=4 --peer=torch_peer.py --output=cpu.json

Without --config SynSeg-Net is timed.  --peer is a script that takes --size --ngf --blocks --batch --steps --threads
(and --infer, --best) and prints one JSON line with `seconds_per_step`; ours and the peer run in turn, --rounds times,
so that a machine whose speed drifts is fair to both, and the ratio is the median of the rounds'.  --memory says what
a step will hold, without compiling anything.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from itertools import islice
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from synseg_jax import command, timing
from synseg_jax.errors import InputError, known
from synseg_jax.evaluation import summary
from synseg_jax.networks.resnet import ResNet
from synseg_jax.results import versions
from synseg_jax.stages import names
from synseg_jax.training import memory
from synseg_jax.training.system import System, configure

PARTS = ('step', 'inference')
CLASSES = 7  # of SynSeg-Net, where no configuration says


def system() -> System:
    """The system that the flags name."""
    config = CONFIG.value or _synseg()
    with config.unlocked():
        for flag, fields in _FIELDS.items():
            for field in fields if flags.FLAGS[flag].value is not None else ():
                config.update_from_flattened_dict({field: flags.FLAGS[flag].value})
        if SIZE.value:
            config.data.size = (SIZE.value,) * len(config.data.size)
    chosen = known('system', SYSTEM.value or config.chosen, config.systems)
    stages = names(config, chosen)
    stage = known(f'stage of {chosen}', STAGE.value or stages[-1], stages)
    classes = tuple(config.data.classes) or tuple(map(str, range(CLASSES)))
    return System(configure(config, chosen, stage), classes)


def _synseg() -> ConfigDict:
    from configs import base

    config = base.get_config('records')
    config.history = 0
    return config


def peer_seconds(script: str, timed: System, steps: int, *more: str) -> float:
    """The median seconds of the peer's step, or of its segmentor's with `--infer`."""
    options = {'size': timed.size[-1], 'ngf': timed.config.generator.width, 'batch': timed.config.train.batch}
    options |= {'blocks': timed.config.generator.blocks, 'steps': steps, 'threads': len(os.sched_getaffinity(0))}
    call = [sys.executable, script, *(f'--{name}={value}' for name, value in options.items()), *more]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f'--peer={script} failed: {done.stderr.strip().splitlines()[-1:]}')
    return json.loads(done.stdout.strip().splitlines()[-1])['seconds_per_step']


def measure(timed: System) -> dict:
    """Everything that the flags ask for."""
    if PEER.value and not Path(PEER.value).is_file():
        raise InputError(f'--peer={PEER.value}: no such file')
    if PEER.value and not isinstance(timed.networks.get('g_ab'), ResNet):
        raise InputError('--peer does the work of SynSeg-Net; leave out --config, or name one with ResNets')
    best = ['--best'] if PEER_BEST.value else []
    runner, batch = timing.Timing(timed), timed.config.train.batch
    found: dict = {'measured': {}, **_described(timed)}
    parts = {known('part (--parts)', part, PARTS) for part in PARTS_.value}
    if 'step' in parts:
        found |= runner.cost() | {'pipeline_rows_per_s': runner.pipeline_rate()}
        rounds = []
        for one in islice(runner.rounds(STEPS.value), ROUNDS.value):
            rounds.append(one | _peer(timed, 'step_s', best))
        found['measured'] |= _spread(rounds)
        seconds = statistics.median(one['step_s'] for one in rounds)
        peak = timing.matrix_peak(timed.config.dtype) * runner.over.size
        found |= {'pairs_per_s': batch / seconds, 'matrix_peak_tflop_per_s': peak / 1e12}
        found |= {'share_of_peak': found['gflop'] * 1e9 / seconds / peak, 'peak_memory_gib': timing.peak_memory_gib()}
    if 'inference' in parts and (timed.segmentor('a') or timed.segmentor('b')):
        rounds = []
        for seconds in islice(runner.segmenting(batch, STEPS.value), ROUNDS.value):
            rounds.append({'inference_s': seconds} | _peer(timed, 'inference_s', ['--infer', *best]))
        found['measured'] |= _spread(rounds)
        found['images_per_s'] = batch / statistics.median(one['inference_s'] for one in rounds)
    return found


def _peer(timed, part, more) -> dict:
    if not PEER.value:
        return {}
    return {f'peer_{part}': peer_seconds(PEER.value, timed, STEPS.value, *more)}


def _spread(rounds) -> dict:
    """{what: median, least and most of the rounds}, and the ratio of ours to the peer's, round by round."""
    for one in rounds:
        for name in [name for name in one if f'peer_{name}' in one]:
            one[f'{name.removesuffix("_s")}_ratio'] = one[name] / one[f'peer_{name}']
    columns = {name: [one[name] for one in rounds] for name in rounds[0]}
    return {name: {'median': statistics.median(v), 'least': min(v), 'most': max(v)} for name, v in columns.items()}


def _described(timed) -> dict:
    config = timed.config
    return {
        'device': jax.devices()[0].device_kind,
        'devices': jax.device_count(),
        'cores': len(os.sched_getaffinity(0)),
        'system': platform.system(),
        'date': date.today().isoformat(),
        'method': timed.method.name,
        'size': list(timed.size),
        'width': config.generator.width,
        'batch': config.train.batch,
        'dtype': config.dtype,
        'remat': config.remat,
        'versions': versions(),
    }


def _shown(found: dict) -> Table:
    """The numbers as a table."""
    size = ' x '.join(map(str, found['size']))
    title = f'{found["method"]}, {size}, width {found["width"]}, batch {found["batch"]}, {found["dtype"]}'
    table = Table(title=f'{title}\n{found["device"]} x {found["devices"]}, jax {found["versions"]["jax"]}')
    for heading in ('', 'median', 'least', 'most'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, spread in found['measured'].items():
        table.add_row(name, *(f'{spread[part]:.4g}' for part in ('median', 'least', 'most')))
    table.add_section()
    for name, value in found.items():
        if isinstance(value, float):
            table.add_row(name, f'{value:.4g}')
    return table


def _remembered(timed) -> dict:
    """What a step will hold, GiB on each device."""
    guess = memory.estimate(timed)
    parts = {'state': guess.state, 'gradients': guess.gradients, 'players in turn': guess.peak}
    parts |= {'players at once': guess.at_once, **{f'kept for {name}': of for name, of in guess.kept.items()}}
    return {name: round(of / timing.GIB, 3) for name, of in parts.items()}


def main() -> None:
    """Prints what the flags ask for, and writes it to --output."""
    timed = system()
    if MEMORY.value:
        print(json.dumps(_described(timed) | {'memory_gib': _remembered(timed)}))
        return
    found = measure(timed)
    Console().print(_shown(found))
    if OUTPUT.value:
        summary.write_json(OUTPUT.value, found)
    print(json.dumps(found))


_FIELDS = {
    'width': ('generator.width', 'segmentor.width', 'discriminator.width'),
    'blocks': ('generator.blocks', 'segmentor.blocks'),
    'batch': ('train.batch',),
    'dtype': ('dtype',),
}

if __name__ == '__main__':
    CONFIG = command.config_flag()
    SYSTEM = flags.DEFINE_string('system', None, 'System of the configuration; default: config.chosen.')
    STAGE = flags.DEFINE_string('stage', None, 'Stage of the system; default: its last.')
    SIZE = flags.DEFINE_integer('size', None, 'Length of every side of an image.')
    flags.DEFINE_integer('width', None, 'Features of the networks at full resolution.')
    flags.DEFINE_integer('blocks', None, 'Residual blocks.')
    flags.DEFINE_integer('batch', None, 'Pairs in a batch.')
    flags.DEFINE_string('dtype', None, 'Computation in float32 or bfloat16.')
    PARTS_ = flags.DEFINE_list('parts', list(PARTS), 'What to time.')
    STEPS = flags.DEFINE_integer('steps', 10, 'Steps in a round.')
    ROUNDS = flags.DEFINE_integer('rounds', 3, 'Rounds.')
    PEER = flags.DEFINE_string('peer', None, 'A PyTorch script to time in turn.')
    PEER_BEST = flags.DEFINE_bool('peer_best', False, 'The peer at its best: bf16, channels_last, compiled, fused.')
    OUTPUT = flags.DEFINE_string('output', None, 'JSON file to write.')
    MEMORY = flags.DEFINE_bool('memory', False, 'Only say what a step will hold in memory, from shapes alone.')
    command.run(main)
