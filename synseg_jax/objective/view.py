"""One forward pass of all networks, from which terms compute their losses."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from synseg_jax.errors import InputError
from synseg_jax.objective import losses, names
from synseg_jax.objective.losses import Scalar, Total
from synseg_jax.objective.patches import sampled
from synseg_jax.specification.objective import Losses


class View:
    """The images of one forward pass, each computed once and only if a term asks for it.

    Networks and arrays of the batch are attributes: `view.g_ab(view.a)`.  A view lives inside the function that is
    differentiated: one per player.
    """

    def __init__(
        self,
        networks: Mapping[str, Callable],
        params: Mapping,
        batch: Mapping[str, Array],
        choices: Losses = Losses(),
        deep: Collection[str] = (),
        show: Callable[[str, Array], Array] = lambda domain, fakes: fakes,
        total: Total = losses.whole,
        keys: Key[Array, 'b'] | None = None,
        average: Mapping | None = None,
    ):
        """`deep` names the networks with deep supervision, which give logits at several resolutions.

        `show(domain, fakes)` returns the fakes, past or present, that the domain's discriminator is shown.

        `keys`, one per row, are for what is random inside a forward pass, such as dropout; without keys nothing is,
        nor in networks that are held fixed.
        `average` holds the moving average of the parameters, where there is one.
        """
        self.networks, self.params, self.batch = networks, params, batch
        self.choices, self.deep, self.show, self.total = choices, deep, show, total
        self.random = {} if keys is None else {'keys': keys}
        self.average = average

    def __getattr__(self, name):
        if hasattr(type(self), name):  # a property failed: its own error again, which names what is missing
            return object.__getattribute__(self, name)
        if name in self.networks:
            random = {} if names.is_fixed(name) else self.random
            return partial(self.networks[name], self.params[name], **random)
        if name in self.batch:
            return self.batch[name]
        raise AttributeError(f'neither a network nor an array of the batch: {name}')

    @cached_property
    def fake_b(self):
        return self.g_ab(self.a)

    @cached_property
    def fake_a(self):
        return self.g_ba(self.b)

    @cached_property
    def rec_a(self):
        return self.g_ba(self.fake_b)

    @cached_property
    def rec_b(self):
        return self.g_ab(self.fake_a)

    @cached_property
    def teacher(self) -> 'View':
        """The forward pass of the moving average of the networks, without dropout and held fixed: a mean teacher."""
        if not self.average:
            raise InputError('a term needs the moving average of the weights; set config.average, for example to .99')
        return View(self.networks, jax.lax.stop_gradient(self.average), self.batch, self.choices, total=self.total)

    def features(self, domain: str, images):
        """The output of a domain's segmentor: logits, or the input of the layer that both segmentors share."""
        return getattr(self, names.segmentor(domain))(images)

    def segment(self, domain: str, images):
        """The logits of a domain's segmentor."""
        features = self.features(domain, images)
        shares = names.SHARED in self.networks
        return getattr(self, names.head(domain))(self.s_shared(features)) if shares else features

    def supervise(self, domain: str, images, labels):
        """The segmentation loss of a domain's segmentor on images; with deep supervision over all its resolutions."""
        name = names.segmentor(domain)
        if name not in self.deep:
            return self.segmentation(self.segment(domain, images), labels)
        logits = getattr(self, name)(images, method='resolutions')
        return losses.over_resolutions(self.segmentation, logits, labels)

    def views(self, domain: str) -> list:
        """The random views of a domain's images, [b, *space, c] each."""
        stacked = getattr(self, names.views(domain))
        return [stacked[:, i] for i in range(stacked.shape[1])]

    def segmentation_of_views(self, domain: str, labels) -> Scalar:
        """The segmentation loss of s_a on the views of a domain against `labels`, or what was pasted; their mean."""
        views, pasted = self.views(domain), self.batch.get(names.pasted(domain))
        values = []
        for i, view in enumerate(views):
            expected = labels if pasted is None else jnp.where(pasted[:, i] == names.OWN, labels, pasted[:, i])
            values.append(self.supervise('a', view, expected))
        return sum(values) / len(values)

    def adversarial(self, logits, real):
        """The adversarial loss of the configuration."""
        return losses.ADVERSARIAL[self.choices.adversarial](logits, real, self.total)

    def cycle(self, x, y):
        """The cycle loss of the configuration."""
        return losses.CYCLE[self.choices.cycle](x, y, self.total)

    def segmentation(self, logits, labels):
        """The segmentation loss of the configuration, with its class weights."""
        organs = (self.choices.organ_weight,) * (max(2, logits.shape[-1]) - 1)
        weights = jnp.asarray(self.choices.class_weights or (1.0, *organs), float)
        loss = losses.SEGMENTATION[self.choices.segmentation]
        return loss(logits, labels, weights, self.choices.by_weight, self.total)

    def contrast(self, translation, image):
        """PatchNCE of g_ab's encoder: a patch of the translation against those of the image, mean over the layers."""
        encoded = ({'image': x, **self.g_ab(x, encode=True)} for x in (translation, image))
        queries, wanted = map(self.h_ab, sampled(*encoded, keys=self.random.get('keys')))
        pairs = [(queries[layer], jax.lax.stop_gradient(wanted[layer])) for layer in queries]
        return sum(losses.patch_nce(*pair, self.total) for pair in pairs) / len(pairs)
