"""A trained stage out of a workdir: nothing is left open once its weights are read."""

import pytest
import untrained

from synseg_jax.runs import open_run
from synseg_jax.training import checkpoint


@pytest.fixture
def managers(monkeypatch):
    """The orbax managers that are open, as they are made."""
    opened = []

    class Counted(checkpoint.ocp.CheckpointManager):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            opened.append(self)

        def close(self):
            super().close()
            opened.remove(self)

    monkeypatch.setattr(checkpoint.ocp, 'CheckpointManager', Counted)
    return opened


def test_no_manager_of_checkpoints_is_left_open(tmp_path, managers):
    workdir = untrained.workdir(tmp_path, method='supervised')
    trained = open_run.find(workdir)
    assert managers == []
    assert trained.kept() == trained.validated() == [0]
    trained.load(0)
    assert managers == []
