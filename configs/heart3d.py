"""Cycle- and shape-consistency on whole heart volumes, CT <-> MR (Zhang et al., CVPR 2018, section 3).

    python -m synseg_jax.prepare --config=configs/heart3d.py --source=MR --target=CT --output=records/heart
    python -m synseg_jax.main --config=configs/heart3d.py:records/heart --workdir=runs/heart

Both modalities are labelled; half of the subjects are for training and validation, half for testing.  Reported with
14 % of the real scans of the modality under test, CT / MR: Dice .678 / .703 with real scans only (baseline), .660 /
.710 with synthetic scans added offline (ada), .744 / .732 trained jointly (joint).  S-score of the synthetic scans .668
/ .675 without and .692 / .696 with shape consistency.  Not stated in the paper: widths, weights of the segmentors'
terms (1 each), batch size (1), and on which scans early stopping measures the segmentation loss (here: real held-out
scans, in all epochs of joint training).

The paper's second data set has 4,212 additional CT, which are translated to MR to improve the segmentation of MR:
`prepare --set=more=FURTHER_CT:b:train` adds them, with their labels.  Only the last stage of ada_more and joint_more
reads them.

Without data: phantom hearts at demonstration scale.  The names of systems end in the modality with few real scans and
their percentage; all scans of the other modality are read.  --config.run="('scratch_ct_14',)" trains another system:
baseline, ada and joint with _ct or _mr and 14, 35, 60 or 85; scratch (all networks trained jointly from the start) and
in_turn (alternating updates, generators first, as the paper states) with 14; more, ada_made and joint_made, with
additional real or synthetic scans up to that percentage; all_real, s_score_with, and s_score_without, whose generators
are trained as long.  ada_more and joint_more with 0, 23, 50 or 100 percent need the additional CT;
configs/tables/heart_more.py generates phantoms for them.
"""

from ml_collections import ConfigDict

from configs import base, variants

SHARES = (14, 35, 60, 85)  # percent of the real scans
LEAST = SHARES[0]
FURTHER = (0, 23, 50, 100)  # percent of the additional CT; in the paper joint training with 23 equals offline with 100
CLASSES = ('background', 'left ventricle', 'myocardium', 'left atrium', 'right ventricle', 'right atrium')


