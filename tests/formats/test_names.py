"""One rule says which case a file belongs to, whatever the command and the folder."""

import os
import unicodedata

import nibabel as nib
import numpy as np
import pytest

from synseg_jax.datasets.layouts import read_dataset
from synseg_jax.errors import InputError
from synseg_jax.evaluation import folders
from synseg_jax.formats import names, scan_file

NFC, NFD = (unicodedata.normalize(form, 'Jäger') for form in ('NFC', 'NFD'))
LABELS = np.zeros((6, 5, 4), np.uint8)
LABELS[1:4, 1:4, 1:3] = 1


def save(path, array=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-2.0, -2, 3, 1])), path)
    return path


@pytest.mark.parametrize(
    ('name', 'case'),
    [
        ('p1', 'p1'),
        ('p1_image', 'p1'),
        ('p1-LABEL', 'p1'),
        ('p1.seg', 'p1'),
        ('p1_image_0000', 'p1_0000'),
        ('p1_scan_mask', 'p1'),
        ('image', 'image'),
        ('_seg', '_seg'),
        ('p1_imaged', 'p1_imaged'),
        (NFD, NFC),
    ],
)
def test_cases_of_names(name, case):
    assert names.case_of(name) == case == names.case_of(case)


def test_names_of_label_maps():
    assert all(map(names.is_label_name, ('a_seg', 'a.seg', 'a_Masks', 'a_seg_0000')))
    assert not any(map(names.is_label_name, ('a_img', 'a', 'seg')))


def paths(folder, *files):
    return names.by_case((name.removesuffix('.nii.gz'), folder / name) for name in files)


@pytest.mark.parametrize(
    ('files', 'number', 'kept', 'left_out'),
    [
        (['a_0000', 'a_0001', 'b_0000', 'b_0001'], 0, {'a': 'a_0000', 'b': 'b_0000'}, ['a_0001', 'b_0001']),
        (['a_0000', 'a_0001', 'b_0000', 'b_0001'], 1, {'a': 'a_0001', 'b': 'b_0001'}, ['a_0000', 'b_0000']),
        (['a_0001', 'b_0001'], 0, {'a_0001': 'a_0001', 'b_0001': 'b_0001'}, []),  # nothing is a first channel
        (['a_0000', 'b'], 0, {'a': 'a_0000', 'b': 'b'}, []),
        (['a_0000', 'visit_2019'], 0, {'a': 'a_0000', 'visit_2019': 'visit_2019'}, []),
        (['a_image_0000', 'a_image_0001'], 0, {'a': 'a_image_0000'}, ['a_image_0001']),
    ],
)
def test_channels(tmp_path, caplog, files, number, kept, left_out):
    found = names.select_channel(paths(tmp_path, *files), number)
    assert {case: path.name for case, path in found.items()} == kept
    assert [path.name for path in names.split_channels(paths(tmp_path, *files), number)[1]] == left_out
    assert bool(left_out) == ('another channel' in caplog.text)


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        (['a_0000', 'b_0001'], r'b_0001: no channel 0000 for it; did you mean b_0000\?'),
        (['a_0000', 'a'], 'a: the same case as a_0000|a_0000: the same case as a;'),
        ([f'a_{n:04d}' for n in range(11)], 'a_0000: 11 files are numbered as channels of one case, a; if the numbers'),
    ],
)
def test_channels_that_cannot_be(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        names.select_channel(paths(tmp_path, *files))


@pytest.mark.parametrize(
    'files',
    [('a.nii.gz', 'a.nii'), ('a.nii', 'a_image.nii'), (f'{NFC}.nii', f'{NFD}.nii'), ('a_0000.nii', 'a.nii.gz')],
)
def test_files_of_the_same_case_clash_everywhere(tmp_path, files):
    """For prediction, in a dataset, and in what is measured; one line names both."""
    for folder in ('alone', 'set/imagesTr', 'plain/images', 'labels'):
        for name in files:
            save(tmp_path / folder / name)
    (tmp_path / 'set/dataset.json').write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0}}')
    save(tmp_path / 'measured/a.nii')
    save(tmp_path / f'measured/{NFC}.nii')
    for read in (
        lambda: scan_file.inputs(tmp_path / 'alone'),
        lambda: read_dataset(tmp_path / 'alone', channel='CT'),
        lambda: read_dataset(tmp_path / 'plain', channel='CT'),
        lambda: read_dataset(tmp_path / 'set'),
        lambda: folders.match(tmp_path / 'labels', tmp_path / 'measured'),
    ):
        with pytest.raises(InputError, match=r'the same case as|did you mean a_0000\?') as error:
            read()
        assert '\n' not in str(error.value)


