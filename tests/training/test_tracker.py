"""Metrics in MLflow: one run for a stage, however often training is killed, and no step twice."""

import sys

import pytest
import tiny

from synseg_jax.errors import InputError
from synseg_jax.training.tracker import Tracker

mlflow = pytest.importorskip('mlflow', reason='MLflow is not installed')
pytest.importorskip('alembic', reason='alembic, with which MLflow makes a database, is not installed')

pytestmark = pytest.mark.filterwarnings('ignore')  # MLflow's, about itself


@pytest.fixture
def uri(tmp_path):
    return f'sqlite:///{tmp_path}/mlflow.db'


def history(uri, run, name):
    points = mlflow.MlflowClient(tracking_uri=uri).get_metric_history(run, name)
    return [(point.step, point.value) for point in points]


def runs(uri):
    client = mlflow.MlflowClient(tracking_uri=uri)
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def test_a_killed_run_goes_on_under_its_id(uri, tmp_path):
    parameters = {f'train.field{number}': number for number in range(150)}  # more than a request holds
    first = Tracker(uri, tmp_path, parameters)
    for step in (2, 4, 6):
        first.scalars(step, {'seg': step / 3, 'validation/volume/left kidney': 1.0})
    first.flush()
    first.scalars(8, {'seg': 8 / 3})  # lost as the process is killed
    second = Tracker(uri, tmp_path, parameters)  # from a checkpoint of step 2
    for step in (4, 6, 8, 10):
        second.scalars(step, {'seg': step / 3, 'gen': 0.0})
    second.close(finished=True)
    (run,) = runs(uri)
    assert run.info.run_id == first.run == second.run and run.info.status == 'FINISHED'
    assert run.info.run_name == tmp_path.name
    assert run.data.params == {name: str(value) for name, value in parameters.items()}
    assert history(uri, run.info.run_id, 'seg') == [(step, step / 3) for step in (2, 4, 6, 8, 10)]
    assert [step for step, _ in history(uri, run.info.run_id, 'gen')] == [4, 6, 8, 10]
    assert [step for step, _ in history(uri, run.info.run_id, 'validation/volume/left kidney')] == [2, 4, 6]


def test_a_server_that_fails_for_a_while_loses_nothing(uri, tmp_path, monkeypatch, caplog):
    tracker = Tracker(uri, tmp_path, {})
    tracker.scalars(2, {'seg': 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(tracker.client, 'log_batch', lambda *_: int('down'))
        tracker.flush()
    assert 'train.mlflow: 1 points wait to be sent: invalid literal' in caplog.text
    tracker.close(finished=False)
    (run,) = runs(uri)
    assert history(uri, tracker.run, 'seg') == [(2, 1.0)] and run.info.status == 'KILLED'


def test_training_writes_what_metrics_csv_has(uri, tmp_path):
    records = tiny.write_records(tmp_path)
    short = {'train__steps': 4, 'train__decay_steps': 0, 'train__save_every': 2}
    tiny.run(tiny.config(records, method='supervised', train__mlflow=uri, **short), tmp_path / 'run')
    (run,) = runs(uri)
    (stage,) = (tmp_path / 'run' / 'stages').iterdir()
    assert run.info.run_name == stage.name and run.info.status == 'FINISHED'
    assert run.data.params['train.steps'] == '4' and run.data.params['method'] == 'supervised'
    lines = [line.split(',') for line in (stage / 'metrics.csv').read_text().splitlines()]
    column = lines[0].index('seg_a')
    assert [(int(row[0]), float(row[column])) for row in lines[1:]] == history(uri, run.info.run_id, 'seg_a')
    assert [step for step, _ in history(uri, run.info.run_id, 'validation/score')] == [2, 4]


def test_what_cannot_be_tracked_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match='^train.mlflow=ftp://x: .*; change it, or leave it empty$'):
        Tracker('ftp://x', tmp_path, {})
    monkeypatch.setitem(sys.modules, 'mlflow', None)
    with pytest.raises(InputError, match=r"MLflow is not installed; pip install 'synseg_jax\[mlflow\]'"):
        Tracker('sqlite:///x.db', tmp_path, {})
