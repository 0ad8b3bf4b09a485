"""Checks between cases: leakage of subjects and scans, modality, empty classes, mirrored sets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, combinations

from synseg_jax.formats import label_maps
from synseg_jax.formats.names import normalised
from synseg_jax.imaging import modality
from synseg_jax.preparation.checks import laterality
from synseg_jax.preparation.checks.case import Checked, Problem, classes_of
from synseg_jax.preparation.split import Split

ENOUGH = 3  # labels of a set from which on being mirrored is an error, below it a warning
EXAMPLES = 3  # files listed in a message


def by_headers(checked: Sequence[Checked]) -> list[Problem]:
    """Problems that show in headers: wrong modalities, and domains without a common class."""
    groups = _grouped(checked, lambda one: one.split.name)
    return [*chain(*map(contradictions, groups)), *strangers([one.split for one in checked])]


def by_voxels(checked: Sequence[Checked], same_patients: Sequence[str] = ()) -> list[Problem]:
    """Problems that show in voxels; the sets `same_patients` may repeat scans of others."""
    found = [*duplicates(checked, same_patients)]
    for group in _grouped(checked, lambda one: one.split.name):
        found += [*_unnamed(group), *_missing(group)]
        for told in (lambda one: one.unlike, lambda one: one.unused, lambda one: one.cut):
            found += _odd(group, told)
    return found + mirrored(checked)


def contradictions(group: Sequence[Checked]) -> Iterator[Problem]:
    """Where dataset.json or DICOM headers contradict the channel of a set."""
    split = group[0].split
    said, channel = split.dataset.own_channels[:1], split.dataset.channel
    if said and modality.differ(modality.of_channel(said[0]), modality.of_channel(channel)):
        text = f'{split.dataset.named_in}: its channel is {said[0]}, but --channel={split.name}={channel}; which is it?'
        yield Problem(text, split.name)
    for tag, (first, *others) in _by(group, lambda one: one.modality).items():
        if modality.differ(tag, modality.of_channel(channel)):
            more = f' and {len(others)} more scans' if others else ''
            text = f'{first.case.image}{more}: {tag} by DICOM header, but {split.name} is {channel}'
            yield Problem(f'{text}; name it, --channel={split.name}={tag}, or leave it out', split.name)


def strangers(splits: Iterable[Split]) -> list[Problem]:
    """Domains without a common class: nothing can be transferred between, say, prostates and livers."""
    named: dict[str, dict[str, Split]] = {'a': {}, 'b': {}}
    for split in splits:
        organs = classes_of(split)[1:]
        named[split.domain] |= {normalised(name): split for name in organs}
    if not all(named.values()) or named['a'].keys() & named['b'].keys():
        return []
    told = []
    for organs in named.values():
        split = next(iter(organs.values()))
        told.append(f'{split.name} ({split.dataset.channel}) has {label_maps.abbreviated(list(organs))}')
    text = f'no organ in common: {", ".join(told)}; do they show the same region? Name classes alike with --labels'
    return [Problem(text)]


def subjects(checked: Sequence[Checked]) -> list[Problem]:
    """Subjects in two roles of a domain (errors); between domains, where names may coincide, one warning for all."""
    within, across = {}, []
    for subject, group in _by(checked, lambda one: one.case.subject).items():
        places = list({(one.split.role, one.split.name): one.split for one in group}.values())
        clashes = [pair for pair in combinations(places, 2) if pair[0].role != pair[1].role]
        if same := [pair for pair in clashes if pair[0].domain == pair[1].domain]:
            words = ', '.join(f'{split.role or "all"} of {split.name}' for split in places)
            within.setdefault((words, same[0][1].name, same[0][1].role), []).append(subject)
        elif clashes:
            across.append(subject)
    found = [Problem(_twice(names, words), *place) for (words, *place), names in within.items()]
    if across:
        text = f'{len(across)} subject names occur in different roles of source and target, e.g. {across[0]}'
        found.append(Problem(f'{text}; are they the same people?', error=False))
    return found


def _twice(names, words) -> str:
    """The message for subjects in two roles."""
    several = f'{len(names)} subjects ({label_maps.abbreviated(names)}) are'
    who = f'subject {names[0]} is' if len(names) == 1 else several
    return f'{who} in {words}; put each in one role, or tell subjects apart with data.subject'


def duplicates(checked: Sequence[Checked], same_patients: Sequence[str] = ()) -> list[Problem]:
    """Scans with the same voxels, once for each pair of places: an error between roles or domains, else a warning.

    Only a warning for the sets `same_patients`, whose scans may occur in training.
    """
    pairs: dict[tuple[str, str], list[tuple[Checked, Checked]]] = {}
    for first, *others in _grouped([one for one in checked if one.digest], lambda one: one.digest):
        for one in others:
            pairs.setdefault((_place(first), _place(one)), []).append((first, one))
    return [_same(places, *told[0], len(told) - 1, same_patients) for places, told in pairs.items()]


def _same(places, first, one, more, same_patients) -> Problem:
    known = {first.split.name, one.split.name} & {*same_patients}
    wrong = (first.split.role, first.split.domain) != (one.split.role, one.split.domain) and not known
    where = ' and '.join(places) + (f', and {more} more such scans' if more else '')
    remedy = 'say so in results' if known else 'keep one of the two'
    text = f'{one.case.image}: the same voxels as {first.case.image} ({where}); {remedy}'
    return Problem(text, one.split.name, one.split.role, wrong)


def _place(one) -> str:
    return f'{one.split.role or "all"} of {one.split.name}'


def mirrored(checked: Sequence[Checked]) -> list[Problem]:
    """Sets with organs on the wrong side, or on another side than in other sets; and such scans within a set."""
    groups = _grouped([one for one in checked if one.centres], lambda one: one.split.name)
    found, single = {}, []  # exchanged label values show along several axes, and are reported once
    for axis, (words, *_) in enumerate(laterality.AXES):
        odd = set()
        for group in groups:
            placed, name = [_places(one) for one in group], group[0].split.name
            if lies := laterality.misplaced(placed, axis):
                odd.add(name)
                problem = _mirrored(group, f'has {lies[0]}', 'it', words, lies[1], len(group))
                found.setdefault((name, words if lies[1] else ''), problem)
            single += [_stray(group[i], words) for i in laterality.strays(placed, axis)]
        for group, other in combinations(groups, 2):
            names = (group[0].split.name, other[0].split.name)
            lies = laterality.opposed(*([_places(one) for one in each] for each in (group, other)), axis)
            if lies and not odd & set(names):
                text = f'has {lies[0]}, but {other[0].split.dataset.folder} {lies[1]}'
                problem = _mirrored(group, text, 'one of them', words, lies[2], min(len(group), len(other)))
                found.setdefault((*names, words if lies[2] else ''), problem)
    return [*found.values(), *single]


def _mirrored(group, text, which, words, every, count) -> Problem:
    """A set, or one of two, in which `every` pair of organs, or some, lies the wrong way round."""
    split = group[0].split
    if every:
        text += f': {which} is stored mirrored {words} against its affine; look at a scan, and mirror voxels or affines'
    else:
        text += f': are values exchanged in {which}? Look at a label, and name its values with --labels'
    return Problem(f'{split.dataset.folder}: {text}', split.name, '', count >= ENOUGH)


def _stray(one, words) -> Problem:
    text = f'{one.case.label}: its organs lie mirrored {words}, unlike those of the other scans; look at it'
    return Problem(text, one.split.name, one.split.role, error=False)


def _places(one) -> laterality.Places:
    return one.centres if one.body is None else {**one.centres, laterality.BODY: one.body}


def _unnamed(group) -> Iterator[Problem]:
    """Label values of a set that have no name yet."""
    split, values = group[0].split, {value for one in group for value in one.held}
    values = sorted(values, key=lambda value: (isinstance(value, str), value))
    if values and not split.role:
        told = ','.join(f'NAME:{value}' for value in values[:EXAMPLES])
        text = f'its labels hold {label_maps.abbreviated(values)}; name them, --labels={split.name}={told}'
        yield Problem(f'{split.dataset.folder}: {text}', split.name, split.role, error=False)


def _missing(group) -> Iterator[Problem]:
    """Classes that are empty in all labels of a role (an error in training), or in some of them."""
    unseen: dict[str, list[Split]] = {}
    for labels in _grouped([one for one in group if one.centres is not None], lambda one: one.split.role):
        split = labels[0].split
        for name in classes_of(split)[1:]:
            without = [one for one in labels if name not in one.centres]
            if len(without) == len(labels):
                unseen.setdefault(name, []).append(split)
            elif without:
                files = ', '.join(str(one.case.label) for one in without[:EXAMPLES])
                text = f'{files}: without {name} ({len(without)} of {len(labels)} labels); is it out of view?'
                yield Problem(text, split.name, split.role, error=False)
    for name, splits in unseen.items():
        learnt = next((split for split in splits if split.classes is not None and split.role == 'train'), None)
        where = 'train' if learnt else ', '.join(split.role or 'all' for split in splits)
        text = f'{splits[0].dataset.folder}: no label of {where} shows {name}; add some, or set data.classes'
        yield Problem(text, splits[0].name, (learnt or splits[0]).role, bool(learnt))


def _odd(group, told: Callable[[Checked], str]) -> Iterator[Problem]:
    """One warning for all scans of a set that `told` gives a text for: the first of them, and the number of others."""
    if odd := [one for one in group if told(one)]:
        split, others = odd[0].split, _grouped(odd[1:], lambda one: one.split.role)
        named = any(own[0].split.role != split.role for own in others)
        counts = [f'{len(own)} more scans' + (f' of {own[0].split.role or "all"}' if named else '') for own in others]
        more = f' (and {", ".join(counts)})' if counts else ''
        yield Problem(f'{odd[0].case.image}: {told(odd[0])}{more}', split.name, split.role, error=False)


def _grouped(checked, key: Callable) -> list[list[Checked]]:
    return list(_by(checked, key).values())


def _by(checked, key: Callable) -> dict:
    groups: dict = {}
    for one in checked:
        groups.setdefault(key(one), []).append(one)
    return groups
