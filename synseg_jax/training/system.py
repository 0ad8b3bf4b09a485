"""What a training stage compiles: its networks, train step, initial state, and inference functions."""

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from synseg_jax.batches.augment import augmenter
from synseg_jax.batches.views import viewer
from synseg_jax.devices import parallel
from synseg_jax.errors import InputError
from synseg_jax.networks import backend, dtype, features
from synseg_jax.networks.patchgan import PatchGAN
from synseg_jax.objective import losses, names, weights
from synseg_jax.objective.losses import two_classes
from synseg_jax.objective.methods import Method, method
from synseg_jax.objective.terms import TERMS
from synseg_jax.objective.view import View
from synseg_jax.specification.data import channels_in
from synseg_jax.specification.objective import Losses
from synseg_jax.specification.parse import compiled
from synseg_jax.specification.stage import Stage
from synseg_jax.training.image_pool import PerRow
from synseg_jax.training.optimizers import constant_then_linear, in_game, optimizer
from synseg_jax.training.stage_networks import KIND, stage_networks
from synseg_jax.training.state import LAYOUT, State, create, initial_params, patch_input
from synseg_jax.training.step import make_step


def system_of(config: Stage, classes: tuple[str, ...]) -> 'System':
    """The cached System of a stage, shared by stages that differ only in fields that do not affect compilation."""
    return _shared(compiled(config), classes)


@lru_cache(maxsize=8)
def _shared(config, classes):
    return System(config, classes)


@partial(jax.jit, static_argnums=(0, 1, 5))
def _apply(network, kind, params, images, keys, method=None):
    """Jitted at module level, so that equal networks are traced only once; `kind` is the type of device."""
    return network.apply({'params': params}, images, keys, method=method)


@partial(jax.jit, static_argnums=(0, 1))
def _encode(network, kind, params, images, keys):
    return features(network, params, images, network.encoder, keys)


