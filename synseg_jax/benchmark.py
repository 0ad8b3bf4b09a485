"""Time training, segmenting and handling scans, on random images; beside a PyTorch peer if given.

Usage:
    python -m synseg_jax.benchmark --size=256 --width=64 --batch=16 --dtype=bfloat16
    python -m synseg_jax.benchmark --config=configs/heart3d.py:records/heart --system=joint_ct_14
    python -m synseg_jax.benchmark --size=64 --width=16 --batch=4 --peer=synseg_jax/benchmarks/torch_peer.py
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

from synseg_jax.cli import command

if __name__ == '__main__':
    command.with_large_pages()  # before all that takes seconds to load

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
from synseg_jax.runs.stages import names
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed, parse
from synseg_jax.training.system import System

FIELDS = {  # of a configuration, by the flag that sets them
    'width': ('generator.width', 'segmentor.width', 'discriminator.width'),
    'blocks': ('generator.blocks', 'segmentor.blocks'),
    'batch': ('train.batch',),
    'dtype': ('dtype',),
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
        print(json.dumps({stage: described(one) | {'memory_gib': memory_table(one)} for stage, one in timed.items()}))
        return
    if options.output:
        outputs.check_file(Path(options.output), [path for path in (options.peer, options.config_file) if path])
    wanted = f'one number of images for each stage: {", ".join(timed)}'
    images = numbers('images', options.images, len(timed), wanted) if 'epoch' in options.parts else (0,) * len(timed)
    found = {}
    for (stage, one), count in zip(timed.items(), images, strict=True):
        found[stage] = measure(one, options, count)
        Console().print(table(found[stage]))
    if options.output:
        write_json(options.output, found)
    print(json.dumps(found))


def systems(options: Options) -> dict[str, System]:
    """The stages of a system that the flags name, by name."""
    config = parse(options.config) if options.config else _synseg()
    given = {flag: getattr(options, flag) for flag in FIELDS}
    fields = {field: given[flag] for flag, names in FIELDS.items() for field in names if given[flag] is not None}
    if options.size:
        fields['data.size'] = (options.size,) * len(config.data.size)
    config = changed(config, fields)
    chosen = known('system', options.system or config.chosen, config.systems)
    stages = names(config, chosen)
    wanted = [known(f'stage of {chosen}', stage, stages) for stage in options.stage or stages[-1:]]
    classes = config.data.classes or tuple(map(str, range(CLASSES)))
    return {stage: System(config.stage(chosen, stage), classes) for stage in wanted}


def _synseg() -> Experiment:
    from configs import base

    return changed(parse(base.get_config('records')), {'history': 0})


if __name__ == '__main__':
    command.start(main)
