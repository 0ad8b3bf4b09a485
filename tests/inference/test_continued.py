"""A prediction that was killed goes on, and its folder ends as if it had never been; what differs is said."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import untrained

from synseg_jax.errors import InputError
from synseg_jax.files import read_csv
from synseg_jax.formats import scan_file, straight
from synseg_jax.inference import trained_model
from synseg_jax.inference.predict_scans import predict

ALONE = {'method': 'supervised'}
WRITES = 9  # of three scans with volumes: label map, table and dataset.json of each


class Killed(BaseException):
    """No code catches it, as none runs after SIGKILL."""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return untrained.trained(tmp_path_factory.mktemp('run'), **ALONE)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return scan_file.inputs(tiny.write_dataset(tmp_path_factory.mktemp('ct') / 'set', 'CT', 3))


@pytest.fixture(scope='module')
def whole(trained, files, tmp_path_factory):
    """The content of a folder that nothing interrupted."""
    output = tmp_path_factory.mktemp('whole') / 'labels'
    predict(trained, files, output, extras=['volumes'])
    return _content(output)


@pytest.fixture
def segmented(monkeypatch):
    """The scans that are segmented from now on."""
    seen, segment = [], trained_model.Trained.segment

    def noted(self, scan, domain):
        seen.append(scan)
        return segment(self, scan, domain)

    monkeypatch.setattr(trained_model.Trained, 'segment', noted)
    return seen


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def _killed(monkeypatch, writes, *arguments):
    """A prediction that is killed after so many writes."""
    replace, left = os.replace, iter(range(writes))

    def replacing(source, target):
        if next(left, None) is None:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(os, 'replace', replacing)
        predict(*arguments, extras=['volumes'])


@pytest.mark.parametrize('writes', range(WRITES))
def test_killed_between_any_two_writes(trained, files, whole, tmp_path, monkeypatch, segmented, writes):
    """Only the scan that was being written is segmented again."""
    output = tmp_path / 'labels'
    _killed(monkeypatch, writes, trained, files, output)
    before = len(segmented)
    written = predict(trained, files, output, extras=['volumes'], go_on=True)
    assert _content(output) == whole and list(written) == list(files)
    assert len(segmented) - before == 3 - writes // 3


def test_labels_that_were_being_replaced_are_not_taken_for_the_old_ones(trained, files, tmp_path, monkeypatch):
    output = tmp_path / 'labels'
    predict(trained, files, output)
    other = trained_model.Trained(trained.run, trained.networks.params, 7)
    _killed(monkeypatch, 2, other, files, output)
    with pytest.raises(InputError, match='was made with members .*step 7'):
        predict(trained, files, output, go_on=True)


def test_what_is_there_stays_and_what_is_gone_is_made(trained, files, whole, tmp_path, segmented):
    output = tmp_path / 'labels'
    predict(trained, files, output, extras=['volumes'])
    (output / 'ct_1.nii.gz').unlink()
    (output / 'ct_2.nii.gz').write_bytes(b'')
    predict(trained, files, output, extras=['volumes'], go_on=True)
    assert _content(output) == whole and len(segmented) == 5
    predict(trained, files, output, extras=['volumes', 'overlays'], go_on=True)
    assert len(segmented) == 8 and len(list((output / 'overlays').iterdir())) == 3
    predict(trained, {**files, 'more': files['ct_0']}, output, extras=['volumes'], go_on=True)
    assert len(segmented) == 9 and len(read_csv(output / 'volumes.csv')) == 8


def test_a_scan_that_has_changed_is_segmented_again(trained, files, tmp_path, segmented, caplog):
    copies = {case: tmp_path / file.name for case, file in files.items()}
    for case, file in files.items():
        copies[case].write_bytes(file.read_bytes())
    predict(trained, copies, tmp_path / 'labels')
    scan = scan_file.read(copies['ct_1'])
    scan_file.write(copies['ct_1'], np.rint(scan.array + 9).astype(np.int16), scan)
    predict(trained, copies, tmp_path / 'labels', go_on=True)
    assert len(segmented) == 4
    assert f'{copies["ct_1"]}: has changed since it was segmented; it is segmented again' in caplog.text


def test_what_was_made_otherwise_is_refused_and_left(trained, files, whole, tmp_path):
    output = tmp_path / 'labels'
    predict(trained, files, output, extras=['volumes'])
    other = trained_model.Trained(trained.run, trained.networks.params, 7)
    views = trained.with_fields({'predict.rotate': 5.0})
    for segmenter, options, told in (
        (other, {}, r'was made with members .* \(step None\), not .* \(step 7\)'),
        (views, {}, r'was made with predict.rotate 0.0, not 5.0'),
        (trained, {'write': straight.write}, 'was made with straightened None, not True'),
        (trained, {'domain': 'a'}, 'was made with channel_names 0 CT, not 0 MR'),
    ):
        with pytest.raises(InputError, match=f'^--continue: .*labels {told}; leave --continue out, or choose another'):
            predict(segmenter, files, output, extras=['volumes'], go_on=True, **options)
    assert _content(output) == whole


def test_a_folder_that_does_not_tell_its_scans(trained, files, tmp_path):
    (tmp_path / 'dataset.json').write_text(json.dumps({'labels': {}}))
    with pytest.raises(InputError, match='dataset.json does not say which scans are done; leave --continue out'):
        predict(trained, files, tmp_path, go_on=True)


def test_without_a_folder_all_is_segmented(trained, files, whole, tmp_path):
    predict(trained, files, tmp_path / 'labels', extras=['volumes'], go_on=True)
    assert _content(tmp_path / 'labels') == whole
