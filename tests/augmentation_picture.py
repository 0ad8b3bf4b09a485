"""Draws docs/augmentation.png, every augmentation on the phantom: `python tests/augmentation_picture.py [FILE]`.

Run from the root of the repository.  The organs' borders are drawn as the labels are moved.
"""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageColor, ImageDraw
from scipy.ndimage import grey_dilation, grey_erosion, zoom

sys.path.insert(0, str(Path(__file__).parents[1]))

from synseg_jax.batches import mixing
from synseg_jax.batches.augment import augment
from synseg_jax.batches.views import view
from synseg_jax.imaging import intensity
from synseg_jax.imaging.colours import colour
from synseg_jax.imaging.volume import Volume, canonical
from synseg_jax.phantom.dataset import generate
from synseg_jax.specification.training import Augment
from synseg_jax.specification.views import Views

SIDE, DRAWS, CLASSES = 96, 4, 6
GAP, TITLE = 4, 120  # pixels between pictures, and for a title
KEYS = jax.random.split(jax.random.key(0), DRAWS)
GREYS = 48  # of the picture, which is smaller with fewer
GEOMETRY = {
    'rotate, shift, scale': {'rotate': 15.0, 'shift': 0.1, 'scale': 0.4},
    'shear': {'shear': 20.0},
    'elastic': {'elastic': 0.1},
}
INTENSITY = {
    'gamma, contrast,\nbrightness': {'gamma': 2.0, 'contrast': 0.4, 'brightness': 0.2},
    'noise': {'noise': 0.15, 'noise_probability': 1.0},
    'blur': {'blur': 2.0, 'blur_probability': 1.0},
    'low resolution': {'low_resolution': 4.0, 'low_resolution_probability': 1.0},
    'Fourier': {'fourier': 0.05},
}
VIEWS = {
    'GIN, as published': {'gin': 1.0, 'air': 0.0},
    'GIN': {'gin': 1.0},
    'GIN, blended': {'gin': 1.0, 'blend': 1.0},
    'class lines': {'class_maps': 1.0},
    'class curves': {'class_maps': 1.0, 'class_map': 'curves'},
}


def slice_of(modality: str) -> tuple[jax.Array, jax.Array]:
    """An axial slice of the phantom in [0, 1] and its labels, both resized to SIDE x SIDE pixels."""
    volume, labels, affine = generate(modality, 0, 3)
    arrays = [canonical(Volume(array.astype(np.float32), affine)).array for array in (volume, labels)]
    number = (arrays[1] > 0).sum((0, 1)).argmax()
    image, labels = (array[..., number].T for array in arrays)
    image = (intensity.window(-160, 240) if modality == 'CT' else intensity.percentiles(volume)).apply(image)
    shape = [SIDE / side for side in image.shape]
    return jnp.asarray(zoom(image, shape, order=1))[..., None], jnp.asarray(zoom(labels, shape, order=0), jnp.int32)


def rows() -> dict[str, list]:
    """{title: [(image, label), ...]}."""
    (mr, mr_label), (ct, ct_label) = slice_of('MR'), slice_of('CT')
    size, batch = ct.shape[:-1], {'a': mr, 'b': ct, 'label_a': mr_label}

    def augmented(fields, key):
        row = augment(key, batch, Augment(**fields))
        return row['a'], row['label_a']

    def seen(settings, key):
        return view(key, mr, mr_label, settings, CLASSES), mr_label

    def pasted(mask, key):
        return mixing.paste(mask(key), mr, ct), mixing.paste(mask(key), mr_label, ct_label)

    functions = {
        **{title: partial(augmented, fields) for title, fields in (GEOMETRY | INTENSITY).items()},
        **{title: partial(seen, Views(**fields)) for title, fields in VIEWS.items()},
        'classes pasted': partial(pasted, lambda key: mixing.class_mask(key, mr_label, CLASSES)),
        'box pasted': partial(pasted, lambda key: mixing.box_mask(key, size, 0.3)),
        'blocks hidden': lambda key: (mixing.paste(mixing.block_mask(key, size, 12, 0.5), 0.0, ct), ct_label),
    }
    drawn = {title: jax.jit(jax.vmap(function))(KEYS) for title, function in functions.items()}
    return {'source (MR)\nand target (CT)': [(mr, mr_label), (ct, ct_label)]} | {
        title: list(zip(*results, strict=True)) for title, results in drawn.items()
    }


def tile(image, label) -> np.ndarray:
    """RGB, with the borders of organs in their colours."""
    image = np.round(np.clip(np.asarray(image)[..., 0], 0, 1) * (GREYS - 1)) / (GREYS - 1)
    rgb = np.repeat(np.uint8(255 * image)[..., None], 3, -1)
    label = np.asarray(label)
    border = (grey_dilation(label, 3) != grey_erosion(label, 3)) & (label > 0)
    for number in range(1, CLASSES):
        rgb[border & (label == number)] = ImageColor.getrgb(colour(number))
    return rgb


def draw(path: Path) -> None:
    """The rows in two columns, each with its title to the left."""
    titles, step, width = rows(), SIDE + GAP, TITLE + DRAWS * (SIDE + GAP)
    down = -(-len(titles) // 2)
    picture = Image.new('RGB', (2 * width, down * step), 'white')
    pen = ImageDraw.Draw(picture)
    for number, (title, tiles) in enumerate(titles.items()):
        x, y = number // down * width, number % down * step
        pen.text((x + 3 * GAP, y + SIDE // 3), title, 'black')
        for column, (image, label) in enumerate(tiles):
            picture.paste(Image.fromarray(tile(image, label)), (x + TITLE + column * step, y))
    picture.quantize(128).save(path, optimize=True)


if __name__ == '__main__':
    draw(Path(sys.argv[1] if sys.argv[1:] else 'docs/augmentation.png'))
