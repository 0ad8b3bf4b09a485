"""Which records a stage reads: sets by name and part, folds by subject, and neighbours as channels."""

import dataclasses

import numpy as np
import pytest
import tiny

from synseg_jax.batches.selection import Chosen, Fold, cases_to_test, select
from synseg_jax.errors import InputError
from synseg_jax.imaging import slices
from synseg_jax.preparation.records import Manifest


@pytest.fixture
def manifest(tiny_records):
    return Manifest.load(tiny_records)


def _select(manifest, texts, domain='a', role='train', fold=Fold(), **options):
    return select(texts, domain, dict.fromkeys(manifest.sets, manifest), role, fold, manifest, **options)


def test_every_set_of_the_domain_unless_named(manifest):
    (source,) = _select(manifest, ())
    assert source == _select(manifest, ('source',))[0]
    assert (source.set, source.role, len(source.cases)) == ('source', 'train', 4)
    assert _select(manifest, (), 'b')[0].set == 'target' and not _select(manifest, (), 'b', 'val')
    excerpt, records = source.open(), manifest.records('source', 'train')
    assert len(excerpt) == len(records) == sum(excerpt.scans) == 24
    assert all(np.array_equal(excerpt[i]['image'], records[i]['image']) for i in (0, 11, 23))


def test_a_part_is_drawn_once_from_all_slices(manifest):
    whole, half = _select(manifest, ('source',))[0].open(), _select(manifest, ('source:50%',), seed=1)[0].open()
    ten = _select(manifest, ('source:10',), seed=1)[0].open()
    assert len(half) == sum(half.scans) == 12 and len(ten) == sum(ten.scans) == 10
    assert set(ten.rows) < set(half.rows) < set(whole.rows)  # a larger part holds the smaller
    assert not np.array_equal(half.rows, _select(manifest, ('source:50%',), seed=2)[0].open().rows)
    assert len({int(half[i]['case']) for i in range(12)}) > 1
    assert len(_select(manifest, ('source:100%',))[0].open()) == 24
    assert len(_select(manifest, ('source:10',), role='val')[0].open()) == 6  # what is validated is whole
    for text in ('source:25', 'source:101%', 'source:x', 'source:-1'):
        with pytest.raises(InputError, match=f'set {text}: give a share in percent, or at most the 24 slices'):
            _select(manifest, (text,))[0].open()


def test_translated_source_scans_are_labelled_images_like_others(manifest):
    target = manifest.sets['target']
    made = {'synthesis': target | {'by': 'stage'}, 'found': target | {'by': 'stage', 'pseudo': True}}
    changed = dataclasses.replace(manifest, sets={**manifest.sets, **made})
    read = _select(changed, ('source', 'synthesis'))
    assert [(scans.set, scans.manifest.sets[scans.set]['domain']) for scans in read] == [
        ('source', 'a'), ('synthesis', 'b')
    ]  # fmt: skip
    for name in ('target', 'found'):
        with pytest.raises(InputError, match=f'sets.a: {name} is of domain b'):
            _select(changed, (name,))


@pytest.mark.parametrize('of', [2, 3, 4])
def test_folds_part_the_subjects(manifest, of):
    folds = [Fold('source', of, index, seed=5) for index in range(of)]
    held_out = [fold.held_out(manifest) for fold in folds]
    assert sum(map(len, held_out)) == 5 and len(frozenset.union(*held_out)) == 5  # the one that validates too
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    for fold, out in zip(folds, held_out, strict=True):
        (trained,) = _select(manifest, ('source',), fold=fold)
        assert {case['subject'] for case in trained.described} == {f'mr_{i}' for i in (0, 2, 3, 4)} - out
        sets = dict.fromkeys(manifest.sets, manifest)
        assert {case['subject'] for case in cases_to_test('source', sets, fold, manifest)} == out
        assert _select(manifest, ('target',), 'b', fold=fold) == _select(manifest, ('target',), 'b')
    assert held_out[0] == Fold('source', of, 0, seed=5).held_out(manifest)


def test_folds_reach_all_labelled_subjects_whatever_their_split(manifest):
    sets = {'target': manifest}
    subjects = {case['subject'] for role in manifest.sets['target']['roles'].values() for case in role['cases']}
    assert len(subjects) == 4
    folds = [Fold('target', 4, index) for index in range(4)]
    tested = [cases_to_test('target', sets, fold, manifest) for fold in folds]
    assert {case['subject'] for cases in tested for case in cases} == subjects and all(len(c) == 1 for c in tested)
    for fold in folds:
        trained = _select(manifest, ('target',), 'b', fold=fold)
        assert {case['subject'] for scans in trained for case in scans.described} == subjects - fold.held_out(manifest)
    assert len(cases_to_test('target', sets, Fold(), manifest)) == 1


def test_scans_without_labels_are_not_dealt(manifest):
    roles = manifest.sets['target']['roles']
    roles['train']['cases'] = [{**case, 'label': None} for case in roles['train']['cases']]
    with pytest.raises(InputError, match='fold.of 2: target has 1 labelled subjects'):
        Fold('target', 2).held_out(manifest)
    roles['test'] |= {'cases': [{**roles['test']['cases'][0], 'subject': name} for name in 'xyz'], 'labelled': True}
    fold = Fold('target', 3, 1)
    (out,) = fold.held_out(manifest)
    (trained,) = _select(manifest, ('target',), 'b', fold=fold)  # those with labels alone, as they are read
    assert trained.role == 'test' and {case['subject'] for case in trained.described} == set('xyz') - {out}
    assert [c['subject'] for c in cases_to_test('target', {'target': manifest}, fold, manifest)] == [out]


