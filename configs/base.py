"""Every field of a configuration, with SynSeg-Net's weights, rates, length and networks (Huo et al., IEEE TMI 2019).

Not as in the paper: the adversarial loss is the least squares of the published code, where a log-likelihood is printed;
classes weigh the same, where the paper weighs them by numbers that it does not print; scans that are tested are not
trained on.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(data: str = '') -> ConfigDict:
    """The defaults; `data` is the folder that `synseg_jax.prepare` wrote, empty for the embedded phantom."""
    c = ConfigDict()
    c.data_dir = data
    c.seed = 0  # of weights, order of the data and augmentation; data.seed decides who is trained on and tested

    # The systems: name -> the fields in which it differs from all this.
    c.systems = ConfigDict({'synseg': {}})
    c.run = ()  # those that `main` trains and evaluates, one after another; empty: all
    c.chosen = 'synseg'  # the one that `predict` and `synthesize` use unless told otherwise

    # The stages of a system: name -> the fields in which it differs from its system; each runs after those that it
    # builds on (by, start, sets), and the last one that trains a segmentor is evaluated.
    c.stages = ConfigDict({'train': {}})
    # What a stage does: train; or make a set, of its own name, out of the one set that its sets name: synthesize, in
    # the other domain, or reconstruct, there and back; or atlases: registers labelled scans of domain b to others.
    c.do = 'train'
    c.by = ''  # synthesize, reconstruct: the earlier stage whose generators do it
    # train: begin with the weights of these stages, of all networks or those named; a later stage's come first.
    c.start = ConfigDict({'stages': (), 'networks': ()})
    # What a stage reads: sets by name, also those that earlier stages made; `made:714` for so many of its slices,
    # `made:35%` for a share; empty: every set of the domain.
    c.sets = ConfigDict({'a': (), 'b': ()})
    c.tests = ()  # the sets that the system is measured on; empty: those of domain b that have test scans
    c.tested = ''  # the stage whose segmentor is measured; empty: the last that trains one
    # Also the Dice of the checkpoint that is best by the labels of the test scans, as papers choose it; keeps all.
    c.oracle = False
    c.lesions = ()  # classes that are also counted lesion by lesion
    c.lesion_patch_mm = 0.0  # also measure lesions in squares of this side about each, in its slices; 0: no
    # Cross validation: the labelled subjects of a set, whatever their split, dealt into so many parts (0: none), each
    # tested by a system trained on the others; strata: group 1 of this expression on a case's name is dealt evenly.
    c.fold = ConfigDict({'set': '', 'of': 0, 'strata': ''})
    # Train on the images (not the labels) of target test scans too, and test all labelled target scans, as SynSeg-Net's
    # paper does; False: scans that are tested are never seen in training.
    c.transductive = False
    c.context = ConfigDict({'slices': 0, 'spacing_mm': 0.0})  # neighbours each side as channels; 0 mm: the next slices
    c.masked = False  # translate images with the labels of both domains as one more channel (masked CycleGAN)

    # The method of synseg_jax/objective/methods.py, and who pays how much for what where that differs from its table.
    c.method = 'synseg'
    c.pays = ConfigDict()
    terms = {
        'gen': ('adv_a', 'adv_b', 'cyc_a', 'cyc_b', 'idt_a', 'idt_b', 'seg_fake_a', 'seg_fake_b', 'feat'),
        'dis': ('dis_a', 'dis_b'),
        'seg': ('seg_a', 'seg_fake_a', 'seg_rec_a', 'seg_b', 'seg_fake_b', 'seg_rec_b', 'feat'),
    }
    for player, names in terms.items():
        c.pays[player] = ConfigDict({name: placeholder(float) for name in names})
    c.order = 'together'  # all players look at the same old networks; or in turn: gen, dis, seg

    # Losses.
    c.loss = ConfigDict()
    c.loss.adversarial = 'lsgan'  # or log_likelihood
    c.loss.cycle = 'l1'  # or l2, ssim
    c.loss.segmentation = 'cross_entropy'  # or binary_cross_entropy (2 classes, one logit), dice
    c.loss.class_weights = ()  # one weight a class, in the order of the classes; empty: all 1
    c.loss.by_weight = False  # divide the cross entropy by the sum of the weights, not by the pixels

    # Networks.
    c.generator = ConfigDict({'architecture': 'resnet', 'width': 64, 'blocks': 9, 'resize': False, 'tanh': True})
    c.segmentor = ConfigDict({'architecture': 'resnet', 'width': 64, 'blocks': 9, 'resize': False, 'tanh': False})
    c.discriminator = ConfigDict({'architecture': 'patchgan', 'width': 64, 'layers': 3})
    c.dtype = 'float32'  # of computation: bfloat16, float32 or float64
    c.param_dtype = 'float32'  # of weights
    c.remat = False  # compute the blocks of generators and segmentors anew for the gradient: less memory, more time

    # Optimizers: one per network.
    c.rate = ConfigDict({'generator': 1e-4, 'discriminator': 2e-4, 'segmentor': 1e-4})
    c.optimizer = ConfigDict({'rule': 'adam', 'b1': 0.5, 'b2': 0.999, 'eps': 1e-8, 'clip_norm': 0.0})
    c.optimizer.b1_alone = 0.9  # Adam's b1 in methods without discriminators, where nobody asks for a short memory
    c.warmup = 0  # steps over which the learning rates rise
    c.average = 0.0  # decay of a moving average of the weights, used for validation and results; 0: none
    c.history = 50  # past fakes that the discriminators are shown, over the rows of the batch; 0: none

    # Scans to records: what `prepare` does.
    c.data = ConfigDict()
    c.data.size = (256, 256)  # rows, columns of a slice; or slices, rows, columns of whole volumes
    c.data.spacing_mm = 0.0  # of voxels or pixels, size being cut about the middle of the labels; 0: slices are resized
    c.data.slice_axis = 'axial'  # or coronal, sagittal
    c.data.window_hu = (-1000.0, 1000.0)  # of channels of CT: CT, CTA, CT_portal
    c.data.percentiles = (2.5, 97.5)  # of every other channel
    c.data.foreground_share = 0.02  # slices with a smaller share of pixels above 0.1 are left out
    c.data.source_margin = -1  # labelled source slices kept: those so near one with an organ; -1: all
    c.data.target_margin = -1  # the same of target slices, where target_labels lets their labels be read
    c.data.target_center = 1.0  # central share of the target's rows and columns that is kept, where it shows much more
    # Slices at a spacing are cut about all that is labelled or, without labels, the middle of the scan; 'lesion': about
    # the largest connected piece or, without labels, one half of the body, the right and the left from scan to scan.
    c.data.cut_about = 'labels'
    c.data.classes = ()  # names in order, background first; empty: those of the source's dataset.json
    c.data.subject = '(.+)'  # group 1 of this expression on a case's name is its patient
    c.data.source_split = (0.8, 0.2, 0.0)  # shares of patients: train, validation, test
    c.data.target_split = (0.8, 0.0, 0.2)
    c.data.target_labels = False  # let target labels into the records: only for rows that train on them
    c.data.seed = 0  # of the split, the folds and the parts of sets (source:35%)
    c.data.same_patients = ()  # sets that may show patients of another role again, at a later time; say so in results

    # Augmentation, see synseg_jax/batches/augment.py.
    c.augment = ConfigDict({'window': (), 'crop': 1.0, 'shift': 0.0, 'rotate': 0.0, 'scale': 0.0, 'flip': ''})
    c.augment.update({'brightness': 0.0, 'contrast': 0.0, 'gamma': 1.0})

    # Training: `epochs` at constant rate, then `decay_epochs` linearly to 0; one epoch = the larger domain once.
    c.train = ConfigDict()
    c.train.batch = 1  # rows of a global batch, over all devices
    c.train.epochs = 100
    c.train.decay_epochs = 0
    c.train.steps = 0  # if not 0: this many steps in place of the epochs, of which
    c.train.decay_steps = 0  # the last so many decay linearly to 0
    c.train.mixed = False  # rows of a batch are real and made by earlier stages in turn
    c.train.patience = 0  # stop after so many epochs without a fall of the held-out segmentation loss; 0: never
    c.train.balanced = False  # every scan drawn equally often, however many slices it has
    c.train.workers = 0  # reading processes; 0: threads
    # Up to so many GiB of records are held in the memory of every device, and batches taken there; 0: read from disk.
    c.train.resident_gib = 0.0
    c.train.devices = 0  # 0: all that are visible
    c.train.log_every = 50  # steps
    c.train.save_every = 1000  # steps; every checkpoint is validated first, and pictures are drawn
    c.train.keep = 2  # latest checkpoints kept beside the best

    c.atlases = ConfigDict({'spacing_mm': 3.0})  # of the voxels in which atlases are registered

    # Prediction.
    c.predict = ConfigDict({'batch': 8, 'resample': 'nearest'})  # nearest labels, or linear probabilities
    c.predict.flips = ''  # 'lr': mean probability of the scan and its mirror image, if trained with augment.flip 'c'
    c.predict.window = 'tiles'  # of larger volumes; 'middle': then the one window about the middle of what tiles find
    c.predict.components = ''  # 'largest': the largest connected piece of each class alone, but all of c.lesions

    # The embedded phantom, where no data is given: its region, and the sets to draw.  Subjects are numbered from
    # `first` within a modality: sets that overlap share people.
    c.phantom = ConfigDict({'region': 'abdomen', 'seed': 0, 'sets': {}})
    c.phantom.sets.source = phantom_set('MR', 'a')
    c.phantom.sets.target = phantom_set('CT', 'b')
    if not data:
        demonstrate(c)
    return c


def phantom_set(
    modality: str,
    domain: str,
    subjects: int = 32,
    first: int = 0,
    role: str = '',
    labelled: bool = True,
    plane: str = 'axial',
    weeks: tuple[int, ...] = (),
    cohort: str = '',
) -> ConfigDict:
    """A set of phantom scans, of everybody in each week; without a role they are split as data.*_split say.

    `cohort` names other people than the region's usual ones.
    """
    return ConfigDict({'modality': modality, 'domain': domain, 'subjects': subjects, 'first': first, 'role': role,
                       'labelled': labelled, 'plane': plane, 'weeks': weeks, 'cohort': cohort})  # fmt: skip


def demonstrate(c: ConfigDict) -> None:
    """Shrinks networks, images and training to what 2 CPU cores learn from the phantom in minutes."""
    c.generator.width = c.segmentor.width = c.discriminator.width = 16
    c.generator.blocks = c.segmentor.blocks = 6
    c.rate.generator = c.rate.segmentor = c.rate.discriminator = 4e-4
    c.data.size = (64, 64)
    c.data.window_hu = (-200.0, 300.0)
    c.augment.shift, c.augment.rotate, c.augment.scale = 0.1, 8.0, 0.1
    c.average = 0.99
    c.train.batch = 4
    c.train.steps, c.train.decay_steps = 1900, 950
    c.train.save_every = 475
    c.train.balanced = True
    c.predict.resample = 'linear'


def compare(c: ConfigDict) -> None:
    """Lets a configuration train SynSeg-Net and, beside it, the same segmentor on the source alone."""
    c.systems = ConfigDict({'synseg': {}, 'source_only': {'method': 'supervised'}})
    if not c.data_dir:
        # In so short a training generator and segmentor would agree on edges that lie a pixel off: an identity loss,
        # which the paper does not have, holds them in place.
        c.systems.synseg = ConfigDict({'pays': {'gen': {'idt_b': 2.0}}})
        c.systems.source_only.train = ConfigDict({'steps': 800, 'decay_steps': 400})
