"""The systems that papers compare, as fields that differ from a configuration."""

from ml_collections import ConfigDict


def systems(**fields) -> ConfigDict:
    """Systems by name, each a copy, so that setting a field of one does not change another."""
    return ConfigDict({name: ConfigDict(own) for name, own in fields.items()})


def merged(fields: dict, others: dict) -> dict:
    """Nested fields with `others` in their place."""
    deeper = {name for name, value in others.items() if isinstance(value, dict) and isinstance(fields.get(name), dict)}
    return {**fields, **others, **{name: merged(fields[name], others[name]) for name in deeper}}


def source_only() -> ConfigDict:
    """No adaptation: the segmentor is trained on the source and tested on the target."""
    return ConfigDict({'method': 'supervised'})


def half_cycle() -> ConfigDict:
    """SynSeg-Net-HC: without the generator from the target to the source, and without cycle losses."""
    return ConfigDict({'method': 'synseg_hc'})


def two_stages(translate: dict | None = None, segment: dict | None = None, source: str = 'source') -> ConfigDict:
    """CycleGAN, then a segmentor trained on the translated labelled source; arguments are fields of each stage."""
    stages = {
        'translate': {'method': 'cyclegan', **(translate or {})},
        'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': (source,)}},
        'segment': {'method': 'supervised', **on_target('synthesis'), **(segment or {})},
    }
    return ConfigDict({'stages': stages})


def self_training(first: dict, rounds: int, later: dict, labels: dict | None = None, target: str = 'target') -> dict:
    """Stages: `first` on the source, then so often: pseudo labels for the target's scans, and training on both.

    `later` are fields of these trainings, each of which begins with the weights of the one before; `labels` are fields
    of the stages that label.
    """
    stages, before = {'generalise': first}, 'generalise'
    for n in range(1, rounds + 1):
        of_target = {'segmentor_from': before, 'sets': {'b': (target,)}, 'label_components': 'largest'}
        stages[f'pseudo{n}'] = {'kind': 'label', **of_target, **(labels or {})}
        on_both = {'loss_weights': {'seg': {'pseudo_b': 0.0, 'seg_views_b': 1.0}}, 'sets': {'b': (f'pseudo{n}',)}}
        stages[f'adapt{n}'] = {'method': 'mean_teacher', 'start': {'stages': (before,)}, **on_both, **later}
        before = f'adapt{n}'
    return stages


def s_score(translate: dict, segment: dict | None = None, source: str = 'source') -> ConfigDict:
    """S-score of a generator: a segmentor trained on real labelled target scans, tested on translated source scans."""
    stages = {
        'translate': translate,
        'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': (source,)}},
        'train': {'method': 'supervised', **on_target('target'), 'data': {'target_labels': True}, **(segment or {})},
    }
    return ConfigDict({'stages': stages, 'evaluate_stage': 'train', 'test_sets': ('synthesis',)})


def on_target(*sets: str) -> dict:
    """Fields that train a supervised segmentor on these sets of domain b and their labels."""
    return {'loss_weights': {'seg': {'seg_a': 0.0, 'seg_b': 1.0}}, 'sets': {'b': sets}}


def target_labels(folds: int = 0) -> ConfigDict:
    """The segmentor trained on target labels; with `folds` in cross-validation over all labelled target scans."""
    own = {'method': 'supervised', **on_target('target'), 'data': {'target_labels': True}}
    return ConfigDict({**own, 'fold': target_folds(folds)} if folds else own)


def other_cohort(cohort: str = 'cohort') -> ConfigDict:
    """The segmentor trained on labelled scans of the target's modality from another cohort."""
    return ConfigDict({'method': 'supervised', **on_target(cohort), 'data': {'target_labels': True}})


def multi_atlas(folds: int) -> ConfigDict:
    """Multi-atlas segmentation: labelled target scans are registered to each test scan, in cross-validation."""
    own = {'kind': 'atlases', 'sets': {'b': ('target',)}, 'data': {'target_labels': True}}
    return ConfigDict({**own, 'fold': target_folds(folds)})


def target_folds(folds: int) -> dict:
    """Folds over the target's subjects, without the strata that a configuration may define for another set."""
    return {'set': 'target', 'of': folds, 'strata': ''}


def cells(dice: str, asd: str) -> dict:
    """Reported values of a row by metric; empty if the paper does not have the row."""
    return {'dice': dice, 'asd_mm': asd} if dice else {}


def table(title: str, source: str, rows: dict, sets: dict | None = None, counted: str = '', **fields) -> ConfigDict:
    """Fields of a table for `compare`, see synseg_jax/specification/table.py.

    `rows`: {key: fields of TableRow}, without `count` and `line` if they are not plotted.
    """
    rows = {key: ConfigDict({'count': -1, 'line': '', **row}) for key, row in rows.items()}
    order = tuple(rows)  # a ConfigDict sorts its keys
    return ConfigDict(
        {
            'title': title,
            'source': source,
            'rows': rows,
            'order': order,
            'sets': sets or {},
            'counted': counted,
            'unpaired': (),
            **fields,
        }
    )
