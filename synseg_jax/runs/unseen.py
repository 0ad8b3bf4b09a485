"""Whether a system sees patients in training that it is tested on, which `test_all` does not allow."""

from collections.abc import Iterator, Mapping, Sequence

from synseg_jax.batches.selection import Fold, cases_to_test, select
from synseg_jax.errors import InputError
from synseg_jax.preparation.records import Manifest
from synseg_jax.specification.stage import Stage
from synseg_jax.training.system import System


def check(system: str, stages: Mapping[str, Stage], manifest: Manifest, folds: Sequence[Fold]) -> None:
    """InputError if a system that tests all labelled target scans reads a scan of one of their patients.

    Its stages are looked at together, as one may build on another; sets made by stages come from scans of `manifest`.
    """
    if not any(stage.test_all for stage in stages.values()):
        return
    for fold in folds:
        tested = set().union(*(_tested(stage, manifest, fold) for stage in stages.values()))
        for name, stage in stages.items():
            if seen := sorted(tested & {*_read(stage, manifest, fold)}):
                raise InputError(
                    f'system {system}: test_all would test patients whose scans stage {name} reads '
                    f'({", ".join(seen[:3])}{", ..." if len(seen) > 3 else ""}); leave test_all out for this system'
                )


def _tested(stage, manifest, fold) -> set[str]:
    """The patients that would be tested."""
    sets = dict.fromkeys(manifest.sets, manifest)
    names = [name for name in stage.test_sets if name in sets] or _of_domain(manifest, 'b')
    tested = (cases_to_test(name, sets, fold, manifest, stage.test_all) for name in names)
    return {case['subject'] for cases in tested for case in cases}


def _read(stage, manifest, fold) -> Iterator[str]:
    """The patients whose scans a stage reads, to train on or to validate with."""
    sets = dict.fromkeys(manifest.sets, manifest)
    for domain in _domains(stage, manifest.classes):
        texts = [text for text in stage.sets.of(domain) if text.partition(':')[0] in sets]
        if stage.sets.of(domain) and not texts:  # only sets that stages made, which read their scans themselves
            continue
        for role in stage.kind_of_stage.roles:
            transductive = stage.transductive and domain == 'b'
            for scans in select(texts, domain, sets, role, fold, manifest, transductive):
                yield from (case['subject'] for case in scans.described)


def _domains(stage, classes) -> Sequence[str]:
    """The domains whose scans it reads."""
    if stage.kind_of_stage.trains:
        return [*System(stage, classes).domains, *['b'] * _judged_on_target(stage)]
    if stage.kind_of_stage.makes_set:
        return [domain for domain in 'ab' if stage.sets.of(domain)] or 'ab'
    return ['b']  # atlases are labelled scans of the target


def _judged_on_target(stage) -> bool:
    """Whether scores of target scans choose its checkpoint, or end its training."""
    return stage.selection == 'label_free' or stage.train.guard


def _of_domain(manifest, domain) -> list[str]:
    return [name for name, entry in manifest.sets.items() if entry['domain'] == domain]
