"""The stages of a configuration to benchmark, with the sizes that flags set."""

from synseg_jax.benchmarks.measurement import CLASSES
from synseg_jax.cli.options import Options
from synseg_jax.errors import InputError, known
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed, parse
from synseg_jax.training.system import System

FIELDS = {  # fields of the configuration that a flag sets
    'width': ('generator.width', 'segmentor.width', 'discriminator.width'),
    'blocks': ('generator.blocks', 'segmentor.blocks'),
    'batch': ('train.batch',),
    'dtype': ('dtype',),
}


def systems(options: Options) -> dict[str, System]:
    """{stage: its System} of the stages that the flags select."""
    if options.config and options.architecture:
        raise InputError('--architecture is for the benchmark without --config; set the fields of the configuration')
    make = DEFAULTS[known('architecture (--architecture)', options.architecture or 'resnet', DEFAULTS)]
    config = parse(options.config) if options.config else make()
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


def _unet() -> Experiment:
    """A U-Net as of nnU-Net's plain one: instance norm, no dropout, trained on labels alone."""
    from configs import base

    config = base.get_config('records')
    config.method, config.image_pool = 'supervised', 0
    config.segmentor = {'architecture': 'unet', 'width': 64, 'levels': 4, 'norm': True, 'extra': 0, 'dropout': 0.0}
    return parse(config)


DEFAULTS = {'resnet': _synseg, 'unet': _unet}  # what is timed without --config, by --architecture
