"""Training from several seeds changes weights and order of the data, never who is trained on and who is tested."""

import json

import pytest
import tiny

from configs import variants
from synseg_jax.batches.selection import select
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import comparison, stages
from synseg_jax.runs.repeats import repeats
from synseg_jax.specification.parse import parse

SYSTEMS = {
    'plain': {},
    'seeded': {'seed': 5, 'stages': {'train': {'seed': 7}}},
    'atlases': {'kind': 'atlases', 'sets': {'b': ('target',)}},
    'folded': {'fold': {'set': 'source', 'of': 2}, 'sets': {'a': ('source:50%',)}},
}


def _config(data='', **changes):
    config = tiny.config(data, **changes)
    config.systems = variants.systems(**SYSTEMS)
    rows = {name: {'system': name, 'set': 'target', 'name': name, 'reported': {}} for name in ('plain', 'atlases')}
    config.table = variants.table('', '', rows, organs=('liver',), measures=('dice',), reference='plain', runs='')
    return parse(config)


def _subjects(config, manifest):
    """All that decides who is trained on and who is tested: settings of `prepare`, folds, parts of sets."""
    folds = stages.folds(config, 'folded')
    stage = stages.Stage('train', config.stage('folded'), manifest, dict.fromkeys(manifest.sets, manifest), folds[0])
    parts = [scans.key() for d in 'ab' for scans in stage.scans(d)]
    drawn = select(('source:50%',), 'a', stage.sets, 'train', folds[0], manifest, seed=stage.scans('a')[0].seed)
    return config.data, folds, parts, [list(scans.open().rows) for scans in drawn]


def test_the_seed_of_training_deals_no_subjects(tiny_records):
    manifest = Manifest.load(tiny_records)
    first = _subjects(_config(), manifest)
    assert _subjects(_config(seed=1), manifest) == first
    other = _subjects(_config(data__seed=1), manifest)
    assert other[0] != first[0] and other[1] != first[1] and other[3] != first[3]


def test_every_seed_of_training_is_raised_and_no_other(tmp_path):
    first, second, third = repeats(_config(seed=2, data__seed=9, phantom__seed=8), tmp_path, 3)
    assert (first.seed, first.workdir, first.changed) == (2, tmp_path, {})
    assert (second.seed, second.workdir) == (3, tmp_path / 'seed3') and third.workdir == tmp_path / 'seed4'
    assert third.changed == {'seed': 4, 'systems.seeded.seed': 7, 'systems.seeded.stages.train.seed': 9}
    assert (third.config.seed, third.config.stage('seeded').seed) == (4, 9)
    assert (third.config.data.seed, third.config.phantom.seed) == (9, 8)
    assert first.config.seed == 2 and first.config.stage('seeded').seed == 7  # nothing is changed in place
    assert [repeat.trains('plain') for repeat in (first, second)] == [True, True]
    assert [repeat.trains('atlases') for repeat in (first, second)] == [True, False]


def test_main_is_told_the_seed(tmp_path, monkeypatch):
    """The last of two flags counts, so that a seed on the command line is raised as well."""
    lines = []
    monkeypatch.setattr(
        comparison.subprocess, 'Popen', lambda line: lines.append(line) or type('', (), {'wait': int})()
    )
    argv = ['compare', '--table=x.py', '--table.seed=2', '--seeds=2']
    for repeat in repeats(_config(seed=2), tmp_path, 2):
        assert comparison.train('plain', repeat, argv) == (0, False)
    assert [line[3:] for line in lines] == [
        ['--config=x.py', '--config.seed=2', "--config.run=('plain',)", f'--workdir={tmp_path}'],
        ['--config=x.py', '--config.seed=2', '--config.seed=3', '--config.systems.seeded.seed=6',
         '--config.systems.seeded.stages.train.seed=8', "--config.run=('plain',)", f'--workdir={tmp_path / "seed3"}'],
    ]  # fmt: skip


def _results(folder, dice, steps=4, seed=0, fields=''):
    cases = {'target': {f'c{i}': {'liver': {'dice': value}} for i, value in enumerate(dice)}}
    told = {'cases': cases, 'synthesis': {}, 'steps': steps, 'seconds': 60.0, 'peak_memory_gib': 1.0 + seed}
    folder.mkdir(parents=True)
    content = {**told, 'seed': seed, 'reads_target_labels': False, 'folds': 1, 'fields': fields}
    (folder / 'results.json').write_text(json.dumps(content))


def test_every_seed_is_trained_once(tmp_path, monkeypatch):
    """And what has run is not trained again; one that fails is told by its seed."""
    asked = []

    def train(system, repeat, argv):
        asked.append((system, repeat.seed))
        if asked[-1] != ('plain', 1):
            _results(repeat.workdir / system, (0.5,), fields=stages.fields(repeat.config, system))
        return int(asked[-1] == ('plain', 1)), False

    monkeypatch.setattr(comparison, 'train', train)
    systems = ('plain', 'atlases')
    assert not comparison.train_missing(repeats(_config(), tmp_path, 1), systems, ())
    assert asked == [('plain', 0), ('atlases', 0)]
    assert comparison.train_missing(repeats(_config(), tmp_path, 3), systems, ()) == {'plain, seed 1': 1}
    assert asked[2:] == [('plain', 1), ('plain', 2)]
    comparison.train_missing(repeats(_config(), tmp_path, 3), systems, ())
    assert asked[4:] == [('plain', 1)]


def test_rows_are_means_over_seeds(tmp_path):
    """Of what trains nothing there is but one result, which stands for every seed; missing seeds are told."""
    _results(tmp_path / 'plain', (0.2, 0.4))
    _results(tmp_path / 'seed1' / 'plain', (0.4, None), seed=1)
    _results(tmp_path / 'atlases', (0.5, 0.7), steps=0)
    plain, atlases = comparison.rows(_config(), tmp_path, seeds=3)
    dice = {case: of['liver']['dice'] for case, of in plain.cases.items()}
    assert dice == {'c0': pytest.approx(0.3), 'c1': 0.4}
    assert plain.by_seed.keys() == {0, 1} and plain.by_seed[1]['c0']['liver']['dice'] == 0.4
    assert (plain.seconds, plain.memory_gib, plain.note) == (120.0, 2.0, '2 of 3 seeds have run')
    assert atlases.by_seed.keys() == {0, 1, 2} and atlases.by_seed[2] == atlases.by_seed[0] and not atlases.note
    once, _ = comparison.rows(_config(), tmp_path)
    assert not once.by_seed and once.cases['c0']['liver']['dice'] == 0.2
