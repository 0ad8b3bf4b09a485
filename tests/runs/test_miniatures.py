"""At exactly the papers' counts of scans: every system of every table finds its sets, folds and parts; one is trained.

`python tests/miniatures.py` trains and evaluates them all.
"""

import json
from functools import cache

import jaxtyping
import miniature_sets
import miniatures
import pytest

from synseg_jax.inference import trained_model
from synseg_jax.inference.run_networks import Networks
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import plan, reassign
from synseg_jax.preparation.write_records import packages, prepare
from synseg_jax.runs import experiment, label_stage, oracle_selection, results, synthesis_stage, train_stage
from synseg_jax.specification.data import IMAGE_FIELDS

# (configuration, system): scans that are tested of each set, over all folds; of others see OF_ALL.
TESTED = {
    ('synseg_spleen', 'target_labels'): {'target': 19},
    ('synseg_spleen', 'multi_atlas'): {'target': 19},
    ('synseg_ticv', 'target_labels'): {'target': 10},
    ('prostate_ssim', 'mri'): {'source': 60},
    ('prostate_ssim', 'prostate_ssim'): {'target': 19, 'synthesis': 60},
    ('prostate_ssim', 'target_labels'): {'target': 19},
    ('heart3d', 'joint_mr_14'): {'target': 71, 'source': 71},
    ('tumor_lung', 'tumor_aware'): {'test': 28, 'later': 36},
}
COUNTED = {  # configuration: scans of each set
    'synseg_spleen': {'source': 60, 'target': 19, 'axial': 23, 'coronal': 21, 'sagittal': 22},
    'synseg_ticv': {'source': 10, 'target': 10},
    'prostate_ssim': {'source_unlabelled': 346, 'source': 60, 'target': 120},
    'heart3d': {'source': 142, 'target': 142},
    'essnet_liver': {'source': 20, 'target': 20},
    'tumor_lung': {'source': 377, 'target': 42, 'week_one': 6, 'later': 36, 'test': 28},
}


def _manifest(folder, roles, classes, settings) -> Manifest:
    """That of records which nobody has written, of scans whose files are empty."""
    sets = {}
    for role in roles:
        raw = miniature_sets.RAW_SETS[folder.parent.name][role.name]
        described = [_described(case, raw, role, settings) for case in role.cases]
        told = {'domain': role.domain, 'channel': raw.modality, 'labels': role.dataset.labels, 'roles': {}}
        sets.setdefault(role.name, told)['roles'][role.role] = {
            'file': role.file, 'records': sum(case['records'] for case in described), 'sha256': role.file,
            'labelled': role.classes is not None, 'cases': described,
        }  # fmt: skip
    fields = {field: getattr(settings, field) for field in IMAGE_FIELDS}
    return Manifest(folder=folder, classes=classes, seed=0, sets=sets, packages=packages(), request=str(settings),
                    version='', settings=vars(settings), **fields)  # fmt: skip


def _described(case, raw, role, settings) -> dict:
    depth, organs = miniature_sets.slices_of(raw)[case.id]
    margin = {'a': settings.source_margin, 'b': settings.target_margin}[role.domain]
    kept = depth if margin < 0 or role.classes is None else min(depth, organs + 2 * margin)
    kept = list(range(1 if len(settings.size) == 3 else kept))
    return {'id': case.id, 'subject': case.subject, 'image': str(case.image), 'label': case.label and str(case.label),
            'shape': list(raw.shape), 'affine': [[1.0, 0.0, 0.0, 0.0]] * 4, 'slice_mm': raw.spacing_mm[2], 'low': 0.0,
            'high': 1.0, 'kept': kept, 'records': len(kept)}  # fmt: skip


class Untrained(trained_model.Trained):
    """A stage that nobody has trained, which makes no scans to measure."""

    def __init__(self, fit):
        self.run = fit.stage.described(fit.folder)
        self.config, self.networks = self.run.config, Networks(fit.system, {})

    translates = False


def _made(job, read, maker) -> Manifest:
    """What a stage makes, of which nothing but the names and the counts is there."""
    (source,) = {scans.set for scans in read}
    manifest = read[0].manifest
    if isinstance(maker, label_stage.Labeller):
        roles = {name: role | {'labelled': True} for name, role in manifest.sets[source]['roles'].items()}
        entry = manifest.sets[source] | {'of': source, 'by': job.folder.name, 'pseudo': True, 'roles': roles}
        return Manifest(**{**vars(manifest), 'sets': {job.stage.name: entry}, 'request': job.folder.name})
    to = maker.domain if maker.back else maker.other
    entry = {**manifest.sets[source], 'domain': to, 'channel': job.stage.described(job.folder).channels[to]}
    entry |= {'of': source, 'by': job.folder.name, 'from': maker.domain}
    return Manifest(**{**vars(manifest), 'sets': {job.stage.name: entry}, 'request': job.folder.name})


