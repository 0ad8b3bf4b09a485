"""A signal is remembered where a step would be lost; where nothing would be, the run ends at once, whatever it does."""

import os
import signal
import subprocess
import sys
import time

import pytest
import tiny

from synseg_jax.devices import signals
from synseg_jax.devices.signals import Interrupted, Signals

# The main thread is deep in C, without Python's lock, as where XLA compiles: no handler of Python runs there.
BUSY = """
import hashlib, os, signal, sys, threading
from synseg_jax.devices.signals import Signals

class Notice:
    def post(self, name): print('posted', name, flush=True)
    def read(self): return {posted!r}

with Signals(lambda text: print(text, flush=True), {notice}) as signals:
    signals.idle = {idle}
    if {send}:
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
    hashlib.pbkdf2_hmac('sha256', b'', b'', {rounds})
    print('went on,', signals.asked or 'not asked')
"""


def _busy(idle=True, notice='None', posted='', send=True, rounds=10**9):
    program = BUSY.format(idle=idle, notice=notice, posted=posted, send=send, rounds=rounds)
    return subprocess.run([sys.executable, '-c', program], cwd=tiny.ROOT, capture_output=True, text=True, timeout=120)


def test_an_idle_process_ends_though_its_main_thread_is_busy():
    ended = _busy()
    assert ended.returncode == 0 and ended.stderr == ''
    assert ended.stdout == 'stopped by SIGTERM; run the same command to resume\n'


def test_a_process_that_has_something_to_lose_goes_on():
    ended = _busy(idle=False, rounds=3 * 10**6)
    assert (ended.returncode, ended.stdout) == (0, 'went on, SIGTERM\n')


def test_one_of_several_processes_tells_the_others():
    ended = _busy(notice='Notice()')
    assert ended.returncode == 0 and ended.stdout.splitlines()[0] == 'posted SIGTERM'
    assert ended.stdout.splitlines()[1:] == ['stopped by SIGTERM; run the same command to resume']


@pytest.mark.parametrize('idle', [True, False])
def test_what_another_process_tells_ends_an_idle_one(idle):
    ended = _busy(idle, notice='Notice()', posted='SIGINT', send=False, rounds=10**9 if idle else 3 * 10**6)
    assert ended.returncode == 0
    assert ended.stdout.endswith('stopped by SIGINT; run the same command to resume\n' if idle else 'not asked\n')


def test_an_idle_process_ends_at_once_where_python_runs():
    with Signals() as found:
        found.idle = True
        with pytest.raises(Interrupted, match='SIGTERM; run the same command to resume'):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)


def test_a_second_interrupt_is_one():
    with Signals() as found:
        os.kill(os.getpid(), signal.SIGINT)
        assert found.asked == 'SIGINT'
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)


def test_everything_is_as_before_afterwards():
    before = [signal.getsignal(number) for number in signals.WATCHED]
    with Signals():
        assert [signal.getsignal(number) for number in signals.WATCHED] != before
    assert [signal.getsignal(number) for number in signals.WATCHED] == before
    assert signal.set_wakeup_fd(-1) == -1
