"""Several JAX processes that train one system: start-up, barriers, gathering, stopping and failing together.

All processes read the same folders and hold the same networks; the first one writes shared files.  With a single
process every function here returns at once.
"""

import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # the key-value store has no public API
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from synseg_jax.devices import message
from synseg_jax.devices.signals import Interrupted
from synseg_jax.errors import InputError

HEARTBEAT_S = 30  # without a heartbeat for this long, a process counts as dead
BARRIER_TIMEOUT_S = 7 * 24 * 3600  # long, as the first process may be preparing thousands of scans
DELAY = 2  # polls after which a sum is read: by then it has been computed


def join(coordinator: str = '', processes: int = 0, process: int = -1, timeout_s: int = 300) -> None:
    """Initialise jax.distributed as number `process` of `processes`; `coordinator` is HOST:PORT of the first one.

    Without a coordinator, all three are read from Slurm, Open MPI or a TPU pod.  Call it before any use of devices.
    Exits with code 2 if the other processes have not connected within `timeout_s`.
    """
    address = {'coordinator_address': coordinator, 'num_processes': processes, 'process_id': process}
    address['cluster_detection_method'] = 'deactivate'  # explicit arguments take precedence over a scheduler's
    if coordinator and not 0 <= process < processes:
        raise InputError(f'--process={process} of --processes={processes}: count from 0, and give both')
    at = f'at {coordinator}' if coordinator else '(--distributed)'
    # On its own timeout JAX aborts the process with a C++ stack trace; this timer fires earlier, with one line.
    timer = threading.Timer(timeout_s, _exit, [f'the other processes have not connected {at} within {timeout_s} s', 2])
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            **(address if coordinator else {}),
            initialization_timeout=timeout_s + HEARTBEAT_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split('\n')[0]
        raise InputError(
            f'no connection to the other processes {at}: {reason}; give --coordinator=HOST:PORT'
        ) from error
    finally:
        timer.cancel()


def _exit(message, code):
    print(f'error: {message}', file=sys.stderr, flush=True)
    os._exit(code)


@contextmanager
def fail_together() -> Iterator[None]:
    """Exit at once when this process, or another, fails: a normal exit would wait for processes that wait for us."""
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, InputError | OSError):
            _exit(str(error), 2)
        if not isinstance(error, jax.errors.JaxRuntimeError):
            traceback.print_exc()
        reason, index = str(error).strip().split('\n')[0][:200], jax.process_index()
        _exit(f'process {index} or another has died ({reason}); start all again to resume from the last checkpoint', 1)


def is_first() -> bool:
    """Whether this is the process that writes shared files."""
    return jax.process_index() == 0


def share(items: Sequence) -> Sequence:
    """This process's share of the items: every n-th of n processes."""
    return items[jax.process_index() :: jax.process_count()]


def barrier(name: str) -> None:
    """Wait until all processes have reached the barrier of this name."""
    if (count := jax.process_count()) > 1:
        multihost.sync_global_processes(name, timeout=BARRIER_TIMEOUT_S, processes=set(range(count)))


def all_gather(value: Any, name: str) -> list:
    """The values of all processes in their order; each may be of any size.

    Values are made of dicts, lists, tuples, arrays, strings and numbers; named tuples become tuples.
    """
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(message.dumps(value), np.uint8)
    barrier(f'{name} is ready')  # has a longer timeout than a collective
    sizes = multihost_utils.process_allgather(np.int32(content.size))
    padded = np.zeros(1 << int(sizes.max() - 1).bit_length(), np.uint8)  # powers of 2, so that few sizes are compiled
    padded[: content.size] = content
    rows = multihost_utils.process_allgather(padded)
    return [message.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


@contextmanager
def first_then_others(name: str) -> Iterator[None]:
    """Run the block in the first process, then in the others, which find its files written.

    If it fails or is interrupted in the first process, the others raise as well.
    """
    if jax.process_count() == 1:
        yield
        return
    outcome = 'done'
    try:
        if not is_first():
            _wait_for_first(name)
        yield
    except BaseException as error:
        outcome = 'interrupted' if isinstance(error, Interrupted) else 'failed'
        raise
    finally:
        if is_first():
            _announce(name, outcome)


OUTCOMES = ('done', 'interrupted', 'failed')


def _announce(name, outcome):
    barrier(f'{name} is over')
    multihost_utils.broadcast_one_to_all(np.int32(OUTCOMES.index(outcome)))


def _wait_for_first(name):
    barrier(f'{name} is over')
    outcome = OUTCOMES[int(multihost_utils.broadcast_one_to_all(np.int32(0)))]
    if outcome == 'interrupted':
        raise Interrupted(f'the first process, {name}')
    if outcome == 'failed':
        raise InputError(f'the first process failed in {name}; see its error')


class StopNotice:
    """The signal that stops all processes, shared through JAX's key-value store: at any time, from any thread."""

    KEY = 'synseg_jax/stop'

    def __init__(self):
        self.client = distributed.global_state.client

    def post(self, signal_name: str) -> None:
        """Publish it to all processes."""
        self.client.key_value_set(self.KEY, signal_name, allow_overwrite=True)

    def read(self) -> str:
        """The signal posted last; '' if none was, or the store is gone."""
        try:
            return self.client.key_value_try_get(self.KEY)
        except jax.errors.JaxRuntimeError:
            return ''


def stop_notice() -> StopNotice | None:
    """None for a single process."""
    return StopNotice() if jax.process_count() > 1 else None


class Agreement:
    """A flag that any process may raise, and that all processes see in the same step."""

    def __init__(self, total: Callable[[bool], jax.Array]):
        """`total(flag)` starts the sum of a flag over all processes."""
        self.total, self.pending = total, deque()

    def poll(self, flag: bool) -> bool:
        """Whether any process raised it; of several processes, the answer of DELAY polls ago, so that none waits."""
        if jax.process_count() == 1:
            return flag
        self.pending.append(self.total(flag))
        return len(self.pending) > DELAY and bool(self.pending.popleft())

    def decide(self, flag: bool) -> bool:
        """Whether any process raises it now; waits for all."""
        return flag if jax.process_count() == 1 else bool(self.total(flag))
