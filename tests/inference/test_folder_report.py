"""`predict --report` writes a page of all scans from the table and the pictures, the same one when it goes on."""

from dataclasses import replace

import pytest
import tiny
import untrained

from synseg_jax.files import read_csv
from synseg_jax.formats import scan_file
from synseg_jax.inference import folder_report, trained_model, trust
from synseg_jax.inference.predict_scans import predict


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A trained system and its folder of two scans."""
    folder = tmp_path_factory.mktemp('report')
    files = scan_file.inputs(tiny.write_dataset(folder / 'set', 'CT', 2))
    one = untrained.trained(folder, method='supervised')
    trained = trained_model.Trained(replace(one.run, volumes_ml={'liver': (1.0, 9.5)}), one.networks.params, 20)
    predict(trained, files, folder / 'out', extras=['report'])
    return trained, files, folder / 'out'


def test_the_table_holds_what_the_page_shows(written):
    trained, files, output = written
    rows = read_csv(output / 'report.csv')
    assert [row['case'] for row in rows] == list(files)
    organs = [f'{name}{what}' for what in (folder_report.ML, folder_report.AGREEMENT) for name in tiny.CLASSES[1:]]
    assert list(rows[0]) == ['case', 'flag', 'agreement', *trust.REMARKS, *organs]
    page = (output / 'report.html').read_text(encoding='utf-8')
    for row in rows:
        assert f'<h2>{row["case"]}' in page and f'agreement {float(row["agreement"]):.3f}' in page
        labels = scan_file.read_labels(output / f'{row["case"]}.nii.gz')
        ml = (labels.array == 1).sum() * 3 * 3 * 5 / 1000
        assert float(row['liver mL']) == pytest.approx(ml, abs=1e-3) and row['volume'].startswith('liver') == (
            ml > 11.9
        )
    assert '1 to 10' in page or '1 to 9' in page
    assert f'{trained.run.folder.name} (step 20)' in page and 'are not known' not in page


def test_without_volumes_of_the_training_labels_the_page_says_so(written, tmp_path):
    trained, files, _ = written
    earlier = trained_model.Trained(replace(trained.run, volumes_ml={}), trained.networks.params, 20)
    predict(earlier, files, tmp_path / 'out', extras=['report'])
    assert folder_report.UNKNOWN in (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')


def test_the_page_is_made_again_from_the_table(written):
    trained, files, output = written
    page = (output / 'report.html').read_bytes()
    (output / 'report.html').unlink()
    (output / 'ct_1.nii.gz').unlink()
    predict(trained, files, output, extras=['report'], go_on=True)
    assert (output / 'report.html').read_bytes() == page
