"""Training one stage: its records, validation and pictures around the loop, and what it took."""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from synseg_jax.batches import pipeline
from synseg_jax.batches.device_cache import Resident, resident_gib
from synseg_jax.cli.terminal import say
from synseg_jax.devices import parallel, processes
from synseg_jax.devices.environment import peak_memory_gib
from synseg_jax.devices.signals import Interrupted, Signals
from synseg_jax.errors import InputError
from synseg_jax.files import read_json, write_json
from synseg_jax.inference import validation
from synseg_jax.inference.model_folder import Run
from synseg_jax.inference.run_networks import Networks
from synseg_jax.inference.trained_model import Trained
from synseg_jax.reports import figures
from synseg_jax.reports.modality_names import modalities
from synseg_jax.runs import first_weights
from synseg_jax.runs.label_free import LabelFree
from synseg_jax.runs.stages import Job, Outcome, Stage
from synseg_jax.specification.parse import mapping
from synseg_jax.specification.resolve import flat
from synseg_jax.training import loop
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.metrics_log import Journal, NullLog
from synseg_jax.training.system import system_of, trained_params
from synseg_jax.training.tracker import Tracker

SHOWN = 4  # examples in a picture
COST = 'cost.json'  # what a stage took, over all the times it was resumed


def run(job: Job) -> Outcome:
    """Trains a stage to its last step, beginning with the weights of earlier ones where it names some."""
    begin = [job.before(name) for name in job.stage.config.start.stages]
    judge = job.before(job.stage.config.judge_from) if job.stage.config.judge_from else None
    training = StageTraining(job.stage, job.folder, job.title, begin, judge)
    job.begin(training.plan.steps, training.done)
    trained, cost = training.run(job.console, job.signals)
    return Outcome(trained, cost, steps=training.plan.steps)


