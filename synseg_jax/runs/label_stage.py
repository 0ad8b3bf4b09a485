"""The stage kind `label`: target scans with pseudo labels predicted by the segmentor of an earlier stage.

Training on them is self-training (Lee, 2013; Zou et al., ECCV 2018).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16

from synseg_jax.errors import InputError
from synseg_jax.imaging import tissue
from synseg_jax.imaging.slices import resize, resize_linear
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.postprocess import largest_components
from synseg_jax.inference.trained_model import Trained
from synseg_jax.inference.views import mean_over, views
from synseg_jax.preparation.records import Manifest
from synseg_jax.reports.modality_names import modalities
from synseg_jax.runs import made_set
from synseg_jax.runs.stages import Job, Outcome
from synseg_jax.specification.data import IMAGE_FIELDS
from synseg_jax.specification.stage import Stage

UNLABELLED = -1
PIXEL_MM = 2.0  # taken for that of records whose slices were resized, whatever their pixels
VIEWS = 10.0, 1.1, 1.3  # degrees, zoom and gamma of views


def run(job: Job) -> Outcome:
    """Write the training scans of domain b that the stage reads with pseudo labels; their true labels are not read."""
    stage = job.stage
    read = made_set.scans_to_change(stage, 'b')
    trained = _segmentor(stage, Run.load(job.before(stage.config.segmentor_from)), read[0].manifest)
    maker = Labeller(trained, read[0].manifest, stage.config)
    return Outcome(made=made_set.write_set(job, read, maker))


def _segmentor(stage, run, source) -> Trained:
    """The earlier stage with its best weights; InputError unless it was trained on records with the same settings."""
    named = f'stage {stage.name}: segmentor_from {stage.config.segmentor_from}'
    for field in (field for field in IMAGE_FIELDS if field != 'size'):  # other sizes are resized, or segmented in tiles
        was, now = getattr(run.config.data, field), getattr(source, field)
        if was != now:
            raise InputError(
                f'{named} was trained on records with data.{field}={was!r}, not {now!r}; use the same value in both'
            )
    return Trained(run)


@dataclass(frozen=True)
class Labeller(made_set.Maker):
    """Predicts labels of the records of domain b."""

    trained: Trained
    source: Manifest
    filters: Stage  # its fields that begin with label_
    domain = 'b'
    labels_all = True

    @property
    def size(self) -> tuple[int, ...]:
        return self.source.size

    @property
    def context(self) -> tuple[int, float]:
        return self.trained.config.context.slices, self.trained.config.context.spacing_mm

    @property
    def own(self) -> slice:
        """The channels of the slice itself."""
        return self.trained.networks.system.own_channels(self.domain)

    def entry(self, name: str) -> dict:
        """Manifest entry of the set `name` with pseudo labels."""
        labels = {organ: value for value, organ in enumerate(self.source.classes)}
        source = self.source.sets[name]
        made = {field: source[field] for field in ('domain', 'channel', 'channels') if field in source}
        made['labels'] = labels
        return made | {'of': name, 'by': self.trained.run.folder.name, 'pseudo': True, 'roles': {}}

    def case(self, case: Mapping) -> dict:
        """Manifest entry without label file: pseudo labels are no reference, and true ones must not be read."""
        return {**case, 'label': None}

    def make(
        self, records: Sequence[Mapping]
    ) -> tuple[Float[np.ndarray, 'n *space c'], Int16[np.ndarray, 'n *space'], dict]:
        """(unchanged images, predicted labels, {title: picture of the middle slice or volume})."""
        seen = np.stack([record['image'] for record in records])
        images = seen[..., self.own]  # without neighbouring slices
        labels = self.labels(seen)
        middle = len(records) // 2
        shown = images[middle, ..., 0]
        channels = {entry['domain']: entry['channel'] for entry in self.source.sets.values()}
        real = f'real {modalities(channels)[self.domain]}'
        return images, labels, {real: shown, 'pseudo labels': (shown, labels[middle])}

    def labels(self, images: Float[np.ndarray, 'n *space c']) -> Int16[np.ndarray, 'n *space']:
        """The most probable class of every pixel of a scan, or -1 where it is not certain enough."""
        networks, size = self.trained.networks, images.shape[1:-1]
        others = views(*VIEWS) if self.filters.label_views else ()
        probabilities = mean_over(others, self._network, resize(images, networks.system.shown))
        probabilities = resize_linear(probabilities, size) if networks.system.shown else probabilities
        labels, certainty = probabilities.argmax(-1), probabilities.max(-1)
        organs = self.filters.label_darkest, self.filters.label_brightest
        if organs != (0, 1):
            pixel_mm = (self.source.spacing_mm or PIXEL_MM,) * len(size)
            labels[tissue.beyond(images[..., self.own.start], pixel_mm, *organs)] = 0
        if self.filters.label_components:
            several = {i for i, name in enumerate(self.source.classes) if name in self.filters.lesions}
            labels = largest_components(labels, several)
        sure = (certainty >= self.filters.label_confidence) & _most_certain(labels, certainty, self.filters.label_share)
        return np.where(sure, labels, UNLABELLED).astype(np.int16)

    def _network(self, images):
        return self.trained.networks.probabilities(images, self.domain)


def _most_certain(labels, certainty, share) -> np.ndarray:
    """Mask of the most certain `share` of the pixels of each class (class-balanced: Zou et al., ECCV 2018)."""
    kept = np.ones(labels.shape, bool)
    for label in np.unique(labels) if share < 1 else ():
        inside = labels == label
        kept &= ~inside | (certainty >= np.quantile(certainty[inside], 1 - share))
    return kept