def test_strata_are_dealt_evenly(manifest):
    entry = manifest.sets['source']['roles']
    case = entry['train']['cases'][0]
    names = [f'{scanner}-{i:02d}' for scanner in ('3T', 'Dx') for i in range(6)]
    entry['train']['cases'] = [{**case, 'id': name, 'subject': name} for name in names]
    del entry['val']
    held_out = [Fold('source', 6, index, 0, r'^(\w+)-').held_out(manifest) for index in range(6)]
    assert all(sorted(name[:2] for name in out) == ['3T', 'Dx'] for out in held_out)
    assert frozenset.union(*held_out) == set(names)
    for expression, told in (('(', 'fold.strata'), ('3', 'fold.strata'), ('^(z)', 'finds no stratum in case id')):
        with pytest.raises(InputError, match=told):
            Fold('source', 2, 0, 0, expression).held_out(manifest)


def test_transductive_training_sees_the_images_that_are_tested(manifest):
    sets, subjects = {'target': manifest}, 4
    trained = _select(manifest, ('target',), 'b', transductive=True)
    assert [scans.role for scans in trained] == ['train', 'test']
    assert sum(len(scans.cases) for scans in trained) == subjects
    assert len(cases_to_test('target', sets, Fold(), manifest, all_labelled=True)) == subjects
    assert len(cases_to_test('target', sets, Fold(), manifest)) == 1
    assert [scans.role for scans in _select(manifest, ('target',), 'b', 'test', transductive=True)] == ['test']
    del manifest.sets['target']['roles']['train']  # a cohort to test on, which nobody trains on
    assert not _select(manifest, ('target',), 'b', transductive=True)


def test_what_enters_the_key(manifest):
    (whole,) = _select(manifest, ('source',))
    others = [
        _select(manifest, ('source:50%',))[0],
        _select(manifest, ('source',), context=1)[0],
        Chosen(manifest, 'source', 'train', (0, 1)),
        Chosen(manifest, 'source', 'val', (0,)),
    ]
    keys = [str(scans.key()) for scans in (whole, *others)]
    assert len(set(keys)) == len(keys)
    assert whole.key() == _select(manifest, ('source',), seed=3)[0].key()  # a seed that draws nothing
    assert whole.key() == _select(manifest, ('source',), spacing_mm=3.0)[0].key()


def test_neighbours_stay_within_a_scan(manifest):
    (scans,) = _select(manifest, ('source',), context=2)
    excerpt, records = scans.open(), manifest.records('source', 'train')
    for row, near in ((0, (0, 0, 0, 1, 2)), (5, (3, 4, 5, 5, 5)), (6, (6, 6, 6, 7, 8)), (8, (6, 7, 8, 9, 10))):
        expected = np.concatenate([records[i]['image'] for i in near], axis=-1)
        assert np.array_equal(excerpt[row]['image'], expected), row
        assert np.array_equal(excerpt[row]['label'], records[row]['label'])


def test_neighbours_at_a_distance_are_those_of_prediction(manifest):
    (scans,) = _select(manifest, ('source',), context=1, spacing_mm=3.5)  # of slices 5 mm apart
    records = manifest.records('source', 'train')
    stack = np.stack([records[i]['image'][..., 0] for i in range(6)])
    expected = slices.with_neighbours(stack, 1, 3.5 / 5)
    found = np.stack([scans.open()[i]['image'] for i in range(6)])
    assert np.allclose(found, expected, atol=1e-6)
    assert np.allclose(expected[2, ..., 0], 0.3 * stack[2] + 0.7 * stack[1], atol=1e-6)
    assert np.array_equal(expected[0, ..., 0], stack[0])


def test_a_dropped_slice_gives_way():
    places = slices.neighbours([3, 4, 6], 1)
    assert np.allclose(places, [[0, 0, 1], [0, 1, 1.5], [1.5, 2, 2]])


def test_a_set_of_the_other_domain_is_refused(manifest):
    with pytest.raises(InputError, match='sets.b: source is of domain a'):
        _select(manifest, ('source',), 'b')
    with pytest.raises(InputError, match="unknown set 'none'; known: source, target"):
        _select(manifest, ('none',))


def test_batches_of_neighbours(tiny_records):
    """The train step sees the slice in the middle, its neighbours beside it."""
    from synseg_jax.batches.pipeline import Pool, batches

    manifest = Manifest.load(tiny_records)
    (scans,) = _select(manifest, (), context=1)
    opened = scans.open()
    pool = Pool([opened], opened.scans, balanced=True)
    batch = next(batches({'a': pool}, 4, 0, 0, 2))
    assert batch['a'].shape == (4, 32, 32, 3) and batch['a'].dtype == np.float32
    plain = [records['image'][..., 0] for records in manifest.records('source', 'train')]
    assert all(any(np.array_equal(row[..., 1], image) for image in plain) for row in batch['a'])
    assert tiny.SHAPE[2] == 6
