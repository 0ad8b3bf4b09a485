"""The judge of translations: the segmentor of an earlier stage, held fixed."""

from collections.abc import Mapping
from pathlib import Path

import jax
from jaxtyping import PyTree

from synseg_jax.errors import InputError
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.trained_model import Trained
from synseg_jax.objective import names
from synseg_jax.objective.losses import ONE_LOGIT
from synseg_jax.objective.terms import TERMS
from synseg_jax.specification.data import IMAGE_FIELDS
from synseg_jax.specification.parse import mapping
from synseg_jax.specification.resolve import flat
from synseg_jax.specification.stage import Stage
from synseg_jax.training.system import System

# Fields of images and labels.
SEEN = *(f'data.{n}' for n in (*IMAGE_FIELDS, 'classes')), 'context.slices', 'context.spacing_mm', 'label_channel'


def check(stage: Stage, other: Stage) -> None:
    """InputError unless `other` trains a segmentor, and just one, for images and labels such as those of a stage."""
    own = System(other, ('background', 'organ')).method.networks(TERMS) if other.kind_of_stage.trains else {}
    segmentors = own.get('seg', ())
    if len(segmentors) != 1:
        found = f'several, {", ".join(segmentors)}' if segmentors else 'none'
        raise InputError(f'judge_from {stage.judge_from}: give a stage that trains one segmentor, not {found}')
    one_logit = {one.loss.segmentation in ONE_LOGIT for one in (stage, other)}
    was, now = flat(mapping(other)), flat(mapping(stage))
    for name in (*SEEN, *(['loss.segmentation'] if len(one_logit) > 1 else [])):
        if was[name] != now[name]:
            raise InputError(
                f'judge_from {stage.judge_from}: its segmentor has {name}={was[name]!r}, this stage {now[name]!r}; '
                'use the same value in both'
            )


def weights(system: System, stage: Stage, folder: Path, like: PyTree) -> Mapping[str, PyTree]:
    """{judge: the weights of the segmentor in a stage's folder}, of the types of `like`; InputError unless it fits."""
    run = Run.load(folder)
    check(stage, run.config)
    if run.classes != system.classes:
        raise InputError(
            f'judge_from {stage.judge_from}: its segmentor has the classes {", ".join(run.classes)}, '
            f'this stage {", ".join(system.classes)}; use the same in both'
        )
    trained = Trained(run).networks
    given = trained.params[trained.system.segmentor('a')]
    return {names.JUDGE: jax.tree.map(lambda x, wanted: x.astype(wanted.dtype), given, like)}
