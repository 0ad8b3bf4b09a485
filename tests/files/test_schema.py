"""Files that say what lies beside them are read as what they should be, or refused in one line with the field."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
import pytest
import tiny
import weights

from synseg_jax.batches.selection import Fold, cases_to_test, select
from synseg_jax.errors import InputError
from synseg_jax.exchange import importing
from synseg_jax.exchange.card import Card
from synseg_jax.exchange.exporting import export
from synseg_jax.files import schema
from synseg_jax.imaging import volume
from synseg_jax.inference import model_folder, trained_model
from synseg_jax.inference.multi_atlas import LISTED, AtlasList
from synseg_jax.preparation import split
from synseg_jax.preparation.records import Manifest
from synseg_jax.runs import comparison, open_run, result_files, results, run_file
from synseg_jax.specification.parse import parse

THINNED = 6  # of the values, every sixth is tried at a place, and others at the next; 1 tries all
DEEP = '@deep@'  # stands for lists within lists, more than Python's reader follows
VALUES = (None, 3, -1, 10**400, 1e400, float('nan'), 'x', '', '../x', [], {}, True, [[[[3]]]], DEEP)
SCAN = volume.Volume(tiny.scan(3, 'CT', (24, 22, 3))[0].astype(np.float32), tiny.AFFINE)


class Part(TypedDict):
    """A part of a file."""

    name: Annotated[str, schema.Check('that may not leave the folder', schema.inside)]
    side: NotRequired[Literal['a', 'b']]


@dataclass
class Whole:
    """A file."""

    folder: Path
    sizes: tuple[int, ...]
    pair: tuple[float, float]
    parts: dict[str, Part]
    share: Annotated[float, schema.between(0, 1)] = 1.0
    more: Any = None


GOOD = {'sizes': [3, 4], 'pair': [0, 1.5], 'parts': {'x': {'name': 'y', 'side': 'a', 'later': [1]}}, 'unknown': 1}


def test_types_become_those_of_the_schema():
    found = schema.conform(GOOD, Whole, 'file', 'mend it')
    part = {'name': 'y', 'side': 'a', 'later': [1]}
    assert found == {'sizes': (3, 4), 'pair': (0.0, 1.5), 'parts': {'x': part}}
    assert isinstance(found['pair'][0], float)


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'sizes': 3}, 'sizes: a list is wanted, found 3'),
        ({'sizes': [3, True]}, 'sizes[1]: a whole number is wanted, found True'),
        ({'sizes': [2**60]}, 'sizes[0]: a number in range is wanted, found 1152921504606846976'),
        ({'pair': [1]}, 'pair: a list of 2 is wanted, found [1]'),
        ({'pair': [1, float('nan')]}, 'pair[1]: a number in range is wanted, found nan'),
        ({'parts': {'x': {}}}, 'parts.x.name: a text that may not leave the folder is wanted'),
        ({'parts': {'x': {'name': '/y'}}}, "parts.x.name: a text that may not leave the folder is wanted, found '/y'"),
        ({'parts': {'x': {'name': 'y', 'side': 'c'}}}, "parts.x.side: 'a' or 'b' is wanted, found 'c'"),
        ({'parts': {'x\ny': {}}}, "parts.'x\\ny'.name: a text that may not leave the folder is wanted"),
        ({'share': 2}, 'share: a number from 0 to 1 is wanted, found 2'),
        ({'more': {'x': [float('inf')]}}, 'more.x[0]: a number in range is wanted, found inf'),
    ],
)  # fmt: skip
def test_one_line_names_file_field_and_remedy(changes, said):
    with pytest.raises(InputError) as error:
        schema.conform(GOOD | changes, Whole, 'runs/x.json', 'mend it')
    assert str(error.value) == f'runs/x.json: {said}; mend it'


@pytest.mark.parametrize(
    'path', ['', '.', '..', '../x', 'x/../../y', '/x', 'C:\\x', 'C:x', 'x\\..\\y', '\\\\host\\x', 'a\0']
)
def test_paths_that_leave_their_folder(path):
    assert not schema.inside(path) and schema.inside('stages/x-01') and schema.inside('a..b')


def spoilt(content) -> Iterator[tuple[str, str]]:
    """Every text of a file in which one value is another, with the place of that value."""

    def places(node, path):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield node, key, f'{path}.{key}'
            if isinstance(node[key], dict | list):
                yield from places(node[key], f'{path}.{key}')

    for number, (node, key, place) in enumerate(list(places(content, ''))):
        before = node[key]
        for value in VALUES[number % THINNED :: THINNED]:
            node[key] = value
            yield f'{place}={str(value)[:9]}', json.dumps(content).replace(f'"{DEEP}"', '[' * 9999 + ']' * 9999)
        node[key] = before
    yield from (('all', json.dumps(value)) for value in VALUES)


def check(path: Path, use: Callable[[], object]) -> int:
    """How many spoilt texts of a file are refused, in one line; `use` must be sound with all others."""
    good, refused = path.read_text(), 0
    use()
    for place, text in spoilt(json.loads(good)):
        path.write_text(text)
        try:
            use()
        except InputError as error:
            assert '\n' not in str(error), (place, error)
            refused += 1
        except Exception as error:
            raise AssertionError(f'{path.name}: {place}: {type(error).__name__}: {error}') from error
    path.write_text(good)
    return refused


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    return folder, weights.workdir(folder, 'published')


def applied(run: model_folder.Run) -> None:
    """Everything about a stage but its weights."""
    made = run.system
    assert made.losses and made.config.augment and made.size and made.optimizers.keys() == made.networks.keys()
    for domain in run.channels:
        run.frame(SCAN, domain, made.size, run.config.data.spacing_mm).images(run.config.context.slices)
        assert trained_model.Trained(run, params={}).segments(domain)


def test_stage_json(trained):
    folder, made = trained
    assert check(made.run.folder / model_folder.STAGE, lambda: applied(model_folder.Run.load(made.run.folder))) > 200


def test_run_json(trained, monkeypatch):
    folder, made = trained
    monkeypatch.setattr(trained_model, 'Trained', lambda run: made)
    path = folder / run_file.RUN
    content = json.loads(path.read_text())
    content['config'] = {name: content['config'][name] for name in ('default_system', 'systems', 'data')}
    path.write_text(json.dumps(content))
    assert check(path, lambda: open_run.find(folder, network='')) > 2


def test_card_json(trained, tmp_path):
    export(trained[1], tmp_path / 'out')

    def use():
        card = Card.load(tmp_path / 'out')
        with contextlib.suppress(InputError):  # of another file than its own: said where it is read
            files = {name: card.weights(name) for name in card.networks}
            assert all(file.parent == tmp_path / 'out' for file in files.values())
        applied(importing.with_card(tiny.stage(), card))

    assert check(tmp_path / 'out' / 'card.json', use) > 200


def test_manifest_json(tiny_records, tmp_path):
    for path in tiny_records.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / 'manifest.json'
    content = json.loads(path.read_text())
    for entry in content['sets'].values():  # a scan of each is enough
        entry['roles'] = {'train': entry['roles']['train']}
        (case, *_), role = entry['roles']['train']['cases'], entry['roles']['train']
        role['cases'] = [{**case, 'kept': case['kept'][:2], 'affine': [[1.0]], 'records': 2}]
        role['records'] = 2
    path.write_text(json.dumps(content))

    def use():
        manifest = Manifest.load(tmp_path)
        sets = dict.fromkeys(manifest.sets, manifest)
        for name, entry in manifest.sets.items():
            cases_to_test(name, sets, Fold(), manifest)
            for role in entry['roles']:
                for chosen in select([name], entry['domain'], sets, role, Fold(), manifest, context=1, spacing_mm=1.0):
                    assert chosen.key() and chosen.described
        split.reassign(manifest, tiny_settings())

    assert check(path, use) > 200


def tiny_settings():
    from synseg_jax.specification.parse import parse_data

    return parse_data(tiny.config())


MEASURED = {'ct_1': {'liver': {'dice': 0.5, 'asd_mm': None}}}
RESULTS = {
    'cases': {'target': MEASURED}, 'synthesis': {name: {'mean': 1.0, 'n': 2} for name in ('mae', 'psnr', 'ssim')},
    'steps': 4, 'seconds': 1.5, 'peak_memory_gib': 1.0, 'seed': 0, 'reads_target_labels': False, 'folds': 1,
    'fields': 'x', 'stages': ['x'],
}  # fmt: skip


def test_results_json(tmp_path):
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / result_files.RESULTS).write_text(json.dumps(RESULTS))
    row = {'system': 'x', 'set': 'target', 'name': 'X', 'reported': {}}
    config = tiny.config()
    config.systems = {'x': {}}
    config.table = {'rows': {'x': row}, 'order': ('x',), 'sets': {}}

    def use():
        for row in comparison.rows(parse(config), tmp_path):
            assert comparison.values(row, 'liver', 'dice') is not None and isinstance(row.note, str)

    assert check(tmp_path / 'x' / result_files.RESULTS, use) > 15


def test_measures_json_of_another_kind_is_measured_again(tmp_path):
    path = tmp_path / result_files.MEASURES
    good = {'sets': {'target': {'key': 'x', 'cases': MEASURED}}, 'weights': 'x', 'synthesis': {}}
    path.write_text(json.dumps(good))
    assert results._before(path) == good
    assert not check(path, lambda: results.pool([{**PART, **results._before(path)}]))


PART = {'costs': [], 'seed': 0, 'reads_target_labels': False}


def test_atlases_json(tmp_path):
    path = tmp_path / LISTED
    path.write_text(json.dumps({'cases': [{'id': 'x', 'image': '/x', 'label': '/y'}], 'labels': {'liver': [1, 2]}}))
    assert check(path, lambda: schema.load(path, AtlasList, 'train again')) > 10