COST = {'seconds': 0.0, 'peak_memory_gib': 0.0, 'finished': True}
ORGAN = {'organ': {'dice': 1.0, 'iou': 1.0, 'asd_mm': 1.0, 'hd95_mm': 1.0}}


@pytest.fixture
def untrained(monkeypatch):
    """`experiment.run` does all that it does but read, write, train, translate and segment scans.

    Types are not checked: going through such long tables would take ten times as long.
    """
    monkeypatch.setattr(jaxtyping.config, 'jaxtyping_disable', True)
    monkeypatch.setattr(Manifest, 'load', cache(Manifest.load))
    monkeypatch.setattr(experiment.Workspace, '_remember', lambda *_, **__: None)
    monkeypatch.setattr(experiment.run_file, 'add_fold', lambda *_: None)
    monkeypatch.setattr(Manifest, 'records', lambda self, name, role: ())
    monkeypatch.setattr(
        train_stage.StageTraining, 'run', lambda fit, *_: (Untrained(fit), COST | {'steps': fit.plan.steps})
    )
    monkeypatch.setattr(synthesis_stage.made_set, 'write_set', _made)
    monkeypatch.setattr(synthesis_stage, 'Trained', lambda run: run)
    monkeypatch.setattr(synthesis_stage.Run, 'load', lambda folder: folder)
    monkeypatch.setattr(label_stage, '_segmentor', lambda stage, run, source: run)
    monkeypatch.setattr(oracle_selection, 'select', lambda *_: None)
    monkeypatch.setattr(results, 'measure', lambda tested, _: {'cases': {case['id']: ORGAN for case in tested.cases}})

    def again(manifest, output, settings, sets=(), progress=True):
        return _manifest(manifest.folder, reassign(manifest, settings), manifest.classes, settings)

    monkeypatch.setattr(experiment, 'prepare_again', again)


@pytest.mark.parametrize('name', miniature_sets.RAW_SETS)
def test_every_system_finds_what_it_reads_and_tests(name, tmp_path, untrained):
    folder = tmp_path / name
    sets, settings = miniatures.write(name, folder, voxels=False)
    manifest = _manifest(folder / 'records', *plan(sets, settings), settings)
    (folder / 'records').mkdir()
    manifest.save()
    counts = {of: sum(len(role['cases']) for role in entry['roles'].values()) for of, entry in manifest.sets.items()}
    assert COUNTED.get(name, {}).items() <= counts.items()
    for job in _different(miniatures.jobs(name, folder)):
        line, failed = job.outcome(folds=0)
        assert not failed, line
        cases = json.loads((job.workdir / job.system / 'results.json').read_text())['cases']
        tested = {of: len(measured) for of, measured in cases.items()}
        if any(stage.transductive for stage in job.config.stages(job.system).values()):
            assert tested['target'] == counts['target'], line
        elif (name, job.system) in TESTED:
            assert tested == TESTED[name, job.system], line


def _different(jobs):
    """Each once; of four shares of the scans two will do."""
    seen = set()
    for job in jobs:
        if job.system.endswith(('_35', '_60')):
            continue
        if (key := (job.system, job.config.test_sets, job.config.transductive)) not in seen:
            seen.add(key)
            yield job


def test_a_system_is_trained_and_tested(tmp_path):
    """Two of ten folds, two steps each."""
    folder = tmp_path / 'synseg_ticv'
    sets, settings = miniatures.write(folder.name, folder)
    prepare(sets, folder / 'records', settings, progress=False)
    job = next(job for job in miniatures.jobs(folder.name, folder) if job.system == 'target_labels')
    line, failed = job.outcome(folds=2)
    assert not failed and 'folds 2, target 2 ' in line, line


def test_what_fails_is_told(tmp_path):
    """One that lacks its records."""
    job = next(miniatures.jobs('synseg_ticv', tmp_path))
    line, failed = job.outcome(folds=0)
    assert failed and 'FAILED: InputError' in line and 'manifest.json: no such file' in line
