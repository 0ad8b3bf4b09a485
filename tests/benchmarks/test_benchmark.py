"""The benchmark times what it says, beside a peer in turn, and its costs are those of the step."""

import dataclasses
import gzip
import json
import time
from itertools import islice

import jax
import numpy as np
import pytest
import tiny

from synseg_jax.benchmarks import measurement, scan_speed, selection, training_speed
from synseg_jax.benchmarks.flops import flops
from synseg_jax.cli.options import Options
from synseg_jax.errors import InputError
from synseg_jax.formats import scan_file
from synseg_jax.inference import predict_scans
from synseg_jax.preparation import write_records
from synseg_jax.specification.parse import replaced
from synseg_jax.training.system import System

PEER = """
import argparse, json
p = argparse.ArgumentParser()
for name in ('size', 'ngf', 'blocks', 'batch', 'steps', 'threads'):
    p.add_argument(f'--{name}', type=int)
p.add_argument('--infer', action='store_true')
a = p.parse_args()
print(json.dumps({'seconds_per_step': a.size * a.ngf * a.blocks * a.batch / 1e3}))
"""


def _system(**changes):
    return System(tiny.configure(tiny.config(**changes), 'synseg'), tiny.CLASSES)


def test_a_step_is_timed_alone_and_fed_by_records():
    runner = training_speed.Timing(_system(method='supervised', image_pool=0, train__workers=0))
    rounds = [*islice(runner.time_steps(2), 2)]
    of = [f'{kind}step_{unit}' for kind in ('', 'fed_', 'resident_') for unit in ('s', 'cpu_s')]
    assert [*rounds[0]] == of
    assert all(value > 0 for one in rounds for value in one.values())
    cost = runner.cost()
    pixels, width = 2 * 32 * 32, 4
    first = 2 * pixels * 49 * width / 1e9  # of the 7x7 layer alone, forward
    assert cost['gflop'] > 5 * first
    assert 0.5 < cost['estimated_gib'] / cost['compiled_gib'] < 2
    assert next(runner.time_segmentor(2, 1))['inference_s'] > 0


def test_the_pipeline_delivers_rows(monkeypatch):
    """Batches of 2 rows that take 50 ms each are 40 rows a second; what other processes take is not told."""

    def slowly(_):
        while True:
            time.sleep(0.05)
            yield {}

    runner = training_speed.Timing(_system(method='supervised', image_pool=0))
    monkeypatch.setattr(runner, '_read', slowly)
    for one in islice(runner.time_pipeline(0.3), 2):
        assert 22 < one['pipeline_rows_per_s'] <= 40 < one['pipeline_rows_per_cpu_s']
    runner.system = dataclasses.replace(runner.system, config=replaced(runner.system.config, {'train.workers': 1}))
    assert next(runner.time_pipeline(0.1)).keys() == {'pipeline_rows_per_s'}


def test_steps_are_timed_one_ahead():
    """The next is started before the one before has ended, as in training; the time is from end to end."""
    seen = []

    class Running:
        def __init__(self, number):
            self.number = number
            seen.append(f'start {number}')

        def block_until_ready(self):
            time.sleep(0.02)
            seen.append(f'end {self.number}')

    spent = training_speed._time_pipelined(map(Running, range(3)))
    assert 0.02 <= spent['s'] < 0.2 and 0 < spent['cpu_s'] < 0.02
    assert seen == ['start 0', 'start 1', 'end 0', 'start 2', 'end 1', 'end 2']


@pytest.mark.parametrize('changes', [{}, {'data__size': (8, 32, 32), 'data__spacing_mm': 2.0}])
def test_scans_are_prepared_anew_in_every_round(monkeypatch, changes):
    """Records of an MR scan with labels and of a CT scan; the rate counts the slices of both."""
    read, spent = [], []

    def prepare(*arguments, **named):
        began = time.perf_counter()
        manifest = write_records.prepare(*arguments, **named)
        read.append({name: manifest.records(name, 'train')[0] for name in ('source', 'target')})
        spent.append(time.perf_counter() - began)
        return manifest

    monkeypatch.setattr(scan_speed, 'prepare', prepare)
    for one in islice(scan_speed.time_preparation(_system(**changes), tiny.SHAPE), 2):
        assert one['prepare_slices_per_s'] == pytest.approx(2 * 6 / spent[-1], rel=0.3)
        assert one['prepare_slices_per_cpu_s'] > 0
        assert set(np.unique(read[-1]['source']['label'])) == {0, 1, 2} and 'label' not in read[-1]['target']
    assert len(read) == 2


