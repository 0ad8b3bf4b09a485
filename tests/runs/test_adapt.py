"""The whole recipe of configs/adapt.py, at the smallest size: blind to the target's labels, from end to end."""

import json

import nibabel as nib
import numpy as np
import pytest
import tiny

from configs import adapt
from synseg_jax.formats import scan_file

DATA = {'data__target_labels': True, 'data__cut_about': 'body', 'data__percentiles': (0.5, 99.5)}


def _config(records):
    """Views, pseudo labels and a choice without labels, on records that do hold labels of the target."""
    c = tiny.get_config(str(records))
    adapt.recipe(c, steps=4, more=4, rounds=1)
    c.segmentor.width, c.segmentor.levels, c.train.save_every = 4, 2, 2
    c.selection, c.train.guard, c.data.target_labels, c.run = 'label_free', True, True, ('adapt',)
    return c


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two workdirs: with the labels of the target as they are, and with noise in their place."""
    found = []
    for kind in ('right', 'garbage'):
        folder = tmp_path_factory.mktemp(kind)
        tiny.write_dataset(folder / 'Dataset_CT', 'CT', tiny.SUBJECTS['CT'])
        for number, path in enumerate(sorted((folder / 'Dataset_CT' / 'labelsTr').iterdir())):
            noise = np.random.default_rng(number).integers(0, 3, tiny.SHAPE).astype(np.uint8)
            if kind == 'garbage':
                nib.save(nib.Nifti1Image(noise, tiny.AFFINE), path)
        records = tiny.write_records(folder, **DATA)
        tiny.run(_config(records), folder / 'run', tiny.quiet())
        found.append(folder / 'run')
    return found


@pytest.mark.parametrize('stage', ['generalise', 'pseudo1', 'adapt1'])
def test_garbage_in_the_targets_labels_changes_no_bit_of_a_stage(runs, stage):
    right, garbage = ((workdir / 'adapt' / stage).resolve() for workdir in runs)
    files = [path.relative_to(right) for path in sorted(right.rglob('*')) if path.is_file()]
    told = [path for path in files if path.match('*/sums/metadata') or path.suffix in ('.array_record', '.csv')]
    assert len(told) >= (1 if stage == 'pseudo1' else 2)
    for path in told:
        assert (right / path).read_bytes() == (garbage / path).read_bytes(), path


def test_nor_of_what_is_predicted_but_of_the_measures(runs):
    predictions = [sorted((workdir / 'adapt' / 'predictions' / 'target').glob('*.nii.gz')) for workdir in runs]
    assert len(predictions[0]) == 1
    for one, other in zip(*predictions, strict=True):
        np.testing.assert_array_equal(scan_file.read(one).array, scan_file.read(other).array)
    results = [json.loads((workdir / 'adapt' / 'results.json').read_text()) for workdir in runs]
    assert results[0]['cases'] != results[1]['cases']
