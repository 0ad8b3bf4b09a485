"""Protocols: on which scans, slices and grid a prediction is compared with its reference.  docs/results.md has sources.

Metrics of different protocols are different numbers: whatever is written or shown names its protocol.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Integer

from synseg_jax.errors import InputError, known, warn
from synseg_jax.evaluation.summary import NOT_ORGANS
from synseg_jax.imaging import modality, slices, volume
from synseg_jax.imaging.volume import Volume

NATIVE = 'native'
SYNAPSE = re.compile(r'(?:img|label)(\d{4})')  # files of BTCV as downloaded, numbered 1 to 10 and 21 to 40


@dataclass(frozen=True)
class Protocol:
    """One way of comparing label maps."""

    name: str
    text: str  # in one line
    pixels: int = 0  # axial slices are resampled to pixels x pixels, nearest neighbour; 0: the scan's own grid
    organ_slices: bool = False  # only axial slices from the first to the last one with an organ in the reference
    subjects: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # {modality: test subjects}; empty: all

    @property
    def suffix(self) -> str:
        """Of the names of reports: nothing for the native protocol."""
        return '' if self.name == NATIVE else f'_{self.name}'

    def titled(self, title: str) -> str:
        """The title of a table by this protocol; that of the native one is not named."""
        return title if self.name == NATIVE else f'{title}, protocol {self.name}'

    def note(self) -> list[str]:
        """The line below such a table, if any."""
        return [] if self.name == NATIVE else [f'Protocol {self.name}: {self.text}; nearest neighbour.']

    def scored(self, cases: Iterable[str], channel: str) -> list[str]:
        """Those of the cases that it scores, in their order; warns of its subjects that are absent.

        `channel` names the modality of the scans, if known.  InputError if no subject is there.
        """
        if not self.subjects:
            return list(cases)
        of, numbers = self._modality(channel), {case: subject_number(case) for case in cases}
        wanted = self.subjects[of]
        missing = [number for number in wanted if number not in numbers.values()]
        if len(missing) == len(wanted):
            told = f'none of its test subjects {_listed(of, wanted)} is here'
            raise InputError(f'protocol {self.name}: {told}; choose another protocol')
        if missing:
            scored = f'{len(wanted) - len(missing)} of {len(wanted)} are scored'
            warn('protocol %s: test subjects %s are missing; %s', self.name, _listed(of, missing), scored)
        return [case for case, number in numbers.items() if number in wanted]

    def _modality(self, channel: str) -> str:
        of = modality.of_channel(channel)
        if of not in self.subjects:
            raise InputError(
                f'protocol {self.name}: has test subjects of {" and ".join(self.subjects)}, not of channel '
                f'{channel!r}; name CT or MR in channel_names of dataset.json'
            )
        return of

    def grid(
        self, prediction: Integer[np.ndarray, 'x y z'], reference: Volume, organs: Collection[int]
    ) -> tuple[Integer[np.ndarray, '*space'], Integer[np.ndarray, '*space'], tuple[float, float, float]]:
        """Prediction and reference on the grid that is compared, and the spacing of its axes in mm.

        `prediction` lies on the grid of `reference`; `organs` are the label values that count as organs.  Axial slices
        are those of the canonical axes, which are the nearest ones for an oblique scan.  All slices, and with them all
        labels, are left out if `organ_slices` and the reference shows no organ.
        """
        if not (self.pixels or self.organ_slices):
            return prediction, reference.array, reference.spacing_mm
        upright = [volume.canonical(replace(reference, array=array)) for array in (prediction, reference.array)]
        spacing = slices.stack_spacing(upright[1].spacing_mm, 'axial')
        stacks = [slices.to_stack(one.array, 'axial') for one in upright]
        if self.organ_slices:
            kept = _organ_slices(stacks[1], organs)
            stacks = [stack[kept] for stack in stacks]
        size = (self.pixels, self.pixels) if self.pixels else stacks[1].shape[1:]
        per_pixel = [mm * old / new for mm, old, new in zip(spacing[1:], stacks[1].shape[1:], size, strict=True)]
        predicted, true = (slices.resize_nearest(stack, size) for stack in stacks)
        return predicted, true, (spacing[0], *per_pixel)


def named(name: str) -> Protocol:
    """The protocol of this name; InputError if there is none."""
    return PROTOCOLS[known('protocol', name, PROTOCOLS)]


def organs(classes: Mapping[str, Collection[int]]) -> set[int]:
    """The label values of those of the compared classes that are organs; of all, if none is."""
    own = [values for name, values in classes.items() if name not in NOT_ORGANS] or classes.values()
    return {value for values in own for value in values}


def subject_number(case: str) -> int | None:
    """The last number in a case's name; of BTCV's files as downloaded the position among the 30 of them, from 0 on."""
    if found := SYNAPSE.fullmatch(case):
        number = int(found[1])
        return number - 1 if number <= 10 else number - 11
    numbers = re.findall(r'\d+', case.removesuffix('_0000'))
    return int(numbers[-1]) if numbers else None


def _organ_slices(reference, values) -> slice:
    shown = np.flatnonzero(np.isin(reference, [*values]).any((1, 2)))
    return slice(shown[0], shown[-1] + 1) if shown.size else slice(0)


def _listed(of, numbers) -> str:
    return f'{of} {", ".join(map(str, numbers))}'


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(NATIVE, 'all slices of the scan on its own grid'),
        Protocol(
            'csdg', 'axial slices from the first to the last one with an organ, at 192x192', 192, organ_slices=True
        ),
        Protocol(
            'sifa',
            'test subjects MR 1, 13, 32, 38 and CT 0, 8, 19, 21, 22, 28, all axial slices at 256x256',
            256,
            subjects={'MR': (1, 13, 32, 38), 'CT': (0, 8, 19, 21, 22, 28)},
        ),
    )
}
