"""The command on small folders: pairs by name, classes by name, grids that must agree, files that are whole."""

import csv
import json

import nibabel
import numpy as np
import pytest
import tiny

from synseg_jax.errors import InputError
from synseg_jax.evaluation import folders as folders_
from synseg_jax.evaluation import metrics
from synseg_jax.reports import measure_files

PERFECT = {metric.name: 0 if metric.lower_is_better else 1 for metric in metrics.METRICS}
SPACING = (1.0, 2.0, 3.0)
AFFINE = np.diag([*SPACING, 1.0])


def write_labels(path, labels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), affine), path)


def write_names(folder, labels):
    (folder / 'dataset.json').write_text(json.dumps({'labels': labels}))


def cube(low, high, value=1):
    labels = np.zeros((10, 9, 8), np.uint8)
    labels[low:high, low:high, low:high] = value
    return labels


@pytest.fixture
def folders(tmp_path):
    predictions, references = tmp_path / 'predictions', tmp_path / 'labelsTs'
    for case, shift in (('case 1', 0), ('case_2', 1)):
        write_labels(predictions / f'{case}.nii.gz', cube(1 + shift, 4 + shift))
        write_labels(references / f'{case}.nii.gz', cube(1, 4))
    return predictions, references


def test_measures_every_case(folders):
    cases, summarised = folders_.evaluate_folder(*folders)
    assert list(cases) == ['case 1', 'case_2']
    assert cases['case 1']['1'] == PERFECT
    masks = cube(2, 5) == 1, cube(1, 4) == 1
    assert cases['case_2']['1']['dice'] == pytest.approx(2 * 8 / 54)
    assert cases['case_2']['1']['asd_mm'] == pytest.approx(metrics.average_surface_distance(*masks, SPACING))
    assert summarised['classes']['1']['dice']['n'] == 2


@pytest.mark.parametrize('where', ['predictions', 'references', 'parent'])
def test_class_names_come_from_either_side(folders, where):
    predictions, references = folders
    folder = {'predictions': predictions, 'references': references, 'parent': references.parent}[where]
    write_names(folder, {'background': 0, 'spleen': 1})
    cases, _ = folders_.evaluate_folder(*folders)
    assert list(cases['case 1']) == ['spleen']


def test_older_order_of_names(folders):
    write_names(folders[0], {'0': 'background', '1': 'spleen'})
    assert list(folders_.evaluate_folder(*folders)[0]['case 1']) == ['spleen']


def test_classes_match_by_name(tmp_path):
    predictions, references = tmp_path / 'p', tmp_path / 'r'
    write_labels(predictions / 'x.nii.gz', cube(1, 4, 7) + cube(5, 7, 2) + cube(7, 8, 3))
    write_labels(references / 'x.nii.gz', cube(1, 4, 1) + cube(5, 7, 9) + cube(7, 8, 4))
    write_names(predictions, {'background': 0, 'spleen': 7, 'body': 3, 'liver': 2})
    write_names(references, {'background': 0, 'spleen': 1, 'pancreas': 4, 'liver': 9})
    cases, _ = folders_.evaluate_folder(predictions, references)
    assert cases == {'x': {'liver': PERFECT, 'spleen': PERFECT}}


def test_lists_of_values_and_other_spellings(tmp_path):
    """As prepare takes them; a background may have several too."""
    predictions, references = tmp_path / 'p', tmp_path / 'r'
    write_labels(predictions / 'x.nii.gz', cube(1, 4) + cube(5, 7, 2) + cube(7, 8, 3))
    write_labels(references / 'x.nii.gz', cube(1, 3, 6) + cube(5, 7, 2) + cube(7, 8, 3) + cube(8, 9, 9))
    write_names(predictions, {'background': [0, 8], 'right_kidney': 3, 'liver': 1, 'left_kidney': 2})
    write_names(references, {'background': [0, 9], 'Liver': 6, 'Left Kidney': [2], 'right-kidney': [3]})
    cases, _ = folders_.evaluate_folder(predictions, references)
    assert list(cases['x']) == ['liver', 'left_kidney', 'right_kidney']  # in the order of the predictions' values
    assert cases['x']['left_kidney'] == cases['x']['right_kidney'] == PERFECT
    assert cases['x']['liver']['dice'] == pytest.approx(2 * 8 / 35)
    write_names(predictions, {'background': 0, 'liver': 1, 'kidneys': [2, 3]})
    labels = {'background': (0, 9), 'kidneys': (2, 3), 'liver': 6}
    cases, _ = folders_.evaluate_folder(predictions, references, labels)
    assert cases['x']['kidneys'] == PERFECT and cases['x']['liver']['dice'] == pytest.approx(2 * 8 / 35)
    with pytest.raises(InputError, match="class liver has 'six', which is not a number"):
        folders_.evaluate_folder(predictions, references, {'liver': 'six'})


