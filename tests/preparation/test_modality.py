"""Scans of another modality than a set or a network is for are told, by names, headers and values."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
import tiny
from dicom_files import write_series

from synseg_jax.datasets import input_scans
from synseg_jax.errors import InputError
from synseg_jax.imaging import intensity, modality
from synseg_jax.preparation.checks.survey import survey
from synseg_jax.preparation.split import Scans
from synseg_jax.preparation.write_records import prepare
from synseg_jax.specification.data import Data

SETTINGS = Data(
    size=(22, 24), source_split=(1.0, 0.0, 0.0), target_split=(1.0, 0.0, 0.0), foreground_share=0.0,
    window_hu=(-200.0, 300.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ('channel', 'name'),
    [
        *((c, 'CT') for c in ('CT', 'ct ', 'CTA', 'CT_portal', 'ct-venous', 'CT (HU)', 'CECT', 'NCCT', 'CBCT', 'CT1')),
        *((c, 'CT') for c in ('pseudoCT', 'SyntheticCT', 'synthetic CT')),  # in HU, as they are made to be
        *((c, 'MR') for c in ('MR', 'MRI', 'T2-SPIR MR', 'T1w', 't1gd', 'T1 in phase MR', 'FLAIR', 'ADC')),
        *((c, 'PET') for c in ('PET', 'FDG_PET')),
        *((c, '') for c in ('PET/CT', 'MR registered to CT', 'MRCT', 'OCT', 'fluct', 'contrast', 'noNorm', 'zscore')),
    ],
)
def test_names_of_channels(channel, name):
    assert modality.of_channel(channel) == name and intensity.is_ct(channel) == (name == 'CT')


def test_a_ct_by_another_name_is_seen_in_hounsfield_units():
    ramp = np.linspace(-1100, 1100, 2201, dtype=np.float32)
    for channel in ('CTA', 'CT_portal'):
        assert intensity.for_channel(channel, ramp, (-200, 300), (2.5, 97.5)).low == -200


def test_values_that_are_no_ct():
    mr, ct = np.float32([0, 5, 900]), np.float32([-1000, 0, 900])
    assert 'no value below 0, unlike a CT' in modality.hu_warning('CT_portal', mr)
    assert not modality.hu_warning('CT', ct) and not modality.hu_warning('MR', mr)


def series(folder, kind='MR'):
    image = tiny.scan(0, kind)[0]
    return write_series(folder, image, tiny.AFFINE, kind)[0].parent


def dataset(folder, channel, labels, kind='MR', cases=2):
    """An nnU-Net folder whose dataset.json says `channel`."""
    for part in ('imagesTr', 'labelsTr'):
        (folder / part).mkdir(parents=True)
    for number in range(cases):
        image, label = tiny.scan(number + ord(kind[0]), kind)
        nib.save(nib.Nifti1Image(image, tiny.AFFINE), folder / f'imagesTr/{kind}{number}_0000.nii.gz')
        nib.save(nib.Nifti1Image(label, tiny.AFFINE), folder / f'labelsTr/{kind}{number}.nii.gz')
    (folder / 'dataset.json').write_text(json.dumps({'channel_names': {'0': channel}, 'labels': labels}))
    return folder


ORGANS = {'background': 0, 'liver': 1, 'spleen': 2}


def test_scans_that_a_network_does_not_know(tmp_path, caplog):
    """Each is told once, and both modalities are named."""
    mr = dataset(tmp_path / 'set', 'T2 MRI', ORGANS)
    for name in ('a', 'b'):
        series(tmp_path / 'dicom' / name)
    told = {
        mr: f'--input={mr}: T2 MRI by its dataset.json, given to a network for CT_portal',
        mr / 'imagesTr': f'--input={mr}/imagesTr: T2 MRI by its dataset.json, given to a network for CT_portal',
        mr / 'imagesTr/MR0_0000.nii.gz': 'T2 MRI by its dataset.json, given to a network for CT_portal',
        tmp_path
        / 'dicom': f'{tmp_path}/dicom/a and 1 more scans: MR by DICOM header, given to a network for CT_portal',
    }
    for path, line in told.items():
        caplog.clear()
        assert input_scans.find(path, ['CT_portal'])
        assert len(caplog.messages) == 1 and caplog.messages[0].endswith(line)
        caplog.clear()
        assert input_scans.find(path, ['T1 MR']) and input_scans.find(path, ['unheard of']) and not caplog.messages


def test_values_that_a_network_does_not_know(tmp_path, caplog):
    mr = dataset(tmp_path / 'set', 'CT', ORGANS)
    ((_, path), *_) = input_scans.find(mr, ['CT']).items()
    assert input_scans.reader(['MR'])(path).array.shape == tiny.SHAPE and not caplog.messages
    nib.save(nib.Nifti1Image(np.abs(tiny.scan(0, 'MR')[0]), tiny.AFFINE), path)
    read = input_scans.reader(['CT'])
    read(path), read(path)
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith(f'{path}: no value below 0, unlike a CT')


def test_a_broken_description_hinders_no_prediction(tmp_path, caplog):
    mr = dataset(tmp_path / 'set', 'MR', ORGANS)
    (mr / 'dataset.json').write_text('{')
    assert len(input_scans.find(mr, ['CT'])) == 2 and 'invalid JSON' in caplog.text


@pytest.mark.parametrize(
    ('channels', 'trained', 'number'),
    [
        (('PET', 'CT'), 'CT', 1),
        (('PET', 'CT portal'), 'CT', 1),
        (('T1', 'T2'), 't2', 1),
        (('T1', 'T2'), 'MR', 0),
        (('CT', 'PET'), 'CT', 0),
    ],
)
def test_the_channel_that_was_trained_on(tmp_path, caplog, channels, trained, number):
    mr = dataset(tmp_path / 'set', 'MR', ORGANS)
    for path in sorted((mr / 'imagesTr').iterdir()):
        path.with_name(path.name.replace('_0000', '_0001')).write_bytes(path.read_bytes())
    names = dict(enumerate(channels))
    (mr / 'dataset.json').write_text(json.dumps({'channel_names': names, 'labels': ORGANS}))
    found = input_scans.find(mr, [trained])
    assert [path.name for path in found.values()] == [f'MR{n}_000{number}.nii.gz' for n in range(2)]
    assert list(found) == ['MR0', 'MR1'] and len(caplog.messages) == 1
    assert f'only 000{number} is read (2 files are left out)' in caplog.text


def lines(*sets):
    return [f'{"error" if p.error else "warning"}: {p.text}' for p in survey(sets, SETTINGS)[1]]


def test_verify_names_both_modalities(tmp_path):
    """As an error, in verify as in prepare."""
    for name in 'abc':
        series(tmp_path / 'dicom' / name)
    target = Scans('target', tmp_path / 'dicom', 'b', channel='CT')
    told = f'{tmp_path}/dicom/a and 2 more scans: MR by DICOM header, but target is CT; name it, --channel=target=MR'
    assert sum(line.startswith(f'error: {told}') for line in lines(target)) == 1
    source = Scans('source', dataset(tmp_path / 'mr', 'MR', ORGANS), 'a')
    with pytest.raises(InputError) as refused:
        prepare([source, target], tmp_path / 'records', SETTINGS, progress=False)
    assert str(refused.value).startswith(told) and not (tmp_path / 'records').exists()
    right = Scans('target', tmp_path / 'dicom', 'b', channel='MR')
    assert not [line for line in lines(right) if 'DICOM' in line]


def test_a_flag_against_the_dataset(tmp_path):
    mr = dataset(tmp_path / 'mr', 'MR', ORGANS)
    told = f'error: {mr}/dataset.json: its channel is MR, but --channel=target=CT_portal; which is it?'
    assert told in lines(Scans('target', mr, 'b', channel='CT_portal'))
    assert not [line for line in lines(Scans('target', mr, 'b', channel='T2 MRI')) if 'its channel' in line]


def test_values_that_are_no_ct_are_told_once_a_set(tmp_path):
    folder = dataset(tmp_path / 'ct', 'CT', ORGANS)
    for path in (folder / 'imagesTr').iterdir():
        nib.save(nib.Nifti1Image(np.abs(np.asarray(nib.load(path).dataobj)), tiny.AFFINE), path)
    found = [line for line in lines(Scans('target', folder, 'b')) if 'no value below' in line]
    assert len(found) == 1 and found[0].startswith('warning: ') and found[0].endswith('(and 1 more scans)')


def test_no_organ_in_common(tmp_path):
    """Prostates teach nothing about livers: an error in verify and in prepare."""
    prostate = Scans('source', dataset(tmp_path / 'mr', 'MR', {'background': 0, 'prostate': 1, 'bladder': 2}), 'a')
    abdomen = Scans('target', dataset(tmp_path / 'ct', 'CT', ORGANS, 'CT'), 'b')
    told = 'no organ in common: source (MR) has prostate, bladder, target (CT) has liver, spleen; do they show the same'
    found = [line for line in lines(prostate, abdomen) if told in line]
    assert len(found) == 1 and found[0].startswith('error: ')
    with pytest.raises(InputError, match=re.escape(told)):
        prepare([prostate, abdomen], tmp_path / 'records', SETTINGS, progress=False)
    for labels in ({'background': 0, 'Prostate': 1, 'spleen': 2}, {}):
        (abdomen.folder / 'dataset.json').write_text(json.dumps({'channel_names': {'0': 'CT'}, 'labels': labels}))
        assert not [line for line in lines(prostate, abdomen) if 'no organ in common' in line]


def test_a_channel_of_no_known_modality_is_told(tmp_path):
    unknown, known = (lines(Scans('target', dataset(tmp_path / name, name, ORGANS), 'b')) for name in ('scan', 'CT_x'))
    told = 'channel scan of set target names no modality that is known (CT, MR, PET, US), so intensities are scaled by'
    assert sum(told in line for line in unknown) == 1 and not any('no modality' in line for line in known)
