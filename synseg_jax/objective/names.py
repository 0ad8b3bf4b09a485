"""What names say: g_ab translates a to b, d_b judges b-images, s_b segments them; label_a is the label of image a.

Domain a is the labelled source modality, b the unlabelled target.
"""

DOMAINS = ('a', 'b')
OWNER = {'g': 'gen', 'h': 'gen', 'd': 'dis', 's': 'seg'}  # player by the first letter of a network's name
PLAYERS = tuple(dict.fromkeys(OWNER.values()))  # in the order in which they are updated
SHARED = 's_shared'  # the layer that both segmentors share
OWN = -2  # in place of a label: the pixel is the view's own
PATCHES = 'h_ab'  # makes vectors of patches out of the features of g_ab's encoder
JUDGE = 'judge'  # the segmentor of an earlier stage, for images of both domains, which no player trains


def player(network: str) -> str:
    """The player that a network belongs to."""
    return OWNER[network[0]]


def domain(name: str) -> str:
    """The domain of an array, or of the images that a network judges, segments or makes: label_a -> a, g_ab -> b."""
    return name[-1]


def source(network: str) -> str:
    """The domain of the images that a network sees: g_ab -> a, d_b -> b."""
    return network[2]


def other(domain: str) -> str:
    """The other domain."""
    return 'ba'[DOMAINS.index(domain)]


def generator(source: str) -> str:
    """The generator that translates images of a domain: a -> g_ab."""
    return f'g_{source}{other(source)}'


def discriminator(domain: str) -> str:
    """The discriminator that judges images of a domain."""
    return f'd_{domain}'


def segmentor(domain: str) -> str:
    """The segmentor of images of a domain."""
    return f's_{domain}'


def head(domain: str) -> str:
    """The last layer of a domain's segmentor where segmentors share the layer before it."""
    return f's_head_{domain}'


def label(domain: str) -> str:
    """The array of a batch that labels the images of a domain."""
    return f'label_{domain}'


def views(domain: str) -> str:
    """The array of a batch that holds random views of the images of a domain."""
    return f'views_{domain}'


def pasted(domain: str) -> str:
    """The array of a batch that says what was pasted into the views of a domain: labels, or OWN elsewhere."""
    return f'label_pasted_{domain}'


def is_views(array: str) -> bool:
    """Whether an array of a batch holds views, which are made of its images; the others are read from records."""
    return array.startswith('views_')


def is_label(array: str) -> bool:
    """Whether an array of a batch holds labels; the others hold images."""
    return array.startswith('label_')


def is_generator(network: str) -> bool:
    """Whether a network makes images."""
    return network.startswith('g_')


def is_discriminator(network: str) -> bool:
    """Whether a network judges images."""
    return network.startswith('d_')


def is_fixed(network: str) -> bool:
    """Whether a network keeps the weights of an earlier stage: no player trains it."""
    return network == JUDGE


def sees_features(network: str) -> bool:
    """Whether a network sees features of a segmentor rather than images."""
    return network == SHARED or network.startswith('s_head_')