def test_regions_overlap(tmp_path):
    """nnU-Net's are measured each as a whole."""
    predictions, references = tmp_path / 'p', tmp_path / 'r'
    for folder in (predictions, references):
        write_labels(folder / 'x.nii.gz', cube(1, 4, 1) + cube(4, 7, 2))
    write_names(references, {'background': 0, 'tumour': [1, 2], 'core': 2})
    write_names(predictions, {'background': 0, 'tumour': 1, 'core': 2})
    cases, _ = folders_.evaluate_folder(predictions, references)
    assert cases['x']['core'] == PERFECT and cases['x']['tumour']['dice'] == pytest.approx(2 * 27 / 81)


def test_the_references_may_be_a_dataset(folders):
    """The part of it that predict segments."""
    predictions, references = folders
    write_names(references.parent, {'background': 0, 'spleen': 1})
    assert list(folders_.evaluate_folder(predictions, references.parent)[0]['case 1']) == ['spleen']


def test_names_of_one_side_are_taken_for_both_aloud(folders, caplog):
    write_names(folders[0], {'background': 0, 'spleen': 1})
    folders_.evaluate_folder(*folders)
    assert f'{folders[1]}: its labels have no names; those of {folders[0]} are used' in caplog.text


def test_the_same_grid_stored_from_its_other_end(folders):
    predictions, _ = folders
    turned = AFFINE @ np.array([[1.0, 0, 0, 0], [0, -1, 0, 8], [0, 0, 1, 0], [0, 0, 0, 1]])
    before = folders_.evaluate_folder(*folders)[0]
    write_labels(predictions / 'case_2.nii.gz', cube(2, 5)[:, ::-1], turned)
    assert folders_.evaluate_folder(*folders)[0] == before


def test_no_class_in_common(folders):
    write_names(folders[0], {'background': 0, 'spleen': 1})
    write_names(folders[1], {'background': 0, 'Milz': 1})
    with pytest.raises(InputError, match='spleen.*Milz'):
        folders_.evaluate_folder(*folders)


def test_labels_without_a_name(folders):
    write_names(folders[0], {'background': 0, 'spleen': 1})
    write_labels(folders[1] / 'case_2.nii.gz', cube(1, 4, 5))
    with pytest.raises(InputError, match=r'case_2\.nii\.gz has labels 5'):
        folders_.evaluate_folder(*folders)


@pytest.mark.parametrize(
    'labels', [{'background': 0, 'ignore': 1}, {'spleen': 1, 'liver': 1}, {'background': 0, 'tumour': [1, 'x']}, 3]
)
def test_names_that_do_not_serve(folders, labels):
    write_names(folders[0], labels)
    with pytest.raises(InputError, match=r'dataset\.json'):
        folders_.evaluate_folder(*folders)


def two_organs():
    return cube(1, 4) + cube(5, 8, 2)


def test_values_that_occur_are_the_classes(folders):
    """Not all numbers up to the largest, which a 255 would make 255 of."""
    predictions, references = folders
    write_labels(predictions / 'case_2.nii.gz', cube(1, 4, 40) + cube(5, 8, 200))
    write_labels(references / 'case_2.nii.gz', cube(1, 4, 40) + cube(5, 8, 7))
    cases, _ = folders_.evaluate_folder(*folders)
    assert list(cases['case_2']) == ['1', '7', '40', '200'] and cases['case_2']['40'] == PERFECT
    assert cases['case_2']['7']['dice'] == cases['case_2']['200']['dice'] == 0


def test_values_beyond_a_byte(folders):
    for folder in folders:
        labels = np.array([0, 500, 850], np.uint16)[two_organs()]
        nibabel.save(nibabel.Nifti1Image(labels, AFFINE), folder / 'case_2.nii.gz')
    cases, _ = folders_.evaluate_folder(*folders)
    assert cases['case_2']['500'] == cases['case_2']['850'] == PERFECT


def test_what_nobody_labelled_is_not_measured(tmp_path, caplog):
    """255 in references alone, beside classes: predictions there are neither right nor wrong, as nnU-Net has it."""
    predictions, references = tmp_path / 'p', tmp_path / 'r'
    reference = two_organs()
    reference[5:8, 5:8, 6] = reference[0] = 255
    write_labels(predictions / 'x.nii.gz', two_organs() + cube(0, 1))
    write_labels(references / 'x.nii.gz', reference)
    cases, summarised = folders_.evaluate_folder(predictions, references)
    assert cases == {'x': {'1': PERFECT, '2': PERFECT}} and list(summarised['classes']) == ['1', '2']
    assert f"{references}/x.nii.gz: holds 255, probably 'ignore': these voxels are excluded" in caplog.text
    write_names(references, {'background': 0, 'liver': 1, 'spleen': 2})
    with pytest.raises(InputError, match="labels 255 beside .*; 255 is often 'ignore', which background:0.255"):
        folders_.evaluate_folder(predictions, references)


