"""Networks run on the device that was named; of others the message lists those there are."""

import jax
import jax.numpy as jnp
import pytest
import untrained

from synseg_jax import predict
from synseg_jax.devices import choice, parallel
from synseg_jax.errors import InputError
from synseg_jax.runs import open_run


def test_checkpoints_are_loaded_to_the_device_and_scans_segmented_there(tmp_path):
    workdir = untrained.workdir(tmp_path, method='supervised')
    for name, number in (('cpu', 0), ('cpu:1', 1), (None, 0)):
        with choice.on(name):
            trained = open_run.find(workdir)
            assert jnp.ones(2).devices() == {jax.devices('cpu')[number]}
        used = {device for leaf in jax.tree.leaves(trained.networks.params) for device in leaf.devices()}
        assert used == {jax.devices('cpu')[number]}
    assert parallel.local_mesh().devices.tolist() == [jax.local_devices()[0]]


def test_devices_that_are_not_there(capsys, tmp_path):
    with pytest.raises(InputError, match='^--device=gpu: no such device; there are cpu:0, cpu:1, '):
        choice.device('gpu')
    with pytest.raises(InputError, match='^--device=cpu:99: no such device'):
        choice.device('cpu:99')
    argv = [f'--{name}={tmp_path}' for name in ('workdir', 'input', 'output')]
    assert predict.main([*argv, '--device=tpu:3']) == 2
    assert capsys.readouterr().err.startswith('error: --device=tpu:3: no such device; there are cpu:0')
