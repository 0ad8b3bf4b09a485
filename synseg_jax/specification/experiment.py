"""A whole configuration: the fields of every stage, and those of the experiment that stages and systems are part of."""

from collections.abc import Mapping
from dataclasses import dataclass

from synseg_jax.specification.field import COUNT, POSITIVE_COUNT, FrozenMapping, Range, field, group
from synseg_jax.specification.stage import Stage


@dataclass(frozen=True)
class PhantomSet:
    """Phantom scans of so many people, of everybody in each week."""

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
    """Every field of a configuration; systems, and stages of them, change those of a stage."""

    data_dir: str = field('', 'the folder that synseg_jax.prepare wrote; empty: the phantom', affects='display')
    run: tuple[str, ...] = field((), 'the systems that main trains and evaluates; empty: all', affects='display')
    chosen: str = field('synseg', 'the system that predict and synthesize use unless told otherwise', affects='display')
    phantom: Phantom = group(Phantom, 'the embedded phantom')
