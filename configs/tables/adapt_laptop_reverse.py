"""As adapt_laptop.py, but from BTCV CT to CHAOS MR: source and target change places.

    python -m synseg_jax.prepare --config=configs/tables/adapt_laptop_reverse.py \\
        --source=Dataset101_AbdomenMR --target=Dataset102_AbdomenCT --output=records/ct_to_mr
    python -m synseg_jax.compare --table=configs/tables/adapt_laptop_reverse.py:records/ct_to_mr --seeds=2
"""

from ml_collections import ConfigDict

from configs.tables import adapt_laptop


def get_config(data: str = '') -> ConfigDict:
    """The same rows; in MR, .07 of the 99.5th percentile leaves out air and lung, and no organ."""
    c = adapt_laptop.get_config(data, organs=(0.07, 1.0), runs='adapt_laptop_reverse')
    c.data.reverse = True
    return c
