"""Repeated training with several seeds, which change weights, order of the data and augmentation, not the split."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import changed
from synseg_jax.specification.resolve import flat

_SEED = re.compile(r'(systems\.[^.]+\.)?(stages\.[^.]+\.)?seed')  # not data.seed, nor phantom.seed


class Repeat(NamedTuple):
    """One of several trainings of a configuration, with its seed, configuration and workdir."""

    seed: int
    config: Experiment
    workdir: Path
    changed: Mapping[str, int]  # {field: seed}; empty for the first seed

    def trains(self, system: str) -> bool:
        """Whether to train a system for this seed: always for the first one, else only if a stage trains networks."""
        return not self.changed or any(stage.kind_of_stage.trains for stage in self.config.stages(system).values())


def repeats(config: Experiment, workdir: Path, seeds: int) -> list[Repeat]:
    """The configuration in `workdir`, and with all its seeds increased by 1, 2, ... in `workdir/seed1` and so on."""
    return [Repeat(config.seed, config, workdir, {}), *(_repeat(config, workdir, n) for n in range(1, seeds))]


def _repeat(config, workdir, number) -> Repeat:
    seeds = {field: value + number for field, value in flat(config.given).items() if _SEED.fullmatch(field)}
    repeated = changed(config, seeds)
    return Repeat(repeated.seed, repeated, workdir / f'seed{repeated.seed}', seeds)
