"""Fields of the random views of an image: strong randomisation of intensities, for each domain its own."""

from dataclasses import dataclass

from synseg_jax.specification.field import NOT_NEGATIVE, POSITIVE, Range, field, group

PROBABILITY = Range(high=1)


@dataclass(frozen=True)
class Views:
    """Random views of every image of one domain: its geometry stays, its intensities become those of no scanner.

    See synseg_jax/batches/views.py.  Methods whose terms read `views_a` or `views_b` train on them.
    """

    count: int = field(1, 'number of views of every image', Range(1, 8, whole=True), added=True)
    class_maps: float = field(
        0.0, 'probability that every class, where there are labels, gets an intensity map of its own', PROBABILITY,
        added=True,
    )  # fmt: skip
    class_map: str = field(
        'lines',
        "these maps: 'lines': gain and offset, inverted half the time; 'curves': Bezier curves, scale and shift as in "
        'SLAug, that of the background always inverted',
        ('lines', 'curves'),
        added=True,
    )
    gin: float = field(
        0.0, 'probability of a random convolutional network (GIN), mixed with the image', PROBABILITY, added=True
    )
    blend: float = field(
        0.0, 'probability that GIN is a smooth blend of two random networks rather than one', PROBABILITY, added=True
    )
    air: float = field(
        0.05, 'intensity up to which a pixel, or the image smoothed about it, is air, which class maps and GIN leave '
        'as it is and darker than the rest; 0: they change air too, GIN as published', Range(high=0.5), added=True,
    )  # fmt: skip
    paste: str = field(
        '',
        "views of the target: paste a part of the row's source view, with its labels: 'classes': half of its classes "
        "(ClassMix); 'box': a random box (CutMix)",
        ('', 'classes', 'box'),
        added=True,
    )
    paste_probability: float = field(0.5, 'probability that a part is pasted', PROBABILITY, added=True)
    hidden: float = field(0.0, 'share of square blocks that are hidden (masked image consistency)', Range(high=0.9),
                          added=True)  # fmt: skip
    hidden_block: int = field(16, 'side of these blocks in pixels', Range(1, 2**12, whole=True), added=True)
    brightness: float = field(0.0, 'largest offset added to intensities in [0, 1]', NOT_NEGATIVE, added=True)
    contrast: float = field(0.0, 'largest relative change of contrast', NOT_NEGATIVE, added=True)
    gamma: float = field(1.0, 'largest exponent g; exponents lie between 1/g and g', POSITIVE, added=True)


@dataclass(frozen=True)
class DomainViews:
    """The views of each domain."""

    a: Views = group(Views, 'views of source images')
    b: Views = group(Views, 'views of target images')

    def of(self, domain: str) -> Views:
        """Those of a domain, a or b."""
        return {'a': self.a, 'b': self.b}[domain]
