"""What a stage reads: sets by name, a fold of the subjects left out, a part of the slices, neighbours as channels.

A set is named in a configuration as `source`, or with a part of its slices, drawn at random once: `source:714` for so
many, `source:35%` for a share.  Folds are dealt by subject over the test scans of a set or, where it has none, over its
training scans; what is left out of training is what is tested.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synseg_jax.data import slices
from synseg_jax.data.records import Manifest, Records
from synseg_jax.errors import InputError, known


@dataclass(frozen=True)
class Fold:
    """Part `index` of the `of` parts into which the subjects of `set` are dealt; of = 0: no folds."""

    set: str = ''
    of: int = 0
    index: int = 0
    seed: int = 0

    def held_out(self, manifest: Manifest) -> frozenset[str]:
        """The subjects that are tested and not trained on."""
        if not self.of:
            return frozenset()
        roles = manifest.sets[known('set (fold.set)', self.set, manifest.sets)]['roles']
        subjects = sorted({case['subject'] for role in folded_roles(roles)[-1:] for case in roles[role]['cases']})
        if not 2 <= self.of <= len(subjects):
            raise InputError(f'fold.of {self.of}: {self.set} has {len(subjects)} subjects to deal; give 2 to that many')
        order = np.random.default_rng(self.seed).permutation(len(subjects))
        return frozenset(subjects[i] for i in order[self.index :: self.of])


def folded_roles(roles: Mapping) -> list[str]:
    """The roles of a set over which a fold reaches, the one whose subjects are dealt last."""
    return [role for role in ('train', 'test') if role in roles]


@dataclass(frozen=True)
class Chosen:
    """Some scans of one set and role, with `context` neighbours on each side `spacing_mm` apart as channels."""

    manifest: Manifest
    set: str
    role: str
    cases: tuple[int, ...]
    part: str = ''  # '', '714' or '35%'
    seed: int = 0
    context: int = 0
    spacing_mm: float = 0.0

    @property
    def described(self) -> list[dict]:
        """What the manifest says of each scan."""
        return [self.manifest.role(self.set, self.role)['cases'][i] for i in self.cases]

    @property
    def labelled(self) -> bool:
        return self.manifest.role(self.set, self.role)['labelled']

    def key(self) -> list:
        """All that the images depend on, for a digest."""
        entry = self.manifest.role(self.set, self.role)
        drawn = [self.part, self.seed] if self.part else []
        return [entry['sha256'], list(self.cases), drawn, self.context, self.spacing_mm if self.context else 0]

    def open(self) -> 'Excerpt':
        """The records of these scans."""
        return Excerpt(self)


class Excerpt(Sequence):
    """The chosen records of a file; `scans[i]` is how many of them belong to the i-th scan."""

    def __init__(self, chosen: Chosen):
        self.records: Records = chosen.manifest.records(chosen.set, chosen.role)
        cases = chosen.manifest.role(chosen.set, chosen.role)['cases']
        first = np.cumsum([0, *(case['records'] for case in cases)])
        rows = np.concatenate([np.zeros(0, int), *(np.arange(first[i], first[i + 1]) for i in chosen.cases)])
        self.rows = _drawn(rows, chosen.part, chosen.seed, f'{chosen.set}:{chosen.part}')
        self.scans = [int(np.count_nonzero((self.rows >= first[i]) & (self.rows < first[i + 1]))) for i in chosen.cases]
        self.near = None
        if chosen.context:
            self.near = np.concatenate(
                [first[i] + _near(chosen, case) for i, case in enumerate(cases) if case['records']]
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        row = int(self.rows[index])
        record = self.records[row]
        if self.near is None:
            return record
        places = self.near[row]
        lower, upper = np.floor(places).astype(int), np.ceil(places).astype(int)
        images = {
            i: record['image'] if i == row else self.records[i]['image'] for i in {*lower.tolist(), *upper.tolist()}
        }
        share = (places - lower).astype(np.float32)
        channels = [
            (1 - s) * images[i] + s * images[j] for i, j, s in zip(lower.tolist(), upper.tolist(), share, strict=True)
        ]
        return record | {'image': np.concatenate(channels, axis=-1)}


def _near(chosen, case):
    """Where each slice and its neighbours lie among the records of a scan, in fractions of a record."""
    step = chosen.spacing_mm / case['slice_mm'] if chosen.spacing_mm else 1.0
    return slices.neighbours(case['kept'], chosen.context, step)


def _drawn(rows, part, seed, text):
    """`rows`, or the part of them that a set's name asks for, in their order."""
    if not part:
        return rows
    found = re.fullmatch(r'(\d+)(%?)', part)
    number = int(found[1]) if found else -1
    if not 0 <= number <= (100 if found and found[2] else len(rows)):
        raise InputError(f'set {text}: give a share in percent, or at most the {len(rows)} slices there are')
    wanted = round(len(rows) * number / 100) if found[2] else number
    return np.sort(np.random.default_rng(seed).permutation(rows)[:wanted])


def select(
    texts: Sequence[str], domain: str, sets: Mapping[str, Manifest], role: str, fold: Fold, base: Manifest, **options
) -> list[Chosen]:
    """The scans of `role` ('train', 'val') in the named sets of a domain; no names: every set of `base` in the domain.

    `options` are the fields of `Chosen` for context and seed.  A set that the fold is dealt over, or that was made of
    it, gives the scans of its other subjects, whatever their role.
    """
    named = [text.partition(':')[::2] for text in texts] or [
        (name, '') for name, entry in base.sets.items() if entry['domain'] == domain
    ]
    held_out, found = fold.held_out(base), []
    for name, part in named:
        manifest = sets[known('set', name, sets)]
        entry = manifest.sets[name]
        if entry['domain'] != domain:
            raise InputError(f'sets.{domain}: {name} is of domain {entry["domain"]}')
        folded = fold.of and entry.get('of', name) == fold.set
        roles = folded_roles(entry['roles']) if folded and role == 'train' else [role]
        for one in (one for one in roles if one in entry['roles']):
            cases = entry['roles'][one]['cases']
            chosen = tuple(i for i, case in enumerate(cases) if not folded or case['subject'] not in held_out)
            if chosen:
                found.append(Chosen(manifest, name, one, chosen, part if role == 'train' else '', **options))
    return found


def cases_to_test(name: str, sets: Mapping[str, Manifest], fold: Fold, base: Manifest) -> list[dict]:
    """The cases of a set that are tested: its test scans or, where the fold is dealt over it, those left out.

    Of a set that a stage made and that has no test scans, all are tested: the segmentor has been trained on others.
    """
    entry = sets[known('set (tests)', name, sets)].sets[name]
    if not (fold.of and entry.get('of', name) == fold.set):
        chosen = ['test'] if 'test' in entry['roles'] else list(entry['roles']) if 'by' in entry else []
        return [case for role in chosen for case in entry['roles'][role]['cases']]
    held_out = fold.held_out(base)
    cases = [case for role in folded_roles(entry['roles']) for case in entry['roles'][role]['cases']]
    return [case for case in cases if case['subject'] in held_out]
