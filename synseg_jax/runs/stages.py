"""A system as a list of stages, each in a folder named by a digest of all that its result depends on.

Two systems, or two folds of one, that share a stage share its folder; a stage that is done is not done again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from synseg_jax import files
from synseg_jax.batches.selection import Chosen, Fold, select
from synseg_jax.devices import processes
from synseg_jax.devices.signals import Signals
from synseg_jax.errors import InputError, known
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.trained_model import Segmenter
from synseg_jax.preparation.records import Manifest
from synseg_jax.specification.check import affects, as_before
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.parse import mapping
from synseg_jax.specification.resolve import flat
from synseg_jax.specification.stage import Stage as StageFields


class Done(NamedTuple):
    """A stage that has run: the name of its folder, and the steps that it trained, which may grow."""

    folder: str
    steps: int


@dataclass(frozen=True)
class Stage:
    """One stage of a system: its configuration, the scans it reads by domain, and the folders it builds on."""

    name: str
    config: StageFields
    manifest: Manifest  # of the records that are given: the set of all sets it knows but those that stages made
    sets: Mapping[str, Manifest]
    fold: Fold = Fold()
    earlier: Mapping[str, Done] = field(default_factory=dict)

    def scans(self, domain: str, role: str = 'train') -> list[Chosen]:
        """The scans of a role that it reads in a domain."""
        context = self.config.context
        options = {'context': context.slices, 'spacing_mm': context.spacing_mm, 'seed': self.config.data.seed}
        transductive = self.config.transductive and domain == 'b' and self.config.kind_of_stage.trains
        named = self.config.sets.of(domain)
        return select(named, domain, self.sets, role, self.fold, self.manifest, transductive, **options)

    def target_scans(self) -> list[Chosen]:
        """Real target scans held out for validation, else those to train on, whatever sets the stage reads."""
        texts = self.config.sets.b
        real = [text for text in texts if 'of' not in self.sets[(name := text.partition(':')[0])].sets[name]]
        context = {'context': self.config.context.slices, 'spacing_mm': self.config.context.spacing_mm}
        for role in ('val', 'train'):
            scans = select(real, 'b', self.sets, role, self.fold, self.manifest, **context, seed=self.config.data.seed)
            if scans:
                return scans
        return []

    def described(self, folder: Path) -> Run:
        """What stage.json in its folder says of it."""
        manifests = {id(manifest): manifest for manifest in self.sets.values()}.values()
        return Run.of(folder, self.config, self.manifest.classes, manifests)

    def before(self, name: str) -> str:
        """The name of an earlier stage's folder."""
        return self.earlier[known(f'earlier stage of {self.name}', name, self.earlier)].folder

    def key(self) -> str:
        """The name of its folder: its own name and a digest of its fields, its scans and the stages it builds on."""
        own = flat(mapping(self.config)).items()
        fields = {name: value for name, value in own if affects(name) == 'result' and not as_before(name, value)}
        read = {d: [scans.key() for r in self.config.kind_of_stage.roles for scans in self.scans(d, r)] for d in 'ab'}
        if self.config.selection == 'label_free' or self.config.train.guard:
            read['unlabelled'] = [scans.key() for scans in self.target_scans()]
        built_on = [(self.before(name), self.earlier[name].steps) for name in self.config.built_on()]
        return f'{self.name}-{digest(fields, read, built_on, self.manifest.classes)}'


@dataclass(frozen=True)
class Job:
    """A stage to be run in its folder, or opened where it has run."""

    stage: Stage
    folder: Path
    title: str
    console: Console
    signals: Signals
    begin: Callable[[int, bool], None]  # is told the steps of a training, and whether it is done, before it begins

    def before(self, name: str) -> Path:
        """The folder of an earlier stage."""
        return self.folder.parent / self.stage.before(name)


class Outcome(NamedTuple):
    """What a stage leaves: what segments scans and what that took, or a set; and the steps that it trained."""

    segmenter: Segmenter | None = None
    cost: Mapping[str, object] | None = None
    made: Manifest | None = None
    steps: int = 0


def folds(config: Experiment, system: str) -> list[Fold]:
    """The folds over which a system is trained anew; one that holds nobody out where there are none."""
    first = next(iter(config.stages(system).values()))
    fold = first.fold
    return [Fold(fold.set, fold.of, i, first.data.seed, fold.strata) for i in range(max(1, fold.of))]


@contextmanager
def exclusive_lock(folder: Path, say: Callable[[str], None], signals: Signals) -> Iterator[None]:
    """Holds a folder against other runs, waiting while one is at work there; the kernel lets go when we end."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with processes.first_then_others(f'holding {folder}'):
            if processes.is_first():
                held.enter_context(_held(folder, say, signals))
        yield


def _held(folder, say, signals):
    told = []

    def waiting():
        if not told:
            say(f'another run is at work in {folder}; waiting for it')
            told.append(True)
        signals.raise_if_asked()

    return files.exclusive_lock(folder / '.lock', waiting)


def digest(*content) -> str:
    """Ten characters that stand for nested lists, mappings, names and numbers."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def fields(config: Experiment, system: str) -> str:
    """A digest of all fields of a system's stages but those that only decide what is shown, and how fast."""
    own = {name: flat(mapping(stage)) for name, stage in config.stages(system).items()}
    return digest({s: {k: v for k, v in of.items() if _told_apart(k, v)} for s, of in own.items()})


def _told_apart(name, value) -> bool:
    return affects(name) not in ('display', 'speed') and not as_before(name, value)


def check_lengths(lengths: dict[str, tuple[int, str]], folder: str, steps: int, system: str) -> None:
    """InputError if another system trains the same stage for longer or shorter; `lengths` remembers."""
    known_steps, other = lengths.setdefault(folder, (steps, system))
    if known_steps != steps:
        raise InputError(
            f'systems {other} and {system} share stage {folder} but for its length ({known_steps} and {steps} steps); '
            'give the stage another name in one of them'
        )
