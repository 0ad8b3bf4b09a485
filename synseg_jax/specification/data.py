"""Fields of the data: the sets that a stage reads, and how scans are prepared as records."""

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from synseg_jax.specification.field import COUNT, Range, Rule, field

RISING_HU = Rule(lambda hu: -math.inf < hu[0] < hu[1] < math.inf, 'two increasing numbers in HU')
RISING_PERCENT = Rule(lambda p: 0 <= p[0] < p[1] <= 100, 'two increasing numbers between 0 and 100')
SIZE = Rule(
    lambda size: len(size) in (2, 3) and all(1 <= n <= 2**14 for n in size), '2 or 3 whole numbers from 1 to 16384'
)
SPACING = Rule(lambda mm: mm == 0 or 0.01 <= mm <= 1000, 'a number of mm from 0.01 to 1000, or 0')
SHARES = Rule(
    lambda shares: min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6, 'shares of train, val and test that sum to 1'
)
ANY_SHARE = Rule(lambda share: 0 <= share <= 1, 'a share between 0 and 1')
CHANNELS = Rule(lambda counts: all(1 <= n <= 10 for n in counts), 'two whole numbers from 1 to 10')
CENTRAL_SHARE = Rule(lambda share: 0.001 <= share <= 1, 'a share from 0.001 to 1')
MARGIN = Rule(lambda slices: slices >= -1, 'a number of slices, or -1 for all')

record = partial(field, affects='records', compiled=True)
image = partial(record, image=True)


@dataclass(frozen=True)
class Sets:
    """Names of sets: `made` for all of a set, `made:714` for that many of its slices, `made:35%` for a share."""

    a: tuple[str, ...] = field(
        (),
        'sets of the source domain to read, also those written by earlier stages; `made:714` takes 714 random slices '
        'of the set `made`, `made:35%` a share; source scans that a stage translated to the target may be named too; '
        'empty: all sets of the domain',
        affects='records',
    )
    b: tuple[str, ...] = field((), 'the same for the target domain', affects='records')

    def of(self, domain: str) -> tuple[str, ...]:
        """The sets of a domain, a or b."""
        return {'a': self.a, 'b': self.b}[domain]


@dataclass(frozen=True)
class Fold:
    """Cross-validation: the labelled subjects of a set in folds, each tested by a system trained on the others."""

    set: str = field(
        '', 'set whose labelled subjects are divided into folds, whatever their train/test split', affects='records'
    )
    of: int = field(0, 'number of folds; 0: no cross-validation', COUNT, 'records')
    strata: str = field(
        '',
        'stratify the folds by group 1 of this regular expression, matched against case names; empty: no strata',
        affects='records',
    )


@dataclass(frozen=True)
class Context:
    """Neighbouring slices as input channels (2.5-D)."""

    slices: int = field(0, 'number of neighbouring slices on each side', Range(high=64, whole=True))
    spacing_mm: float = field(0.0, 'distance in mm between these slices; 0: adjacent slices of the scan', SPACING)


@dataclass(frozen=True)
class Data:
    """How `prepare` converts every scan to records."""

    size: tuple[int, ...] = image(
        (256, 256),
        'size of a record in pixels: (rows, columns) of a slice, or (slices, rows, columns) of a volume',
        SIZE,
    )
    spacing_mm: float = image(
        0.0,
        'pixel or voxel size in mm to resample to, followed by a crop to `size`; 0: slices are resized to `size`, '
        'whatever their pixel size',
        SPACING,
    )
    antialias: bool = image(
        False,
        'smooth images before they are made smaller, by a Gaussian of (f - 1) / 2 pixels where f pixels become one; '
        'structures finer than the new pixels alias otherwise',
        added=True,
    )
    bias_correction: bool = image(
        False,
        'divide scans, but CT, by their bias field, found by N4 (SimpleITK), in training and prediction alike; some '
        'seconds a scan',
        added=True,
    )
    channels: tuple[int, int] = image(
        (1, 1),
        'number of channels of every scan in the source and in the target domain: files CASE_0000, CASE_0001 and so '
        'on, on one grid, which the networks see together',
        CHANNELS,
        added=True,
    )
    slice_axis: str = image('axial', 'orientation of the slices', ('axial', 'coronal', 'sagittal'))
    cut_about: str = record(
        'labels',
        "centre of the crop at a spacing: 'labels': the middle of all labels or, without labels, of the scan; "
        "'lesion': the middle of the largest connected component or, without labels, of one half of the "
        'body, right or left from scan to scan; '
        "'body': the middle of the body, found without labels, in training and prediction alike",
        ('labels', 'lesion', 'body'),
    )
    window_hu: tuple[float, float] = image(
        (-1000.0, 1000.0), 'intensity window of CT channels (CT, CTA, CT_portal) that is mapped to [0, 1]', RISING_HU
    )
    percentiles: tuple[float, float] = image(
        (2.5, 97.5), 'intensity percentiles of a scan of any other modality that are mapped to [0, 1]', RISING_PERCENT
    )
    foreground_share: float = record(
        0.02, 'slices are dropped if a smaller share of their pixels exceeds 0.1, of intensities in [0, 1]', ANY_SHARE
    )
    source_margin: int = record(
        -1, 'keep only slices of labelled source scans that are within this many slices of an organ; -1: all', MARGIN
    )
    target_margin: int = record(
        -1, 'the same for target scans, whose labels are read only with `data.target_labels`; -1: all', MARGIN
    )
    target_center: float = image(
        1.0, 'share of the rows and columns of target slices to keep, about their centre, if they show much more than '
        'source slices', CENTRAL_SHARE)  # fmt: skip
    classes: tuple[str, ...] = record(
        (), "class names in the order of the labels, background first; empty: those of the source's dataset.json"
    )
    subject: str = record(
        '(.+)',
        'regular expression, matched against case names, whose group 1 is the patient; a patient is in one split',
    )
    reverse: bool = record(
        False, 'the other direction of adaptation: the folders of --source and --target change places', added=True
    )
    source_split: tuple[float, float, float] = record(
        (0.8, 0.2, 0.0), 'shares of source patients for training, validation and test', SHARES
    )
    target_split: tuple[float, float, float] = record(
        (0.8, 0.0, 0.2), 'shares of target patients for training, validation and test', SHARES
    )
    target_labels: bool = record(
        False, 'write labels of target training scans to the records; only for systems that train on them'
    )
    same_patients: tuple[str, ...] = record(
        (), 'sets that may contain patients of another split, at a later time; report this with the results'
    )
    seed: int = record(
        0,
        'random seed of the split, the folds and the random parts of sets (`source:35%`)',
        Range(high=2**32 - 1, whole=True),
    )


def channels_in(fields: Any, domain: str) -> int:
    """The number of channels of scans of a domain, by `Data` or by the manifest of records."""
    return fields.channels['ab'.index(domain)]


# The fields that determine the images that networks are trained on; stored with the records.
IMAGE_FIELDS = tuple(one.name for one in dataclasses.fields(Data) if one.metadata.get('image'))
