"""Cycle- and shape-consistency on whole heart volumes, CT <-> MR (Zhang et al., CVPR 2018, section 3).

    python -m synseg_jax.prepare --config=configs/heart3d.py --source=MR --target=CT --output=records/heart
    python -m synseg_jax.main --config=configs/heart3d.py:records/heart --workdir=runs/heart

Both modalities have labels; half of the subjects train and validate, half test.  Reported with 14 % of the real scans
of the modality under test, CT / MR: Dice .678 / .703 on real scans alone (baseline), .660 / .710 with synthetic ones
added offline (ada), .744 / .732 trained jointly (joint).  S-score of the synthetic scans .668 / .675 without and .692 /
.696 with shape consistency.  Silent in the paper: widths, weights of the segmentors' terms (1 each), batch (1).

Bare: phantom hearts at demonstration scale.  Systems end in the modality of which few real scans are read, the other's
are read whole.  --config.run="('scratch_ct',)" trains another one: baseline, ada, joint, scratch (all networks from the
start together) and in_turn (generators move first, as the paper says), each with _ct or _mr; all_real, s_score_without,
s_score_with.
"""

from ml_collections import ConfigDict

from configs import base, variants

CLASSES = ('background', 'left ventricle', 'myocardium', 'left atrium', 'right ventricle', 'right atrium')


def get_config(data: str = '') -> ConfigDict:
    """The paper's schedule: segmentors alone, generators and discriminators alone, then all together."""
    c = base.get_config(data)
    share = '14%' if data else '20%'
    lengths = {
        'segment': {'epochs': 100} if data else {'steps': 400, 'decay_steps': 200},
        'translate': {'epochs': 60} if data else {'steps': 300},
        'joint': {'epochs': 50, 'decay_epochs': 50, 'patience': 5} if data else {'steps': 300, 'decay_steps': 150},
    }
    whole = {'a': ('source',), 'b': ('target',)}
    few = {'ct': whole | {'b': (f'target:{share}',)}, 'mr': whole | {'a': (f'source:{share}',)}}

    def segment(sets, stage='segment', **more):
        pays = {'seg': {'seg_a': 1.0, 'seg_b': 1.0}}
        return {'method': 'supervised', 'pays': pays, 'sets': sets, 'train': lengths[stage], **more}

    def joint(sets, *before, **more):
        start = {'stages': before}
        return {'method': 'shape_consistency', 'sets': sets, 'start': start, 'train': lengths['joint'], **more}

    def translate(**more):
        return {'method': 'cyclegan', 'sets': whole, 'train': lengths['translate'], **more}

    def made(by, does, domain):
        names = {'a': {'a': ('source',), 'b': ()}, 'b': {'a': (), 'b': ('target',)}}
        return {'do': does, 'by': by, 'sets': names[domain]}

    def offline(sets):
        # What is made of few real scans is as few: the same part of a set and of what is made of it are the same scans.
        a, b = (sets[domain][0].removeprefix(name) for domain, name in (('a', 'source'), ('b', 'target')))
        mixed = {'a': (*sets['a'], f'mr{b}', f'mr_back{a}'), 'b': (*sets['b'], f'ct{a}', f'ct_back{b}')}
        tune = segment(mixed, 'joint', start={'stages': ('segment',)})
        tune['train'] = {**tune['train'], 'mixed': True, 'batch': 2}
        return {
            'segment': segment(sets),
            'translate': translate(),
            'ct': made('translate', 'synthesize', 'a'),
            'mr': made('translate', 'synthesize', 'b'),
            'mr_back': made('translate', 'reconstruct', 'a'),
            'ct_back': made('translate', 'reconstruct', 'b'),
            'tune': tune,
        }

    def together(sets, **more):
        before = {'segment': segment(sets), 'translate': translate(**more)}
        return {**before, 'joint': joint(sets, 'segment', 'translate', **more)}

    def s_score(by, stages):
        made_sets = {'ct': made(by, 'synthesize', 'a'), 'mr': made(by, 'synthesize', 'b')}
        return {'stages': {**stages, **made_sets, 'judge': segment(whole)}, 'tested': 'judge', 'tests': ('ct', 'mr')}

    c.systems = variants.systems(**{
        'all_real': {'stages': {'segment': segment(whole)}},
        's_score_without': s_score('translate', {'translate': translate()}),
        's_score_with': s_score('joint', together(whole)),
    })  # fmt: skip
    for modality, sets in few.items():
        c.systems.update(variants.systems(**{
            f'joint_{modality}': {'stages': together(sets)},
            f'baseline_{modality}': {'stages': {'segment': segment(sets)}},
            f'ada_{modality}': {'stages': offline(sets)},
            f'scratch_{modality}': {'stages': {'joint': joint(sets)}},
            f'in_turn_{modality}': {'stages': together(sets, order='in turn')},
        }))  # fmt: skip
    c.chosen, c.run, c.tests = 'joint_ct', ('joint_ct', 'baseline_ct'), ('target', 'source')
    unet = {'architecture': 'unet', 'width': 32 if data else 8, 'levels': 3, 'extra': 0, 'dropout': 0.0, 'up_width': 3}
    c.segmentor = ConfigDict(unet)
    c.generator = ConfigDict({**unet, 'norm': True, 'strided': True, 'tanh': True})
    c.data.size, c.data.spacing_mm = ((86, 112, 112), 1.5) if data else ((32, 40, 40), 4.0)
    c.data.window_hu, c.data.target_labels = (-200.0, 600.0), True
    c.data.source_split, c.data.target_split = (0.4, 0.1, 0.5), (0.4, 0.1, 0.5)
    c.data.classes = CLASSES
    c.rate = ConfigDict({'generator': 2e-4, 'discriminator': 2e-4, 'segmentor': 2e-4})
    if data:
        c.dtype, c.remat = 'bfloat16', True
        c.train.save_every = 100
        return c
    c.rate = ConfigDict({'generator': 1e-3, 'discriminator': 1e-3, 'segmentor': 2e-3})
    c.discriminator.layers, c.discriminator.width = 2, 8
    c.phantom.region = 'heart'
    c.phantom.sets = ConfigDict({'source': base.phantom_set('MR', 'a', 24), 'target': base.phantom_set('CT', 'b', 24)})
    c.train.batch, c.train.decay_steps, c.train.save_every, c.train.log_every = 1, 0, 100, 25
    return c
