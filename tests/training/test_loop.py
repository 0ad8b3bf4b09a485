"""Training ends in the same state however often it is stopped, and survives numbers that are not finite."""

import csv
import os
import signal

import numpy as np
import pytest
import tiny

from synseg_jax.devices.signals import Interrupted, Signals
from synseg_jax.errors import InputError
from synseg_jax.training import loop
from synseg_jax.training.checkpoint import Checkpoints
from synseg_jax.training.metrics_log import Journal
from synseg_jax.training.selection import SCORES as RANK_SCORES

STEPS, SAVE_EVERY = 20, 4
WHOLE = 'synseg_hc'  # generators, discriminators and segmentors, with few networks to compile
SCORES = {4: 0.2, 8: 0.9, 12: 0.4, 16: 0.5, 20: 0.6}
EPOCH = 3  # steps, where early stopping counts them
LOSSES = {3: 0.5, 6: 0.6, 9: 0.3, 12: 0.4, 15: 0.3, 18: 0.35}  # lowest after epoch 3
STALLED = {**SCORES, 15: 0.7, 18: 0.7}


class Training:
    """One folder's training of `tiny.system(**changes)` on random batches, started as often as wanted."""

    def __init__(self, folder, **changes):
        self.folder, self.changes = folder, changes
        self.validated, self.read, self.measured = [], [], []
        folder.mkdir()

    def start(
        self, steps=STEPS, stop_at=None, stop_validating=None, stop_measuring=None, nan=(), scores=SCORES, patience=0,
        epoch=6, idle=False, rule='source_dice', guard=False,
    ):  # fmt: skip
        """The state after training; a signal arrives as batch `stop_at` is read, in a validation, or at the loss."""
        made, over, step = tiny.system(**self.changes)
        console = tiny.quiet()
        journal = Journal(self.folder, 'tiny', 'images', console)
        checkpoints = Checkpoints(self.folder / 'checkpoints', 2, journal.say, rule=rule)
        plan = loop.Plan(steps, epoch, 2, log_every=2, save_every=SAVE_EVERY, patience=patience, guard=guard)

        def batches(first):
            for number in range(first, steps):
                self.read.append(number)
                if number == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield tiny.batch(number, nan=number in nan)

        def validate(state):
            self.validated.append(int(state.step))
            if int(state.step) == stop_validating:
                os.kill(os.getpid(), signal.SIGTERM)
            found = scores[int(state.step)] if scores else {}
            return found if isinstance(found, dict) else {'score': found}

        def held_out_loss(state):
            self.measured.append(int(state.step))
            if int(state.step) == stop_measuring:
                os.kill(os.getpid(), signal.SIGTERM)
                return 0.0  # of the few scans that it had looked at
            return LOSSES[int(state.step)]

        try:
            with Signals() as signals:
                signals.idle = idle
                first = tiny.first_state(**self.changes)
                return loop.train(
                    first, step, batches, plan, over, checkpoints, journal, signals, validate, held_out_loss
                )
        finally:
            journal.end()
            checkpoints.close()
            self.said = console.file.getvalue()

    def table(self, name):
        with (self.folder / name).open(newline='') as file:
            return list(csv.DictReader(file))

    def best(self, rule='source_dice'):
        checkpoints = Checkpoints(self.folder / 'checkpoints', 2, rule=rule)
        found = checkpoints.best(tiny.first_state(**self.changes))
        checkpoints.close()
        return found


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Training of all players and a history without a stop, and the state it ends in."""
    return _straight(tmp_path_factory.mktemp('whole') / 'tiny', method=WHOLE)


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """The same of a segmentor alone: the loop is the same whatever it trains."""
    return _straight(tmp_path_factory.mktemp('straight') / 'tiny', method='supervised')


def _straight(folder, **changes):
    training = Training(folder, **changes)
    training.state = training.start()
    return training


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / 'tiny', method='supervised')


def _check_same(training, state, straight):
    assert tiny.same(state, straight.state)
    for name in ('metrics.csv', 'validation.csv'):
        assert (training.folder / name).read_bytes() == (straight.folder / name).read_bytes()
    assert tiny.same(training.best(), straight.best())


def test_what_training_leaves(whole):
    assert int(whole.state.step) == STEPS and int(whole.state.skipped) == 0
    assert not tiny.same(whole.state, tiny.first_state(method=WHOLE))
    rows = whole.table('metrics.csv')
    assert [int(row['step']) for row in rows] == list(range(2, STEPS + 1, 2))
    assert float(rows[-1]['epoch']) == pytest.approx(STEPS / 6)
    terms = {'adv_b', 'dis_b', 'seg_fake_b'}
    assert terms | {'skipped', 'streak', 'lr/g_ab', 'grad_norm/s_b'} <= set(rows[0])
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert [(int(r['step']), float(r['score'])) for r in whole.table('validation.csv')] == list(SCORES.items())
    assert sorted(int(p.name) for p in (whole.folder / 'checkpoints').iterdir()) == [8, 16, 20]
    assert int(whole.best().step) == 8
    assert list((whole.folder / 'tensorboard').iterdir())


@pytest.mark.parametrize('stop_at', [0, 11, 18])
def test_stopped_by_a_signal(tmp_path, whole, stop_at):
    training = Training(tmp_path / 'tiny', method=WHOLE)
    with pytest.raises(Interrupted, match=f'SIGTERM: saved step {stop_at + 1}; run the same command'):
        training.start(stop_at=stop_at)
    assert training.read == list(range(stop_at + 1))
    state = training.start()
    assert training.read == list(range(STEPS))
    _check_same(training, state, whole)
    assert f'resumes at step {stop_at + 1}' in training.said


def test_stopped_before_the_first_step(training, straight):
    """Nothing is lost, so nothing is compiled and saved before the end; after it, the step counts."""
    for read, saved in (([0], None), ([0, 0, 1], 2), ([0, 0, 1, 2], None)):
        with pytest.raises(Interrupted, match=f'saved step {saved}' if saved else '^SIGTERM; run the same command'):
            training.start(stop_at=read[-1], idle=True)
        assert training.read == read
        assert len(list((training.folder / 'checkpoints').iterdir())) == (len(read) > 1)
    _check_same(training, training.start(idle=True), straight)


@pytest.mark.parametrize('step', [8, STEPS])
def test_stopped_while_validating(training, straight, step):
    """The interrupted validation does not count, and is made up for."""
    with pytest.raises(Interrupted, match=f'saved step {step}'):
        training.start(stop_validating=step)
    assert training.table('validation.csv') == straight.table('validation.csv')[: step // SAVE_EVERY - 1]
    state = training.start()
    assert training.validated.count(step) == 2
    _check_same(training, state, straight)


def test_stopped_again_and_again(tmp_path, whole):
    training = Training(tmp_path / 'tiny', method=WHOLE)
    for stop_at in (2, 3, 4, 9, 15, 18):
        with pytest.raises(Interrupted):
            training.start(stop_at=stop_at)
    _check_same(training, training.start(), whole)


def test_a_finished_training_is_left_alone(training):
    state = training.start()
    training.read.clear()
    training.validated.clear()
    assert tiny.same(training.start(), state)
    assert training.read == training.validated == []


@pytest.fixture(scope='module')
def stalled(tmp_path_factory):
    """Training that ends early, two epochs after the lowest loss."""
    training = Training(tmp_path_factory.mktemp('stalled') / 'tiny', method='supervised')
    training.state = training.start(patience=2, epoch=EPOCH, scores=STALLED)
    return training


def test_training_ends_when_the_held_out_loss_stalls(stalled, straight):
    """Counted in epochs, however often checkpoints are saved; an equal loss is no fall."""
    assert int(stalled.state.step) == 15 and stalled.measured == [3, 6, 9, 12, 15]
    assert stalled.validated == [4, 8, 12, 15] and int(stalled.best().step) == 8
    assert 'step 15: early stopping, no decrease of the segmentation loss for 2 epochs' in stalled.said
    assert 'epoch 4: held-out segmentation loss 0.4000; lowest 0.3000, epoch 3' in stalled.said
    assert straight.measured == []


def test_an_early_end_is_found_again(training, stalled):
    state = training.start(patience=2, epoch=EPOCH, scores=STALLED)
    training.read.clear()
    training.measured.clear()
    assert tiny.same(training.start(patience=2, epoch=EPOCH, scores=STALLED), state)
    assert training.read == training.measured == []
    assert int(training.start(patience=3, epoch=EPOCH, scores=STALLED).step) == 18
    assert training.read == [15, 16, 17] and training.measured == [18]


@pytest.mark.parametrize(
    'stops',
    [[{'stop_at': 13}], [{'stop_at': 8}], [{'stop_measuring': 9}, {'stop_measuring': 15}], [{'stop_measuring': 12}]],
    ids=('after the lowest', 'as an epoch ends', 'as the loss is measured', 'as the loss and the score are measured'),
)
def test_a_training_that_is_stopped_ends_as_early(training, stalled, stops):
    """What early stopping knows is in the checkpoint, an interrupted measurement is made again."""
    for stop in stops:
        with pytest.raises(Interrupted):
            training.start(patience=2, epoch=EPOCH, scores=STALLED, **stop)
    _check_same(training, training.start(patience=2, epoch=EPOCH, scores=STALLED), stalled)
    again = [stop['stop_measuring'] for stop in stops if 'stop_measuring' in stop]
    assert training.measured == sorted([3, 6, 9, 12, 15, *again])


def test_an_extended_training_goes_on(training, straight):
    training.start(steps=12)
    state = training.start()
    assert training.read == list(range(STEPS))
    _check_same(training, state, straight)


@pytest.mark.parametrize('stop_at', [None, 17])
def test_a_damaged_checkpoint_costs_its_steps_only(training, straight, stop_at):
    training.start(steps=16)
    for path in (training.folder / 'checkpoints' / '16').rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    if stop_at:
        with pytest.raises(Interrupted):
            training.start(stop_at=stop_at)
    state = training.start()
    assert ('resumes at step 12' in training.said) == (stop_at is None)
    assert ('16 is damaged, trying the previous one' in training.said) == (stop_at is None)
    assert tiny.same(state, straight.state)
    assert (training.folder / 'metrics.csv').read_bytes() == (straight.folder / 'metrics.csv').read_bytes()


def test_rows_of_a_torn_table_are_dropped(training, straight):
    """As a kill leaves it: rows beyond the checkpoint, the last one cut off."""
    with pytest.raises(Interrupted):
        training.start(stop_at=9)
    with (training.folder / 'metrics.csv').open('a') as file:
        file.write('12,' + ','.join(['7.0'] * (len(training.table('metrics.csv')[0]) - 1)) + '\r\n14,0.5,0.')
    _check_same(training, training.start(), straight)


def test_without_scores_the_last_is_best(training):
    state = training.start(scores=None)
    assert tiny.same(training.best(), state)
    assert not (training.folder / 'validation.csv').exists()


# Step 4 is ahead until 20 comes; among the checkpoints that may win, 4 and 8, it would be ahead of 8 even then.
RANKED = {4: (0.4, 0.3, 0.5), 8: (0.5, 0.2, 0.3), 12: (0.4, 0.1, 0.2), 16: (0.1, 0.2, 0.2), 20: (0.5, 0.1, 0.2)}
RANKED = {step: {'score': step / 20, **dict(zip(RANK_SCORES, row, strict=True))} for step, row in RANKED.items()}


@pytest.fixture(scope='module')
def ranked(tmp_path_factory):
    """Training whose checkpoint is chosen by ranks."""
    training = Training(tmp_path_factory.mktemp('ranked') / 'tiny', method='supervised')
    training.state = training.start(scores=RANKED, rule='label_free')
    return training


def test_the_checkpoint_of_the_best_mean_rank_is_kept(ranked):
    assert sorted(int(path.name) for path in (ranked.folder / 'checkpoints').iterdir()) == [4, 8, 16, 20]
    assert int(ranked.best('label_free').step) == 8
    assert int(ranked.best('last').step) == int(ranked.best('source_dice').step) == 20


def test_ranks_are_the_same_after_interruptions(training, ranked):
    """Also with those whose checkpoints are deleted, and where a validation was interrupted."""
    for stop in ({'stop_at': 9}, {'stop_validating': 12}, {'stop_at': 12}, {'stop_at': 17}):
        with pytest.raises(Interrupted):
            training.start(scores=RANKED, rule='label_free', **stop)
    state = training.start(scores=RANKED, rule='label_free')
    assert tiny.same(state, ranked.state) and tiny.same(training.best('label_free'), ranked.best('label_free'))
    assert (training.folder / 'validation.csv').read_bytes() == (ranked.folder / 'validation.csv').read_bytes()


LOST = {4: 1.0, 8: 0.9, 12: 0.1, 16: 1.0, 20: 1.0}  # volumes of the spleen
LOST = {step: {'score': step / 20, 'volume/spleen': ratio} for step, ratio in LOST.items()}


def test_training_ends_when_an_organ_is_lost(training):
    """However often it is interrupted; and neither a later start nor a longer training goes on from there."""
    for stop in ({'stop_at': 9}, {'stop_validating': 12}):
        with pytest.raises(Interrupted):
            training.start(scores=LOST, guard=True, **stop)
    state = training.start(scores=LOST, guard=True)
    assert int(state.step) == 12 and int(training.best().step) == 8
    line = 'step 12: spleen has 0.10 times its mean volume in the source, which may be 0.4 to 2.5; '
    assert f'{line}training ends, back to step 8\n' in training.said and training.said.count('spleen') == 1
    training.read.clear()
    for steps in (STEPS, 2 * STEPS):
        assert tiny.same(training.start(steps=steps, scores=LOST, guard=True), state)
    assert training.read == [] and int(training.best().step) == 8


def test_non_finite_steps_are_skipped(training, straight):
    state = training.start(nan={5, 6, 11})
    assert (int(state.step), int(state.skipped), int(state.streak)) == (STEPS, 3, 0)
    assert all(np.isfinite(x).all() for _, x in tiny.arrays(state))
    rows = training.table('metrics.csv')
    assert [int(float(row['skipped'])) for row in rows] == [0, 0, 1, 2, 2, 3, 3, 3, 3, 3]
    assert [int(float(row['streak'])) for row in rows] == [0, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert rows[:2] == straight.table('metrics.csv')[:2]
    assert sorted(int(p.name) for p in (training.folder / 'checkpoints').iterdir()) == [8, 16, 20]


def test_a_skipped_step_moves_nothing(training):
    for stop_at in (3, 5):
        with pytest.raises(Interrupted):
            training.start(stop_at=stop_at, nan={4, 5}, scores=None)
        if stop_at == 3:
            before = training.best()
    after = training.best()
    assert (int(after.step), int(after.skipped), int(after.streak)) == (6, 2, 2)
    assert tiny.same(after.replace(step=0, skipped=0, streak=0), before.replace(step=0, skipped=0, streak=0))


def test_back_to_the_last_good_checkpoint(training):
    spoilt = range(9, 21)  # to be noticed at the first log after the tenth
    scores = dict.fromkeys(range(0, 40, SAVE_EVERY), 0.5)
    state = training.start(steps=36, nan=spoilt, scores=scores)
    assert f'step 20: {loop.PATIENCE} consecutive non-finite steps, rolling back to step 8' in training.said
    assert training.read == list(range(36))
    assert (int(state.step), int(state.skipped), int(state.streak)) == (36, len(spoilt), 0)
    assert all(np.isfinite(x).all() for _, x in tiny.arrays(state))


def test_given_up_after_some_returns(training):
    scores = dict.fromkeys(range(0, 84, SAVE_EVERY), 0.5)
    with pytest.raises(
        InputError, match=f'still non-finite after {loop.ROLLBACKS} rollbacks .*; lower the learning rates'
    ):
        training.start(steps=80, nan=range(8, 80), scores=scores)
    assert training.said.count('rolling back to step') == loop.ROLLBACKS
    assert len(training.read) == 8 + loop.PATIENCE * (loop.ROLLBACKS + 1)


def test_given_up_without_a_checkpoint(training):
    with pytest.raises(InputError, match='non-finite from the start .*; lower the learning rates or check the data'):
        training.start(nan=range(STEPS))
    assert training.read == list(range(loop.PATIENCE))


def test_a_training_too_short_to_be_given_up_says_why_it_has_no_checkpoint(training):
    with pytest.raises(
        InputError, match=r'no checkpoint was saved.*non-finite.* \(4 of 4 steps skipped\).*; lower the learning'
    ):
        training.start(steps=4, nan=range(4))
    assert 'step 4: no checkpoint, gradients were non-finite in the last 4 steps' in training.said
