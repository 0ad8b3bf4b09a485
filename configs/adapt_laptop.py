"""configs/adapt.py at 3 mm, 128x128 and width 12, for 2 CPU cores: any two modalities and organs.

    python -m synseg_jax.prepare --config=configs/adapt_laptop.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/abdomen \\
        --config.data.window_hu='(-125.0, 275.0)' --config.data.source_margin=2
    python -m synseg_jax.main --config=configs/adapt_laptop.py:records/abdomen --workdir=runs/abdomen
"""

from ml_collections import ConfigDict

from configs import adapt


def get_config(data: str = '') -> ConfigDict:
    """The recipe at reduced size; without data the phantom at demonstration scale."""
    c = adapt.get_config(data)
    if not data:
        return c
    adapt.recipe(c, steps=3000, more=500)
    c.data.size, c.data.spacing_mm, c.segmentor.width = (128, 128), 3.0, 12
    c.train.batch, c.train.save_every = 4, 500
    return c
