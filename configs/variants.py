"""The systems that papers compare, as the fields in which they differ from a configuration."""

from ml_collections import ConfigDict


def systems(**fields) -> ConfigDict:
    """Systems by name, sharing nothing, so that a field of one can be set alone."""
    return ConfigDict({name: ConfigDict(own) for name, own in fields.items()})


def source_only() -> ConfigDict:
    """No adaptation: the segmentor trained on the source alone, and tested on the target."""
    return ConfigDict({'method': 'supervised'})


def half_cycle() -> ConfigDict:
    """SynSeg-Net without the path from the target back to the source."""
    return ConfigDict({'method': 'synseg_hc'})


def two_stages(translate: dict | None = None, segment: dict | None = None, source: str = 'source') -> ConfigDict:
    """CycleGAN, then a segmentor on what it makes of the labelled source; the fields of each stage beside the usual."""
    stages = {
        'translate': {'method': 'cyclegan', **(translate or {})},
        'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': (source,)}},
        'segment': {'method': 'supervised', **on_target('synthesis'), **(segment or {})},
    }
    return ConfigDict({'stages': stages})


def s_score(translate: dict, segment: dict | None = None, source: str = 'source') -> ConfigDict:
    """A segmentor trained on real labelled target scans, tested on what a generator makes of the source's."""
    stages = {
        'translate': translate,
        'synthesis': {'kind': 'synthesize', 'generators_from': 'translate', 'sets': {'a': (source,)}},
        'train': {'method': 'supervised', **on_target('target'), 'data': {'target_labels': True}, **(segment or {})},
    }
    return ConfigDict({'stages': stages, 'evaluate_stage': 'train', 'test_sets': ('synthesis',)})


def on_target(*sets: str) -> dict:
    """What makes a supervised segmentor read these sets of domain b and their labels."""
    return {'loss_weights': {'seg': {'seg_a': 0.0, 'seg_b': 1.0}}, 'sets': {'b': sets}}


def target_labels(folds: int = 0) -> ConfigDict:
    """The segmentor trained on labels of the target; with folds, also on those of test scans, some left out in turn."""
    own = {'method': 'supervised', **on_target('target'), 'data': {'target_labels': True}}
    return ConfigDict({**own, 'fold': dealt(folds)} if folds else own)


def other_cohort(cohort: str = 'cohort') -> ConfigDict:
    """The segmentor trained on labelled scans of the target's modality, but of other people than the target's."""
    return ConfigDict({'method': 'supervised', **on_target(cohort), 'data': {'target_labels': True}})


def multi_atlas(folds: int) -> ConfigDict:
    """Labelled target scans registered to each test scan, those of some test subjects among them, left out in turn."""
    own = {'kind': 'atlases', 'sets': {'b': ('target',)}, 'data': {'target_labels': True}}
    return ConfigDict({**own, 'fold': dealt(folds)})


def dealt(folds: int) -> dict:
    """Folds over the target's scans, whose names say nothing of the strata of another set."""
    return {'set': 'target', 'of': folds, 'strata': ''}


def cells(dice: str, asd: str) -> dict:
    """What a paper reports of a row, by measure; empty where it has no such row."""
    return {'dice': dice, 'asd_mm': asd} if dice else {}


def table(title: str, source: str, rows: dict, sets: dict | None = None, counted: str = '', **fields) -> ConfigDict:
    """What `compare` reads: rows (key -> system, set, name, reported cells, perhaps a count to plot against and its
    line), organs, measures, the name of the row that others are tested against, the folder under runs/ that
    tables may share, the words for sets, and two `unpaired` sets on which each system is tested against itself.
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
