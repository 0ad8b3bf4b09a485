"""Synthetic scans against the truth that only a phantom knows."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from synseg_jax.datasets import dataset_json
from synseg_jax.inference import trained_model
from synseg_jax.inference.model_folder import Run
from synseg_jax.phantom import dataset
from synseg_jax.preparation.records import Manifest
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.runs import paired_phantom
from synseg_jax.specification.data import Data
from synseg_jax.specification.stage import Stage


class Known(trained_model.Trained):
    """A stand-in for a trained stage, whose generator is a function of the scan's voxels."""

    def __init__(self, translate, networks=('g_ab',)):
        self.translate = translate
        self.networks = SimpleNamespace(system=SimpleNamespace(networks=dict.fromkeys(networks)))
        self.config = SimpleNamespace(label_channel=False)
        self.run = Run(Path(), Stage(), (), {'a': 'MR', 'b': 'CT'}, {'b': (-200.0, 300.0)})

    def synthesize(self, scan, domain):
        return self.translate(scan.array)


@pytest.fixture(scope='module')
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pairs') / 'Dataset001_MR'
    dataset.write_dataset(folder, 'MR', 1, seed=4, first=7)
    (image,) = (folder / 'imagesTr').iterdir()
    return [{'id': 'phantom_mr_007', 'image': str(image)}]


PHANTOM = {'modality': 'MR', 'seed': 4, 'region': 'abdomen', 'plane': 'axial'}


def test_the_truth_itself_is_perfect(cases):
    truth = dataset.generate_pair('MR', 'CT', 4, 7)[1]
    measured = paired_phantom.measure(Known(lambda _: truth), cases, PHANTOM)['phantom_mr_007']
    assert measured['mae'] == 0 and measured['psnr'] == np.inf and measured['ssim'] == pytest.approx(1)


def test_the_truth_is_of_the_same_cohort(monkeypatch):
    phantom = {**PHANTOM, 'modality': 'CT', 'cohort': 'normal spleen'}
    asked = []
    monkeypatch.setattr(dataset, 'generate_pair', lambda *scan: asked.append(scan) or (None, None))
    paired_phantom._truth(Path('imagesTr/phantom_ct_007_0000.nii.gz'), phantom, 'MR')
    assert asked == [('CT', 'MR', 4, 7, 'abdomen', 'axial', 0, 'normal spleen')]


def test_an_error_is_measured_where_the_truth_shows_something(cases):
    truth = dataset.generate_pair('MR', 'CT', 4, 7)[1]
    off = paired_phantom.measure(Known(lambda _: truth + 50), cases, PHANTOM)['phantom_mr_007']
    assert 0.08 < off['mae'] <= 0.1 + 1e-6 and 19 < off['psnr'] < 22 and off['ssim'] < 1  # 50 of 500 HU, clipped bone
    air = paired_phantom.measure(Known(lambda _: np.where(truth < -200, -900, truth)), cases, PHANTOM)['phantom_mr_007']
    assert air['mae'] == 0


def test_nothing_without_truth_or_generator(cases):
    assert paired_phantom.measure(Known(None, ['s_a']), cases, PHANTOM) == {}
    assert paired_phantom.measure(Known(None), cases, None) == {}


def test_the_manifest_says_what_is_a_phantom(cases, tmp_path):
    """Nobody opens the folders of scans again."""
    folder = shutil.copytree(Path(cases[0]['image']).parents[1], tmp_path / 'mr')
    settings = Data(size=(8, 8), source_split=(1.0, 0.0, 0.0))
    prepare([Scans('source', folder, 'a')], tmp_path / 'out', settings, progress=False)
    shutil.rmtree(folder)
    assert PHANTOM.items() <= Manifest.load(tmp_path / 'out').sets['source']['phantom'].items()


@pytest.mark.parametrize('said', ['{', '[]', '{"phantom": 3}', '{"phantom": {"seed": 1}}', '\ufeff{"labels": {}}'])
def test_what_is_no_phantom_is_passed_over(tmp_path, said):
    """Whatever stands in the dataset.json of somebody's scans."""
    (tmp_path / 'dataset.json').write_text(said, encoding='utf-8')
    assert dataset_json.phantom(tmp_path / 'dataset.json') is None
