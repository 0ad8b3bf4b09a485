"""Random views of the images of a batch, made on the device after augmentation: `views_a` beside `a`."""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from synseg_jax.batches import mixing, randomise
from synseg_jax.batches.augment import shade
from synseg_jax.errors import InputError
from synseg_jax.objective import names
from synseg_jax.specification.training import Augment
from synseg_jax.specification.views import DomainViews, Views

KEY = 2000  # what tells the random numbers of views from those of augmentation


def viewer(
    wanted: Collection[str], settings: DomainViews, classes: int
) -> Callable[[Key[Array, 'b'], Mapping], dict] | None:
    """(keys, batch in [0, 1]) -> the batch with the `wanted` arrays of views [b, views, *space, c]; None for none."""
    if settings.a.paste:
        raise InputError('views.a.paste: parts of source images are pasted into views of the target; set views.b.paste')
    domains = sorted(names.domain(array) for array in wanted if names.is_views(array))
    if not domains:
        return None

    def row_views(key, row):
        for domain in domains:  # the source first: parts of its views may be pasted into those of the target
            row |= _stacked(jax.random.fold_in(key, KEY + ord(domain)), row, domain, settings.of(domain), classes)
        return row

    return lambda keys, batch: jax.vmap(row_views)(keys, dict(batch))


def _stacked(key, row, domain, settings, classes) -> dict[str, Array]:
    """The views of one row's image of a domain [views, *space, c], and what was pasted into them, if anything."""
    image, label = row[domain], row.get(names.label(domain))
    changes, pastes, hides = jax.random.split(key, (3, settings.count))
    views = jax.vmap(lambda key: view(key, image, label, settings, classes))(changes)
    pasted = {}
    if settings.paste:
        source = row.get(names.views('a'), row['a'][None])
        parts = source[jnp.arange(settings.count) % len(source)]
        paste = partial(_paste, label=row[names.label('a')], settings=settings, classes=classes)
        views, pasted[names.pasted(domain)] = jax.vmap(paste)(pastes, views, parts)
    if settings.hidden:
        views = jax.vmap(partial(_hide, settings=settings))(hides, views)
    return {names.views(domain): views, **pasted}


def _paste(key, image, part, label, settings, classes):
    """(image with a part of another pasted into it, the labels of what was pasted, OWN elsewhere)."""
    chance, shape, size = jax.random.split(key, 3)
    if settings.paste == 'classes':
        mask = mixing.class_mask(shape, label, classes)
    else:
        mask = mixing.box_mask(shape, label.shape, jax.random.uniform(size))
    mask &= jax.random.bernoulli(chance, settings.paste_probability)
    return mixing.paste(mask, part, image), mixing.paste(mask, label, jnp.full_like(label, names.OWN))


def _hide(key, image, settings):
    size = image.shape[:-1]
    return mixing.paste(mixing.block_mask(key, size, settings.hidden_block, settings.hidden), 0.0, image)


def view(
    key: Key[Array, ''],
    image: Float[Array, '*space c'],
    label: Int[Array, '*space'] | None,
    settings: Views,
    classes: int,
) -> Float[Array, '*space c']:
    """One random view of an image in [0, 1]: class maps, then GIN, but air as it was; gamma, contrast, brightness."""
    maps, network, rest = jax.random.split(key, 3)
    change = randomise.CLASS_MAPS[settings.class_map]
    seen = _sometimes(settings.class_maps, maps, image, lambda k, x: change(k, x, label, classes))
    seen = _sometimes(settings.gin, network, seen, lambda k, x: randomise.blended_gin(k, x, settings.blend))
    if settings.air and seen is not image:
        seen = randomise.keep_air(settings.air, image, seen)
    amounts = Augment(brightness=settings.brightness, contrast=settings.contrast, gamma=settings.gamma)
    return shade(rest, seen, None, None, amounts)[0]


def _sometimes(probability, key, image, change):
    """`change(key, image)` with a probability; not computed where that is 0."""
    if not probability:
        return image
    chance, own = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(chance, probability), change(own, image), image)