@pytest.mark.parametrize('changes', [{}, {'context__slices': 1}])
def test_a_scan_is_segmented_from_file_to_file(monkeypatch, changes):
    labels = []
    monkeypatch.setattr(
        scan_speed, 'predict', lambda *a: labels.append(scan_file.read_labels(predict_scans.predict(*a)['ct']))
    )
    runner = training_speed.Timing(_system(method='supervised', image_pool=0, **changes))
    for one in islice(runner.time_prediction(tiny.SHAPE), 2):
        assert 0 < one['predict_network_s'] < one['predict_s'] and one['predict_cpu_s'] > 0
    assert [label.array.shape for label in labels] == [tiny.SHAPE, tiny.SHAPE]


def test_nothing_is_segmented_without_a_segmentor():
    runner = training_speed.Timing(_system(method='cyclegan'))
    assert [*runner.time_segmentor(2, 1), *runner.time_prediction(tiny.SHAPE)] == [] and measurement._spread([]) == {}


def test_images_are_made_where_there_is_a_generator():
    runner, other = (training_speed.Timing(_system(method=method)) for method in ('cyclegan', 'supervised'))
    assert next(runner.time_generator(2, 1)).keys() == {'synthesis_s', 'synthesis_cpu_s', 'hosted_synthesis_s'}
    assert [*other.time_generator(2, 1)] == []


def test_an_epoch_is_as_many_steps_as_its_images_fill(monkeypatch):
    """Without the rest, as in training, and of at least one."""
    monkeypatch.setattr(
        training_speed, '_run', lambda step, state, batches: (state, {'s': 2.0, 'cpu_s': len([*batches])})
    )
    for images, steps in ((7, 3), (1, 1)):
        runner = training_speed.Timing(_system(method='supervised', image_pool=0), images)
        monkeypatch.setattr(runner, 'step', None)
        assert next(runner.time_epoch(5)) == {'epoch_s': 2.0 * steps, 'epoch_cpu_s': 5 * steps}


def test_the_network_of_one_logit_is_run():
    """The larger of one is known without it, and a compiler would leave the network out."""
    config = tiny.configure(
        tiny.config(method='supervised', image_pool=0, loss__segmentation='binary_cross_entropy'), 'synseg'
    )
    runner = training_speed.Timing(System(config, ('background', 'liver')))
    params = runner.system.abstract_state(runner.over).params
    seen = jax.ShapeDtypeStruct((2, 32, 32, 1), np.float32)
    first = 2 * seen.size * 49 * 4  # operations of the 7x7 layer alone
    assert flops(runner.classes.lower(params, seen).compile()) > first


def test_random_scans_pack_like_real_ones():
    """To two thirds or half, as the gzipped scans that people have; white noise packs to nine tenths."""
    image = np.rint(2000 * scan_speed.smooth(np.random.default_rng(0), (256, 256, 8))).astype(np.int16)
    assert 0.45 < len(gzip.compress(image.tobytes('F'), 4)) / image.nbytes < 0.75
    assert image.min() < 300 and image.max() > 1700


@pytest.mark.parametrize('context', [0, 1])
def test_records_hold_what_the_step_reads(tmp_path, context):
    runner = training_speed.Timing(_system(method='supervised', image_pool=0, context__slices=context))
    batch = next(runner._read(runner._pools(tmp_path)))
    assert {name: batch[name].shape for name in batch} == {name: runner.data[name].shape for name in ('a', 'label_a')}
    assert batch['label_a'].dtype == np.int32 and batch['label_a'].max() < len(tiny.CLASSES)


def test_ratios_are_those_of_single_rounds():
    rounds = [
        {'step_s': 1.0, 'peer_step_s': 2.0},
        {'step_s': 9.0, 'peer_step_s': 3.0},
        {'step_s': 2.0, 'peer_step_s': 2.0},
    ]
    spread = measurement._spread(rounds)
    assert spread['step_ratio'] == {'median': 1.0, 'least': 0.5, 'most': 3.0}
    assert spread['step_s'] == {'median': 2.0, 'least': 1.0, 'most': 9.0}


