"""All checks of all sets; errors are collected, not raised."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from synseg_jax.datasets import class_names
from synseg_jax.datasets.cases import Dataset
from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.files.capture_warnings import capture_warnings
from synseg_jax.preparation.checks import across
from synseg_jax.preparation.checks.case import WORKERS, Checked, Problem, check_headers, check_voxels
from synseg_jax.preparation.split import Scans, Split, assign, plan
from synseg_jax.specification.data import Data, channels_in


def survey(
    sets: Sequence[Scans], settings: Data, advance: Callable[[int, int], None] = lambda done, of: None
) -> tuple[list[Checked], list[Problem]]:
    """Check all cases, target labels included; all cases and all problems.

    `advance(done, total)` is called after each case.  InputError for invalid settings, and if no folder can be read.
    """
    splits, problems = planned(sets, settings)
    cases = [Checked(split, case) for split in splits for case in split.cases]
    checked = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for one in pool.map(lambda one: _check(one, settings), cases):
            checked.append(one)
            advance(len(checked), len(cases))
    problems += [problem for one in checked for problem in one.problems]
    problems += across.subjects([one for one in checked if one.split.name not in settings.same_patients])
    return checked, _once(problems + across.by_headers(checked) + across.by_voxels(checked, settings.same_patients))


def _once(problems) -> list[Problem]:
    """Problems without duplicates; a warning of several files of a set once, with the number of other files."""
    groups: dict[tuple, list[Problem]] = {}
    for problem in problems:
        text = problem.text.partition(': ')[2] if problem.heard else problem.text
        groups.setdefault((problem.name, problem.error, text), []).append(problem)
    found = []
    for first, *others in groups.values():
        more = f' (and {len(others)} more files)' if first.heard and others else ''
        found.append(replace(first, text=first.text + more))
    return found


def planned(sets: Sequence[Scans], settings: Data) -> tuple[list[Split], list[Problem]]:
    """As `split.plan`, but an invalid set is a problem, and its cases are checked as one split without a role.

    Subjects in two roles are left to `across`, which reports all of them.
    """
    plan([], replace(settings, classes=settings.classes or ('background',)))  # invalid settings
    settings = replace(settings, same_patients=tuple(scans.name for scans in sets))
    splits, problems = _planned(sets, settings, plan)
    if not splits:
        classes = settings.classes or _classes(sets, settings)
        splits, together, problems = [], problems, []
        for scans in sets:
            alone, found = _planned([scans], replace(settings, classes=classes), assign)
            splits += alone or _whole(scans, settings, classes)
            problems += [replace(problem, name=scans.name) for problem in found]
        problems += [problem for problem in together if problem.text not in {one.text for one in problems}]
    if not splits:
        raise InputError(*(problem.text for problem in problems))
    return splits, problems


def _planned(sets, settings, function) -> tuple[list[Split], list[Problem]]:
    """The splits that `plan` or `assign` gives sets, none on InputError; errors and warnings as problems."""
    with capture_warnings() as said:
        try:
            splits, refused = function(sets, settings)[0], []
        except InputError as error:
            splits, refused = [], [Problem(str(error))]
    return splits, [*refused, *(Problem(line, error=False) for line in dict.fromkeys(said))]


def _whole(scans, settings, classes) -> list[Split]:
    """All readable cases of a set that cannot be split, as one split without a role."""
    dataset = _read(scans, settings)
    if dataset is None:
        return []
    dataset = replace(dataset, labels=class_names.match_names(dataset.labels, classes))
    cases = [*dataset.cases, *dataset.test_cases]
    return [Split(scans.name, '', scans.domain, dataset, cases, None, channels_in(settings, scans.domain))]


def _classes(sets, settings) -> tuple[str, ...]:
    """The classes that a plan would have, if any set names some."""
    order = sorted(sets, key=lambda scans: scans.domain)
    named = [dataset.labels for scans in order if (dataset := _read(scans, settings)) and dataset.labels]
    return class_names.disjoint(named[0]) if named else ()


def _read(scans, settings) -> Dataset | None:
    try:
        with capture_warnings():
            return read_dataset(scans.folder, settings.subject, scans.channel, scans.labels)
    except InputError:
        return None  # reported by `plan`


def _check(one, settings) -> Checked:
    check_headers(one, labels=True)
    check_voxels(one, settings)
    return one
