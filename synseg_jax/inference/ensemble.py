"""Ensembles: the mean of the probabilities of trained stages, such as folds and seeds, or of several checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from synseg_jax.errors import InputError
from synseg_jax.imaging.network_grid import NetworkGrid
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference.trained_model import Segmenter, Trained
from synseg_jax.inference.whole_scan import ScanSegmenter
from synseg_jax.specification.data import IMAGE_FIELDS

HeldOut = frozenset[Path]  # scans that a member's fold did not train on


class Ensemble(ScanSegmenter):
    """Trained networks that see scans on the same grid; the fields of `predict` of the first hold for all.

    On the device are the weights of one member at a time, in memory the mean of the probabilities and those of one
    member; of each member the weights of its segmentors also stay in the memory of the host.
    """

    translates = False

    def __init__(self, members: Sequence[Trained], held_out: Sequence[HeldOut] = ()):
        """`held_out`: of each member, the scans that its fold held out; empty without folds."""
        first = members[0]
        for other in members[1:]:
            _check_alike(first, other)
        self._members = tuple(_prepared(first, member) for member in members)
        self.held_out = tuple(held_out) or (frozenset(),) * len(members)
        self.run, self.config, self.arrays = first.run, first.config, first.arrays

    @property
    def members(self) -> tuple[Trained, ...]:
        return self._members

    @property
    def resample(self) -> str:
        return self.config.predict.resample

    @property
    def organs(self) -> tuple[float, float]:
        return self.config.predict.darkest, self.config.predict.brightest

    def segments(self, domain: str) -> bool:
        """Whether all members segment scans of a domain."""
        return all(member.segments(domain) for member in self.members)

    def with_fields(self, fields: Mapping[str, object]) -> 'Ensemble':
        """The same members with other values of configuration fields."""
        return Ensemble([member.with_fields(fields) for member in self.members], self.held_out)

    def uncut(self) -> 'Ensemble':
        """The same members, for target scans with the field of view of the source."""
        return Ensemble([member.uncut() for member in self.members], self.held_out)

    def for_scan(self, file: Path) -> 'Ensemble':
        """The members whose fold held the scan out of training, if any did; else all."""
        pairs = [pair for pair in zip(self.members, self.held_out, strict=True) if file.resolve() in pair[1]]
        if not pairs:
            return self
        part = Ensemble([member for member, _ in pairs], [files for _, files in pairs])
        part.progress = self.progress
        return part

    def compute(self, scan: Volume, domain: str) -> tuple[NetworkGrid, Float[np.ndarray, 'n *space k']]:
        """The grid of the networks, and the running mean of the members' probabilities on it."""
        frame, mean = None, 0.0
        for count, member in enumerate(self.members, 1):
            with member.on_device():
                frame, probabilities = member.compute(scan, domain)
            mean = probabilities if count == 1 else _updated(mean, probabilities, count)
            self.progress()
        return frame, mean


def ensemble(stages: Sequence[Segmenter], held_out: Sequence[HeldOut] = ()) -> Segmenter:
    """The stages, of each the last checkpoints that its field predict.checkpoints asks for, as one segmenter."""
    if len(stages) > 1 and not all(isinstance(stage, Trained) for stage in stages):
        raise InputError('atlases form no ensemble; give one workdir of them, with --folds=1 if they have folds')
    parts = [checkpoints(stage) for stage in stages]
    if sum(map(len, parts)) == 1:
        return parts[0][0]
    held_out = [files for part, files in zip(parts, held_out, strict=True) for _ in part] if held_out else ()
    return Ensemble([member for part in parts for member in part], held_out)


def checkpoints(stage: Segmenter) -> list[Segmenter]:
    """The last predict.checkpoints checkpoints of a stage, or the stage; InputError if fewer were kept."""
    count = stage.config.predict.checkpoints
    if count == 1 or not isinstance(stage, Trained):
        return [stage]
    kept = stage.kept()
    steps = [step for step in stage.validated() if step in kept]
    if len(steps) < count:
        raise InputError(
            f'predict.checkpoints={count}: {stage.run.folder} keeps {len(steps)}, train.keep={stage.config.train.keep};'
            f' give at most {len(steps)}, or train with train.keep={count} and a shorter train.save_every'
        )
    return [stage.at(step) for step in steps[-count:]]


def _updated(mean, probabilities, count):
    """The running mean with one more member, in place: exact where all members agree."""
    step = probabilities - mean
    step /= count
    mean += step
    return mean


def _prepared(first, member) -> Trained:
    """A member on the host, with the fields of `predict` and, if only seeds differ, compiled functions of the first."""
    fields = {f'predict.{name}': value for name, value in vars(first.config.predict).items()}
    own = member.with_fields(fields).on_host()
    if replace(own.config, seed=first.config.seed) == first.config:
        own.networks.system = first.networks.system
    return own


def _check_alike(first, other) -> None:
    """InputError unless two members find the same classes on the same grid of scans of the same modalities."""
    for (what, value), found in zip(_traits(first).items(), _traits(other).values(), strict=True):
        if value != found:
            raise InputError(
                f'{other.run.folder}: {what} {found}, but {value} in {first.run.folder}; members of an ensemble need '
                'the same'
            )


def _traits(member) -> dict[str, object]:
    """What members must have in common."""
    run, data, system = member.run, member.config.data, member.networks.system
    fields = {f'data.{name}': getattr(data, name) for name in IMAGE_FIELDS if name != 'size'}
    grid = {'input size': system.shown or f'{len(system.size)}-D'}
    modalities = {domain: ' + '.join(run.named(domain)) for domain in run.channels}
    return {'classes': ', '.join(run.classes), 'modalities': modalities, **fields, **grid}
