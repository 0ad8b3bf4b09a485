"""All checks of all sets, going on whatever is found."""

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
from synseg_jax.preparation.split import Role, Scans, assign, plan
from synseg_jax.specification.data import Data


def survey(
    sets: Sequence[Scans], settings: Data, advance: Callable[[int, int], None] = lambda done, of: None
) -> tuple[list[Checked], list[Problem]]:
    """Every case, with what was found out about it, and every problem; `advance` hears how many of how many are done.

    Labels of the target are read too.  Raises InputError for settings that will not do, and if no folder can be read.
    """
    roles, problems = planned(sets, settings)
    cases = [Checked(role, case) for role in roles for case in role.cases]
    checked = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for one in pool.map(lambda one: _check(one, settings), cases):
            checked.append(one)
            advance(len(checked), len(cases))
    problems += [problem for one in checked for problem in one.problems]
    problems += across.subjects([one for one in checked if one.role.name not in settings.same_patients])
    return checked, _once(problems + across.by_headers(checked) + across.by_voxels(checked, settings.same_patients))


def _once(problems) -> list[Problem]:
    """Every problem once; of what was heard of several files of a set, the first file and how many more there are."""
    groups: dict[tuple, list[Problem]] = {}
    for problem in problems:
        text = problem.text.partition(': ')[2] if problem.heard else problem.text
        groups.setdefault((problem.name, problem.error, text), []).append(problem)
    found = []
    for first, *others in groups.values():
        more = f' (and {len(others)} more files)' if first.heard and others else ''
        found.append(replace(first, text=first.text + more))
    return found


def planned(sets: Sequence[Scans], settings: Data) -> tuple[list[Role], list[Problem]]:
    """As `roles.plan`, but a set that will not do is a problem, and its cases are checked as one role without a name.

    Subjects in two roles are left to `comparison`, which tells all of them.
    """
    plan([], replace(settings, classes=settings.classes or ('background',)))  # settings that will never do
    settings = replace(settings, same_patients=tuple(scans.name for scans in sets))
    roles, problems = _planned(sets, settings, plan)
    if not roles:
        classes = settings.classes or _classes(sets, settings)
        roles, together, problems = [], problems, []
        for scans in sets:
            alone, found = _planned([scans], replace(settings, classes=classes), assign)
            roles += alone or _whole(scans, settings, classes)
            problems += [replace(problem, name=scans.name) for problem in found]
        problems += [problem for problem in together if problem.text not in {one.text for one in problems}]
    if not roles:
        raise InputError(*(problem.text for problem in problems))
    return roles, problems


def _planned(sets, settings, function) -> tuple[list[Role], list[Problem]]:
    """The roles that `plan` or `assign` gives sets, none where they will not do, and what was said."""
    with capture_warnings() as said:
        try:
            roles, refused = function(sets, settings)[0], []
        except InputError as error:
            roles, refused = [], [Problem(str(error))]
    return roles, [*refused, *(Problem(line, error=False) for line in dict.fromkeys(said))]


def _whole(scans, settings, classes) -> list[Role]:
    """A set that cannot be cast: all that can be read of it, as a role without a name."""
    dataset = _read(scans, settings)
    if dataset is None:
        return []
    dataset = replace(dataset, labels=class_names.match_names(dataset.labels, classes))
    cases = [*dataset.cases, *dataset.test_cases]
    return [Role(scans.name, '', scans.domain, dataset, cases, None)]


def _classes(sets, settings) -> tuple[str, ...]:
    """The classes that a plan would have, as far as any set names some."""
    order = sorted(sets, key=lambda scans: scans.domain)
    named = [dataset.labels for scans in order if (dataset := _read(scans, settings)) and dataset.labels]
    return class_names.disjoint(named[0]) if named else ()


def _read(scans, settings) -> Dataset | None:
    try:
        with capture_warnings():
            return read_dataset(scans.folder, settings.subject, scans.channel, scans.labels)
    except InputError:
        return None  # which `plan` has told


def _check(one, settings) -> Checked:
    check_headers(one, labels=True)
    check_voxels(one, settings)
    return one
