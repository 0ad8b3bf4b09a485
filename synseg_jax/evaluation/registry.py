"""All metrics by name.  A new one is an entry in the table `METRICS` of the module that computes it."""

from dataclasses import replace

from synseg_jax.evaluation import lesions, metrics, patches, roc, similarity
from synseg_jax.evaluation.metric import Metric

# The Dice that the best checkpoint by the labels of the test scans reaches; see `runs.oracle_selection`.
DICE_ORACLE = replace(metrics.METRICS[0], name='dice_oracle', title='Dice, oracle selection')
MODULES = (metrics, patches, lesions, roc, similarity)
METRICS = {metric.name: metric for module in MODULES for metric in module.METRICS}
METRICS |= {metric.name: metric for metric in (DICE_ORACLE, lesions.KL, lesions.KL_POOLED)}


def metric(name: str) -> Metric:
    """The metric of a name; of an unknown one a metric that is shown by its name and whose larger values are better."""
    return METRICS.get(name) or Metric(name, name, lambda: float('nan'))