@pytest.mark.parametrize('predicted', [1, 255])
def test_255_may_be_a_class(tmp_path, caplog, predicted):
    """The only one of the references, as in masks that were pictures, or one that is predicted too."""
    write_labels(tmp_path / 'p/x.nii.gz', cube(1, 4, predicted))
    write_labels(tmp_path / 'r/x.nii.gz', cube(1, 4, 255))
    cases, _ = folders_.evaluate_folder(tmp_path / 'p', tmp_path / 'r')
    assert list(cases['x']) == [str(value) for value in sorted({predicted, 255})]
    assert "holds 255, probably 'ignore': evaluated as a class here; --labels names it" in caplog.text


def test_nothing_in_any_label_map(folders):
    for path in (path for folder in folders for path in folder.iterdir()):
        write_labels(path, cube(0, 0))
    _, summarised = folders_.evaluate_folder(*folders)
    assert summarised['classes']['1']['both_empty'] == 2


@pytest.mark.parametrize('name', ['x_0000.nii.gz', 'x.nii', 'x_label.nii.gz', 'x_seg_0000.nii'])
def test_names_of_the_same_case(tmp_path, name):
    """On either side, with any suffix, the number of a channel, or a word that says what it is."""
    for one, other in (('a', 'b'), ('b', 'a')):
        write_labels(tmp_path / one / 'x.nii.gz', cube(1, 4))
        write_labels(tmp_path / other / name, cube(1, 4))
        assert folders_.evaluate_folder(tmp_path / 'a', tmp_path / 'b')[0] == {'x': {'1': PERFECT}}
        for folder in 'ab':
            for path in (tmp_path / folder).iterdir():
                path.unlink()


def test_negative_values_and_floats(folders):
    labels = np.where(cube(1, 4), 1.0, 0.0).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), folders[1] / 'case_2.nii.gz')
    assert list(folders_.evaluate_folder(*folders)[0]['case_2']) == ['1']
    nibabel.save(nibabel.Nifti1Image(-labels, AFFINE), folders[1] / 'case_2.nii.gz')
    with pytest.raises(InputError, match='case_2.nii.gz: labels are negative'):
        folders_.evaluate_folder(*folders)


def test_warnings_of_files_are_given_once(folders, caplog):
    image = nibabel.load(folders[0] / 'case_2.nii.gz')
    image.set_qform(AFFINE @ np.diag([-1, 1, 1, 1]), 1)
    nibabel.save(image, folders[0] / 'case_2.nii.gz')
    folders_.evaluate_folder(*folders)
    assert sum('sform and qform disagree' in message for message in caplog.messages) == 1


def test_a_missing_prediction_is_named(folders, caplog):
    predictions, references = folders
    write_labels(references / 'case_3.nii.gz', cube(1, 4))
    with pytest.raises(InputError, match='case_3.*--partial'):
        folders_.evaluate_folder(predictions, references)
    assert list(folders_.evaluate_folder(predictions, references, partial=True)[0]) == ['case 1', 'case_2']


def test_a_missing_reference_is_no_error(folders):
    write_labels(folders[0] / 'case_4.nii.gz', cube(1, 4))
    assert list(folders_.evaluate_folder(*folders)[0]) == ['case 1', 'case_2']


def test_folders_without_a_case_in_common(folders, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='no case in common'):
        folders_.evaluate_folder(tmp_path / 'empty', folders[1])
    with pytest.raises(InputError, match='nowhere is not a folder'):
        folders_.evaluate_folder(tmp_path / 'nowhere', folders[1])
    write_labels(folders[0] / 'case_2.nii', cube(1, 4))
    with pytest.raises(InputError, match='same case'):
        folders_.evaluate_folder(*folders)


def test_grids_must_agree(folders):
    predictions, _ = folders
    write_labels(predictions / 'case_2.nii.gz', cube(1, 4)[:-1])
    with pytest.raises(InputError, match=r'case_2\.nii\.gz has shape \(9, 9, 8\), its reference \(10, 9, 8\)'):
        folders_.evaluate_folder(*folders)
    moved = AFFINE.copy()
    moved[1, 3] = 0.5
    write_labels(predictions / 'case_2.nii.gz', cube(1, 4), moved)
    with pytest.raises(InputError, match=r'case_2\.nii\.gz lies up to 0\.5 mm off'):
        folders_.evaluate_folder(*folders)
    moved[1, 3] = 0.001
    write_labels(predictions / 'case_2.nii.gz', cube(1, 4), moved)
    folders_.evaluate_folder(*folders)


