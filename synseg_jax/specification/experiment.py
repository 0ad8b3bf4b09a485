"""A whole configuration: its systems, each a list of stages, and what they share."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synseg_jax.errors import InputError, known
from synseg_jax.specification.field import COUNT, POSITIVE_COUNT, FrozenMapping, Range, field, group
from synseg_jax.specification.stage import Stage
from synseg_jax.specification.table import Table


@dataclass(frozen=True)
class PhantomSet:
    """A set of phantom scans: `subjects` people, each scanned once, or in each of `weeks`."""

    modality: str = field('MR', 'how they are scanned', ('MR', 'CT'), 'records')
    domain: str = field('a', 'the source a, or the target b', ('a', 'b'), 'records')
    subjects: int = field(32, 'how many people', POSITIVE_COUNT, 'records')
    first: int = field(0, 'number of the first: sets of a modality that overlap share people', COUNT, 'records')
    role: str = field('', 'empty: split as data.*_split say', ('', 'train', 'val', 'test'), 'records')
    labelled: bool = field(True, 'whether labels are written', affects='records')
    plane: str = field('axial', 'acquisition', ('axial', 'coronal', 'sagittal'), 'records')
    weeks: tuple[int, ...] = field((), 'at which everybody is scanned; empty: once', COUNT, 'records')
    cohort: str = field('', "other people than the region's usual ones", affects='records')


@dataclass(frozen=True)
class Phantom:
    """The embedded phantom, where no data is given."""

    region: str = field('abdomen', 'of the body', affects='records')
    seed: int = field(0, 'of its people', Range(high=2**32 - 1, whole=True), 'records')
    sets: Mapping[str, PhantomSet] = field(FrozenMapping(), 'the sets to draw, by name', affects='records')


@dataclass(frozen=True)
class Experiment(Stage):
    """A parsed configuration; the fields of a stage are those that systems and stages begin with."""

    data_dir: str = field('', 'the folder that synseg_jax.prepare wrote; empty: the phantom', affects='display')
    run: tuple[str, ...] = field((), 'the systems that main trains and evaluates; empty: all', affects='display')
    default_system: str = field(
        'synseg', 'the system that predict and synthesize use unless told otherwise', affects='display'
    )
    phantom: Phantom = group(Phantom, 'the embedded phantom')
    table: Table = group(Table, 'what compare shows')
    systems: Mapping[str, Mapping[str, Stage]] = dataclasses.field(default_factory=FrozenMapping)  # stages, resolved
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)  # the configuration as read

    def stages(self, system: str) -> Mapping[str, Stage]:
        """The stages of a system by name, each after those it depends on; InputError for an unknown system."""
        return self.systems[known('system', system, self.systems)]

    def stage(self, system: str, name: str = '') -> Stage:
        """One stage of a system, its only one unless named; InputError for an unknown or ambiguous one."""
        stages = self.stages(system)
        if not name and len(stages) > 1:
            raise InputError(f'system {system} has the stages {", ".join(stages)}; name one')
        return stages[known(f'stage of system {system}', name, stages)] if name else next(iter(stages.values()))
