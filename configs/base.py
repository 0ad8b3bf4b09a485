"""SynSeg-Net on any two modalities, with the weights, rates, length and networks of its paper (Huo et al., 2019).

Every configuration begins with this one.  Its fields are declared, with their defaults and meaning, in
synseg_jax/specification; docs/configuration.md lists them.

Not as in the paper (IEEE TMI 2019): the adversarial loss is the least squares of the published code, where a
log-likelihood is printed; classes weigh the same, where the paper weighs them by numbers that it does not print; scans
that are tested are not trained on.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from synseg_jax.objective.names import PLAYERS
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.parse import defaults


def get_config(data: str = '') -> ConfigDict:
    """The defaults; `data` is the folder that `synseg_jax.prepare` wrote, empty for the embedded phantom."""
    c = defaults()
    c.data_dir = data
    c.systems = ConfigDict({'synseg': {}})  # name -> the fields in which it differs from all others
    c.stages = ConfigDict({'train': {}})  # of a system that lists none: name -> the fields in which it differs
    # Any term may have a weight of its own; None: that of the method's table.
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
    """A set of phantom scans, of everybody in each week; without a role they are split as data.*_split say.

    `cohort` names other people than the region's usual ones.
    """
    return ConfigDict({'modality': modality, 'domain': domain, 'subjects': subjects, 'first': first, 'role': role,
                       'labelled': labelled, 'plane': plane, 'weeks': weeks, 'cohort': cohort})  # fmt: skip


def demonstrate(c: ConfigDict) -> None:
    """Shrinks networks, images and training to what 2 CPU cores learn from the phantom in minutes."""
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
    """Lets a configuration train SynSeg-Net and, beside it, the same segmentor on the source alone."""
    c.systems = ConfigDict({'synseg': {}, 'source_only': {'method': 'supervised'}})
    if not c.data_dir:
        # In so short a training generator and segmentor would agree on edges that lie a pixel off: an identity loss,
        # which the paper does not have, holds them in place.
        c.systems.synseg = ConfigDict({'loss_weights': {'gen': {'idt_b': 2.0}}})
        c.systems.source_only.train = ConfigDict({'steps': 800, 'decay_steps': 400})
