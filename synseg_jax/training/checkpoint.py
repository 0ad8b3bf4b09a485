"""Checkpoints by orbax: the whole state, its checksums, and the validation score that chooses the best.

The data position needs nothing more: it is the state's step.  A checkpoint that is damaged is passed over, aloud,
for the one before it.
"""

import json
import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from synseg_jax.errors import InputError
from synseg_jax.training import parallel
from synseg_jax.training.state import State


class Checkpoints:
    """The checkpoints of one system: the latest `keep` and the one with the highest score.

    All processes save and restore together, unless `alone`: then this one only reads.
    """

    def __init__(self, folder: Path, keep: int = 2, say: Callable[[str], None] = print, alone: bool = False):
        # Orbax tells every save; a user wants to hear of trouble only.
        logging.getLogger('absl').setLevel(logging.WARNING)
        logging.getLogger('absl').addFilter(_is_trouble)
        best = managers.BestN(get_metric_fn=lambda m: m['score'], n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(max(1, keep)), best]),
            save_decision_policy=managers.FixedIntervalPolicy(1),
            best_fn=lambda m: m['score'],  # orbax keeps metrics only where this is set
            create=not alone,
            cleanup_tmp_directories=not alone,
            multiprocessing_options=_only_here() if alone else ocp.options.MultiprocessingOptions(),
        )
        _drop_damaged_scores(folder)
        self.manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self.folder, self.say = folder, say
        self._damaged: set[int] = set()

    def save(self, state: State, score: float | None = None) -> None:
        """Starts saving `state` under its step; the next save or `wait` finishes it."""
        step = int(state.step)
        while self._damaged:  # training has gone on without them
            self.manager.delete(self._damaged.pop())
        if step in self.manager.all_steps():
            self.wait()
            if score is None or self.score(step) is not None:
                return
            self.manager.delete(step)  # saved when its validation was interrupted
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), sums=ocp.args.JsonSave(checksums(state)))
        self.manager.save(step, args=items, metrics=None if score is None else {'score': score}, force=True)

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        self.manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the last save."""
        self.manager.close()

    def latest(self, like: State) -> State | None:
        """The newest checkpoint that is whole, laid out like `like`; None if there is none."""
        return self._first_whole(sorted(self.manager.all_steps(), reverse=True), like)

    def best(self, like: State) -> State:
        """The checkpoint with the highest score, the latest if none has one."""
        scores = {step: self.score(step) for step in self.manager.all_steps()}
        order = sorted(scores, key=lambda step: (-1.0 if scores[step] is None else scores[step], step), reverse=True)
        found = self._first_whole(order, like)
        if found is None:
            raise InputError(f'{self.folder}: no readable checkpoint; train first')
        return found

    def steps(self) -> list[int]:
        """The steps that were kept, the first one first."""
        return sorted(self.manager.all_steps())

    def at(self, step: int, like: State) -> State:
        """The checkpoint of a step; InputError where it is damaged."""
        return self._first_whole([step], like)

    def score(self, step: int) -> float | None:
        """The validation score of a checkpoint."""
        metrics = self.manager.metrics(step)
        return metrics['score'] if metrics else None

    def best_step(self) -> int | None:
        """The step with the highest score, the first of equals; None if none has one."""
        scores = {step: self.score(step) for step in self.manager.all_steps()}
        return min((step for step in scores if scores[step] is not None), key=lambda s: (-scores[s], s), default=None)

    def _first_whole(self, steps, like):
        for step in steps:
            try:
                return self._restore(step, like)
            except Exception as error:  # whatever a damaged file makes orbax, tensorstore or json raise
                self._damaged.add(step)
                self.say(
                    f'checkpoint {self.folder / str(step)} is damaged, trying the one before: {_first_line(error)}'
                )
        if steps:
            raise InputError(f'{self.folder}: no checkpoint can be read; remove the folder to start again')
        return None

    def _restore(self, step, like):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), sums=ocp.args.JsonRestore())
        restored = self.manager.restore(step, args=items)
        if checksums(restored.state) != restored.sums:
            raise InputError('its checksums do not fit')
        return restored.state


def checksums(state: State) -> dict[str, int]:
    """A CRC-32 for every array of the state; all processes ask for it together."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): zlib.crc32(parallel.whole(leaf).tobytes()) for path, leaf in leaves}


def _is_trouble(record):
    """Not that a checkpoint has no score: there may be nobody to validate on."""
    return 'tracked_metric' not in record.getMessage()


def _only_here():
    """This process is no part of a group: it waits for nobody."""
    number = jax.process_index()
    options = ocp.options.MultiprocessingOptions
    return options(primary_host=number, active_processes={number}, barrier_sync_key_prefix=f'process{number}')


def _drop_damaged_scores(folder):
    """Orbax reads every checkpoint's score as it opens the folder, and raises at one that is not JSON."""
    for path in folder.glob('*/metrics/metrics'):
        try:
            float(json.loads(path.read_bytes())['score'])
        except (ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
        except FileNotFoundError:  # another process was quicker
            continue


def _first_line(error):
    return str(error).strip().split('\n')[0][:200]
