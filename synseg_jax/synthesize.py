"""Turn scans into the other modality: synthetic target scans that carry the source's labels.

Usage:
    python -m synseg_jax.synthesize --workdir=runs/abdomen --input=Dataset101_AbdomenMR --output=Dataset201_SyntheticCT
    nnUNetv2_plan_and_preprocess -d 201 --verify_dataset_integrity

--input is a labelled dataset of the source modality in any layout that synseg_jax.prepare reads, or scans of an nnU-Net
dataset; their labels come along, numbered as the system's classes are.  Where nothing in it names its labels,
--labels=liver:6,kidneys:2+3 does.  --real=FOLDER adds the labelled scans of a dataset of the target modality, whose
labels --real_labels may name.  Synthetic scans lie on the grid of their source, in Hounsfield units where the target is
CT, else in its typical range, as float32 where int16 would be too coarse or too small; the output is a raw dataset for
nnU-Net v2.  Scans that cannot be translated are named at the end, with exit code 2; all others are written.

--straighten resamples scans of a tilted gantry, linearly, and their labels, by the nearest voxel, onto a grid without
its shear, which ITK, 3D Slicer and nnU-Net need.

--format=scans writes the scans alone, CASE.nii.gz, of any scan, folder or DICOM series: no labels are needed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from jaxtyping import Bool
from rich.progress import track

from synseg_jax import command, outputs, scans
from synseg_jax.batch import Batch, reading
from synseg_jax.data import given, intensity, modality, straight, volume
from synseg_jax.data.dataset import Dataset
from synseg_jax.data.layouts import class_values
from synseg_jax.data.volume import Volume
from synseg_jax.errors import InputError, known
from synseg_jax.files import atomic_folder
from synseg_jax.interop import nnunet
from synseg_jax.options import Flag, Options

OTHER = {'a': 'b', 'b': 'a'}
GENERATORS = {'a': 'g_ab', 'b': 'g_ba'}


FLAGS = (
    Flag('workdir', 'Folder that synseg_jax.main trained in.', required=True),
    Flag('input', 'A labelled dataset, or scans in one; with --format=scans, any scans.', required=True),
    Flag('output', 'Folder to write to; for nnU-Net named DatasetNNN_Name.', required=True),
    Flag('format', 'nnunet: a raw dataset with labels; scans: the scans alone.', 'nnunet'),
    Flag('real', 'Dataset of the other modality whose labelled scans are added.'),
    Flag('labels', 'liver:6,kidneys:2+3, the classes of --input by their values.'),
    Flag('real_labels', 'The same of --real.'),
    Flag('straighten', 'Write on grids without shear where a gantry was tilted.', False, flags.DEFINE_bool),
    Flag('system', 'Which system of the run; default: config.chosen.'),
    Flag('domain', 'Modality of the scans: a, the source, or b, the target.', 'a'),
    Flag('unfinished', scans.UNFINISHED, False, flags.DEFINE_bool),
)


def main(argv: Sequence[str]) -> int:
    """Translate scans into the other modality; the exit code."""
    return command.run(write_scans, FLAGS, argv)


def write_scans(options: Options) -> None:
    """Translate the scans that --input names, and print how many there are."""
    raw, domain = known('format', options.format, ('nnunet', 'scans')) == 'nnunet', options.domain
    if options.real and not raw:
        raise InputError('--real adds to a dataset for nnU-Net; leave --format=scans out')
    known('domain', domain, OTHER)
    write = straight.writer(options.straighten)
    output = Path(options.output)
    outputs.check(output, [path for path in (options.input, options.real, options.workdir) if path])
    trained = scans.find(options.workdir, options.system or '', 'g', unfinished=options.unfinished)
    needed = raw or trained.config.masked
    labels = _labelled(trained, 'input', options.input, options.labels, domain) if needed else None
    if raw:
        added = options.real and _labelled(trained, 'real', options.real, options.real_labels, OTHER[domain])
        print(f'{synthesize(trained, labels, output, domain, added or None, write)} labelled scans in {output}')
    else:
        channel = trained.run.channels[domain]
        files = {case.id: case.image for case in labels.cases} if labels else given.scans(options.input, channel)
        print(f'{translate(trained, files, output, domain, labels, write)} synthetic scans in {output}')


def _labelled(trained, flag, folder, labels, domain) -> Dataset:
    """The labelled scans of a domain in the folder that a flag names; `labels` are their classes as text."""
    channel, values = trained.run.channels[domain], class_values.parsed(labels) if labels else None
    found = nnunet.labelled(folder, trained.run.classes, channel, values)
    other = modality.differ(modality.named(found.channel), modality.named(channel))
    if other or intensity.is_ct(found.channel) != intensity.is_ct(channel):
        raise InputError(f'--{flag}={folder}: its channel is {found.channel}, not {channel}; see --domain')
    given.warn_of_headers((case.image for case in found.cases), channel)
    return found


def synthesize(
    trained: scans.Trained,
    source: Dataset,
    output: Path,
    domain: str = 'a',
    real: Dataset | None = None,
    write: Callable = volume.write,
) -> int:
    """Writes a raw dataset for nnU-Net of the translations of labelled scans, and of `real` ones; how many it holds.

    Both datasets are as `nnunet.labelled` finds them.  `output` appears whole or not at all.  Scans that cannot be
    translated or added are left out, and an InputError names them once the others are written.
    """
    _check(trained, domain)
    channel, classes = trained.run.channels[OTHER[domain]], trained.run.classes
    if real:
        _check_real(real, source, channel)
    cases, added = source.cases, real.cases if real else ()
    batch = Batch(len(cases) + len(added))
    with nnunet.writing(output, channel, classes, write) as raw:
        for case in track(cases, 'synthesizing', disable=len(cases) < 2):
            with batch.scan(case.image):
                with reading(case.image):
                    scan, labels = nnunet.read(source, case, classes)
                raw.add(case.id, trained.synthesize(scan, domain, labels > 0), labels, scan)
        for case in added:
            with batch.scan(case.image):
                with reading(case.image):
                    scan, labels = nnunet.read(real, case, classes)
                raw.add_real(case, scan, labels)
        told = f' and real ones of {real.folder.name}' if real else ''
        if not raw.kinds:
            batch.finish('written')
        raw.describe(f'synthetic {channel} scans made of {source.folder.name}{told}')
    batch.finish('written')
    return len(raw.kinds)


def translate(
    trained: scans.Trained,
    files: Mapping[str, Path],
    output: Path,
    domain: str = 'a',
    labels: Dataset | None = None,
    write: Callable = volume.write,
) -> int:
    """Writes the translations of {case: scan} alone; masked generators need the `labels` of a dataset that they are of.

    `output` appears whole or not at all.  Scans that cannot be translated are left out, and an InputError names them
    once the others are written.
    """
    _check(trained, domain)
    if trained.config.masked and labels is None:
        raise InputError('masked generators see labels beside the image; give scans that have some')
    nnunet.check_free(output)
    written, batch = 0, Batch(len(files))
    with atomic_folder(output.absolute()) as folder:
        for case, file in track(files.items(), 'synthesizing', disable=len(files) < 2):
            with batch.scan(file):
                with reading(file):
                    scan, mask = _with_mask(case, file, labels, trained.run.classes)
                fake = trained.synthesize(scan, domain, mask)
                write(folder / f'{case}.nii.gz', fake, scan)
                written += 1
        if not written:
            batch.finish('written')
    batch.finish('written')
    return written


def _with_mask(case, file, labels, classes) -> tuple[Volume, Bool[np.ndarray, 'x y z'] | None]:
    """A scan and where it is labelled, by a dataset that it is of."""
    if labels is None:
        return volume.read(file), None
    scan, found = nnunet.read(labels, next(own for own in labels.cases if own.id == case), classes)
    return scan, found > 0


def _check(trained, domain) -> None:
    """InputError for what would be wrong with every scan."""
    if (name := GENERATORS[known('domain', domain, OTHER)]) not in trained.networks.system.networks:
        raise InputError(f'method {trained.config.method} trains no {name}; choose another --system')


def _check_real(real, source, channel) -> None:
    """InputError for real scans that are of another modality, or named as synthetic ones are."""
    if real.channel.casefold() != channel.casefold():
        raise InputError(f'--real={real.folder}: its channel is {real.channel}, that of the synthetic scans {channel}')
    if both := sorted({case.id for case in real.cases} & {case.id for case in source.cases}):
        raise InputError(f'--real={real.folder}: case {both[0]} is also in {source.folder} ({len(both)} such); rename')


if __name__ == '__main__':
    command.start(main)
