"""Time training, segmenting and handling scans, on random images; beside a PyTorch peer if given.

Usage:
    python -m synseg_jax.benchmark --size=256 --width=64 --batch=16 --dtype=bfloat16
    python -m synseg_jax.benchmark --config=configs/heart3d.py:records/heart --system=joint_ct_14
    python -m synseg_jax.benchmark --size=64 --width=16 --batch=4 --peer=synseg_jax/interop/torch_peer.py
    python -m synseg_jax.benchmark --config=configs/quickstart.py --parts=prepare,predict --scan=512,512,200
    python -m synseg_jax.benchmark --config=configs/essnet_liver.py:records/liver --stage=translate,segment \\
        --parts=epoch,inference,synthesis --images=350,1064 --output=cost.json

Without --config SynSeg-Net is timed.  --parts:

    step       a train step on a batch that is there, on batches from records (fed) and from records that the devices
               hold (resident)
    epoch      an epoch of --images images, by --steps of its steps
    inference  the segmentor on a batch
    synthesis  the generator of the target's images on a batch
    pipeline   reading batches from records; `pipeline_over_step` says how many times what the step takes
    prepare    what synseg_jax.prepare does, on an MR scan with labels and a CT scan of --scan voxels
    predict    what synseg_jax.predict does once it has started, on a CT scan of --scan voxels

What ends in `cpu_s` counts the seconds of all cores, whatever else they do.

--peer is a script that takes --size --ngf --blocks --batch --steps --threads
(and --infer, --best) and prints one JSON line with `seconds_per_step`; ours and the peer run in turn, --rounds times,
so that a machine whose speed drifts is fair to both, and the ratio is the median of the rounds'.  --memory says what
a step will hold on a GPU, without one and without compiling anything.  The JSON is {stage: what was found}.
"""

from synseg_jax import command

if __name__ == '__main__':
    command.with_large_pages()  # before all that takes seconds to load

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import islice
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from synseg_jax import outputs, scan_timing, timing
from synseg_jax.errors import InputError, known
from synseg_jax.files import write_json
from synseg_jax.networks.resnet import ResNet
from synseg_jax.options import Flag, Options, config_flag
from synseg_jax.ranges import check_complete
from synseg_jax.results import versions
from synseg_jax.stages import names
from synseg_jax.terminal import plain
from synseg_jax.training import memory
from synseg_jax.training.system import System, configure

