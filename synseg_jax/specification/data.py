"""What a stage reads, and how scans become its records."""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

from synseg_jax.specification.field import COUNT, Range, Rule, field

RISING_HU = Rule(lambda hu: -math.inf < hu[0] < hu[1] < math.inf, 'two rising numbers in HU')
RISING_PERCENT = Rule(lambda p: 0 <= p[0] < p[1] <= 100, 'two rising numbers between 0 and 100')
SIZE = Rule(
    lambda size: len(size) in (2, 3) and all(1 <= n <= 2**14 for n in size), '2 or 3 whole numbers from 1 to 16384'
)
SPACING = Rule(lambda mm: mm == 0 or 0.01 <= mm <= 1000, 'a number of mm from 0.01 to 1000, or 0')
SHARES = Rule(lambda shares: min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6, 'train, val and test, summing to 1')
ANY_SHARE = Rule(lambda share: 0 <= share <= 1, 'a share between 0 and 1')
CENTRAL_SHARE = Rule(lambda share: 0.001 <= share <= 1, 'a share from 0.001 to 1')
MARGIN = Rule(lambda slices: slices >= -1, 'slices, or -1 for all')

record = partial(field, affects='records', compiled=True)
image = partial(record, image=True)


@dataclass(frozen=True)
class Sets:
    """Sets by name, `made:714` for so many of its slices, `made:35%` for a share; empty: every set of the domain."""

    a: tuple[str, ...] = field((), 'of the source', affects='records')
    b: tuple[str, ...] = field((), 'of the target', affects='records')

    def of(self, domain: str) -> tuple[str, ...]:
        """The sets of a domain, a or b."""
        return {'a': self.a, 'b': self.b}[domain]


@dataclass(frozen=True)
class Fold:
    """The labelled subjects of a set, dealt into parts, each tested by a system trained on the others."""

    set: str = field('', 'whose subjects are dealt', affects='records')
    of: int = field(0, 'parts; 0: no cross validation', COUNT, 'records')
    strata: str = field('', "group 1 of this expression on a case's name is dealt evenly", affects='records')


@dataclass(frozen=True)
class Context:
    """Neighbouring slices as channels."""

    slices: int = field(0, 'on each side', Range(high=64, whole=True))
    spacing_mm: float = field(0.0, 'distance of these; 0: the next slices', SPACING)


@dataclass(frozen=True)
class Data:
    """What `prepare` does to every scan."""

    size: tuple[int, ...] = image(
        (256, 256), 'rows, columns of a slice; or slices, rows, columns of whole volumes', SIZE
    )
    spacing_mm: float = image(
        0.0, 'of voxels, size being cut about the labels or the body; 0: slices are resized', SPACING
    )
    slice_axis: str = image('axial', 'how scans are sliced', ('axial', 'coronal', 'sagittal'))
    cut_about: str = record(
        'labels', "slices at a spacing are cut about all labels; 'lesion': the largest piece", ('labels', 'lesion')
    )
    window_hu: tuple[float, float] = image((-1000.0, 1000.0), 'of channels of CT', RISING_HU)
    percentiles: tuple[float, float] = image((2.5, 97.5), 'of every other channel', RISING_PERCENT)
    foreground_share: float = record(0.02, 'slices with a smaller share of pixels above .1 are left out', ANY_SHARE)
    source_margin: int = record(-1, 'labelled source slices kept: those so near one with an organ; -1: all', MARGIN)
    target_margin: int = record(-1, 'the same of target slices, where target_labels lets their labels be read', MARGIN)
    target_center: float = image(1.0, "central share of the target's rows and columns that is kept", CENTRAL_SHARE)
    classes: tuple[str, ...] = record((), "names, background first; empty: those of the source's dataset.json")
    subject: str = record('(.+)', "group 1 of this expression on a case's name is its patient")
    source_split: tuple[float, float, float] = record(
        (0.8, 0.2, 0.0), 'shares of patients: train, validation, test', SHARES
    )
    target_split: tuple[float, float, float] = record((0.8, 0.0, 0.2), 'the same of the target', SHARES)
    target_labels: bool = record(False, 'let target labels into the records: only for rows that train on them')
    same_patients: tuple[str, ...] = record((), 'sets that may show patients of another role again, later')
    seed: int = record(0, 'of the split, the folds and the parts of sets', Range(high=2**32 - 1, whole=True))


# What decides how a scan becomes the images that a network was trained on; the records know it.
IMAGE_FIELDS = tuple(one.name for one in dataclasses.fields(Data) if one.metadata.get('image'))
