"""The loop: batches in, checkpoints, metrics and pictures out, until the last step, a signal or hopeless numbers."""

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
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.metrics_log import Journal
from synseg_jax.training.state import State

IN_FLIGHT = 2  # steps dispatched ahead of the one whose end is awaited
PATIENCE = 10  # non-finite steps in a row before the last good checkpoint comes back
ROLLBACKS = 3  # such returns in a row before training is given up


@dataclass(frozen=True)
class Plan:
    """How long to train and how often to stop and look."""

    steps: int
    steps_per_epoch: int
    batch: int
    log_every: int
    save_every: int
    patience: int = 0  # epochs without a fall of the held-out segmentation loss after which training ends; 0: never


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
    """The state after `plan.steps` steps, resumed from the newest whole checkpoint.

    `batches(k)` iterates, until it is closed, over the global batches from k on, laid out over the mesh;
    `validate(state)` measures held-out subjects, its `score` choosing the best checkpoint; `held_out_loss(state)` is
    what `plan.patience` waits for.  Raises Interrupted after saving when a signal asked for it.
    """
    restored = checkpoints.latest(state)
    state = state if restored is None else restored
    first = int(state.step)
    agreement = processes.Agreement(parallel.summed(over))
    journal.begin(first, plan)
    between = BetweenSteps(plan, agreement, checkpoints, journal, signals, validate, held_out_loss)
    if first and between.look_again(state, first):
        return state
    rollbacks = 0
    pending: deque = deque()
    with closing(batches(first)) as incoming:  # ends what reads ahead
        for number in range(first, plan.steps):
            began = time.perf_counter()
            batch = next(incoming)
            fetched = time.perf_counter()
            state, metrics = step(state, batch)
            signals.idle = False  # it is compiled, and a step would be lost
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
            f'gradients were non-finite whenever a checkpoint was due ({int(state.skipped)} of {int(state.step)} steps '
            'skipped), so there is none; lower the learning rates or check the data'
        )
    return state


class BetweenSteps:
    """What is done between steps: the loss at the end of an epoch, validation, checkpoints, and leaving in order."""

    def __init__(self, plan, agreement, checkpoints, journal, signals, validate, held_out_loss):
        self.plan, self.agreement, self.checkpoints, self.journal = plan, agreement, checkpoints, journal
        self.signals, self.validate, self.held_out_loss = signals, validate, held_out_loss
        self.early_stop = checkpoints.early_stop

    def look(self, state: State, done: int) -> bool:
        """Whether training ends early after step `done`; measures, validates and saves what is due."""
        self._measure(state, done)
        ends = self.early_stop.due(self.plan.patience)
        if ends or self._due(done):
            self._validate(state, done)
        if ends:
            why = f'the segmentation loss has not fallen for {self.plan.patience} epochs'
            self.journal.say(f'step {done}: {why}, so training ends here')
        return ends

    def look_again(self, state: State, first: int) -> bool:
        """The same at the step to resume at, where a signal may have come before or during it."""
        self._measure(state, first)
        ends = self.early_stop.due(self.plan.patience)
        if (ends or self._due(first)) and self.checkpoints.score(first) is None:
            self._validate(state, first)
        return ends

    def leave(self, state: State) -> None:
        """Saves, and raises Interrupted."""
        self.journal.sync()
        self.checkpoints.save(state, early_stop=self.early_stop)
        self.checkpoints.wait()
        why = self.signals.asked or 'a signal to another process'
        raise Interrupted(f'{why}: saved step {int(state.step)}; the same command goes on from there')

    def _due(self, done):
        return done % self.plan.save_every == 0 or done == self.plan.steps

    def _measure(self, state, done):
        """The held-out loss, where an epoch has ended whose loss is not known."""
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
        if not (skipped := int(state.streak)):
            self.checkpoints.save(state, scores.get('score'), self.early_stop)
        else:
            self.journal.say(f'step {done}: no checkpoint, gradients were non-finite in the last {skipped} steps')

    def _leave_if_asked(self, state):
        if self.agreement.decide(bool(self.signals.asked)):
            self.leave(state)


def _roll_back(state, checkpoints, journal, rollbacks):
    """The last good weights at today's place in the data, so that the same batches are not met again."""
    if rollbacks > ROLLBACKS:
        raise InputError(
            f'gradients stay non-finite after {ROLLBACKS} returns to {checkpoints.folder}; lower the rates'
        )
    here, skipped = int(state.step), state.skipped
    checkpoints.wait()
    good = checkpoints.latest(state)
    if good is None:
        raise InputError(f'gradients are non-finite from the start ({here} steps); lower the rates or check the data')
    journal.say(f'step {here}: {PATIENCE} non-finite steps in a row, back to the weights of step {int(good.step)}')
    return good.replace(step=good.step + (here - int(good.step)), skipped=skipped)
