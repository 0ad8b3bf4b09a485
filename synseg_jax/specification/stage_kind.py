"""The kinds of stages: what each reads and leaves, and where it is run and opened."""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of stage.  Modules are named below synseg_jax and imported when needed, by runs/stage_kinds.py."""

    run: str  # the module whose run(job) runs such a stage
    load: str = ''  # the module whose load(run, network) opens its networks or atlases; empty: it leaves none
    trains: bool = False  # networks
    makes_set: bool = False  # of records, named after the stage, the same for all folds
    needs: str = ''  # the field that names the earlier stage whose networks it uses
    player: str = ''  # whose networks these are, gen or seg
    roles: tuple[str, ...] = ('train', 'val')  # of the scans that enter its digest


CHANGES = Kind(
    'runs.synthesis_stage', makes_set=True, needs='generators_from', player='gen', roles=('train', 'val', 'test')
)
KINDS = {
    'train': Kind('runs.train_stage', 'inference.trained_model', trains=True),
    'synthesize': CHANGES,
    'reconstruct': CHANGES,
    'atlases': Kind('runs.atlas_stage', 'inference.multi_atlas'),
    'label': Kind('runs.label_stage', makes_set=True, needs='segmentor_from', player='seg', roles=('train',)),
}
