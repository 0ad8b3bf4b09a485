"""What can be known to be wrong with the systems of a configuration before anything is read or written."""

from synseg_jax.devices import parallel
from synseg_jax.errors import InputError, known
from synseg_jax.objective import names
from synseg_jax.runs import judge
from synseg_jax.specification.experiment import Experiment
from synseg_jax.training.system import KIND, System


def check(config: Experiment) -> tuple[str, ...]:
    """The systems to run; InputError for what can be known to be wrong before anything is read or written."""
    known('system (config.default_system)', config.default_system, config.systems)
    wanted = tuple(config.run or config.systems)
    for name in wanted:
        known('system (config.run)', name, config.systems)
        for stage, own in config.stages(name).items():
            if own.evaluate_stage:
                known(f'stage (evaluate_stage of {name})', own.evaluate_stage, config.stages(name))
            try:
                _check_stage(own)
                _check_needs(own, config.stages(name))
                if own.judge_from:
                    judge.check(own, config.stages(name)[own.judge_from])
            except InputError as error:
                raise InputError(f'system {name}, stage {stage}: {error}') from error
    return wanted


def _check_needs(stage, others) -> None:
    """InputError unless the earlier stage that a stage cannot run without is named, and trains such networks."""
    kind = stage.kind_of_stage
    if not kind.needs:
        return
    other = others[known(f'stage ({kind.needs})', getattr(stage, kind.needs), others)]
    trained = System(other, ('background', 'organ')).networks if other.kind_of_stage.trains else ()
    if kind.player not in map(names.player, trained):
        raise InputError(f'{kind.needs} {getattr(stage, kind.needs)} trains no {KIND[kind.player]}; name another')


def _check_stage(stage) -> None:
    """InputError for networks, losses or batches that cannot be."""
    system = System(stage, ('background', 'organ'))
    if stage.kind == 'atlases' and max(stage.data.channels) > 1:
        raise InputError(f'atlases compare one channel, and data.channels is {stage.data.channels}; set it to (1, 1)')
    parallel.rows_per_device(stage.train.batch, parallel.mesh(stage.train.devices))
    _ = system.networks, system.optimizers, system.losses
    if stage.train.decay_steps > stage.train.steps > 0:
        raise InputError('train.decay_steps is larger than train.steps; lower it')
    count, keep = stage.predict.checkpoints, stage.train.keep
    if stage.kind_of_stage.trains and count > keep and not stage.oracle:
        raise InputError(f'predict.checkpoints={count}: train.keep={keep} keeps fewer; raise train.keep to {count}')
