"""A plan fits the data, the machine and the hours; its file is a configuration that prepare and main take."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from configs import adapt
from synseg_jax import plan as command
from synseg_jax.datasets.cases import Case, Dataset
from synseg_jax.errors import InputError
from synseg_jax.planning import choices, cost, facts
from synseg_jax.planning.facts import Facts
from synseg_jax.planning.machine import Machine
from synseg_jax.preparation.split import Scans
from synseg_jax.prepare import main as prepare
from synseg_jax.specification.data import Data
from synseg_jax.specification.parse import parse

LAPTOP = Machine('cpu', 'cpu', 1, 2, 24.0)
CLUSTER = Machine('gpu', 'NVIDIA H200', 4, 64, 139.0)
LABELS = {'background': 0, 'liver': 1, 'spleen': 2}


def _facts(channel, count=5, **changes):
    cases = tuple(Case(str(n), str(n), Path('image'), Path('label')) for n in range(count))
    known = Facts(Dataset(Path(channel), (channel,), LABELS, cases), count, (30, 256, 256), (7.7, 1.25, 1.25), 360.0,
                  (-40.0, 180.0))  # fmt: skip
    return replace(known, **changes)


MR, CT = _facts('MR'), _facts('CT', shape=(80, 512, 512), spacing_mm=(3.0, 0.8, 0.8), body_mm=410.0)


def _chosen(source=MR, target=CT, machine=LAPTOP):
    found = [*choices.of_data(source, target, machine), *choices.of_training(machine)]
    assert all(choice.reason for choice in found)
    return {choice.field: choice.value for choice in found}


def test_pixels_show_the_largest_body_and_are_no_finer_than_the_scans():
    for machine, side in ((LAPTOP, 128), (CLUSTER, 256)):
        chosen = _chosen(machine=machine)
        assert chosen['data.size'] == (side, side)
        assert 410 <= side * chosen['data.spacing_mm'] < 460
    small = _chosen(replace(MR, body_mm=60.0), replace(CT, body_mm=70.0))
    assert small['data.spacing_mm'] == pytest.approx(0.8) and small['data.size'] == (96, 96)
    assert _chosen(replace(MR, body_mm=0.0), replace(CT, body_mm=0.0))['data.spacing_mm'] == pytest.approx(2.7)


def test_the_window_is_that_of_organs_in_ct():
    assert _chosen()['data.window_hu'] == choices.SOFT_TISSUE
    assert _chosen(CT, MR)['data.window_hu'] == (-65.0, 205.0)
    lung = replace(MR.dataset, labels={**LABELS, 'left lung': 3})
    assert _chosen(replace(MR, dataset=lung))['data.window_hu'] == choices.WIDE
    assert 'data.window_hu' not in _chosen(MR, _facts('T2'))
    assert 'data.percentiles' not in _chosen(CT, _facts('CT_portal'))


def test_all_channels_are_read_where_both_sets_have_the_same():
    def with_channels(facts, *names):
        return replace(facts, dataset=replace(facts.dataset, channel_names=names))

    dixon = with_channels(MR, 'in phase', 'opposed-phase')
    assert 'data.channels' not in _chosen()
    assert _chosen(dixon, with_channels(CT, 'In_phase', 'opposed phase'))['data.channels'] == (2, 2)
    assert _chosen(dixon, CT)['data.channels'] == (1, 1)


def test_solid_organs_hold_neither_air_nor_fat():
    def organs(source, target):
        return choices.organs(target, choices.of_data(source, target, LAPTOP))[0]

    assert organs(MR, CT) == (0.3, 0.95)
    assert organs(CT, MR) == choices.ORGANS
    stomach = replace(MR, dataset=replace(MR.dataset, labels={**LABELS, 'stomach': 3}))
    assert organs(stomach, CT) == (0.0, 1.0)


def test_networks_grow_with_the_machine():
    small, large = _chosen(), _chosen(machine=CLUSTER)
    assert (small['segmentor.width'], small['train.batch'], small['dtype']) == (12, 4, 'float32')
    assert (large['segmentor.width'], large['train.batch'], large['dtype']) == (64, 64, 'bfloat16')
    assert _chosen(machine=replace(CLUSTER, memory_gib=11.0))['segmentor.width'] == 16
    for devices, batch in ((2, 4), (3, 6), (8, 8)):  # of a CPU, by XLA_FLAGS
        assert _chosen(machine=replace(LAPTOP, devices=devices))['train.batch'] == batch


def test_steps_fill_the_hours():
    seconds = (0.3, 0.5, 600.0)
    for hours in (0.5, 1.0, 4.0):
        first, more, why = choices.steps(LAPTOP, seconds, hours)
        assert 0.85 < choices.total((first, more), seconds) / (3600 * hours) <= 1, hours
        assert ('first look' in why) == (first < choices.USEFUL)
    assert choices.steps(LAPTOP, seconds, 0)[:2] == (4000, 600)
    with pytest.raises(InputError, match='--hours=0.2 is too short here; give --hours=0.3 or more'):
        choices.steps(LAPTOP, seconds, 0.2)


def test_sets_that_cannot_be_adapted_are_one_line():
    for source, target, told in (
        (replace(MR, labelled=0), CT, 'MR: no labels; --source is the set that has them'),
        (
            replace(MR, dataset=replace(MR.dataset, labels={})),
            CT,
            'MR: its classes have no names; give --labels=source',
        ),
        (MR, _facts('CT', 2), 'CT: 2 patients; at least 3 are needed'),
    ):
        with pytest.raises(InputError, match=told):
            choices.of_data(source, target, LAPTOP)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp('plan')
    return [tiny.write_dataset(folder / name, name, 5) for name in ('MR', 'CT')]


def test_facts_of_a_folder(folders):
    mr, ct = (
        facts.read(Scans(name, folder, ''), Data()) for name, folder in zip(('source', 'target'), folders, strict=True)
    )
    assert (mr.modality, mr.scans, mr.subjects, mr.labelled) == ('MR', 5, 5, 5)
    assert (mr.shape, mr.spacing_mm, mr.field_mm) == ((6, 22, 24), (5.0, 3.0, 3.0), 72.0)
    assert 50 < mr.body_mm <= 72 and ct.organs is None  # labels of the target are not opened
    assert 150 < mr.organs[0] < 250 and 650 < mr.organs[1] < 800
    for path in (folders[1] / 'labelsTr').iterdir():
        path.write_bytes(b'no label map')
    assert replace(facts.read(Scans('target', folders[1], ''), Data()), dataset=ct.dataset) == ct


@pytest.fixture
def planned(folders, tmp_path, monkeypatch, capsys):
    """(exit code, the file, what was printed), without timing anything."""
    monkeypatch.setattr(cost, 'seconds', lambda *_: (0.2, 0.4, 100.0))

    def run(*flags, output=tmp_path / 'mine.py'):
        given = [f'--source={folders[0]}', f'--target={folders[1]}', f'--output={output}']
        code = command.main([*given, *flags])
        return code, output, capsys.readouterr()

    return run


def test_the_file_is_a_configuration(planned, folders, tmp_path):
    code, file, said = planned('--hours=1')
    assert (code, said.err) == (0, '') and 'about 59 minutes' in said.out
    text = file.read_text()
    assert f'--config={file} --source={folders[0]} --target={folders[1]}' in text
    spec = importlib.util.spec_from_file_location('mine', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = parse(module.get_config('records'))
    assert config.data.classes == ('background', 'liver', 'spleen') and config.run == ('adapt',)
    first, later = (config.stage('adapt', name).train.steps for name in ('generalise', 'adapt1'))
    assert 0.85 < (0.2 * first + 3 * 0.4 * later + 100) / 3600 <= 1
    assert len([line for line in text.splitlines() if line.startswith('    #')]) >= 10
    assert not parse(module.get_config()).data_dir  # the phantom
    flags = [f'--source={folders[0]}', f'--target={folders[1]}', f'--output={tmp_path / "records"}']
    assert prepare([f'--config={file}', *flags]) == 0
    manifest = json.loads((tmp_path / 'records' / 'manifest.json').read_text())
    assert manifest['size'] == [*config.data.size] and manifest['spacing_mm'] == pytest.approx(config.data.spacing_mm)


@pytest.mark.parametrize(
    'flags, told',
    [
        (['--output=mine.txt'], '--output=mine.txt: give the name of a Python file'),
        (['--hours=0.01'], '--hours=0.01 is too short here'),
        (['--hours=-1'], 'hours'),
        (['--source=none'], 'none'),
        (['--source='], '--source is missing'),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(planned, tmp_path, flags, told):
    code, file, said = planned(*flags)
    assert code == 2 and said.err.startswith('error: ') and told in said.err and said.err.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_a_plan_is_never_replaced(planned):
    _, file, _ = planned()
    before = file.read_text()
    code, _, said = planned('--hours=3')
    assert code == 2 and 'exists; give another name' in said.err and file.read_text() == before


def test_steps_are_timed(monkeypatch):
    """On this machine, a tiny network."""
    c = tiny.get_config('records')
    adapt.recipe(c, steps=4, more=4)
    c.segmentor.width, c.segmentor.levels = 4, 2
    monkeypatch.setattr(cost, 'STEPS', 2)
    first, later, rest = cost.seconds(parse(c), (MR, CT), tiny.CLASSES)
    assert 0 < first and 0 < later and rest > np.prod((first, later))
