"""configs/adapt.py at 3 mm, 128x128 and width 12, for 2 CPU cores: any two modalities and organs.

    python -m synseg_jax.prepare --config=configs/adapt_laptop.py \\
        --source=LABELLED --target=UNLABELLED --output=records/mine
    python -m synseg_jax.main --config=configs/adapt_laptop.py:records/mine --workdir=runs/mine

CHAOS MR and BTCV CT, both ways, with figures: configs/tables/adapt_laptop.py.
"""

from ml_collections import ConfigDict

from configs import adapt


def get_config(data: str = '', organs: tuple = (0.0, 1.0)) -> ConfigDict:
    """The recipe at reduced size, `organs` as adapt.recipe's; without data the phantom at demonstration scale."""
    c = adapt.get_config(data)
    if not data:
        return c
    adapt.recipe(c, steps=4000, more=600, organs=organs)
    c.data.size, c.data.spacing_mm, c.segmentor.width = (128, 128), 3.0, 12
    c.train.batch, c.train.save_every = 4, 500
    return c
