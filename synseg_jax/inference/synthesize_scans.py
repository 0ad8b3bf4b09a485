"""Synthetic scans in the other modality, as a labelled dataset or as files alone."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from synseg_jax.cli.progress import each
from synseg_jax.datasets import class_names, input_scans, nnunet_writer
from synseg_jax.datasets.cases import Dataset, warn_of_unread_channels
from synseg_jax.errors import InputError, known
from synseg_jax.files import atomic_folder
from synseg_jax.files.scan_errors import ScanErrors, reading_scan
from synseg_jax.formats import scan_channels, scan_file
from synseg_jax.imaging import intensity, modality
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import synthetic_files, trained_model
from synseg_jax.inference.synthetic_files import Synthetic

OTHER = {'a': 'b', 'b': 'a'}
GENERATORS = {'a': 'g_ab', 'b': 'g_ba'}


def labelled_set(trained, flag, folder, labels, domain) -> Dataset:
    """The labelled dataset given by --`flag`; `labels` is its flag of label values. InputError for another modality."""
    channel, values = trained.run.channels[domain], class_names.parse(labels) if labels else None
    dataset = nnunet_writer.labelled(folder, trained.run.classes, channel, values)
    warn_of_unread_channels(dataset, len(trained.run.named(domain)))
    other = modality.differ(modality.of_channel(dataset.channel), modality.of_channel(channel))
    if other or intensity.is_ct(dataset.channel) != intensity.is_ct(channel):
        raise InputError(f'--{flag}={folder}: its channel is {dataset.channel}, not {channel}; see --domain')
    input_scans.warn_of_headers((case.image for case in dataset.cases), channel)
    return dataset


def synthesize(
    trained: trained_model.Trained,
    source: Dataset,
    output: Path,
    domain: str = 'a',
    real: Dataset | None = None,
    write: Callable = scan_file.write,
) -> int:
    """Write an nnU-Net raw dataset of translated labelled scans, and the `real` ones; return the number of cases.

    Both datasets come from `nnunet_writer.labelled`.  `output` is written atomically.  A scan that fails does not stop
    the others; InputError at the end lists those that failed.
    """
    _check(trained, domain)
    channels, classes = trained.run.named(OTHER[domain]), trained.run.classes
    if real:
        check_real(real, source, channels[0])
    cases, added = source.cases, real.cases if real else ()
    errors = ScanErrors(len(cases) + len(added))
    counts = len(trained.run.named(domain)), len(channels)
    with nnunet_writer.writing(output, channels, classes, write) as raw:
        for case in each(cases, 'synthesizing'):
            with errors.collect(case.image):
                with reading_scan(case.image):
                    scan, labels = nnunet_writer.read(source, case, classes, counts[0])
                raw.add(case.id, trained.synthesize_channels(scan, domain, labels > 0), labels, scan)
        for case in added:
            with errors.collect(case.image):
                with reading_scan(case.image):
                    scan, labels = nnunet_writer.read(real, case, classes, counts[1])
                raw.add_real(case, scan, labels)
        added_from = f' and real scans of {real.folder.name}' if real else ''
        if not raw.kinds:
            errors.finish('written')
        raw.describe(f'synthetic {channels[0]} scans from {source.folder.name}{added_from}')
    errors.finish('written')
    return len(raw.kinds)


def translate(
    trained: trained_model.Trained,
    files: Mapping[str, Path],
    output: Path,
    domain: str = 'a',
    labels: Dataset | None = None,
    save: Callable[[Synthetic, Path], None] = synthetic_files.nifti,
) -> int:
    """Write the translations of {case: scan}, without labels; return their number.

    `save` writes one into a folder.  Masked generators need `labels`, the dataset of these scans.  `output` is written
    atomically.  A scan that fails does not stop the others; InputError at the end lists those that failed.
    """
    _check(trained, domain)
    if trained.config.label_channel and labels is None:
        raise InputError('masked generators need labels beside the image; give a labelled dataset')
    nnunet_writer.check_free(output)
    written, errors = 0, ScanErrors(len(files))
    channels, stage = trained.run.named(OTHER[domain]), trained.run.folder.resolve().name
    count = len(trained.run.named(domain))
    with atomic_folder(output.absolute()) as folder:
        for case, file in each(files.items(), 'synthesizing'):
            with errors.collect(file):
                with reading_scan(file):
                    scan, mask = _with_mask(case, file, labels, trained.run.classes, count)
                fakes = trained.synthesize_channels(scan, domain, mask)
                save(Synthetic(case, file, scan, fakes, channels, stage), folder)
                written += 1
        if not written:
            errors.finish('written')
    errors.finish('written')
    return written


def _with_mask(case, file, labels, classes, channels) -> tuple[Volume, Bool[np.ndarray, 'x y z'] | None]:
    """A scan, and the mask of its labelled voxels if a dataset with its labels is given."""
    if labels is None:
        return scan_channels.read(file, channels), None
    entry = next(entry for entry in labels.cases if entry.id == case)
    scan, array = nnunet_writer.read(labels, entry, classes, channels)
    return scan, array > 0


def _check(trained, domain) -> None:
    """InputError if the system has no generator for `domain`."""
    if (name := GENERATORS[known('domain', domain, OTHER)]) not in trained.networks.system.networks:
        raise InputError(f'method {trained.config.method} trains no {name}; choose another --system')


def check_real(real, source, channel) -> None:
    """InputError for real scans of another modality, or with the name of a synthetic one."""
    if real.channel.casefold() != channel.casefold():
        raise InputError(
            f'--real={real.folder}: its channel is {real.channel}, but synthetic scans are {channel}; give {channel}'
        )
    if shared := sorted({case.id for case in real.cases} & {case.id for case in source.cases}):
        raise InputError(
            f'--real={real.folder}: case {shared[0]} is also in {source.folder} ({len(shared)} in all); rename'
        )
