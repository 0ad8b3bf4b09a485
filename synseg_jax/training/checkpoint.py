"""Checkpoints by orbax: the whole state, its checksums, the validation score that chooses the best, and early stopping.

The data position needs nothing more: it is the state's step.  A checkpoint whose content is damaged is passed over,
aloud, for the one before it, and set aside once training has gone on.  One that the disk does not give is not damaged:
it ends the run, and stays.
"""

import itertools
import json
import logging
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from synseg_jax import files
from synseg_jax.devices import parallel, processes
from synseg_jax.errors import InputError
from synseg_jax.files import disk
from synseg_jax.training.early_stop import EarlyStop
from synseg_jax.training.state import State

EARLY_STOP = 'early_stop'  # the item of a checkpoint


class Checkpoints:
    """The checkpoints of one system: the latest `keep` and the one with the highest score.

    All processes save and restore together, unless `alone`: then this one only reads.  A context manager, which closes
    orbax's manager and with it the threads and files that it holds.
    """

    def __init__(self, folder: Path, keep: int = 2, say: Callable[[str], None] = print, alone: bool = False):
        disk.check_path(folder, reading=alone)
        # Orbax tells every save; a user wants to hear of trouble only.
        logging.getLogger('absl').setLevel(logging.WARNING)
        logging.getLogger('absl').addFilter(_is_trouble)
        _hush_abandoned()
        best = managers.BestN(get_metric_fn=lambda m: m['score'], n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(max(1, keep)), best]),
            save_decision_policy=managers.FixedIntervalPolicy(1),
            best_fn=lambda m: m['score'],  # orbax keeps metrics only where this is set
            create=not alone,
            cleanup_tmp_directories=not alone,
            multiprocessing_options=_only_here() if alone else ocp.options.MultiprocessingOptions(),
        )
        with disk.reading(folder):
            _drop_damaged_scores(folder)
            self.manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self.folder, self.say = folder, say
        self.early_stop = EarlyStop()  # what the checkpoint that was restored last knows of it
        self._damaged: set[int] = set()

    def save(self, state: State, score: float | None = None, early_stop: EarlyStop = EarlyStop()) -> None:
        """Starts saving `state` under its step; the next save or `wait` finishes it."""
        step = int(state.step)
        with disk.writing(self.folder):
            self._set_aside()  # training has gone on without them
            if step in self.manager.all_steps():
                self.manager.wait_until_finished()
                if score is not None and self.score(step) is None:  # saved when its validation was interrupted
                    self._add_score(step, score)
                return
            items = {'state': ocp.args.StandardSave(state), 'sums': ocp.args.JsonSave(checksums(state))}
            if early_stop.measured:
                items[EARLY_STOP] = ocp.args.JsonSave(early_stop._asdict())
            metrics = None if score is None else {'score': score}
            self.manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    def wait(self) -> None:
        """Returns when the last save is on disk."""
        with disk.writing(self.folder):
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Finishes the last save."""
        with disk.writing(self.folder):
            self.manager.close()

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *error) -> None:
        self.close()

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

    def _first_whole(self, steps, like):
        for step in steps:
            found = self._whole(step, like)
            if found is not None:
                return found
        if steps:
            raise InputError(f'{self.folder}: no checkpoint can be read; remove the folder to start again')
        return None

    def _whole(self, step, like) -> State | None:
        """The checkpoint of a step; None where its content is damaged, which is said."""
        path = self.folder / str(step)
        try:
            return self._restore(step, like)
        except Exception:  # whatever a damaged file or a failing disk makes orbax, tensorstore or json raise
            disk.require_readable(path)
        try:
            with disk.reading(path):
                return self._restore(step, like)  # the disk may have failed for a moment only
        except (InputError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # every file can be read, so it is their content
            self._damaged.add(step)
            self.say(f'checkpoint {path} is damaged, trying the one before: {disk.reason(error)}')
            return None

    def _restore(self, step, like):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = {'state': ocp.args.StandardRestore(abstract), 'sums': ocp.args.JsonRestore()}
        if (self.folder / str(step) / EARLY_STOP).exists():
            items[EARLY_STOP] = ocp.args.JsonRestore()
        restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        if checksums(restored.state) != restored.sums:
            raise ValueError('its checksums do not fit')
        self.early_stop = EarlyStop(**restored.get(EARLY_STOP, {}))
        return restored.state

    def _set_aside(self) -> None:
        """Moves damaged checkpoints to where orbax does not count them, and a person may look at them."""
        for step in sorted(self._damaged):
            if processes.is_first():
                aside = self.folder.with_name('damaged')
                aside.mkdir(exist_ok=True)
                free = (path for n in itertools.count(1) if not (path := aside / f'{step}.{n}').exists())
                (self.folder / str(step)).rename(next(free))
            self._reload(f'checkpoint {step} is set aside')
            self.say(f'the damaged checkpoint {step} is now in {self.folder.with_name("damaged")}')
        self._damaged.clear()

    def _add_score(self, step, score) -> None:
        """Gives a checkpoint the score that it lacks, as orbax would have written it."""
        if processes.is_first():
            with files.atomic_folder(self.folder / str(step) / 'metrics') as folder:
                (folder / 'metrics').write_text(json.dumps({'score': score}))
        self._reload(f'checkpoint {step} has its score')

    def _reload(self, what) -> None:
        processes.meet(what)
        self.manager.reload()


def checksums(state: State) -> dict[str, int]:
    """A CRC-32 for every array of the state; all processes ask for it together."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): zlib.crc32(parallel.whole(leaf).tobytes()) for path, leaf in leaves}


def _is_trouble(record):
    """Not that a checkpoint has no score: there may be nobody to validate on; nor an error that is raised as well."""
    return 'tracked_metric' not in record.getMessage() and not record.exc_info


def _hush_abandoned():
    """Keeps quiet about reads and writes that end after orbax, having failed, has closed the loop that awaited them."""
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
    """This process is no part of a group: it waits for nobody."""
    number = jax.process_index()
    options = ocp.options.MultiprocessingOptions
    return options(primary_host=number, active_processes={number}, barrier_sync_key_prefix=f'process{number}')


def _drop_damaged_scores(folder):
    """Orbax reads every checkpoint's score as it opens the folder, and raises at one that is not JSON."""
    saved = (place for place in folder.glob('*/metrics') if place.parent.name.isdigit())  # not what is being saved
    for place in saved:
        try:
            with disk.reading(place / 'metrics'):
                content = (place / 'metrics').read_bytes()
        except FileNotFoundError:  # another process was quicker
            continue
        if not _is_score(content):
            (place / 'metrics').unlink(missing_ok=True)


def _is_score(content):
    try:
        float(json.loads(content)['score'])
        return True
    except (ValueError, KeyError, TypeError):
        return False
