"""Benchmark training, inference, preparation and prediction on random images, optionally against PyTorch.

Usage:
    python -m synseg_jax.benchmark --size=256 --width=64 --batch=16 --dtype=bfloat16
    python -m synseg_jax.benchmark --size=64 --width=16 --batch=4 --peer=synseg_jax/benchmarks/torch_peer.py
    python -m synseg_jax.benchmark --config=configs/quickstart.py --parts=prepare,predict --scan=512,512,200
    python -m synseg_jax.benchmark --config=configs/essnet_liver.py:records/liver --stage=translate,segment \\
        --parts=epoch,inference,synthesis --images=350,1064 --output=cost.json

SynSeg-Net unless --architecture=unet.  Prints {stage: results} as JSON; `*cpu_s` are CPU seconds over all cores.
--peer takes flags as benchmarks/torch_peer.py and prints {"seconds_per_step": S}.  It alternates with ours for
--rounds, so that a machine's drift affects both; the ratio is the median over rounds.
"""

from synseg_jax.cli import command

if __name__ == '__main__':
    command.with_large_pages()  # before the imports that take seconds

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from synseg_jax.benchmarks.measurement import PART_HELP, described, measure, memory_table, numbers, table
from synseg_jax.benchmarks.selection import systems
from synseg_jax.cli.options import Flag, Options, config_flag
from synseg_jax.files import write_json
from synseg_jax.formats import outputs

FLAGS = (
    config_flag(),
    Flag('system', 'System of the configuration; default: config.default_system.'),
    Flag('stage', 'Stages of the system, one or more; default: its last.', None, flags.DEFINE_list),
    Flag('images', 'Images of an epoch, for each stage.', [], flags.DEFINE_list),
    Flag('architecture', "'unet': train a U-Net on labels alone instead of SynSeg-Net; without --config."),
    Flag('size', 'Side length of the images, in pixels or voxels.', None, flags.DEFINE_integer),
    Flag('width', 'Channels of the networks at full resolution.', None, flags.DEFINE_integer),
    Flag('blocks', 'Number of residual blocks.', None, flags.DEFINE_integer),
    Flag('batch', 'Batch size per domain.', None, flags.DEFINE_integer),
    Flag('dtype', 'Computation in float32 or bfloat16.'),
    Flag('parts', f'What to time. {PART_HELP}', ['step', 'inference', 'pipeline'], flags.DEFINE_list),
    Flag('scan', 'Shape of the scans for prepare and predict.', ['512', '512', '100'], flags.DEFINE_list),
    Flag('steps', 'Steps per round.', 10, flags.DEFINE_integer),
    Flag('rounds', 'Number of rounds.', 3, flags.DEFINE_integer),
    Flag('peer', 'PyTorch script to alternate with.'),
    Flag('peer_best', 'The peer with bf16, channels_last, torch.compile and fused Adam.', False, flags.DEFINE_bool),
    Flag('output', 'JSON file to write.'),
    Flag('memory', 'Only estimate the GPU memory of a step from shapes, without a GPU.', False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Benchmark training and prediction; returns the exit code."""
    return command.run(benchmark, FLAGS, argv)


def benchmark(options: Options) -> None:
    """Benchmark the parts that the flags select, print the results, and write them to --output."""
    timed = systems(options)
    if options.memory:
        print(json.dumps({name: described(one) | {'memory_gib': memory_table(one)} for name, one in timed.items()}))
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


if __name__ == '__main__':
    command.start(main)
