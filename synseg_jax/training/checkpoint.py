"""Orbax checkpoints of the training state, with checksums, all validations so far and the state of early stopping.

The position in the data is the step of the state.  A checkpoint with damaged content is skipped with a message in
favour of the previous one, and moved to `damaged` at the next save.  A checkpoint that cannot be read from disk is not
treated as damaged: it ends the run and stays in place.
"""

import itertools
import json
import logging
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from synseg_jax import files
from synseg_jax.devices import parallel, processes
from synseg_jax.errors import InputError
from synseg_jax.files import disk
from synseg_jax.training import selection, stored_metrics
from synseg_jax.training.early_stop import EarlyStop
from synseg_jax.training.selection import Validation
from synseg_jax.training.state import State

EARLY_STOP = 'early_stop'  # name of the checkpoint item


class Checkpoints:
    """The checkpoints of a stage: the latest `keep` and those that may be chosen by `rule`, of selection.RULES.

    Saving and restoring are collective over all processes; with `alone`, this process reads on its own and saves
    nothing.  As a context manager it closes orbax's manager, with its threads and open files.
    """

    def __init__(
        self, folder: Path, keep: int = 2, say: Callable[[str], None] = print, alone: bool = False,
        rule: str = 'source_dice',
    ):  # fmt: skip
        disk.check_path(folder, reading=alone)
        # Orbax logs every save; only problems are of interest.
        logging.getLogger('absl').setLevel(logging.WARNING)
        logging.getLogger('absl').addFilter(_is_trouble)
        _hush_abandoned()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=stored_metrics.preservation(keep, rule),
            save_decision_policy=managers.FixedIntervalPolicy(1),
            best_fn=stored_metrics.score,  # orbax stores metrics only if this is set
            create=not alone,
            cleanup_tmp_directories=not alone,
            multiprocessing_options=_only_here() if alone else ocp.options.MultiprocessingOptions(),
        )
        with disk.reading(folder):
            _drop_damaged_scores(folder)
            self.manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self.folder, self.say, self.rule = folder, say, rule
        self.early_stop = EarlyStop()  # of the checkpoint restored last
        self._damaged: set[int] = set()

    def save(
        self, state: State, score: float | None = None, early_stop: EarlyStop = EarlyStop(),
        validations: Sequence[Validation] = (),
    ) -> None:  # fmt: skip
        """Save `state` under its step, asynchronously; the next save or `wait` completes it.

        `validations` are all so far, that of this checkpoint included, if it was validated.
        """
        step, metrics = int(state.step), stored_metrics.stored(score, validations)
        with disk.writing(self.folder):
            self._set_aside()  # training has resumed from an earlier checkpoint
            if step in self.manager.all_steps():
                self.manager.wait_until_finished()
                if metrics and not self.is_validated(step):  # saved without score by an interrupted validation
                    self._add_metrics(step, metrics)
                return
            items = {'state': ocp.args.StandardSave(state), 'sums': ocp.args.JsonSave(checksums(state))}
            if early_stop.measured:
                items[EARLY_STOP] = ocp.args.JsonSave(early_stop._asdict())
            self.manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    def wait(self) -> None:
        """Block until the last save is on disk."""
        with disk.writing(self.folder):
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Complete the last save and close orbax's manager."""
        with disk.writing(self.folder):
            self.manager.close()

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def latest(self, like: State) -> State | None:
        """The latest undamaged checkpoint, sharded like `like`; None if there are no checkpoints."""
        return self._first_intact(sorted(self.manager.all_steps(), reverse=True), like)

    def best(self, like: State) -> State:
        """The checkpoint chosen by the rule, the next one if it is damaged; InputError if there is none."""
        state = self._first_intact(self.order(), like)
        if state is None:
            raise InputError(f'{self.folder}: no readable checkpoint; train first')
        return state

    def order(self, rule: str = '') -> list[int]:
        """The steps of all checkpoints, the one chosen by `rule`, or by that of the stage, first."""
        steps = self.steps()
        scores = {step: self.score(step) for step in steps}
        return selection.order(rule or self.rule, self.validations(max(steps, default=0)), scores)

    def validations(self, step: int) -> tuple[Validation, ...]:
        """All validations up to the checkpoint of `step`; of one that has lost them, those of the one before."""
        stored = (self._stored(one) for one in reversed(self.steps()) if one <= step)
        return next(filter(None, map(stored_metrics.validations, stored)), ())

    def is_validated(self, step: int) -> bool:
        """Whether the validation of a checkpoint is known."""
        return self.score(step) is not None or any(validation.step == step for validation in self.validations(step))

    def steps(self) -> list[int]:
        """Steps of the existing checkpoints, in increasing order."""
        return sorted(self.manager.all_steps())

    def at(self, step: int, like: State) -> State:
        """The checkpoint of a step; InputError if it is damaged."""
        return self._first_intact([step], like)

    def score(self, step: int) -> float | None:
        """The validation score of a checkpoint, None if it has none."""
        return self._stored(step).get('score')

    def _stored(self, step) -> dict:
        """The metrics that orbax stores beside a checkpoint; {} if there are none."""
        return self.manager.metrics(step) or {}

    def _first_intact(self, steps, like):
        for step in steps:
            state = self._restore_if_intact(step, like)
            if state is not None:
                return state
        if steps:
            raise InputError(f'{self.folder}: no checkpoint can be read; remove the folder to start again')
        return None

    def _restore_if_intact(self, step, like) -> State | None:
        """The checkpoint of a step; None, with a message, if its content is damaged."""
        path = self.folder / str(step)
        try:
            return self._restore(step, like)
        except Exception:  # orbax, tensorstore and json raise many types for damaged files and failing disks
            disk.require_readable(path)
        try:
            with disk.reading(path):
                return self._restore(step, like)  # the disk error may have been temporary
        except (InputError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # all files are readable, so their content is damaged
            self._damaged.add(step)
            self.say(f'checkpoint {path} is damaged, trying the previous one: {disk.reason(error)}')
            return None

    def _restore(self, step, like):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = {'state': ocp.args.StandardRestore(abstract), 'sums': ocp.args.JsonRestore()}
        if (self.folder / str(step) / EARLY_STOP).exists():
            items[EARLY_STOP] = ocp.args.JsonRestore()
        restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        if checksums(restored.state) != restored.sums:
            raise ValueError('checksum mismatch')
        self.early_stop = EarlyStop(**restored.get(EARLY_STOP, {}))
        return restored.state

    def _set_aside(self) -> None:
        """Move damaged checkpoints out of orbax's folder, kept for inspection."""
        for step in sorted(self._damaged):
            if processes.is_first():
                aside = self.folder.with_name('damaged')
                aside.mkdir(exist_ok=True)
                free = (path for n in itertools.count(1) if not (path := aside / f'{step}.{n}').exists())
                (self.folder / str(step)).rename(next(free))
            self._reload(f'checkpoint {step} is set aside')
            self.say(f'moved the damaged checkpoint {step} to {self.folder.with_name("damaged")}')
        self._damaged.clear()

    def _add_metrics(self, step, metrics) -> None:
        """Add the missing metrics to a checkpoint, in orbax's format."""
        if processes.is_first():
            with files.atomic_folder(self.folder / str(step) / 'metrics', replace=True) as folder:
                (folder / 'metrics').write_text(json.dumps(metrics))
        self._reload(f'checkpoint {step} has its score')

    def _reload(self, what) -> None:
        processes.barrier(what)
        self.manager.reload()


def checksums(state: State) -> dict[str, int]:
    """CRC-32 of every array of the state; collective over all processes."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): zlib.crc32(parallel.to_host(leaf).tobytes()) for path, leaf in leaves}


def _is_trouble(record):
    """Whether to show orbax's message: not if it reports a missing score, which is normal, or an error also raised."""
    return 'tracked_metric' not in record.getMessage() and not record.exc_info


def _hush_abandoned():
    """Silence warnings about I/O tasks that finish after orbax, on an error, has closed their event loop."""
    logging.getLogger('asyncio').addFilter(_is_awaited)
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)


def _is_awaited(record):
    return 'exception was never retrieved' not in record.getMessage()


class _Hook:
    def __init__(self, plain):
        self.plain = plain

    def __call__(self, unraisable):
        if str(unraisable.exc_value) != 'Event loop is closed':
            self.plain(unraisable)


def _only_here():
    """Orbax options for a process on its own, without barriers."""
    number = jax.process_index()
    options = ocp.options.MultiprocessingOptions
    return options(primary_host=number, active_processes={number}, barrier_sync_key_prefix=f'process{number}')


def _drop_damaged_scores(folder):
    """Remove scores that are not valid JSON: orbax reads all scores when it opens the folder, and would raise."""
    saved = (path for path in folder.glob('*/metrics') if path.parent.name.isdigit())  # not checkpoints being written
    for path in saved:
        try:
            with disk.reading(path / 'metrics'):
                content = (path / 'metrics').read_bytes()
        except FileNotFoundError:  # removed by another process
            continue
        if not stored_metrics.is_valid(content):
            (path / 'metrics').unlink(missing_ok=True)
