"""Stages that write a set: all records of another set translated to the other domain, or there and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from synseg_jax.imaging.slices import resize, with_mask
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.trained_model import Trained
from synseg_jax.preparation.records import Manifest
from synseg_jax.reports.modality_names import modalities
from synseg_jax.runs import made_set
from synseg_jax.runs.stages import Job, Outcome


def run(job: Job) -> Outcome:
    """Translate the set that a stage reads and write the records as a set named after the stage.

    A synthesized set is of the other domain, a reconstructed one of the same domain.  Cases keep their names, subjects,
    labels and splits.
    """
    stage = job.stage
    domain = 'a' if stage.config.sets.a or not stage.config.sets.b else 'b'
    read = made_set.scans_to_change(stage, domain)
    trained = Trained(Run.load(job.before(stage.config.generators_from)))
    maker = Maker(trained, domain, stage.config.kind == 'reconstruct', read[0].manifest)
    return Outcome(made=made_set.write_set(job, read, maker))


@dataclass(frozen=True)
class Maker(made_set.Maker):
    """Translates the records of one domain."""

    trained: Trained
    domain: str  # domain of the input
    back: bool  # whether to translate there and back
    source: Manifest

    @property
    def other(self) -> str:
        return {'a': 'b', 'b': 'a'}[self.domain]

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the records."""
        return self.trained.networks.system.shown or self.source.size

    @property
    def context(self) -> tuple[int, float]:
        """Neighbouring slices that the generators see, and their distance."""
        return self.trained.config.context.slices, self.trained.config.context.spacing_mm

    def entry(self, name: str) -> dict:
        """Manifest entry of the set made from set `name`."""
        domain = self.domain if self.back else self.other
        source = self.source.sets[name]
        named = self.trained.run.named(domain)
        made = {'domain': domain, 'channel': named[0], 'labels': source['labels']}
        made |= {'channels': list(named)} if len(named) > 1 else {}
        made |= {'phantom': source['phantom']} if 'phantom' in source else {}
        return made | {'of': name, 'by': self.trained.run.folder.name, 'from': self.domain, 'roles': {}}

    def case(self, case: Mapping) -> dict:
        """Manifest entry of a case, with the intensities that [0, 1] stands for if they change."""
        if self.back:
            return dict(case)
        first, *others = ([window.low, window.high] for window in self.trained.run.ranges(self.other))
        kept = {name: value for name, value in case.items() if name != 'others'}
        return {**kept, 'low': first[0], 'high': first[1], **({'others': others} if others else {})}

    def make(
        self, records: Sequence[Mapping]
    ) -> tuple[Float[np.ndarray, 'n *space c'], Integer[np.ndarray, 'n *space'] | None, dict]:
        """Translated images, their labels, and images of the middle slice before and after."""
        images = resize(np.stack([record['image'] for record in records]), self.trained.networks.system.shown)
        labels = None
        if 'label' in records[0]:
            labels = resize(np.stack([record['label'] for record in records]), self.trained.networks.system.shown)
        seen = images if not self.trained.config.label_channel else with_mask(images, labels)
        made = self.trained.networks.translate(seen, self.domain)
        if self.back:
            made = self.trained.networks.translate(made, self.other)
        system = self.trained.networks.system
        made = np.clip(made[..., system.own_channels(self.domain if self.back else self.other)], 0, 1)
        own, other = (modalities(self.trained.run.channels)[domain] for domain in (self.domain, self.other))
        middle, name = len(records) // 2, f'{own} again' if self.back else f'synthetic {other}'
        seen = images[middle, ..., system.own_channels(self.domain).start]
        row = {f'real {own}': seen, name: made[middle, ..., 0]}
        if labels is not None:
            row[f'{own} labels'] = (made[middle, ..., 0], labels[middle])
        return made, labels, row
