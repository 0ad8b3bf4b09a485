"""A parsed configuration: systems, each with its stages, and the fields that are not part of a stage."""

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
    """A set of phantom scans of `subjects` subjects, each scanned once, or once in each of `weeks`."""

    modality: str = field('MR', 'simulated modality', ('MR', 'CT'), 'records')
    domain: str = field('a', 'a: source domain; b: target domain', ('a', 'b'), 'records')
    subjects: int = field(32, 'number of subjects', POSITIVE_COUNT, 'records')
    first: int = field(
        0,
        'number of the first subject; sets of one modality whose ranges of numbers overlap share subjects',
        COUNT,
        'records',
    )
    role: str = field(
        '',
        'split that all scans belong to; empty: divided by `data.source_split` or `data.target_split`',
        ('', 'train', 'val', 'test'),
        'records',
    )
    labelled: bool = field(True, 'write labels', affects='records')
    plane: str = field('axial', 'acquisition plane', ('axial', 'coronal', 'sagittal'), 'records')
    weeks: tuple[int, ...] = field((), 'weeks in which every subject is scanned; empty: one scan', COUNT, 'records')
    cohort: str = field(
        '',
        "another population, e.g. 'normal spleen' in the abdomen; empty: the usual one of the region",
        affects='records',
    )


@dataclass(frozen=True)
class Phantom:
    """The embedded phantom, used if no data is given."""

    region: str = field('abdomen', 'body region', affects='records')
    seed: int = field(0, 'random seed of the anatomy', Range(high=2**32 - 1, whole=True), 'records')
    sets: Mapping[str, PhantomSet] = field(FrozenMapping(), 'sets to generate, by name', affects='records')


@dataclass(frozen=True)
class Experiment(Stage):
    """A parsed configuration; its fields of a stage are the defaults of all systems and stages."""

    data_dir: str = field(
        '', 'folder of records written by `synseg_jax.prepare`; empty: the embedded phantom', affects='display'
    )
    run: tuple[str, ...] = field(
        (), 'systems that `synseg_jax.main` trains and evaluates, in this order; empty: all', affects='display'
    )
    default_system: str = field(
        'synseg', 'system that `predict` and `synthesize` use without --system', affects='display'
    )
    phantom: Phantom = group(Phantom, 'the embedded phantom')
    table: Table = group(Table, 'table of results for `compare`')
    systems: Mapping[str, Mapping[str, Stage]] = dataclasses.field(default_factory=FrozenMapping)  # stages, resolved
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)  # the configuration as read

    def stages(self, system: str) -> Mapping[str, Stage]:
        """The stages of a system by name, in order of their dependencies; InputError for an unknown system."""
        return self.systems[known('system', system, self.systems)]

    def stage(self, system: str, name: str = '') -> Stage:
        """A stage of a system; `name` may be empty if there is only one.  InputError if unknown or ambiguous."""
        stages = self.stages(system)
        if not name and len(stages) > 1:
            raise InputError(f'system {system} has several stages: {", ".join(stages)}; name one')
        return stages[known(f'stage of system {system}', name, stages)] if name else next(iter(stages.values()))
