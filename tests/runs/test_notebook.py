"""The example notebook, cell by cell, on a smaller phantom with random weights."""

import json

import matplotlib.pyplot as plt
import miniatures
import numpy as np
import pytest
import tiny
import untrained

from configs import quickstart
from synseg_jax.runs import train_stage

NOTEBOOK = tiny.ROOT / 'docs' / 'example.ipynb'


@pytest.fixture(scope='module')
def cells():
    """The text of each cell with code."""
    found = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in found if cell['cell_type'] == 'code']


@pytest.fixture
def small(monkeypatch):
    """The quickstart with small images, networks and sets."""
    config = quickstart.get_config()
    miniatures.shrink(config)
    for fields in config.phantom.sets.values():
        fields.subjects = 4
    monkeypatch.setattr(quickstart, 'get_config', lambda: config)


def test_every_cell_runs(cells, small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_stage.StageTraining, 'run', untrained.fit)
    names = {}
    for text in cells:
        exec(compile(text, NOTEBOOK.name, 'exec'), names)
    printed = capsys.readouterr().out
    classes = names['model'].classes
    assert all(f'{name:13} Dice ' in printed for name in classes[1:]) and 'nan' not in printed
    assert names['labels'].shape == names['truth'].shape and names['synthetic'].shape == names['mr'].shape
    assert np.ptp(names['synthetic']) > 0 and len(plt.get_fignums()) == 2
    plt.close('all')


def test_its_outputs_were_made_by_these_cells(cells):
    """All were run, in order, and none failed."""
    found = [cell for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code']
    assert [cell['execution_count'] for cell in found] == [*range(1, len(cells) + 1)]
    kinds = {output['output_type'] for cell in found for output in cell['outputs']}
    assert kinds == {'stream', 'display_data'}
    assert 'Dice 0.' in str(found[2]['outputs'])