def test_the_peer_is_asked_for_the_same_work(tmp_path):
    script = tmp_path / 'peer.py'
    script.write_text(PEER)
    found = measurement.peer_seconds(str(script), _system(), 3, '--infer')
    assert found == pytest.approx(32 * 4 * 1 * 2 / 1e3)
    script.write_text('raise SystemExit("no torch here")')
    with pytest.raises(Exception, match='no torch here'):
        measurement.peer_seconds(str(script), _system(), 3)


def test_the_stages_of_a_system_are_told_without_compiling():
    """The parameters are those of EssNet's Table 5, which counts its generators and discriminators alone."""
    given = f'--config={tiny.ROOT}/configs/essnet_liver.py:records', '--stage=translate,segment', '--dtype=bfloat16'
    done = tiny.command('benchmark', *given, '--memory')
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [(of['batch'], of['dtype'], of['size']) for of in said.values()] == [
        (1, 'bfloat16', [256, 256]), (2, 'bfloat16', [256, 256])
    ]  # fmt: skip
    game, unet = (said[stage]['parameters'] for stage in ('translate', 'segment'))
    assert sum(count for name, count in game.items() if name != 's_b') == 28_256_644 and unet == {'s_b': 31_031_685}
    assert said['translate']['memory_gib'].keys() >= {'state', 'kept for gen', 'players in turn', 'players at once'}


def test_parts_are_chosen(tmp_path):
    flags = ('--parts=pipeline,step,epoch,inference,prepare,predict', '--scan=24,22,6', '--steps=1', '--rounds=1')
    config = f'--config={tiny.ROOT}/tests/tiny.py', '--config.method=supervised', '--images=7'
    done = tiny.command('benchmark', *config, *flags, f'--output={tmp_path / "out.json"}')
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / 'out.json').read_text())['train']
    measured = {name.split('_')[0] for name in said['measured']}
    assert measured == {'pipeline', 'step', 'fed', 'resident', 'epoch', 'inference', 'hosted', 'prepare', 'predict'}
    median = {name: spread['median'] for name, spread in said['measured'].items()}
    assert said['pairs_per_s'] == pytest.approx(2 / median['step_s'])
    assert said['images_per_s'] == pytest.approx(2 / median['inference_s'])
    assert said['pipeline_over_step'] == pytest.approx(median['pipeline_rows_per_s'] / said['pairs_per_s'])
    assert said['network_share'] == pytest.approx(median['predict_network_s'] / median['predict_s'])
    for told in ('parameters of s_a', 'epoch_s', 'images_per_s'):
        assert f' {told} ' in done.stdout


def test_a_u_net_is_timed_beside_pytorchs(tmp_path):
    """Of the same weights, one for one; a U-Net of another kind has no peer."""
    pytest.importorskip('torch', reason='PyTorch is not installed')
    from synseg_jax.benchmarks import torch_peer

    options = Options(
        config=None, architecture='unet', width=4, blocks=None, batch=2, dtype=None, size=32, system=None, stage=None
    )
    (timed,) = selection.systems(options).values()
    (network,) = timed.networks.values()
    weights = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((2, 32, 32, 1), np.float32))
    peer = torch_peer.UNetPeer(32, 4, 4, 2, len(timed.classes), best=False)
    expected = sum(weight.size for weight in jax.tree.leaves(weights))
    assert sum(weight.numel() for weight in peer.net.parameters()) == expected
    peer.train()
    assert peer.segment().shape == (2, 32, 32)
    script = tmp_path / 'peer.py'
    asked = {f'--{text}' for text in ('architecture=unet', 'batch=2', 'classes=7', 'levels=4', 'ngf=4', 'size=32')}
    script.write_text(f'import json, sys\nprint(json.dumps({{"seconds_per_step": len({asked} & {{*sys.argv}})}}))')
    assert measurement.peer_seconds(str(script), timed, 3) == 6
    other = System(replaced(timed.config, {'segmentor.up_width': 3}), timed.classes)
    assert measurement.is_plain_unet(timed) and not measurement.is_plain_unet(other)
    with pytest.raises(InputError, match="unknown architecture .--architecture. 'vnet'; known: resnet, unet"):
        selection.systems(Options(**{**vars(options), 'architecture': 'vnet'}))