CLASSES = 7  # of SynSeg-Net, where no configuration says
FIELDS = {  # of a configuration, by the flag that sets them
    'width': ('generator.width', 'segmentor.width', 'discriminator.width'),
    'blocks': ('generator.blocks', 'segmentor.blocks'),
    'batch': ('train.batch',),
    'dtype': ('dtype',),
}
PARTS: dict[str, Callable[[timing.Timing, Options], Iterator[dict[str, float]]]] = {
    'step': lambda runner, options: runner.rounds(options.steps),
    'epoch': lambda runner, options: runner.epoch(options.steps),
    'inference': lambda runner, options: runner.segmenting(runner.batch, options.steps),
    'synthesis': lambda runner, options: runner.synthesizing(runner.batch, options.steps),
    'pipeline': lambda runner, options: runner.delivering(),
    'prepare': lambda runner, options: scan_timing.preparing(runner.system, _scan(options.scan)),
    'predict': lambda runner, options: runner.predicting(_scan(options.scan)),
}
FLAGS = (
    config_flag(),
    Flag('system', 'System of the configuration; default: config.chosen.'),
    Flag('stage', 'Stages of the system, one or more; default: its last.', None, flags.DEFINE_list),
    Flag('images', 'Images of an epoch, for each stage.', [], flags.DEFINE_list),
    Flag('size', 'Length of every side of an image.', None, flags.DEFINE_integer),
    Flag('width', 'Features of the networks at full resolution.', None, flags.DEFINE_integer),
    Flag('blocks', 'Residual blocks.', None, flags.DEFINE_integer),
    Flag('batch', 'Pairs in a batch.', None, flags.DEFINE_integer),
    Flag('dtype', 'Computation in float32 or bfloat16.'),
    Flag('parts', f'What to time: {", ".join(PARTS)}.', ['step', 'inference', 'pipeline'], flags.DEFINE_list),
    Flag('scan', 'Voxels of the scans that are prepared and segmented.', ['512', '512', '100'], flags.DEFINE_list),
    Flag('steps', 'Steps in a round.', 10, flags.DEFINE_integer),
    Flag('rounds', 'Rounds.', 3, flags.DEFINE_integer),
    Flag('peer', 'A PyTorch script to time in turn.'),
    Flag('peer_best', 'The peer at its best: bf16, channels_last, compiled, fused.', False, flags.DEFINE_bool),
    Flag('output', 'JSON file to write.'),
    Flag('memory', 'Only say what a step will hold on a GPU, from shapes alone.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Time the parts of training and prediction; the exit code."""
    return command.run(benchmark, FLAGS, argv)


def benchmark(options: Options) -> None:
    """Print what the flags ask for, and write it to --output."""
    timed = systems(options)
    if options.memory:
        print(json.dumps({stage: _described(one) | {'memory_gib': _remembered(one)} for stage, one in timed.items()}))
        return
    if options.output:
        outputs.check_file(Path(options.output), [path for path in (options.peer, options.config_file) if path])
    wanted = f'one number of images for each stage: {", ".join(timed)}'
    images = _numbers('images', options.images, len(timed), wanted) if 'epoch' in options.parts else (0,) * len(timed)
    found = {}
    for (stage, one), count in zip(timed.items(), images, strict=True):
        found[stage] = measure(one, options, count)
        Console().print(_shown(found[stage]))
    if options.output:
        write_json(options.output, found)
    print(json.dumps(found))


def systems(options: Options) -> dict[str, System]:
    """The stages of a system that the flags name, by name."""
    config = options.config or _synseg()
    check_complete(config)
    with config.unlocked():
        for flag, fields in FIELDS.items():
            for field in fields if getattr(options, flag) is not None else ():
                config.update_from_flattened_dict({field: getattr(options, flag)})
        if options.size:
            config.data.size = (options.size,) * len(config.data.size)
    chosen = known('system', options.system or config.chosen, config.systems)
    stages = names(config, chosen)
    wanted = [known(f'stage of {chosen}', stage, stages) for stage in options.stage or stages[-1:]]
    classes = tuple(config.data.classes) or tuple(map(str, range(CLASSES)))
    return {stage: System(configure(config, chosen, stage), classes) for stage in wanted}


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


def measure(timed: System, options: Options, images: int = 0) -> dict:
    """Everything that the flags ask for of one stage, with so many images in an epoch."""
    if options.peer and not Path(options.peer).is_file():
        raise InputError(f'--peer={options.peer}: no such file')
    if options.peer and not isinstance(timed.networks.get('g_ab'), ResNet):
        raise InputError('--peer does the work of SynSeg-Net; leave out --config, or name one with ResNets')
    parts = {known('part (--parts)', part, PARTS): PARTS[part] for part in options.parts}
    runner, measured = timing.Timing(timed, images), {}
    for part, rounds in parts.items():
        measured |= _spread(
            [one | _peer(timed, part, options) for one in islice(rounds(runner, options), options.rounds)]
        )
    found = {'measured': measured, **_described(timed)}
    return found | (runner.cost() if 'step' in parts else {}) | _derived(measured, runner)


def _derived(measured, runner) -> dict[str, float | None]:
    """What follows from the medians."""
    median = {name: spread['median'] for name, spread in measured.items()}
    found = {}
    if 'step_s' in median:
        seconds, kind = median['step_s'], runner.system.config.dtype
        peak = timing.matrix_peak(kind) * runner.over.size
        found |= {'pairs_per_s': runner.batch / seconds, 'matrix_peak_tflop_per_s': peak / 1e12}
        found['share_of_peak'] = runner.cost()['gflop'] * 1e9 / seconds / peak
        found['peak_memory_gib'] = runner.peak_memory_gib
    if {'step_s', 'pipeline_rows_per_s'} <= median.keys():
        found['pipeline_over_step'] = median['pipeline_rows_per_s'] / found['pairs_per_s']
    for part, images in (('inference', 'images'), ('synthesis', 'synthetic_images')):
        for unit in ('s', 'cpu_s') if f'{part}_s' in median else ():
            found[f'{images}_per_{unit}'] = runner.batch / median[f'{part}_{unit}']
    if 'predict_s' in median:
        found['network_share'] = median['predict_network_s'] / median['predict_s']
    return found


def _scan(lengths) -> tuple[int, ...]:
    """The voxels of a scan along its axes."""
    return _numbers('scan', lengths, 3, 'three lengths in voxels, e.g. 512,512,100')


def _numbers(flag, listed, count, wanted) -> tuple[int, ...]:
    """So many numbers, each at least 1, which a flag lists."""
    try:
        numbers = tuple(int(text) for text in listed)
    except ValueError:
        numbers = ()
    if len(numbers) != count or min(numbers) < 1:
        raise InputError(f'--{flag}={",".join(listed)}: give {wanted}')
    return numbers


def _peer(timed, part, options) -> dict:
    if not options.peer or part not in ('step', 'inference'):
        return {}
    more = [flag for flag, on in (('--infer', part == 'inference'), ('--best', options.peer_best)) if on]
    return {f'peer_{part}_s': peer_seconds(options.peer, timed, options.steps, *more)}


def _spread(rounds) -> dict:
    """{what: median, least and most of the rounds}, and the ratio of ours to the peer's, round by round."""
    for one in rounds:
        for name in [name for name in one if f'peer_{name}' in one]:
            one[f'{name.removesuffix("_s")}_ratio'] = one[name] / one[f'peer_{name}']
    columns = {name: [one[name] for one in rounds] for name in (rounds[0] if rounds else ())}
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
        'parameters': memory.parameters(timed),
        'versions': versions(),
    }


def _shown(found: dict) -> Table:
    """The numbers as a table."""
    size = ' x '.join(map(str, found['size']))
    title = f'{found["method"]}, {size}, width {found["width"]}, batch {found["batch"]}, {found["dtype"]}'
    title += f'\n{found["device"]} x {found["devices"]}, jax {found["versions"]["jax"]}'
    table = Table(title=plain(title, 'table.title'))
    for heading in ('', 'median', 'least', 'most'):
        table.add_column(heading, justify='right' if heading else 'left')
    for name, spread in found['measured'].items():
        table.add_row(plain(name), *(f'{spread[part]:.4g}' for part in ('median', 'least', 'most')))
    table.add_section()
    for name, count in found['parameters'].items():
        table.add_row(plain(f'parameters of {name}'), f'{count:,}')
    for name, value in found.items():
        if isinstance(value, float):
            table.add_row(plain(name), f'{value:.4g}')
    return table


def _remembered(timed) -> dict:
    """What a step will hold, GiB on each GPU."""
    guess = memory.estimate(timed, 'gpu')
    parts = {'state': guess.state, 'gradients': guess.gradients, 'players in turn': guess.peak}
    parts |= {'players at once': guess.at_once, **{f'kept for {name}': of for name, of in guess.kept.items()}}
    return {name: round(of / memory.GIB, 3) for name, of in parts.items()}


if __name__ == '__main__':
    command.start(main)
