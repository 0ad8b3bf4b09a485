"""Benchmark training, inference, preparation and prediction on random images, optionally against PyTorch.

Usage:
    python -m synseg_jax.benchmark --size=256 --width=64 --batch=16 --dtype=bfloat16
    python -m synseg_jax.benchmark --config=configs/heart3d.py:records/heart --system=joint_ct_14
    python -m synseg_jax.benchmark --size=64 --width=16 --batch=4 --peer=synseg_jax/benchmarks/torch_peer.py
    python -m synseg_jax.benchmark --config=configs/quickstart.py --parts=prepare,predict --scan=512,512,200
    python -m synseg_jax.benchmark --config=configs/essnet_liver.py:records/liver --stage=translate,segment \\
        --parts=epoch,inference,synthesis --images=350,1064 --output=cost.json

The default configuration is SynSeg-Net.  --parts:

    step       train step on one batch in memory, on batches from records (fed), and on records cached on the devices
               (resident)
    epoch      epoch of --images images, extrapolated from --steps of its steps
    inference  segmentor on a batch
    synthesis  generator of target images on a batch
    pipeline   reading batches from records; `pipeline_over_step` is its throughput over that of the step
    prepare    synseg_jax.prepare of an MR scan with labels and a CT scan of --scan voxels
    predict    synseg_jax.predict of a CT scan of --scan voxels, without start-up

Results named `*cpu_s` are CPU seconds, summed over cores.

--peer is a script that takes --size --ngf --blocks --batch --steps --threads
(and --infer, --best) and prints one JSON line with `seconds_per_step`.  Ours and the peer alternate for --rounds, so
that drifts in the machine's speed affect both; the ratio is the median over rounds.  --memory estimates the GPU memory
of a step from shapes, without a GPU and without compiling.  The JSON is {stage: results}.
"""

from synseg_jax.cli import command

if __name__ == '__main__':
    command.with_large_pages()  # before the imports that take seconds

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.benchmarks.measurement import CLASSES, PARTS, described, measure, memory_table, numbers, table
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.errors import known
from synseg_jax.files import write_json
from synseg_jax.formats import outputs
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed, parse
from synseg_jax.training.system import System

FIELDS = {  # fields of the configuration that a flag sets
    'width': ('generator.width', 'segmentor.width', 'discriminator.width'),
    'blocks': ('generator.blocks', 'segmentor.blocks'),
    'batch': ('train.batch',),
    'dtype': ('dtype',),
}
FLAGS = (
    config_flag(),
    Flag('system', 'System of the configuration; default: config.default_system.'),
    Flag('stage', 'Stages of the system, one or more; default: its last.', None, flags.DEFINE_list),
    Flag('images', 'Images of an epoch, for each stage.', [], flags.DEFINE_list),
    Flag('size', 'Side length of the images, in pixels or voxels.', None, flags.DEFINE_integer),
    Flag('width', 'Channels of the networks at full resolution.', None, flags.DEFINE_integer),
    Flag('blocks', 'Number of residual blocks.', None, flags.DEFINE_integer),
    Flag('batch', 'Batch size per domain.', None, flags.DEFINE_integer),
    Flag('dtype', 'Computation in float32 or bfloat16.'),
    Flag('parts', f'What to time: {", ".join(PARTS)}.', ['step', 'inference', 'pipeline'], flags.DEFINE_list),
    Flag('scan', 'Shape of the scans for prepare and predict.', ['512', '512', '100'], flags.DEFINE_list),
    Flag('steps', 'Steps per round.', 10, flags.DEFINE_integer),
    Flag('rounds', 'Number of rounds.', 3, flags.DEFINE_integer),
    Flag('peer', 'PyTorch script to alternate with.'),
    Flag('peer_best', 'The peer with bf16, channels_last, torch.compile and fused Adam.', False, flags.DEFINE_bool),
    Flag('output', 'JSON file to write.'),
    Flag('memory', 'Only estimate the GPU memory of a step, from shapes.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Benchmark training and prediction; returns the exit code."""
    return command.run(benchmark, FLAGS, argv)


def benchmark(options: Options) -> None:
    """Benchmark the parts that the flags select, print the results, and write them to --output."""
    timed = systems(options)
    if options.memory:
        estimates = {name: described(stage) | {'memory_gib': memory_table(stage)} for name, stage in timed.items()}
        print(json.dumps(estimates))
        return
    if options.output:
        outputs.check_file(Path(options.output), [path for path in (options.peer, options.config_file) if path])
    wanted = f'one number of images for each stage: {", ".join(timed)}'
    images = numbers('images', options.images, len(timed), wanted) if 'epoch' in options.parts else (0,) * len(timed)
    results = {}
    for (name, stage), count in zip(timed.items(), images, strict=True):
        results[name] = measure(stage, options, count)
        Console().print(table(results[name]))
    if options.output:
        write_json(options.output, results)
    print(json.dumps(results))


def systems(options: Options) -> dict[str, System]:
    """{stage: its System} of the stages that the flags select."""
    config = parse(options.config) if options.config else _synseg()
    given = {flag: getattr(options, flag) for flag in FIELDS}
    fields = {field: given[flag] for flag, names in FIELDS.items() for field in names if given[flag] is not None}
    if options.size:
        fields['data.size'] = (options.size,) * len(config.data.size)
    config = changed(config, fields)
    chosen = known('system', options.system or config.default_system, config.systems)
    stages = list(config.stages(chosen))
    wanted = [known(f'stage of {chosen}', stage, stages) for stage in options.stage or stages[-1:]]
    classes = config.data.classes or tuple(map(str, range(CLASSES)))
    return {stage: System(config.stage(chosen, stage), classes) for stage in wanted}


def _synseg() -> Experiment:
    from configs import base

    return changed(parse(base.get_config('records')), {'image_pool': 0})


if __name__ == '__main__':
    command.start(main)