@dataclass(frozen=True, eq=False)
class System:
    """The networks, train step and initial state of a stage's method, for labels of `classes`."""

    config: Stage
    classes: tuple[str, ...]

    @property
    def channels(self) -> dict[str, int]:
        """Channels of an image by domain: of the slice, its neighbours, and the label mask with `label_channel`."""
        slices, mask = 1 + 2 * self.config.context.slices, self.config.label_channel
        return {domain: slices * channels_in(self.config.data, domain) + mask for domain in names.DOMAINS}

    def own_channels(self, domain: str) -> slice:
        """Which channels of an image of a domain are those of the slice itself."""
        count = channels_in(self.config.data, domain)
        first = self.config.context.slices * count
        return slice(first, first + count)

    @cached_property
    def method(self) -> Method:
        return method(self.config.method).pay(weights.weights(vars(self.config.loss_weights)))

    @cached_property
    def networks(self) -> dict[str, nn.Module]:
        """The networks used by the method's terms, by name; those that are held fixed last."""
        return stage_networks(self.config, self.method, self.channels, len(self.classes))

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of the networks that players train, all but those that are held fixed."""
        return tuple(itertools.filterfalse(names.is_fixed, self.networks))

    @cached_property
    def apply(self) -> dict[str, Callable[..., Float[Array, 'b *space k']]]:
        """`apply[name](params, images)` runs a network on images in [-1, 1]; with `keys`, one per row, with dropout.

        The random numbers depend only on the keys and the network's name, not on the player.  With `encode` the result
        is {layer: features} of the network's encoder; `method` names another method of the network.
        """

        def run(params, images, keys=None, encode=False, method=None, *, name):
            if keys is not None:
                number = zlib.crc32(name.encode())
                keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
            of = self.networks[name], backend.kind(), params, images, keys
            return _encode(*of) if encode else _apply(*of, method)

        return {name: partial(run, name=name) for name in self.networks}

    @cached_property
    def probabilities(self) -> dict[str, Callable[..., Float[Array, 'b *space k']]]:
        """`probabilities[domain](params, images)`: class probabilities of images in [0, 1]."""

        def softmax(logits):
            return jax.nn.softmax(two_classes(logits) if logits.shape[-1] == 1 else logits)

        return {d: self._jitted(lambda view, x, d=d: softmax(view.segment(d, x))) for d in names.DOMAINS}

    @cached_property
    def translations(self) -> dict[str, Callable[..., Float[Array, 'b *space c2']]]:
        """`translations[generator](params, images)`: images in [0, 1], translated to the other domain."""
        generators = filter(names.is_generator, self.networks)
        return {name: self._jitted(lambda view, x, name=name: (getattr(view, name)(x) + 1) / 2) for name in generators}

    def _jitted(self, function):
        return jax.jit(lambda params, images: function(self.view(params), 2 * images - 1))

    def view(self, params: Mapping[str, PyTree], batch: Mapping[str, Array] | None = None, **more) -> View:
        """A forward pass on a batch of images in [-1, 1], from which terms compute their losses."""
        deep = {name for name, network in self.networks.items() if getattr(network, 'deep_supervision', 0)}
        return View(self.apply, params, batch or {}, self.losses, deep, **more)

    @cached_property
    def optimizers(self):
        settings = in_game(vars(self.config.optimizer), 'dis' in self.method.loss_weights)
        return {name: optimizer(**settings) for name in self.trained}

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the training images."""
        return self.config.augment.window or self.config.data.size

    @property
    def shown(self) -> tuple[int, ...]:
        """Size to which whole images are resized; empty if records have a fixed spacing and are not resized."""
        return () if self.config.data.spacing_mm else self.size

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains whose images the method and the augmentation use."""
        return tuple(sorted(set(map(names.domain, self.arrays))))

    @property
    def arrays(self) -> set[str]:
        """The arrays of a batch, read from records, that the method and the augmentation use."""
        used = {array for term in self.method.terms() for array in TERMS[term].arrays}
        read = {names.domain(array) if names.is_views(array) else array for array in used}
        read |= {'b'} if self.config.augment.fourier and 'a' in read else set()
        read |= {'a', names.label('a')} if self.config.views.b.paste and names.views('b') in used else set()
        return read | {names.label(domain) for domain in read & {*names.DOMAINS}} if self.config.label_channel else read

    @property
    def views(self) -> set[str]:
        """The arrays of random views that the method uses, made of a batch."""
        return {array for term in self.method.terms() for array in TERMS[term].arrays if names.is_views(array)}

    def segmentor(self, domain: str) -> str | None:
        """The network for images of a domain: that domain's segmentor, else the other's; None without one that fits."""
        fits = (d for d in (domain, *names.DOMAINS) if self.channels[d] == self.channels[domain])
        return next((name for name in map(names.segmentor, fits) if name in self.networks), None)

    def steps(self, steps_per_epoch: int) -> int:
        """Number of training steps."""
        train = self.config.train
        return train.steps or (train.epochs + train.decay_epochs) * steps_per_epoch

    def rates(self, steps_per_epoch: int) -> dict[str, Callable]:
        """{network: learning-rate schedule}."""
        train = self.config.train
        if train.steps:
            constant, decay, unit = train.steps - train.decay_steps, train.decay_steps, 1
        else:
            constant, decay, unit = train.epochs, train.decay_epochs, steps_per_epoch
        return {
            name: constant_then_linear(
                getattr(self.config.rate, KIND[names.player(name)]), constant, decay, unit, self.config.warmup
            )
            for name in self.trained
        }

    @cached_property
    def losses(self) -> Losses:
        losses.check(self.config.loss)
        return self.config.loss

    @cached_property
    def step(self) -> Callable[[int, Mesh], Callable[[State, Mapping], tuple[State, dict]]]:
        """`step(steps_per_epoch, over)`: the train step on batches of images in [0, 1], cached."""
        return cache(self._step)

    def _step(self, steps_per_epoch, over):
        given = self.losses.class_weights
        if given and len(given) != len(self.classes):
            listed = ', '.join(self.classes)
            raise InputError(f'loss.class_weights has {len(given)} weights for {len(self.classes)} classes: {listed}')
        self._check_patches()
        change = augmenter(self.config.augment)
        randomise = viewer(self.views, self.config.views, len(self.classes))
        kind = dtype(self.config.dtype)
        wide = jnp.promote_types(kind, jnp.float32)

        def ready(keys, batch):
            """The augmented batch, in [-1, 1], with the label channel."""
            batch = {k: v if names.is_label(k) else v.astype(wide) for k, v in batch.items()}
            batch = change(keys, batch) if change else batch
            batch = randomise(keys, batch) if randomise else batch
            if self.config.label_channel:
                images = [k for k in names.DOMAINS if k in batch]
                marked = {k: (batch[names.label(k)] > 0)[..., None].astype(wide) for k in images}
                batch |= {k: jnp.concatenate([batch[k], mask], -1) for k, mask in marked.items()}
            return {k: v if names.is_label(k) else 2 * v - 1 for k, v in batch.items()}

        return make_step(
            self.method,
            self.view,
            self.optimizers,
            self.rates(steps_per_epoch),
            PerRow(self.config.image_pool, self.config.train.batch).exchange,
            over,
            self.config.seed,
            ready,
            self.config.average,
            self.config.update_order,
        )

    def _check_patches(self):
        """InputError for images of which a discriminator makes no patch: the mean over none is NaN."""
        for network in (self.networks[name] for name in self.networks if names.is_discriminator(name)):
            if isinstance(network, PatchGAN) and not all(map(network.patches, self.size)):
                field = 'augment.window' if self.config.augment.window else 'data.size'
                raise InputError(
                    f'{field} {self.size} is too small for discriminator.layers={network.layers}: give at least '
                    f'{3 * 2**network.layers} in every direction, or fewer layers'
                )

    def first_state(self, over: Mesh) -> State:
        """The initial state, sharded over the mesh; InputError if the batch size does not divide over the devices."""
        parallel.rows_per_device(self.config.train.batch, over)
        return self._draw(over)()

    @cached_property
    def _draw(self):
        def drawing(over):
            layout = jax.tree.map(lambda spec: jax.NamedSharding(over, spec), LAYOUT)
            # Initialisation runs once: without XLA's optimisations it compiles in 2 s instead of 17 s.
            fast = {'xla_backend_optimization_level': 0}
            return jax.jit(self._make, out_shardings=layout, compiler_options=fast)

        return cache(drawing)

    def abstract_state(self, over: Mesh) -> State:
        """Shapes, types and sharding of the state, as ShapeDtypeStructs."""

        def laid_out(spec, part):
            sharding = jax.NamedSharding(over, spec)
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part)

        return jax.tree.map(laid_out, LAYOUT, self._shapes)

    @cached_property
    def _shapes(self):
        return jax.eval_shape(self._make)

    def _make(self) -> State:
        batch = self.config.train.batch
        kind = jnp.promote_types(dtype(self.config.dtype), jnp.float32)
        blank = {domain: jnp.zeros((1, *self.size, count), kind) for domain, count in self.channels.items()}
        images = {name: blank.get(names.source(name), blank['b']) for name in self.networks}
        if self.method.shared_layer:
            inner = jnp.zeros((1, *self.size, self.config.segmentor.width), kind)
            images |= {name: inner for name in images if names.sees_features(name)}
        if names.PATCHES in self.networks:
            images[names.PATCHES] = patch_input(self.networks[names.generator('a')], blank['a'])
        params = initial_params(self.networks, images, jax.random.key(self.config.seed))
        judged = map(names.domain, filter(names.is_discriminator, self.networks))
        past = {d: PerRow(self.config.image_pool, batch).empty(jnp.repeat(blank[d], batch, 0)) for d in judged}
        return create(params, self.optimizers, past, bool(self.config.average))


def trained_params(state: State) -> Mapping[str, PyTree]:
    """The weights that were trained, for inference: the moving average if there is one."""
    return state.average or {name: state.params[name] for name in state.optimizer}