def test_forms_of_characters_make_no_difference(tmp_path):
    """macOS unzips names decomposed, most others composed."""
    image = save(tmp_path / f'set/imagesTr/{NFD}_0000.nii.gz')
    label = save(tmp_path / f'set/labelsTr/{NFC}.nii.gz')
    (tmp_path / 'set/dataset.json').write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0}}')
    (case,) = read_dataset(tmp_path / 'set').cases
    assert (case.id, case.subject, case.image, case.label) == (NFC, NFC, image, label)
    save(tmp_path / f'predicted/{NFD}.nii.gz')
    assert list(folders.match(tmp_path / 'predicted', tmp_path / 'set/labelsTr')) == [NFC]
    assert scan_file.inputs(tmp_path / 'set') == {NFC: image}


@pytest.mark.parametrize('read', [scan_file.inputs, lambda folder: read_dataset(folder, channel='CT')])
def test_names_that_are_no_text(tmp_path, read):
    """Latin-1 from an old archive: refused in a line that can be printed."""
    os.rename(save(tmp_path / 'x.nii.gz'), os.fsencode(tmp_path) + b'/M\xfcller.nii.gz')
    with pytest.raises(InputError, match=r"M\\udcfcller.nii.gz': its name is not UTF-8; rename it") as error:
        read(tmp_path)
    str(error.value).encode()


def test_channels_that_are_no_text(tmp_path):
    save(tmp_path / 'a.nii.gz')
    with pytest.raises(InputError, match=r"--channel: 'M.udcfcller' has unprintable characters; give e.g. CT"):
        read_dataset(tmp_path, channel='M\udcfcller')


def test_folders_that_are_no_text(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b'/M\xfcller')
    save(tmp_path / 'x/a.nii.gz')
    os.rename(tmp_path / 'x', folder)
    with pytest.raises(InputError, match='its name is not UTF-8; rename it'):
        read_dataset(folder, channel='CT')


def test_label_maps_are_known_with_a_channel_number(tmp_path):
    labels = {'a_0000': tmp_path / 'a', 'b_0000': tmp_path / 'b', 'c': tmp_path / 'c'}
    assert list(names.match_cases(labels, {'a', 'b_0000', 'c'})) == ['a', 'b_0000', 'c']
    with pytest.raises(InputError, match='the same case as'):
        names.match_cases(labels | {'a': tmp_path / 'other'}, {'a'})


def test_dicom_beside_other_scans_is_told(tmp_path, caplog):
    save(tmp_path / 'a.nii.gz')
    (tmp_path / 'b.dcm').write_bytes(bytes(128) + b'DICM')
    (tmp_path / 'IM0001').write_bytes(bytes(128) + b'DICM')
    (tmp_path / 'notes.txt').touch()
    assert list(scan_file.inputs(tmp_path)) == ['a']
    (told,) = caplog.messages
    assert told.startswith(
        f'{tmp_path}/IM0001: DICOM beside other scans, not read (2 such files); put each series into'
    )


@pytest.mark.parametrize('relative', ['../x.nii', '/x.nii', 'a/../../x.nii', '', 'a\0'])
def test_paths_that_leave_a_folder(tmp_path, relative):
    with pytest.raises(InputError, match='not a path below this folder'):
        names.resolve_below(tmp_path, relative)


def test_paths_below_a_folder(tmp_path):
    path = save(tmp_path / NFD / f'{NFC}.nii')
    assert names.resolve_below(tmp_path, f'./{NFC}/{NFD}.nii') == path
    assert names.resolve_below(tmp_path, 'none/a.nii') == tmp_path / 'none' / 'a.nii'
