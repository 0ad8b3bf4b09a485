"""The loop: batches in, checkpoints, metrics and pictures out, until the last step, a signal or hopeless numbers."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from synseg_jax.errors import InputError
from synseg_jax.training import parallel, processes
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.journal import Journal
from synseg_jax.training.signals import Interrupted, Signals
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
    patience: int = 0  # validations without a better score after which training ends; 0: never


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
) -> State:
    """The state after `plan.steps` steps, resumed from the newest whole checkpoint.

    `batches(k)` iterates, until it is closed, over the global batches from k on, laid out over the mesh;
    `validate(state)` measures held-out subjects, its `score` choosing the best checkpoint.  Raises Interrupted after
    saving when a signal asked for it.
    """
    restored = checkpoints.latest(state)
    state = state if restored is None else restored
    first = int(state.step)
    agreement = processes.Agreement(parallel.summed(over))
    journal.begin(first, plan)

    def look(state, done):
        scores = validate(state) if validate else {}
        if agreement.decide(bool(signals.asked)):
            _leave(state, checkpoints, journal, signals)  # an interrupted validation does not count
        journal.score(done, scores)
        journal.sync()
        if int(state.streak) == 0:
            checkpoints.save(state, scores.get('score'))

    if first and _due(first, plan) and checkpoints.score(first) is None:
        look(state, first)  # the signal came before or during its validation
    if first and _due(first, plan) and _stalled(first, plan, checkpoints):
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
                _leave(state, checkpoints, journal, signals)
            if _due(done, plan):
                look(state, done)
                if _stalled(done, plan, checkpoints):
                    journal.say(f'step {done}: no better score in {plan.patience} validations, so training ends here')
                    break
    checkpoints.wait()
    return state


def _due(done, plan):
    return done % plan.save_every == 0 or done == plan.steps


def _stalled(done, plan, checkpoints):
    """Whether the best checkpoint is so many validations old, which also a resumed run can tell."""
    best = checkpoints.best_step() if plan.patience else None
    return best is not None and done - best >= plan.patience * plan.save_every


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


def _leave(state, checkpoints, journal, signals):
    journal.sync()
    checkpoints.save(state)
    checkpoints.wait()
    why = signals.asked or 'a signal to another process'
    raise Interrupted(f'{why}: saved step {int(state.step)}; the same command goes on from there')
