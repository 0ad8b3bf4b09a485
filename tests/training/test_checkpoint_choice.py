"""The choice of a checkpoint by ranks, what it may still become, and the guard of volumes."""

import itertools

import numpy as np
import pytest

from synseg_jax.training import selection
from synseg_jax.training.selection import SCORES, Validation

VOLUME = 'volume/spleen'


def _validations(*rows):
    """One validation a row of scores, at steps 10, 20, ..."""
    return [Validation(10 * i, dict(zip(SCORES, row, strict=True))) for i, row in enumerate(rows, 1)]


def _chosen(rule, validations, **scores):
    given = {validation.step: scores.get(f'step{validation.step}') for validation in validations}
    return selection.order(rule, validations, given)[0]


def test_ranks_weigh_scores_the_same_whatever_their_range():
    """Step 10 leads by far in one score, step 20 by little in two."""
    validations = _validations((0.9, 0.5, 0.5), (0.1, 0.51, 0.52), (0.05, 0.2, 0.1))
    assert selection.mean_ranks(validations) == pytest.approx({10: 2 / 3, 20: 1 / 3, 30: 2})
    assert selection.order('label_free', validations, dict.fromkeys((10, 20, 30))) == [20, 10, 30]


def test_ties_go_to_the_later():
    validations = _validations((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (0.1, 0.1, 0.1))
    assert _chosen('label_free', validations) == 20 and selection.may_win(validations) == {20}
    assert _chosen('source_dice', validations, step10=0.7, step20=0.7, step30=0.1) == 20
    assert _chosen('last', validations, step10=0.7) == 30


def test_a_missing_score_is_the_lowest_and_one_of_nobody_does_not_count():
    nan = float('nan')
    assert _chosen('label_free', _validations((0.1, 0.4, nan), (nan, 0.4, nan))) == 10
    only = [Validation(step, {'agreement': value}) for step, value in ((10, 0.9), (20, 0.8))]
    assert selection.mean_ranks(only) == {10: 0, 20: 1}
    assert selection.mean_ranks([Validation(10, {'score': 0.5})]) == {}
    assert _chosen('label_free', [Validation(10, {}), Validation(20, {})]) == 20


def test_what_may_win_is_enough_for_every_future():
    """Whatever later validations find, the choice among those kept is that among all."""
    rng = np.random.default_rng(0)
    deleted = 0
    for _ in range(200):
        rows = rng.integers(0, 4, (8, len(SCORES)))
        validations, kept = _validations(*rows), set()
        for count in range(1, len(rows) + 1):
            kept = (kept | {10 * count}) & selection.may_win(validations[:count])
        deleted += len(rows) - len(kept)
        everything = selection.order('label_free', validations, {v.step: None for v in validations})
        assert selection.order('label_free', validations, dict.fromkeys(kept))[0] == everything[0]
    assert deleted > 200


def test_the_choice_changes_as_others_come():
    """Why not only the best so far is kept."""
    rows = [(4, 1, 1), (1, 3, 3), (2, 2, 2)]
    choices = {
        _chosen('label_free', _validations(*rows, *more))
        for more in itertools.product([(3, 1, 1), (1, 4, 4)], repeat=2)
    }
    assert len(choices) > 1


def _volumes(*ratios):
    return [Validation(10 * i, {VOLUME: ratio}) for i, ratio in enumerate(ratios, 1)]


def test_the_guard_says_which_organ_left_and_by_how_much():
    said = selection.departed(_volumes(1.0, 0.8), {VOLUME: 0.123, 'volume/liver': 0.0}, first=0)
    assert said == 'spleen has 0.12 times its mean volume in the source, which may be 0.4 to 2.5'
    both = [Validation(10, {VOLUME: 1.0, 'volume/liver': 1.0})]
    assert selection.departed(both, {VOLUME: 0.3, 'volume/liver': 3.5}, 0).startswith('liver has 3.50')


@pytest.mark.parametrize('before, now', [((), 0.1), ((0.1, 0.2), 0.1), ((1.0,), 2.4), ((0.1, 3.0), 9.0)])
def test_what_was_not_found_yet_is_not_lost(before, now):
    assert selection.departed(_volumes(*before), {VOLUME: now}, first=0) == ''


def test_chance_at_the_start_does_not_count():
    assert selection.departed(_volumes(1.0, 0.2), {VOLUME: 0.1}, first=11) == ''
    assert selection.departed(_volumes(1.0, 1.0), {VOLUME: 0.1}, first=11)


@pytest.mark.parametrize('rule', selection.RULES)
def test_where_the_guard_ended_training_is_never_chosen(rule):
    good = _validations((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    validations = [*good, Validation(30, dict.fromkeys(SCORES, 0.9), 'spleen has left')]
    assert selection.order(rule, validations, {10: 0.1, 20: 0.2, 25: None, 30: 0.9})[-1] == 30
    assert selection.may_win(validations) == {20}
