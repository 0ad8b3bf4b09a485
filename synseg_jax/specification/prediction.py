"""Fields of prediction on whole scans: batch, resampling, test-time views, ensembles and post-processing."""

from dataclasses import dataclass

from synseg_jax.specification.field import BELOW_ONE, POSITIVE_COUNT, Range, field
from synseg_jax.specification.training import BATCH


@dataclass(frozen=True)
class Predict:
    """Prediction on whole scans."""

    batch: int = field(8, 'slices or windows predicted at once', BATCH, 'speed')
    resample: str = field('nearest', "resampling to the scan's grid: 'nearest' for labels, 'linear' for probabilities",
                          ('nearest', 'linear'), 'measures')  # fmt: skip
    flips: str = field(
        '',
        "'lr': average the probabilities of the scan and of its left-right mirror image, for networks trained with "
        "augment.flip 'c'",
        ('', 'lr'),
        'measures',
    )
    window: str = field(
        'tiles',
        "volumes larger than the network input: 'tiles': sliding window; 'middle': then once more in one window "
        'centred on the largest foreground component that the sliding window found',
        ('tiles', 'middle'),
        'measures',
    )
    components: str = field('', "'largest': keep only the largest connected component of each class; classes in "
                            '`lesions` keep all', ('', 'largest'), 'measures')  # fmt: skip
    holes: str = field(
        '',
        "background enclosed by a class becomes that class: 'fill': enclosed in 3-D; 'slices': also in an axial slice "
        'alone; other classes inside stay, and classes in `lesions` are not filled',
        ('', 'fill', 'slices'),
        'measures',
        added=True,
    )
    darkest: float = field(
        0.0,
        'target scans: background where the scan, in [0, 1] and smoothed, is darker, since no organ is: with a window '
        'of -125 to 275 HU, 0.3 leaves out air and fat below -5 HU; 0: off',
        BELOW_ONE,
        'measures',
        added=True,
    )
    brightest: float = field(
        1.0,
        'target scans: background where the scan, in [0, 1] and smoothed, is brighter: with that window 0.95 leaves '
        'out bone and contrast medium above 255 HU; 1: off',
        Range(high=1),
        'measures',
        added=True,
    )
    rotate: float = field(
        0.0,
        'test-time views: also average the probabilities of the scan rotated by this many degrees within its slices, '
        'to either side; 0: off',
        Range(high=90),
        'measures',
        added=True,
    )
    zoom: float = field(
        1.0,
        'test-time views: also average the probabilities of the scan enlarged and reduced by this factor about its '
        'centre; 1: off',
        Range(1, 2),
        'measures',
        added=True,
    )
    gamma: float = field(
        1.0,
        'test-time views: also average the probabilities of the intensities in [0, 1] to the power of this number and '
        'of its inverse; 1: off',
        Range(1, 4),
        'measures',
        added=True,
    )
    checkpoints: int = field(
        1,
        'average the probabilities of the last so many checkpoints, which `train.keep` must have kept; 1: the best '
        'checkpoint alone',
        POSITIVE_COUNT,
        'measures',
        added=True,
    )
