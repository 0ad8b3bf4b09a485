"""Run the parts of the benchmark on a system, and summarise them."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from itertools import islice
from pathlib import Path

import jax
from rich.table import Table

from synseg_jax.benchmarks import memory_estimate, scan_speed, training_speed
from synseg_jax.cli.options import Options
from synseg_jax.cli.terminal import plain
from synseg_jax.devices import environment
from synseg_jax.devices.environment import versions
from synseg_jax.errors import InputError, known
from synseg_jax.networks.resnet import ResNet
from synseg_jax.networks.unet import UNet
from synseg_jax.training.system import System

CLASSES = 7  # of SynSeg-Net; used if the configuration has none
PLAIN = {'extra': 0, 'dropout': 0.0, 'norm': True, 'residual': False, 'strided': False, 'up_width': 2, 'tanh': False,
         'max_width': None, 'deep_supervision': 0}  # fmt: skip


PARTS: dict[str, Callable[[training_speed.Timing, Options], Iterator[dict[str, float]]]] = {
    'step': lambda runner, options: runner.time_steps(options.steps),
    'epoch': lambda runner, options: runner.time_epoch(options.steps),
    'inference': lambda runner, options: runner.time_segmentor(runner.batch, options.steps),
    'synthesis': lambda runner, options: runner.time_generator(runner.batch, options.steps),
    'pipeline': lambda runner, options: runner.time_pipeline(),
    'prepare': lambda runner, options: scan_speed.time_preparation(runner.system, _scan_shape(options.scan)),
    'predict': lambda runner, options: runner.time_prediction(_scan_shape(options.scan)),
}


PART_HELP = (
    'step: train step on one batch in memory, on batches from records (fed), and on records cached on the devices '
    '(resident); epoch: epoch of --images images, extrapolated from --steps of its steps; inference: segmentor on a '
    'batch; synthesis: generator of target images on a batch; pipeline: reading batches from records, '
    '`pipeline_over_step` being its throughput over that of the step; prepare: synseg_jax.prepare of an MR scan with '
    'labels and a CT scan of --scan voxels; predict: synseg_jax.predict of a CT scan, without start-up.'
)


def peer_seconds(script: str, timed: System, steps: int, *more: str) -> float:
    """Median seconds of a train step of the PyTorch peer, or of its segmentor with --infer."""
    config = timed.config
    if is_plain_unet(timed):
        options = {'architecture': 'unet', 'ngf': config.segmentor.width, 'levels': config.segmentor.levels}
        options |= {'classes': len(timed.classes)}
    else:
        options = {'ngf': config.generator.width, 'blocks': config.generator.blocks}
    options |= {'size': timed.size[-1], 'batch': config.train.batch, 'steps': steps}
    options |= {'threads': len(os.sched_getaffinity(0))}
    command = [sys.executable, script, *(f'--{name}={value}' for name, value in options.items()), *more]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise InputError(f'--peer={script} failed: {process.stderr.strip().splitlines()[-1:]}')
    return json.loads(process.stdout.strip().splitlines()[-1])['seconds_per_step']


def measure(timed: System, options: Options, images: int = 0) -> dict:
    """Measure the parts of --parts on one stage; `images` is the size of an epoch."""
    if options.peer and not Path(options.peer).is_file():
        raise InputError(f'--peer={options.peer}: no such file; give a PyTorch script such as torch_peer.py')
    if options.peer and not isinstance(timed.networks.get('g_ab'), ResNet) and not is_plain_unet(timed):
        raise InputError('--peer is only comparable with ResNets; leave out --config, or give --architecture=unet')
    parts = {known('part (--parts)', part, PARTS): PARTS[part] for part in options.parts}
    runner, measured = training_speed.Timing(timed, images), {}
    for part, rounds in parts.items():
        measured |= _spread(
            [times | _peer(timed, part, options) for times in islice(rounds(runner, options), options.rounds)]
        )
    report = {'measured': measured, **described(timed)}
    return report | (runner.cost() if 'step' in parts else {}) | _derived(measured, runner)


def is_plain_unet(timed: System) -> bool:
    """Whether a system trains nothing but the U-Net of the PyTorch peer, of any width and depth."""
    first, *others = timed.networks.values()
    return not others and isinstance(first, UNet) and first == first.clone(**PLAIN)


def _derived(measured, runner) -> dict[str, float | None]:
    """Rates and ratios computed from the medians."""
    median = {name: spread['median'] for name, spread in measured.items()}
    derived = {}
    if 'step_s' in median:
        seconds, dtype = median['step_s'], runner.system.config.dtype
        peak = training_speed.matrix_peak(dtype) * runner.over.size
        derived |= {'pairs_per_s': runner.batch / seconds, 'matrix_peak_tflop_per_s': peak / 1e12}
        derived['share_of_peak'] = runner.cost()['gflop'] * 1e9 / seconds / peak
        derived['peak_memory_gib'] = runner.peak_memory_gib
    if {'step_s', 'pipeline_rows_per_s'} <= median.keys():
        derived['pipeline_over_step'] = median['pipeline_rows_per_s'] / derived['pairs_per_s']
    for part, images in (('inference', 'images'), ('synthesis', 'synthetic_images')):
        for unit in ('s', 'cpu_s') if f'{part}_s' in median else ():
            derived[f'{images}_per_{unit}'] = runner.batch / median[f'{part}_{unit}']
    if 'predict_s' in median:
        derived['network_share'] = median['predict_network_s'] / median['predict_s']
    return derived


def _scan_shape(lengths) -> tuple[int, ...]:
    """The shape of a scan from --scan."""
    return numbers('scan', lengths, 3, 'three lengths in voxels, e.g. 512,512,100')


def numbers(flag, values, count, expected) -> tuple[int, ...]:
    """`count` positive integers from the values of a flag; InputError says what is `expected`."""
    try:
        numbers = tuple(int(text) for text in values)
    except ValueError:
        numbers = ()
    if len(numbers) != count or min(numbers) < 1:
        raise InputError(f'--{flag}={",".join(values)}: give {expected}')
    return numbers


def _peer(timed, part, options) -> dict:
    if not options.peer or part not in ('step', 'inference'):
        return {}
    more = [flag for flag, on in (('--infer', part == 'inference'), ('--best', options.peer_best)) if on]
    return {f'peer_{part}_s': peer_seconds(options.peer, timed, options.steps, *more)}


def _spread(rounds) -> dict:
    """{name: median, minimum and maximum over the rounds}, with the ratio to the peer of each round."""
    for times in rounds:
        for name in [name for name in times if f'peer_{name}' in times]:
            times[f'{name.removesuffix("_s")}_ratio'] = times[name] / times[f'peer_{name}']
    columns = {name: [times[name] for times in rounds] for name in (rounds[0] if rounds else ())}
    return {name: {'median': statistics.median(v), 'least': min(v), 'most': max(v)} for name, v in columns.items()}


def described(timed) -> dict:
    """Hardware, versions and settings of a measurement."""
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
        'parameters': memory_estimate.parameters(timed),
        'versions': versions(),
    }


def table(report: dict) -> Table:
    """A report of `measure` as a table."""
    size = ' x '.join(map(str, report['size']))
    title = f'{report["method"]}, {size}, width {report["width"]}, batch {report["batch"]}, {report["dtype"]}'
    title += f'\n{report["device"]} x {report["devices"]}, jax {report["versions"]["jax"]}'
    table = Table(title=plain(title, 'table.title'))
    for heading in ('', 'median', 'least', 'most'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, spread in report['measured'].items():
        table.add_row(plain(name), *(f'{spread[part]:.4g}' for part in ('median', 'least', 'most')))
    table.add_section()
    for name, count in report['parameters'].items():
        table.add_row(plain(f'parameters of {name}'), f'{count:,}')
    for name, value in report.items():
        if isinstance(value, float):
            table.add_row(plain(name), f'{value:.4g}')
    return table


def memory_table(timed) -> dict:
    """Estimated memory of a train step, GiB per GPU."""
    estimated = memory_estimate.estimate(timed, 'gpu')
    parts = {'state': estimated.state, 'gradients': estimated.gradients, 'players in turn': estimated.peak}
    parts['players at once'] = estimated.at_once
    parts |= {f'kept for {player}': size for player, size in estimated.kept.items()}
    return {name: round(size / environment.GIB, 3) for name, size in parts.items()}
