"""Synthetic scans in the other modality, with the source's labels."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from rich.progress import track

from synseg_jax.datasets import class_names, input_scans, nnunet_writer
from synseg_jax.datasets.cases import Dataset
from synseg_jax.errors import InputError, known
from synseg_jax.files import atomic_folder
from synseg_jax.files.scan_errors import ScanErrors, reading_scan
from synseg_jax.formats import scan_file
from synseg_jax.imaging import intensity, modality
from synseg_jax.imaging.volume import Volume
from synseg_jax.inference import trained_model

OTHER = {'a': 'b', 'b': 'a'}
GENERATORS = {'a': 'g_ab', 'b': 'g_ba'}


def labelled_set(trained, flag, folder, labels, domain) -> Dataset:
    """The labelled scans of a domain in the folder that a flag names; `labels` are their classes as text."""
    channel, values = trained.run.channels[domain], class_names.parse(labels) if labels else None
    found = nnunet_writer.labelled(folder, trained.run.classes, channel, values)
    other = modality.differ(modality.of_channel(found.channel), modality.of_channel(channel))
    if other or intensity.is_ct(found.channel) != intensity.is_ct(channel):
        raise InputError(f'--{flag}={folder}: its channel is {found.channel}, not {channel}; see --domain')
    input_scans.warn_of_headers((case.image for case in found.cases), channel)
    return found


def synthesize(
    trained: trained_model.Trained,
    source: Dataset,
    output: Path,
    domain: str = 'a',
    real: Dataset | None = None,
    write: Callable = scan_file.write,
) -> int:
    """Writes a raw dataset for nnU-Net of the translations of labelled scans, and of `real` ones; how many it holds.

    Both datasets are as `nnunet.labelled` finds them.  `output` appears whole or not at all.  Scans that cannot be
    translated or added are left out, and an InputError names them once the others are written.
    """
    _check(trained, domain)
    channel, classes = trained.run.channels[OTHER[domain]], trained.run.classes
    if real:
        check_real(real, source, channel)
    cases, added = source.cases, real.cases if real else ()
    errors = ScanErrors(len(cases) + len(added))
    with nnunet_writer.writing(output, channel, classes, write) as raw:
        for case in track(cases, 'synthesizing', disable=len(cases) < 2):
            with errors.collect(case.image):
                with reading_scan(case.image):
                    scan, labels = nnunet_writer.read(source, case, classes)
                raw.add(case.id, trained.synthesize(scan, domain, labels > 0), labels, scan)
        for case in added:
            with errors.collect(case.image):
                with reading_scan(case.image):
                    scan, labels = nnunet_writer.read(real, case, classes)
                raw.add_real(case, scan, labels)
        told = f' and real ones of {real.folder.name}' if real else ''
        if not raw.kinds:
            errors.finish('written')
        raw.describe(f'synthetic {channel} scans made of {source.folder.name}{told}')
    errors.finish('written')
    return len(raw.kinds)


def translate(
    trained: trained_model.Trained,
    files: Mapping[str, Path],
    output: Path,
    domain: str = 'a',
    labels: Dataset | None = None,
    write: Callable = scan_file.write,
) -> int:
    """Writes the translations of {case: scan} alone; masked generators need the `labels` of a dataset that they are of.

    `output` appears whole or not at all.  Scans that cannot be translated are left out, and an InputError names them
    once the others are written.
    """
    _check(trained, domain)
    if trained.config.masked and labels is None:
        raise InputError('masked generators see labels beside the image; give scans that have some')
    nnunet_writer.check_free(output)
    written, errors = 0, ScanErrors(len(files))
    with atomic_folder(output.absolute()) as folder:
        for case, file in track(files.items(), 'synthesizing', disable=len(files) < 2):
            with errors.collect(file):
                with reading_scan(file):
                    scan, mask = _with_mask(case, file, labels, trained.run.classes)
                fake = trained.synthesize(scan, domain, mask)
                write(folder / f'{case}.nii.gz', fake, scan)
                written += 1
        if not written:
            errors.finish('written')
    errors.finish('written')
    return written


def _with_mask(case, file, labels, classes) -> tuple[Volume, Bool[np.ndarray, 'x y z'] | None]:
    """A scan and where it is labelled, by a dataset that it is of."""
    if labels is None:
        return scan_file.read(file), None
    scan, found = nnunet_writer.read(labels, next(own for own in labels.cases if own.id == case), classes)
    return scan, found > 0


def _check(trained, domain) -> None:
    """InputError for what would be wrong with every scan."""
    if (name := GENERATORS[known('domain', domain, OTHER)]) not in trained.networks.system.networks:
        raise InputError(f'method {trained.config.method} trains no {name}; choose another --system')


def check_real(real, source, channel) -> None:
    """InputError for real scans that are of another modality, or named as synthetic ones are."""
    if real.channel.casefold() != channel.casefold():
        raise InputError(f'--real={real.folder}: its channel is {real.channel}, that of the synthetic scans {channel}')
    if both := sorted({case.id for case in real.cases} & {case.id for case in source.cases}):
        raise InputError(f'--real={real.folder}: case {both[0]} is also in {source.folder} ({len(both)} such); rename')
