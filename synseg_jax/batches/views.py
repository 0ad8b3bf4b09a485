"""Random views of the images of a batch, made on the device after augmentation: `views_a` beside `a`."""

from collections.abc import Callable, Collection, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from synseg_jax.batches import randomise
from synseg_jax.batches.augment import shade
from synseg_jax.objective import names
from synseg_jax.specification.views import DomainViews, Views

KEY = 2000  # what tells the random numbers of views from those of augmentation


def viewer(
    wanted: Collection[str], settings: DomainViews, classes: int
) -> Callable[[Key[Array, 'b'], Mapping], dict] | None:
    """(keys, batch in [0, 1]) -> the batch with the `wanted` arrays of views [b, views, *space, c]; None for none."""
    domains = sorted(names.domain(array) for array in wanted if names.is_views(array))
    if not domains:
        return None

    def row_views(key, row):
        return row | {names.views(d): _stack(jax.random.fold_in(key, KEY + ord(d)), row, d) for d in domains}

    def _stack(key, row, domain):
        own, image, label = settings.of(domain), row[domain], row.get(names.label(domain))
        keys = jax.random.split(key, own.count)
        return jax.vmap(lambda key: view(key, image, label, own, classes))(keys)

    return lambda keys, batch: jax.vmap(row_views)(keys, dict(batch))


def view(
    key: Key[Array, ''],
    image: Float[Array, '*space c'],
    label: Int[Array, '*space'] | None,
    settings: Views,
    classes: int,
) -> Float[Array, '*space c']:
    """One random view of an image in [0, 1]: class maps, then GIN, then gamma, contrast and brightness."""
    maps, network, rest = jax.random.split(key, 3)
    image = _sometimes(settings.class_maps, maps, image, lambda k, x: randomise.class_maps(k, x, label, classes))
    image = _sometimes(settings.gin, network, image, lambda k, x: randomise.blended_gin(k, x, settings.blend))
    return shade(rest, image, None, None, settings)[0]


def _sometimes(probability, key, image, change):
    """`change(key, image)` with a probability; not computed where that is 0."""
    if not probability:
        return image
    chance, own = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(chance, probability), change(own, image), image)