def get_config(data: str = '') -> ConfigDict:
    """The paper's schedule: segmentors, then generators and discriminators, then all networks jointly."""
    c = base.get_config(data)
    lengths = {
        'segment': {'epochs': 100} if data else {'steps': 600, 'decay_steps': 300},
        'translate': {'epochs': 60} if data else {'steps': 300},
        'joint': {'epochs': 50, 'decay_epochs': 50, 'patience': 5} if data else {'steps': 300, 'decay_steps': 150},
        'alone': {'epochs': 110, 'decay_epochs': 50} if data else {'steps': 600, 'decay_steps': 150},
    }
    whole = {'a': ('source',), 'b': ('target',)}

    def few(modality, share):
        return whole | ({'b': (f'target:{share}%',)} if modality == 'ct' else {'a': (f'source:{share}%',)})

    # At the demonstration's high learning rates a single large gradient can undo the training of segmentors, which
    # have no normalisation: after 300 steps Dice on held-out MR was .61, and .85 with clipped gradients.  Segmentors
    # that were trained in an earlier stage continue at a lower learning rate.
    steady = {} if data else {'optimizer': {'clip_norm': 1.0}}

    def begun(*stages):
        return {'start': {'stages': stages}} | ({'rate': {'segmentor': 5e-4}} if stages and not data else {})

    def segment(sets, stage='segment', **more):
        loss_weights = {'seg': {'seg_a': 1.0, 'seg_b': 1.0}}
        return {
            'method': 'supervised',
            'loss_weights': loss_weights,
            'sets': sets,
            'train': lengths[stage],
            **steady,
            **more,
        }

    def joint(sets, *before, **more):
        fields = {**begun(*before), **steady, **more}
        return {'method': 'shape_consistency', 'sets': sets, 'train': lengths['joint'], **fields}

    def translate(stage='translate', **more):
        return {'method': 'cyclegan', 'sets': whole, 'train': lengths[stage], **more}

    def made(by, does, domain, of=''):
        return {'kind': does, 'generators_from': by, 'sets': {'a': (), 'b': (), domain: (of or whole[domain][0],)}}

    def offline(sets, a='', b=''):
        # Few real scans give as few synthetic ones: the same part of a set and of its translation are the same scans.
        a, b = (sets[d][0].removeprefix(name) or part for d, name, part in (('a', 'source', a), ('b', 'target', b)))
        mixed = {'a': (*sets['a'], f'mr{b}', f'mr_back{a}'), 'b': (*sets['b'], f'ct{a}', f'ct_back{b}')}
        tune = segment(mixed, 'joint', **begun('segment'))
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

    def together(sets, begin=None, **more):
        before = {'segment': segment(begin or sets), 'translate': translate(**more)}
        return {**before, 'joint': joint(sets, 'segment', 'translate', **more)}

    def further(share):
        # Additional CT are not reconstructed, as the segmented modality is MR.
        more, ada, joint_sets = f'more:{share}%', offline(whole), whole
        if share:
            ada['mr_more'] = made('translate', 'synthesize', 'b', 'more')
            ada['tune']['sets']['a'] += (f'mr_{more}',)
            joint_sets = {**whole, 'b': (*whole['b'], more)}
        return {f'ada_more_{share}': {'stages': ada}, f'joint_more_{share}': {'stages': together(joint_sets, whole)}}

    def s_score(by, stages):
        made_sets = {'ct': made(by, 'synthesize', 'a'), 'mr': made(by, 'synthesize', 'b')}
        stages = {'segment': segment(whole), **stages, **made_sets}
        return {'stages': stages, 'evaluate_stage': 'segment', 'test_sets': ('ct', 'mr')}

    c.systems = variants.systems(**{
        'all_real': {'stages': {'segment': segment(whole)}},
        's_score_without': s_score('alone', {'alone': translate('alone')}),
        's_score_with': s_score('joint', together(whole)),
    })  # fmt: skip
    for modality in ('ct', 'mr'):
        for share in SHARES:
            sets, of = few(modality, share), f'{modality}_{share}'
            c.systems.update(variants.systems(**{
                f'joint_{of}': {'stages': together(sets)},
                f'baseline_{of}': {'stages': {'segment': segment(sets)}},
                f'ada_{of}': {'stages': offline(sets)},
            }))  # fmt: skip
        sets, of = few(modality, LEAST), f'{modality}_{LEAST}'
        c.systems.update(variants.systems(**{
            f'scratch_{of}': {'stages': {'joint': joint(sets)}},
            f'in_turn_{of}': {'stages': together(sets, update_order='alternating')},
        }))  # fmt: skip
        # The paper's Figure 8: a segmentor trained on few real scans, with more real or more synthetic ones.
        for more in SHARES[1:]:
            boosted = segment(few(modality, more), 'joint', **begun('segment'))
            part, other = {'ct': ('a', 'source'), 'mr': ('b', 'target')}[modality]
            c.systems.update(variants.systems(**{
                f'more_{modality}_{more}': {'stages': {'segment': segment(sets), 'tune': boosted}},
                f'ada_made_{modality}_{more}': {'stages': offline(sets, **{part: f':{more}%'})},
                f'joint_made_{modality}_{more}': {'stages': together(sets | {part: (f'{other}:{more}%',)}, sets)},
            }))  # fmt: skip
    for share in FURTHER:
        c.systems.update(variants.systems(**further(share)))
    c.default_system, c.run = f'joint_ct_{LEAST}', (f'joint_ct_{LEAST}', f'baseline_ct_{LEAST}')
    c.test_sets = ('target', 'source')
    unet = {'architecture': 'unet', 'width': 32 if data else 8, 'levels': 3, 'extra': 0, 'dropout': 0.0, 'up_width': 3}
    c.segmentor = ConfigDict(unet)
    c.generator = ConfigDict({**unet, 'norm': True, 'strided': True, 'tanh': True})
    c.data.size, c.data.spacing_mm = ((86, 112, 112), 1.5) if data else ((32, 40, 40), 4.0)
    c.data.window_hu, c.data.target_labels = (-200.0, 600.0), True
    c.data.source_split, c.data.target_split = (0.4, 0.1, 0.5), (0.4, 0.1, 0.5)
    c.data.classes = CLASSES
    c.predict.window = 'middle'  # as training volumes are centred on the heart
    c.rate = ConfigDict({'generator': 2e-4, 'discriminator': 2e-4, 'segmentor': 2e-4})
    if data:
        c.dtype, c.remat = 'bfloat16', True
        c.train.save_every = 100
        return c
    c.rate = ConfigDict({'generator': 1e-3, 'discriminator': 1e-3, 'segmentor': 2e-3})
    c.discriminator.layers, c.discriminator.width = 2, 8
    c.predict.resample = 'linear'
    c.phantom.region = 'heart'
    c.phantom.sets = ConfigDict({'source': base.phantom_set('MR', 'a', 30), 'target': base.phantom_set('CT', 'b', 30)})
    c.train.batch, c.train.decay_steps, c.train.save_every, c.train.log_every = 1, 0, 100, 25
    return c
