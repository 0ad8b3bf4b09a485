"""Results of a finished system by another protocol than the native one, as `compare` shows them."""

from collections.abc import Mapping
from pathlib import Path

from synseg_jax.errors import InputError
from synseg_jax.evaluation import protocols
from synseg_jax.evaluation.by_protocol import Predictions
from synseg_jax.evaluation.protocols import NATIVE
from synseg_jax.files import schema
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs.result_files import MEASURES, Cases, Measures
from synseg_jax.runs.results import mean_of


def by_protocol(results: Mapping, folder: Path, set_name: str, protocol: str, records: Path) -> Mapping:
    """The results of a system, with the cases of a set as the protocol measures them; nothing pooled over cases.

    `folder` holds the system's results.json.  What is not in it is measured from the stored predictions, against the
    labels that the manifest of `records` names.  InputError if the predictions are not those that were measured.
    """
    if protocol == NATIVE:
        return results
    known = results.get('protocols', {}).get(protocol, {}).get('cases', {})
    cases = known[set_name] if set_name in known else _measured(folder, set_name, protocol, records)
    return {**results, 'cases': {set_name: cases}, 'pooled': {}}


def _measured(folder, set_name, protocol, records) -> Cases:
    """Metrics of the cases of all folds."""
    native = {fold: _native(fold, set_name) for fold in sorted(folder.glob('fold*')) or [folder]}
    entry = Manifest.load(records).sets.get(set_name)
    if entry is None:
        raise InputError(f'{records}: has no set {set_name}, which a stage makes; add {protocol} to table.protocols')
    rule, tested = protocols.named(protocol), {case for cases in native.values() for case in cases}
    scored = {*rule.scored(sorted(tested), entry['channel'])}
    parts = [_of_fold(fold, set_name, entry, rule, scored, cases) for fold, cases in native.items()]
    return mean_of(parts)


def _native(fold, set_name) -> Cases:
    measures = schema.load(fold / MEASURES, Measures, 'run the row again')
    return measures['sets'].get(set_name, {}).get('cases', {})


def _of_fold(fold, set_name, entry, rule, scored, native) -> Cases:
    listed = {case['id']: case for role in entry['roles'].values() for case in role['cases']}
    if unknown := sorted(native.keys() - listed.keys()):
        raise InputError(f'{fold / MEASURES}: {unknown[0]} is not in the records of set {set_name}; run the row again')
    predictions = Predictions(fold / 'predictions' / set_name, entry, [listed[case] for case in native])
    cases = [case for case in predictions.cases if case['id'] in scored]
    measured = predictions.measure(rule, cases, native)
    if measured is None:
        raise InputError(
            f'{predictions.folder}: not the predictions that {MEASURES} is of; run the row again with '
            f"--table.protocols=\"('native','{rule.name}')\""
        )
    return measured
