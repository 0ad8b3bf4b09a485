"""The training loop: validation, checkpoints, early stopping, guard, rollback from non-finite gradients, signals."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from synseg_jax.devices import parallel, processes
from synseg_jax.devices.signals import Interrupted, Signals
from synseg_jax.errors import InputError
from synseg_jax.training import selection
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.metrics_log import Journal
from synseg_jax.training.state import State

IN_FLIGHT = 2  # steps dispatched asynchronously before waiting for the first of them
PATIENCE = 10  # consecutive non-finite steps before a rollback to the last checkpoint
ROLLBACKS = 3  # consecutive rollbacks before training is aborted


@dataclass(frozen=True)
class Plan:
    """Length of training, and intervals of logging and checkpoints."""

    steps: int
    steps_per_epoch: int
    batch: int
    log_every: int
    save_every: int
    patience: int = 0  # early stopping after this many epochs without a lower held-out segmentation loss; 0: off
    guard: bool = False  # end training once the volume of an organ on target scans becomes implausible


def train(
    state: State,
    step: Callable[[State, Mapping], tuple[State, dict]],
    batches: Callable[[int], Iterator[Mapping]],
    plan: Plan,
    over: Mesh,
    checkpoints: Checkpoints,
    journal: Journal,
    signals: Signals,
    validate: Callable[[State], dict[str, float]] | None = None,
    held_out_loss: Callable[[State], float] | None = None,
) -> State:
    """Train until step `plan.steps`, early stopping or the guard, resuming from the latest undamaged checkpoint.

    `batches(k)` iterates over the global batches from number k on, sharded over the mesh, and is closed at the end;
    `validate(state)` returns metrics of held-out subjects, by which the best checkpoint is chosen (selection.RULES);
    `held_out_loss(state)` is monitored for early stopping.  After a signal, saves a checkpoint and raises Interrupted.
    """
    restored = checkpoints.latest(state)
    state = state if restored is None else restored
    first = int(state.step)
    agreement = processes.Agreement(parallel.async_sum(over))
    journal.begin(first, plan)
    between = BetweenSteps(plan, agreement, checkpoints, journal, signals, validate, held_out_loss, first)
    if first and between.look_again(state, first):
        return state
    rollbacks = 0
    pending: deque = deque()
    with closing(batches(first)) as incoming:  # stops prefetching at the end
        for number in range(first, plan.steps):
            began = time.perf_counter()
            batch = next(incoming)
            fetched = time.perf_counter()
            state, metrics = step(state, batch)
            signals.idle = False  # compiled: from now on a signal waits for the end of the step
            pending.append(metrics)
            if len(pending) > IN_FLIGHT:
                jax.block_until_ready(pending.popleft())
            done = number + 1
            journal.tick(done, waited=fetched - began)
            if done % plan.log_every == 0 or done == plan.steps:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                journal.log(done, values)
                if values['streak'] >= PATIENCE:
                    rollbacks += 1
                    state = _roll_back(state, checkpoints, journal, rollbacks)
                elif values['streak'] == 0:
                    rollbacks = 0
            if agreement.poll(bool(signals.asked)):
                between.leave(state)
            if between.look(state, done):
                break
    checkpoints.wait()
    if not checkpoints.steps():
        raise InputError(
            f'no checkpoint was saved, as gradients were non-finite each time one was due ({int(state.skipped)} of '
            f'{int(state.step)} steps skipped); lower the learning rates or check the data'
        )
    return state


class BetweenSteps:
    """Work between steps: held-out loss after an epoch, validation, checkpoints, and a clean exit on signals."""

    def __init__(self, plan, agreement, checkpoints, journal, signals, validate, held_out_loss, first):
        self.plan, self.agreement, self.checkpoints, self.journal = plan, agreement, checkpoints, journal
        self.signals, self.validate, self.held_out_loss = signals, validate, held_out_loss
        self.early_stop = checkpoints.early_stop
        self.validations = checkpoints.validations(first)

    def look(self, state: State, done: int) -> bool:
        """Measure, validate and save whatever is due after step `done`; returns whether training stops early."""
        self._measure(state, done)
        ends = self.early_stop.due(self.plan.patience)
        if ends or self._due(done):
            self._validate(state, done)
        if ends:
            why = f'no decrease of the segmentation loss for {self.plan.patience} epochs'
            self.journal.say(f'step {done}: early stopping, {why}')
        return ends or self._guarded()

    def look_again(self, state: State, first: int) -> bool:
        """`look` at the step to resume from, unless it was completed before the interruption."""
        self._measure(state, first)
        ends = self.early_stop.due(self.plan.patience)
        if (ends or self._due(first)) and not self.checkpoints.is_validated(first):
            self._validate(state, first)
        return ends or self._guarded()

    def leave(self, state: State) -> None:
        """Save a checkpoint and raise Interrupted."""
        self.journal.sync()
        self.checkpoints.save(state, early_stop=self.early_stop, validations=self.validations)
        self.checkpoints.wait()
        why = self.signals.asked or 'a signal to another process'
        raise Interrupted(f'{why}: saved step {int(state.step)}; run the same command to resume')

    def _guarded(self) -> bool:
        """Whether the guard has ended training."""
        return bool(self.validations and self.validations[-1].left)

    def _due(self, done):
        return done % self.plan.save_every == 0 or done == self.plan.steps

    def _measure(self, state, done):
        """Measure the held-out loss at the end of an epoch, unless it is known."""
        epoch, rest = divmod(done, self.plan.steps_per_epoch)
        if not (self.plan.patience and self.held_out_loss) or rest or epoch <= self.early_stop.measured:
            return
        loss = self.held_out_loss(state)
        self._leave_if_asked(state)  # an interrupted measurement does not count
        self.early_stop = self.early_stop.after(epoch, loss)
        self.journal.epoch(done, epoch, loss, self.early_stop)

    def _validate(self, state, done):
        scores = self.validate(state) if self.validate else {}
        self._leave_if_asked(state)
        self.journal.score(done, scores)
        self.journal.sync()
        self.journal.curves()
        if skipped := int(state.streak):
            self.journal.say(f'step {done}: no checkpoint, gradients were non-finite in the last {skipped} steps')
            return
        self._save(state, done, scores)

    def _save(self, state, done, scores):
        left = ''
        if self.plan.guard:
            left = selection.departed(self.validations, scores, selection.WARM_UP * self.plan.steps)
        self.validations += (selection.Validation(done, scores, left),)
        self.checkpoints.save(state, None if left else scores.get('score'), self.early_stop, self.validations)
        if left:
            self.checkpoints.wait()
            self.journal.say(f'step {done}: {left}; training ends, back to step {self.checkpoints.order()[0]}')

    def _leave_if_asked(self, state):
        if self.agreement.decide(bool(self.signals.asked)):
            self.leave(state)


def _roll_back(state, checkpoints, journal, rollbacks):
    """The last checkpoint, with the current step as its position in the data, so that no batch is repeated."""
    if rollbacks > ROLLBACKS:
        raise InputError(
            f'gradients are still non-finite after {ROLLBACKS} rollbacks to the checkpoints in {checkpoints.folder}; '
            'lower the learning rates'
        )
    here, skipped = int(state.step), state.skipped
    checkpoints.wait()
    good = checkpoints.latest(state)
    if good is None:
        raise InputError(
            f'gradients are non-finite from the start ({here} steps); lower the learning rates or check the data'
        )
    journal.say(f'step {here}: {PATIENCE} consecutive non-finite steps, rolling back to step {int(good.step)}')
    return good.replace(step=good.step + (here - int(good.step)), skipped=skipped)
