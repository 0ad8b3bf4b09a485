"""The processes that train together: how they find one another, wait, agree and share out work.

All of them read one folder and hold the same networks; the first one writes what is written once.  Where there is
only one, every function here returns at once.
"""

import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # no public way leads to what processes tell one another without a collective
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from synseg_jax import files
from synseg_jax.devices import message
from synseg_jax.devices.signals import Interrupted
from synseg_jax.errors import InputError

HEARTBEAT_S = 30  # a process that is silent for so long counts as dead
PATIENCE_S = 7 * 24 * 3600  # at a meeting point: others may be preparing thousands of scans
LATE = 2  # polls after which an answer is looked at: by then it has arrived


def join(coordinator: str = '', processes: int = 0, process: int = -1, timeout_s: int = 300) -> None:
    """Becomes process number `process` of `processes`, which meet at `coordinator`, HOST:PORT of the first one.

    Without a coordinator, what Slurm, Open MPI or a TPU pod tells.  Call it before JAX looks at its devices.  If the
    others have not come after `timeout_s`, the process ends.
    """
    where = {'coordinator_address': coordinator, 'num_processes': processes, 'process_id': process}
    where['cluster_detection_method'] = 'deactivate'  # what is told counts, wherever this runs
    if coordinator and not 0 <= process < processes:
        raise InputError(f'--process={process} of --processes={processes}: count from 0, and give both')
    at = f'at {coordinator}' if coordinator else '(--distributed)'
    # When time is up JAX itself ends the process with a trace of its insides.
    late = threading.Timer(timeout_s, _end, [f'the other processes have not come {at} within {timeout_s} s', 2])
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            **(where if coordinator else {}),
            initialization_timeout=timeout_s + HEARTBEAT_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split('\n')[0]
        raise InputError(f'no way to the other processes {at}: {reason}; or give --coordinator=HOST:PORT') from error
    finally:
        late.cancel()


def _end(message, code):
    print(f'error: {message}', file=sys.stderr, flush=True)
    os._exit(code)


@contextmanager
def together() -> Iterator[None]:
    """Ends this process at once where it fails, or another one has: an orderly exit would wait for those that wait."""
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, InputError | OSError):
            _end(str(error), 2)
        if not isinstance(error, jax.errors.JaxRuntimeError):
            traceback.print_exc()
        reason, own = str(error).strip().split('\n')[0][:200], jax.process_index()
        _end(f'process {own} or another is gone ({reason}); start all again, they go on from the last save', 1)


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def share(items: Sequence) -> Sequence:
    """The part of the items that is this process's to do."""
    return items[jax.process_index() :: jax.process_count()]


def meet(name: str) -> None:
    """Returns when all processes have come here."""
    if (count := jax.process_count()) > 1:
        multihost.sync_global_processes(name, timeout=PATIENCE_S, processes=set(range(count)))


def gathered(value: Any, folder: Path, name: str) -> list:
    """What every process gives, in their order, passed on through files of the folder; small or large.

    Values are made of dicts, lists, tuples, arrays, text and numbers; named tuples arrive as tuples.
    """
    if jax.process_count() == 1:
        return [value]
    paths = [folder / f'.{name}.{i}.npz' for i in range(jax.process_count())]
    own = paths[jax.process_index()]
    with files.atomic_file(own) as temporary:
        message.write(temporary, value)
    meet(f'{name} is written')
    found = [message.read(path) for path in paths]
    meet(f'{name} is read')
    own.unlink()
    return found


@contextmanager
def first_then_others(name: str) -> Iterator[None]:
    """Runs the block in the first process, and in the others, which find its work done, after it.

    If it ends with an error there, the others end as well.
    """
    if jax.process_count() == 1:
        yield
        return
    outcome = 'done'
    try:
        if not is_first():
            _follow(name)
        yield
    except BaseException as error:
        outcome = 'interrupted' if isinstance(error, Interrupted) else 'failed'
        raise
    finally:
        if is_first():
            _tell(name, outcome)


OUTCOMES = ('done', 'interrupted', 'failed')


def _tell(name, outcome):
    meet(f'{name} is over')
    multihost_utils.broadcast_one_to_all(np.int32(OUTCOMES.index(outcome)))


def _follow(name):
    meet(f'{name} is over')
    outcome = OUTCOMES[int(multihost_utils.broadcast_one_to_all(np.int32(0)))]
    if outcome == 'interrupted':
        raise Interrupted(f'the first process, {name}')
    if outcome == 'failed':
        raise InputError(f'the first process failed, {name}; it says why')


class Others:
    """What the processes tell one another at any moment, from any thread, through the store that JAX keeps for them."""

    KEY = 'synseg_jax/told'

    def __init__(self):
        self.client = distributed.global_state.client

    def tell(self, text: str) -> None:
        """Tells it to all."""
        self.client.key_value_set(self.KEY, text, allow_overwrite=True)

    def heard(self) -> str:
        """What was told last; nothing if nothing was, or the store is gone."""
        try:
            return self.client.key_value_try_get(self.KEY)
        except jax.errors.JaxRuntimeError:
            return ''


def others() -> Others | None:
    """None where there are none."""
    return Others() if jax.process_count() > 1 else None


class Agreement:
    """A flag that any process may raise and that all see at the same moment."""

    def __init__(self, total: Callable[[bool], jax.Array]):
        """`total(flag)` starts a sum over all processes."""
        self.total, self.asked = total, deque()

    def poll(self, flag: bool) -> bool:
        """Whether any process gave True, of several processes two polls ago: nobody waits for an answer."""
        if jax.process_count() == 1:
            return flag
        self.asked.append(self.total(flag))
        return len(self.asked) > LATE and bool(self.asked.popleft())

    def decide(self, flag: bool) -> bool:
        """Whether any process gives True now; all wait for the answer."""
        return flag if jax.process_count() == 1 else bool(self.total(flag))
