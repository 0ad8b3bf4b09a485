"""Base of all configurations: SynSeg-Net with the loss weights, learning rates, length and networks of its paper.

Fields are declared, with defaults and meaning, in synseg_jax/specification and listed in docs/configuration.md.

Differences from the paper (Huo et al., IEEE TMI 2019): the adversarial loss is least squares, as in the published code,
where the paper prints a log-likelihood; all classes have weight 1, where the paper uses weights that it does not print;
test scans are not used in training.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from synseg_jax.objective.names import PLAYERS
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.parse import defaults


def get_config(data: str = '') -> ConfigDict:
    """The defaults; `data` is a folder written by `synseg_jax.prepare`, or empty for the embedded phantom."""
    c = defaults()
    c.data_dir = data
    c.systems = ConfigDict({'synseg': {}})  # name -> fields that differ from the configuration's
    c.stages = ConfigDict({'train': {}})  # stages of systems that list none: name -> fields that differ
    # Any term can be given a weight; None: the weight in the method's table.
    c.loss_weights = ConfigDict({player: {term: placeholder(object) for term in sorted(TERMS)} for player in PLAYERS})
    c.phantom.sets.source = phantom_set('MR', 'a')
    c.phantom.sets.target = phantom_set('CT', 'b')
    if not data:
        demonstrate(c)
    return c


def phantom_set(
    modality: str,
    domain: str,
    subjects: int = 32,
    first: int = 0,
    role: str = '',
    labelled: bool = True,
    plane: str = 'axial',
    weeks: tuple[int, ...] = (),
    cohort: str = '',
) -> ConfigDict:
    """A set of phantom scans, one per subject and week; see PhantomSet in synseg_jax/specification/experiment.py."""
    return ConfigDict({'modality': modality, 'domain': domain, 'subjects': subjects, 'first': first, 'role': role,
                       'labelled': labelled, 'plane': plane, 'weeks': weeks, 'cohort': cohort})  # fmt: skip


def demonstrate(c: ConfigDict) -> None:
    """Reduce networks, images and training to a size that 2 CPU cores train on the phantom in minutes."""
    c.generator.width = c.segmentor.width = c.discriminator.width = 16
    c.generator.blocks = c.segmentor.blocks = 6
    c.rate.generator = c.rate.segmentor = c.rate.discriminator = 4e-4
    c.data.size = (64, 64)
    c.data.window_hu = (-200.0, 300.0)
    c.augment.shift, c.augment.rotate, c.augment.scale = 0.1, 8.0, 0.1
    c.average = 0.99
    c.train.batch = 4
    c.train.steps, c.train.decay_steps = 1900, 950
    c.train.save_every = 475
    c.train.balanced = True
    c.predict.resample = 'linear'


def compare(c: ConfigDict) -> None:
    """Define the systems synseg and source_only, the same segmentor trained on the source without adaptation."""
    c.systems = ConfigDict({'synseg': {}, 'source_only': {'method': 'supervised'}})
    if not c.data_dir:
        # In such a short training generator and segmentor agree on edges that are shifted by a pixel.  An identity
        # loss, which the paper does not have, prevents it.
        c.systems.synseg = ConfigDict({'loss_weights': {'gen': {'idt_b': 2.0}}})
        c.systems.source_only.train = ConfigDict({'steps': 800, 'decay_steps': 400})
