"""Which records a stage reads: sets by name, folds by subject, random parts of the slices, neighbours as channels.

A configuration names a set as `source`, or with a random part of its slices: `source:714` for a number, `source:35%`
for a share.  Cross validation folds are drawn over all labelled subjects of a set, whatever their role; those held out
are tested.  Transductive training also sees the images, not the labels, of test scans.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synseg_jax.datasets.cases import subject_of
from synseg_jax.errors import InputError, known
from synseg_jax.imaging import slices
from synseg_jax.preparation.records import Manifest, Records
from synseg_jax.specification.data import channels_in


@dataclass(frozen=True)
class Fold:
    """Fold `index` of `of` cross validation folds over the labelled subjects of `set`; of = 0: no folds.

    `strata` is a regular expression whose group 1 in a case id is the stratum of its subject: folds are stratified.
    """

    set: str = ''
    of: int = 0
    index: int = 0
    seed: int = 0
    strata: str = ''

    def held_out(self, manifest: Manifest) -> frozenset[str]:
        """The held-out subjects, which are tested and not trained on."""
        if not self.of:
            return frozenset()
        roles = manifest.sets[known('set (fold.set)', self.set, manifest.sets)]['roles']
        labelled = [case for role in roles.values() for case in role['cases'] if case['label']]
        stratum = {case['subject']: stratum_of(case['id'], self.strata) for case in labelled}
        subjects = sorted(stratum)
        if not 2 <= self.of <= len(subjects):
            raise InputError(
                f'fold.of {self.of}: {self.set} has {len(subjects)} labelled subjects; give a number from 2 to that'
            )
        drawn = [subjects[i] for i in np.random.default_rng(self.seed).permutation(len(subjects))]
        return frozenset(sorted(drawn, key=stratum.get)[self.index :: self.of])

    def held_out_scans(self, manifest: Manifest) -> list[str]:
        """The files of the held-out subjects' scans."""
        subjects = self.held_out(manifest)
        roles = manifest.sets[self.set]['roles'].values() if subjects else ()
        return sorted(case['image'] for role in roles for case in role['cases'] if case['subject'] in subjects)


def stratum_of(case_id: str, expression: str) -> str:
    """Group 1 of `expression` in the case id; '' for no expression."""
    return subject_of(case_id, expression, 'fold.strata', 'stratum') if expression else ''


def _trained_roles(roles: Mapping) -> list[str]:
    """The roles of a set that a fold trains on: those with labels, if any have them."""
    present = [role for role in ('train', 'test') if role in roles]
    return [role for role in present if roles[role]['labelled']] or present


@dataclass(frozen=True)
class Chosen:
    """Selected scans of one set and role, with `context` neighbours on each side, `spacing_mm` apart, as channels."""

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
        """The manifest entry of each scan."""
        return [self.manifest.role(self.set, self.role)['cases'][i] for i in self.cases]

    @property
    def labelled(self) -> bool:
        return self.manifest.role(self.set, self.role)['labelled']

    def key(self) -> list:
        """Everything that the images depend on, for a digest."""
        entry = self.manifest.role(self.set, self.role)
        drawn = [self.part, self.seed] if self.part else []
        return [entry['sha256'], list(self.cases), drawn, self.context, self.spacing_mm if self.context else 0]

    def open(self) -> 'Excerpt':
        """The records of these scans."""
        return Excerpt(self)


class Excerpt(Sequence):
    """The selected records of a file; `scans[i]` is the number of records of the i-th scan."""

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
    """Fractional record indices of the neighbours of each slice of a scan."""
    step = chosen.spacing_mm / case['slice_mm'] if chosen.spacing_mm else 1.0
    return slices.neighbours(case['kept'], chosen.context, step)


def _drawn(rows, part, seed, text):
    """`rows`, or a random part of them, in order."""
    if not part:
        return rows
    found = re.fullmatch(r'(\d+)(%?)', part)
    number = int(found[1]) if found else -1
    if not 0 <= number <= (100 if found and found[2] else len(rows)):
        raise InputError(f'set {text}: give a share in percent, or at most the {len(rows)} slices there are')
    wanted = round(len(rows) * number / 100) if found[2] else number
    return np.sort(np.random.default_rng(seed).permutation(rows)[:wanted])


def select(
    texts: Sequence[str],
    domain: str,
    sets: Mapping[str, Manifest],
    role: str,
    fold: Fold,
    base: Manifest,
    transductive: bool = False,
    **options,
) -> list[Chosen]:
    """The scans of `role` ('train', 'val') in the named sets of a domain; without names, in all its sets in `base`.

    Domain a may also name sets of domain b that are translated source scans: they are labelled.  `options` are the
    fields of `Chosen` for context and seed.  Of the set of the fold, or one synthesized from it, all
    scans but those of held-out subjects, whatever their role.  If `transductive`, test scans of sets with a training
    split are trained on too.
    """
    named = [text.partition(':')[::2] for text in texts] or [
        (name, '') for name, entry in base.sets.items() if entry['domain'] == domain
    ]
    held_out, found = fold.held_out(base), []
    for name, part in named:
        manifest = sets[known('set', name, sets)]
        entry = manifest.sets[name]
        if entry['domain'] != domain and not (domain == 'a' and _translated(entry)):
            raise InputError(f'sets.{domain}: {name} is of domain {entry["domain"]}')
        if channels_in(manifest, entry['domain']) != channels_in(manifest, domain):
            raise InputError(f'sets.{domain}: {name} has other channels (data.channels); read as many in both domains')
        folded = fold.of and entry.get('of', name) == fold.set
        roles = [role]
        if role == 'train' and folded:
            roles = _trained_roles(entry['roles'])
        elif role == 'train' and transductive and 'train' in entry['roles']:
            roles = ['train', 'test']
        for one in (one for one in roles if one in entry['roles']):
            cases = entry['roles'][one]['cases']
            chosen = tuple(i for i, case in enumerate(cases) if not folded or case['subject'] not in held_out)
            if chosen:
                found.append(Chosen(manifest, name, one, chosen, part if role == 'train' else '', **options))
    return found


def _translated(entry: Mapping) -> bool:
    """Whether a set is one of source scans, and their labels, that a stage translated to the target."""
    return 'by' in entry and not entry.get('pseudo')


def cases_to_test(
    name: str, sets: Mapping[str, Manifest], fold: Fold, base: Manifest, all_labelled: bool = False
) -> list[dict]:
    """The labelled cases of a set that are tested: its test scans or, if it is the set of the fold, those held out.

    If `all_labelled`, all labelled scans of a set of domain b.  All scans of a synthesized set without test scans: the
    segmentor was trained on others.
    """
    entry = sets[known('set (test_sets)', name, sets)].sets[name]
    labelled = {role: [case for case in of['cases'] if case['label']] for role, of in entry['roles'].items()}
    cases = [case for of in labelled.values() for case in of]
    if fold.of and entry.get('of', name) == fold.set:
        held_out = fold.held_out(base)
        return [case for case in cases if case['subject'] in held_out]
    if all_labelled and entry['domain'] == 'b':
        return cases
    if 'test' in labelled:
        return labelled['test']
    return cases if 'by' in entry else []