def test_an_image_in_place_of_labels(folders):
    image = np.random.default_rng(0).integers(0, 2000, (10, 9, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), folders[0] / 'case_2.nii.gz')
    with pytest.raises(InputError, match=r'case_2\.nii\.gz'):
        folders_.evaluate_folder(*folders)


def test_what_is_written(folders, tmp_path):
    output = tmp_path / 'new' / 'measures'
    cases, summarised = folders_.evaluate_folder(*folders)
    measure_files.write(output, cases, summarised)
    assert sorted(path.name for path in output.iterdir()) == ['boxplots.png', 'cases.csv', 'summary.json']
    assert json.loads((output / 'summary.json').read_text()) == {**summarised, 'protocol': 'native'}
    rows = list(csv.DictReader((output / 'cases.csv').open()))
    assert [(row['case'], row['organ'], row['dice']) for row in rows][0] == ('case 1', '1', '1.0')
    assert {row['protocol'] for row in rows} == {'native'}


@pytest.fixture
def beyond(tmp_path):
    """(predictions, references) of one scan each, with a wrong label in a slice that shows no organ."""
    folders = tmp_path / 'predictions', tmp_path / 'labelsTs'
    wrong = cube(1, 4)
    wrong[0, 0, 7] = 1
    for folder, labels in zip(folders, (wrong, cube(1, 4)), strict=True):
        for case in ('btcv_000', 'btcv_002', 'btcv_008'):
            write_labels(folder / f'{case}.nii.gz', labels)
    return folders


def test_a_protocol_is_named_wherever_its_numbers_are(beyond, tmp_path):
    flags = [f'--predictions={beyond[0]}', f'--references={beyond[1]}']
    found = {}
    for protocol in ('native', 'csdg'):
        told = tiny.command('evaluate', *flags, f'--output={tmp_path / protocol}', f'--protocol={protocol}')
        assert told.returncode == 0 and f'3 cases, protocol {protocol}' in told.stdout, told.stderr
        rows = list(csv.DictReader((tmp_path / protocol / 'cases.csv').open()))
        assert len(rows) == 3 and {row['protocol'] for row in rows} == {protocol}
        content = json.loads((tmp_path / protocol / 'summary.json').read_text())
        assert content['protocol'] == protocol
        found[protocol] = content['mean']['dice']['mean']
    assert found == {'native': pytest.approx(2 * 27 / 55), 'csdg': 1}
    told = tiny.command('evaluate', *flags, f'--output={tmp_path / "wrong"}', '--protocol=CSDG')
    assert told.returncode == 2 and "unknown protocol 'CSDG'; known: csdg, native, sifa" in told.stderr
    assert not (tmp_path / 'wrong').exists()


def test_the_native_protocol_is_the_default(beyond):
    assert folders_.evaluate_folder(*beyond) == folders_.evaluate_folder(*beyond, protocol='native')


def test_a_protocol_of_some_subjects(beyond, caplog):
    with pytest.raises(InputError, match="has test subjects of MR and CT, not of channel ''; name CT or MR"):
        folders_.evaluate_folder(*beyond, protocol='sifa')
    (beyond[0] / 'dataset.json').write_text(json.dumps({'channel_names': {'0': 'CT'}, 'labels': {'liver': 1}}))
    cases, _ = folders_.evaluate_folder(*beyond, protocol='sifa')
    assert list(cases) == ['btcv_000', 'btcv_008']
    assert 'protocol sifa: test subjects CT 19, 21, 22, 28 are missing; 2 of 6 are scored' in caplog.text
    assert 'btcv_002' not in caplog.text
    (beyond[0] / 'btcv_002.nii.gz').unlink()  # need not be predicted
    assert list(folders_.evaluate_folder(*beyond, protocol='sifa')[0]) == ['btcv_000', 'btcv_008']
    (beyond[0] / 'btcv_008.nii.gz').unlink()
    with pytest.raises(InputError, match='no prediction in .* for btcv_008; predict them'):
        folders_.evaluate_folder(*beyond, protocol='sifa')


def test_organ_slices_are_those_of_the_classes_compared(beyond):
    """What only the reference names does not widen them; nor does the body."""
    reference = cube(1, 4)
    reference[5, 5, 7], reference[:, :, 0] = 2, 3
    write_labels(beyond[1] / 'btcv_000.nii.gz', reference)
    write_names(beyond[0], {'background': 0, 'liver': 1, 'body': 3})
    write_names(beyond[1], {'background': 0, 'liver': 1, 'aorta': 2, 'body': 3})
    cases, _ = folders_.evaluate_folder(*beyond, protocol='csdg')
    assert cases['btcv_000']['liver']['dice'] == 1
