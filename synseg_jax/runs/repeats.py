"""The same systems trained from several seeds: weights and order of the data change, subjects do not."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from synseg_jax.runs import stages
from synseg_jax.specification.resolve import configure

_SEED = re.compile(r'(systems\.[^.]+\.)?(stages\.[^.]+\.)?seed')  # not data.seed, nor phantom.seed


class Repeat(NamedTuple):
    """One of several trainings of a configuration: its seed, its fields, and the workdir that it has to itself."""

    seed: int
    config: ConfigDict
    workdir: Path
    changed: Mapping[str, int]  # {field: seed}; empty for the first

    def trains(self, system: str) -> bool:
        """Whether a system comes out otherwise than in the first repeat; one that trains nothing does not."""
        stage = (configure(self.config, system, name) for name in stages.names(self.config, system))
        return not self.changed or any(own.do == 'train' for own in stage)


def repeats(config: ConfigDict, workdir: Path, seeds: int) -> list[Repeat]:
    """The configuration in `workdir` and, in `workdir/seed1` and so on, with every seed in it raised by 1, 2, ..."""
    return [Repeat(config.seed, config, workdir, {}), *(_repeat(config, workdir, n) for n in range(1, seeds))]


def _repeat(config, workdir, number) -> Repeat:
    fields = stages.flat(config.to_dict())
    changed = {field: value + number for field, value in fields.items() if _SEED.fullmatch(field)}
    own = config.copy_and_resolve_references()
    own.update_from_flattened_dict(changed)
    return Repeat(own.seed, own, workdir / f'seed{own.seed}', changed)
