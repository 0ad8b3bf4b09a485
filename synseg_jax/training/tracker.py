"""Metrics of a training run in MLflow (`train.mlflow`), in one MLflow run however often training is resumed.

mlflow.json in the stage's folder holds the id of that run.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from synseg_jax.errors import InputError, warn
from synseg_jax.files import read_json, write_json

FILE = 'mlflow.json'
EXPERIMENT = 'synseg_jax'  # unless the variable MLFLOW_EXPERIMENT_NAME names another
EVERY_SECONDS = 20.0  # between requests
PARAMS, METRICS = 100, 1000  # that one request may hold


class Tracker:
    """The MLflow run of the stage in `folder` at the tracking server or database `uri`, begun or continued.

    `parameters` are logged when the run begins.  What cannot be sent is kept for the next time, with a warning.  MLflow
    passes on whatever the database or the network raises.
    """

    def __init__(self, uri: str, folder: Path, parameters: Mapping[str, object]):
        client, self.entities = _mlflow()
        try:
            self.client = client(tracking_uri=uri)
            self.run, self.last = self._continued(uri, folder) or self._begun(uri, folder, parameters)
        except Exception as error:
            raise InputError(f'train.mlflow={uri}: {_first_line(error)}; change it, or leave it empty') from error
        self.waiting, self.sent = [], time.monotonic()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve, but for steps that were logged before training was resumed."""
        now = int(1000 * time.time())
        self.waiting += [
            self.entities.Metric(name, float(value), now, step)
            for name, value in values.items()
            if step > self.last.get(name, 0)
        ]
        if time.monotonic() - self.sent > EVERY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the points so far."""
        try:
            while self.waiting:
                self.client.log_batch(self.run, self.waiting[:METRICS])
                self.waiting = self.waiting[METRICS:]
        except Exception as error:
            warn('train.mlflow: %d points wait to be sent: %s', len(self.waiting), _first_line(error))
        self.sent = time.monotonic()

    def close(self, finished: bool) -> None:
        """Send what waits, and mark the run as finished or, for now, killed."""
        self.flush()
        try:
            self.client.set_terminated(self.run, 'FINISHED' if finished else 'KILLED')
        except Exception as error:
            warn('train.mlflow: the run is not closed: %s', _first_line(error))

    def _continued(self, uri, folder):
        """Id of the stage's run, and the last step of each curve in it; None if it has none at `uri`."""
        if not (folder / FILE).is_file():
            return None
        content = read_json(folder / FILE, 'remove the file')
        if content.get('uri') != uri:
            return None
        run = self.client.get_run(content['run_id'])
        histories = {name: self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        self.client.update_run(run.info.run_id, 'RUNNING')
        return run.info.run_id, {name: max(point.step for point in points) for name, points in histories.items()}

    def _begun(self, uri, folder, parameters):
        """Id of a new run, with its parameters."""
        name = os.environ.get('MLFLOW_EXPERIMENT_NAME', EXPERIMENT)
        experiment = self.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(name)
        run = self.client.create_run(experiment_id, run_name=folder.name).info.run_id
        params = [self.entities.Param(name, str(value)) for name, value in parameters.items()]
        for first in range(0, len(params), PARAMS):
            self.client.log_batch(run, params=params[first : first + PARAMS])
        write_json(folder / FILE, {'uri': uri, 'run_id': run})
        return run, {}


def _mlflow():
    """MLflow's client and entities; InputError without the package."""
    try:
        from mlflow import MlflowClient, entities
    except ImportError as error:
        raise InputError("train.mlflow: MLflow is not installed; pip install 'synseg_jax[mlflow]'") from error
    return MlflowClient, entities


def _first_line(error) -> str:
    return str(error).partition('\n')[0].rstrip('. ')