class StageTraining:
    """The training of a stage in its folder, from the weights of the stages in `begin`, if any, later ones first.

    `judge` is the folder of the stage whose segmentor judges translations, for methods that need one.
    """

    def __init__(
        self, stage: Stage, folder: Path, title: str = '', begin: Sequence[Path] = (), judge: Path | None = None
    ):
        self.stage, self.config, self.folder, self.title = stage, stage.config, folder, title
        self.begin, self.judge = begin, judge
        self.system = system_of(stage.config, stage.manifest.classes)
        self.pools = {domain: self._pool(domain) for domain in self.system.domains}
        train = self.config.train
        self.per_epoch = pipeline.epoch_steps(self.pools, train.batch)
        steps = self.system.steps(self.per_epoch)
        self.plan = loop.Plan(
            steps, self.per_epoch, train.batch, train.log_every, train.save_every, train.patience, train.guard
        )

    @property
    def done(self) -> bool:
        """Whether the stage has been trained to its last step."""
        cost = self._cost_so_far()
        return cost['finished'] and cost['steps'] == self.plan.steps

    @cached_property
    def modalities(self) -> dict[str, str]:
        """What pictures call the domains."""
        return modalities(self.stage.described(self.folder).channels)

    def run(self, console: Console, signals: Signals) -> tuple[Trained, dict]:
        """The best weights of the stage, trained to its last step, and what that took."""
        began, train = time.monotonic(), self.config.train
        described = self._describe()
        if self.done:
            say(console, f'done: {self.plan.steps} steps in {self.folder}', self.title)
            return Trained(described), self._cost_so_far()
        over = parallel.mesh(train.devices)
        unit = 'pairs' if len(self.pools) > 1 else 'images'
        tracker = partial(Tracker, train.mlflow, self.folder, flat(mapping(self.config))) if train.mlflow else None
        kind = Journal if processes.is_first() else NullLog
        journal = kind(self.folder, self.title, unit, console, self.modalities, tracker)
        journal.say(
            f'{self.system.method.name}: {", ".join(self.system.networks)}; batch {train.batch} = '
            f'{over.size} x {parallel.rows_per_device(train.batch, over)}'
        )
        keep = self.plan.steps if self._tried_by_oracle() else train.keep
        checkpoints = Checkpoints(self.folder / 'checkpoints', keep, journal.say, rule=self.config.selection)
        validate = Validation(self, journal, signals)
        step = self.system.step(self.per_epoch, over)
        try:
            state = self._first_state(over)
            batches = self._batches(over, journal)
            state = loop.train(
                state, step, batches, self.plan, over, checkpoints, journal, signals, validate, validate.loss
            )
            signals.idle = True
        except (Exception, Interrupted) as error:
            self._break_off(journal, checkpoints, began)
            if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' in str(error):
                raise InputError(
                    'out of memory: lower train.batch, train.resident_gib, data.size, or the width of the networks'
                ) from error
            raise
        journal.end(finished=True)
        with checkpoints:
            best, validations = checkpoints.best(state), checkpoints.validations(int(state.step))
        journal.curves()
        left = validations[-1].left if validations else ''
        cost = self._cost(began, int(state.step), finished=True, stopped=left)  # last: what is finished is not repeated
        journal.say(f'uses the weights of step {int(best.step)}')
        return Trained(described, parallel.local_copy(trained_params(best)), int(best.step)), cost

    def _break_off(self, journal, checkpoints, began) -> None:
        """Ends what can be ended; that a full disk, say, holds this up as well need not be told."""
        ends = [journal.end, lambda: self._cost(began, max(checkpoints.steps(), default=0), finished=False)]
        if jax.process_count() == 1:  # others, which may be gone, would be waited for
            ends.append(checkpoints.close)
        for end in ends:
            with suppress(OSError, InputError):
                end()

    def _tried_by_oracle(self) -> bool:
        """Whether all of its checkpoints may be tried on test scans."""
        segments = self.system.segmentor('a') or self.system.segmentor('b')
        return bool(self.config.oracle and segments and self.config.evaluate_stage in ('', self.stage.name))

    def _describe(self) -> Run:
        described = self.stage.described(self.folder)
        if processes.is_first():
            described.save()
        return described

    def _pool(self, domain) -> pipeline.Pool | pipeline.Mix:
        """The training records of a domain, with labels if the system's terms read them."""
        read, folder, name = self.stage.scans(domain), self.stage.manifest.folder, self.system.method.name
        if not read:
            raise InputError(f'{folder}: no set of domain {domain} to train on, and {name} reads it')
        for scans in read:
            if f'label_{domain}' in self.system.arrays and scans.role == 'test' and not self.stage.fold.of:
                raise InputError(
                    f'transductive: {name} would train on the labels of the test scans of {scans.set}; leave subjects '
                    'out in turn with fold.set and fold.of'
                )
            if f'label_{domain}' in self.system.arrays and not scans.labelled:
                paid = ', '.join(t for t in self.system.method.terms() if t.startswith(('seg', 'judge')))
                remedy = 'data.target_labels=True lets them in' if domain == 'b' else 'give a labelled folder'
                raise InputError(f'{folder}: set {scans.set} has no labels, and {paid} reads them; {remedy}')
        if not self.config.train.mixed:
            return self._opened(read)
        made = [scans for scans in read if 'of' in scans.manifest.sets[scans.set]]
        real = [scans for scans in read if scans not in made]
        if not (made and real):
            missing = 'real' if made else 'synthetic'
            raise InputError(f'train.mixed: sets.{domain} names no {missing} scans to mix; add some')
        return pipeline.Mix([self._opened(real), self._opened(made)])

    def _opened(self, read) -> pipeline.Pool:
        opened = [scans.open() for scans in read]
        return pipeline.Pool(opened, [count for part in opened for count in part.scans], self.config.train.balanced)

    def _batches(self, over, journal):
        """`batches(k)` reads the global batches from k on, or takes them from records that the devices hold."""
        train, pools, ready = self.config.train, self.pools, partial(parallel.place, over=over, spec=parallel.SHARDED)
        reading = {'workers': train.workers, 'arrays': self.system.arrays}
        gib = resident_gib(pools, self.system.arrays)
        if 0 < train.resident_gib < gib:
            journal.say(f'reads {gib:.3g} GiB of records as it goes: more than the {train.resident_gib:g} GiB allowed')
        if 0 < gib <= train.resident_gib:
            journal.say(f'{gib:.3g} GiB of records in the memory of every device')
            ready, reading = Resident(pools, self.system.arrays, over).batch, {'threads': 0}
            pools = {domain: pool.places() for domain, pool in pools.items()}
        return lambda first: pipeline.batches(
            pools, train.batch, self.config.seed, first, self.plan.steps, process=jax.process_index(),
            processes=jax.process_count(), ready=ready, **reading,
        )  # fmt: skip

    def _first_state(self, over):
        return first_weights.first_state(self.system, self.config, over, self.begin, self.judge)

    def _cost_so_far(self) -> dict:
        """What earlier sessions took, as far as they could tell; a power cut may have emptied the file."""
        nothing = {'seconds': 0.0, 'steps': 0, 'finished': False}
        try:
            found = read_json(self.folder / COST)
            return found if all(type(found[name]) is type(value) for name, value in nothing.items()) else nothing
        except (FileNotFoundError, InputError, TypeError, KeyError):
            return nothing

    def _cost(self, began, trained, finished, stopped='') -> dict:
        """Seconds, steps (planned, and trained so far) and memory, kept beside the stage."""
        cost = {'seconds': round(self._cost_so_far()['seconds'] + time.monotonic() - began, 1)}
        cost |= {'steps': self.plan.steps, 'trained': trained}
        cost |= {'peak_memory_gib': round(peak_memory_gib(), 3), 'finished': finished}
        cost |= {'stopped': stopped} if stopped else {}
        if processes.is_first():
            write_json(self.folder / COST, cost)
        return cost


