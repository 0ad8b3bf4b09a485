"""The same systems trained from several seeds: weights and order of the data change, subjects do not."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed
from synseg_jax.specification.resolve import flat

_SEED = re.compile(r'(systems\.[^.]+\.)?(stages\.[^.]+\.)?seed')  # not data.seed, nor phantom.seed


class Repeat(NamedTuple):
    """One of several trainings of a configuration: its seed, its fields, and the workdir that it has to itself."""

    seed: int
    config: Experiment
    workdir: Path
    changed: Mapping[str, int]  # {field: seed}; empty for the first

    def trains(self, system: str) -> bool:
        """Whether a system comes out otherwise than in the first repeat; one that trains nothing does not."""
        return not self.changed or any(stage.kind_of_stage.trains for stage in self.config.stages(system).values())


def repeats(config: Experiment, workdir: Path, seeds: int) -> list[Repeat]:
    """The configuration in `workdir` and, in `workdir/seed1` and so on, with every seed in it raised by 1, 2, ..."""
    return [Repeat(config.seed, config, workdir, {}), *(_repeat(config, workdir, n) for n in range(1, seeds))]


def _repeat(config, workdir, number) -> Repeat:
    seeds = {field: value + number for field, value in flat(config.given).items() if _SEED.fullmatch(field)}
    own = changed(config, seeds)
    return Repeat(own.seed, own, workdir / f'seed{own.seed}', seeds)