class Validation:
    """What is looked at while training: held-out subjects, and before every checkpoint a picture of both paths."""

    def __init__(self, fit: StageTraining, journal: Journal, signals: Signals):
        self.fit, self.journal, self.signals = fit, journal, signals
        held_out = {domain: fit.stage.scans(domain, 'val') for domain in 'ab'}
        self.held_out = {domain: validation.HeldOut(read) for domain, read in held_out.items() if read}
        self.pictured = {
            domain: _examples(self.held_out.get(domain) or fit.pools[domain].sources[0])
            for domain in fit.system.domains
        }
        self.networks = Networks(fit.system, {}, fit.config.predict.batch)
        self.counted, _ = validation.checks(fit.system, validation.labelled(self.held_out))
        self.loss = self._loss if self.counted else None
        if fit.plan.patience and not self.counted:
            journal.say('no labelled validation scans, so no early stopping (train.patience)')
        needed = fit.config.selection == 'label_free' or fit.config.train.guard
        if needed and not (self.label_free and self.label_free.target):
            journal.say('no segmentor or no target scans, so no scores without labels (selection, train.guard)')

    def __call__(self, state) -> dict[str, float]:
        """The scores of the held-out subjects."""
        self.networks.params = parallel.local_copy(trained_params(state))
        if processes.is_first() and not self.signals.asked:
            modality = self.fit.modalities
            rows = validation.both_paths(self.networks, self.pictured, modality)
            second = f'real {modality["b"]}' if self.fit.system.domains == ('a', 'b') else None
            path = self.fit.folder / 'panel.png'
            figures.panel(path, rows, self.fit.system.classes, gap_before=second)
            self.journal.picture(int(state.step), 'both paths', path)
        measured = validation.measure(self.networks, self.held_out, self._asked)
        scores = validation.score(processes.all_gather(measured, 'validation'), self.counted)
        if scores.get('change', 1.0) < validation.UNCHANGED:
            self.journal.say(
                'translation changes next to nothing: it has collapsed to identity; raise adv or lower cyc'
            )
        return scores | self._label_free()

    def _label_free(self) -> dict[str, float]:
        """The scores that need no label of the target, of a method with a segmentor."""
        if self.label_free is None:
            return {}
        measured = self.label_free.measure(self.networks, self._asked)
        return self.label_free.combine(processes.all_gather(measured, 'label_free'))

    @cached_property
    def label_free(self) -> LabelFree | None:
        """The scans for scores without target labels; None if target scans cannot be segmented, as by masked
        generators, which need labels beside the image."""
        system = self.fit.system
        unable = not system.segmentor('b') or system.config.label_channel
        return None if unable else LabelFree.of(self.fit.stage, system.shown)

    def _loss(self, state) -> float:
        """The segmentation loss of the held-out subjects."""
        self.networks.params = parallel.local_copy(trained_params(state))
        measured = validation.losses(self.networks, self.held_out, self._asked)
        return validation.mean_loss(processes.all_gather(measured, 'held_out_loss'))

    def _asked(self) -> bool:
        return bool(self.signals.asked)


def _examples(records):
    """A few records spread over all."""
    return [records[int(i)] for i in np.linspace(0, len(records) - 1, SHOWN + 2)[1:-1]]
