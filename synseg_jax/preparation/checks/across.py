"""What is wrong between cases: persons and scans in two places, classes that no label shows, sets that are mirrored."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, combinations

from synseg_jax.formats import label_maps
from synseg_jax.formats.names import normalised
from synseg_jax.imaging import modality
from synseg_jax.preparation.checks import laterality
from synseg_jax.preparation.checks.case import Checked, Problem, classes_of
from synseg_jax.preparation.split import Role

ENOUGH = 3  # labels of a set below which its being mirrored is no more than a suspicion
EXAMPLES = 3  # files named where many have the same


def by_headers(checked: Sequence[Checked]) -> list[Problem]:
    """Those that show without voxels: wrong modalities, and domains without a class in common."""
    groups = _grouped(checked, lambda one: one.role.name)
    return [*chain(*map(contradictions, groups)), *strangers([one.role for one in checked])]


def by_voxels(checked: Sequence[Checked], same_patients: Sequence[str] = ()) -> list[Problem]:
    """Those that show once scans and labels are read; the sets `same_patients` may show scans of others again."""
    found = [*duplicates(checked, same_patients)]
    for group in _grouped(checked, lambda one: one.role.name):
        found += [*_unnamed(group), *_missing(group)]
        for told in (lambda one: one.unlike, lambda one: one.unused, lambda one: one.cut):
            found += _odd(group, told)
    return found + mirrored(checked)


def contradictions(group: Sequence[Checked]) -> Iterator[Problem]:
    """Where dataset.json, or DICOM headers, say that the scans of a set are of another modality than its channel."""
    role = group[0].role
    said, channel = role.dataset.own_channels[:1], role.dataset.channel
    if said and modality.differ(modality.of_channel(said[0]), modality.of_channel(channel)):
        text = f'{role.dataset.named_in}: its channel is {said[0]}, but --channel={role.name}={channel}; which is it?'
        yield Problem(text, role.name)
    for tag, (first, *others) in _by(group, lambda one: one.modality).items():
        if modality.differ(tag, modality.of_channel(channel)):
            more = f' and {len(others)} more scans' if others else ''
            text = f'{first.case.image}{more}: {tag} by DICOM header, but {role.name} is {channel}'
            yield Problem(f'{text}; name it, --channel={role.name}={tag}, or leave it out', role.name)


def strangers(roles: Iterable[Role]) -> list[Problem]:
    """Domains whose sets name classes, and not one that is the same: prostates and livers teach one another nothing."""
    named: dict[str, dict[str, Role]] = {'a': {}, 'b': {}}
    for role in roles:
        organs = classes_of(role)[1:]
        named[role.domain] |= {normalised(name): role for name in organs}
    if not all(named.values()) or named['a'].keys() & named['b'].keys():
        return []
    told = []
    for organs in named.values():
        role = next(iter(organs.values()))
        told.append(f'{role.name} ({role.dataset.channel}) has {label_maps.abbreviated(list(organs))}')
    text = f'no organ in common: {", ".join(told)}; do they show the same region? Name classes alike with --labels'
    return [Problem(text)]


def subjects(checked: Sequence[Checked]) -> list[Problem]:
    """Persons in two roles of a domain; between domains the name may be chance, which is a warning for all of them."""
    within, across = {}, []
    for subject, group in _by(checked, lambda one: one.case.subject).items():
        places = list({(one.role.role, one.role.name): one.role for one in group}.values())
        clashes = [pair for pair in combinations(places, 2) if pair[0].role != pair[1].role]
        if same := [pair for pair in clashes if pair[0].domain == pair[1].domain]:
            words = ', '.join(f'{role.role or "all"} of {role.name}' for role in places)
            within.setdefault((words, same[0][1].name, same[0][1].role), []).append(subject)
        elif clashes:
            across.append(subject)
    found = [Problem(_twice(names, words), *place) for (words, *place), names in within.items()]
    if across:
        text = f'{len(across)} subject names occur in different roles of source and target, e.g. {across[0]}'
        found.append(Problem(f'{text}; are they the same people?', error=False))
    return found


def _twice(names, words) -> str:
    """In words: people in two places."""
    who = (
        f'subject {names[0]} is' if len(names) == 1 else f'{len(names)} subjects ({label_maps.abbreviated(names)}) are'
    )
    return f'{who} in {words}; put each in one role, or tell subjects apart with data.subject'


def duplicates(checked: Sequence[Checked], same_patients: Sequence[str] = ()) -> list[Problem]:
    """Scans with the same voxels, told once for every two places: wrong in two roles or domains, odd within one.

    Of the sets `same_patients` it is odd at most: the scans that later ones are tested on may be translated before.
    """
    pairs: dict[tuple[str, str], list[tuple[Checked, Checked]]] = {}
    for first, *others in _grouped([one for one in checked if one.digest], lambda one: one.digest):
        for one in others:
            pairs.setdefault((_place(first), _place(one)), []).append((first, one))
    return [_same(places, *told[0], len(told) - 1, same_patients) for places, told in pairs.items()]


def _same(places, first, one, more, same_patients) -> Problem:
    known = {first.role.name, one.role.name} & {*same_patients}
    wrong = (first.role.role, first.role.domain) != (one.role.role, one.role.domain) and not known
    where = ' and '.join(places) + (f', and {more} more such scans' if more else '')
    remedy = 'say so in results' if known else 'keep one of the two'
    text = f'{one.case.image}: the same voxels as {first.case.image} ({where}); {remedy}'
    return Problem(text, one.role.name, one.role.role, wrong)


def _place(one) -> str:
    return f'{one.role.role or "all"} of {one.role.name}'


def mirrored(checked: Sequence[Checked]) -> list[Problem]:
    """Sets whose organs lie on the wrong side, or on another than in another set; and such scans within a set."""
    groups = _grouped([one for one in checked if one.centres], lambda one: one.role.name)
    found, single = {}, []  # what is exchanged shows along several axes, and is told once
    for axis, (words, *_) in enumerate(laterality.AXES):
        odd = set()
        for group in groups:
            placed, name = [_places(one) for one in group], group[0].role.name
            if lies := laterality.misplaced(placed, axis):
                odd.add(name)
                problem = _mirrored(group, f'has {lies[0]}', 'it', words, lies[1], len(group))
                found.setdefault((name, words if lies[1] else ''), problem)
            single += [_stray(group[i], words) for i in laterality.strays(placed, axis)]
        for group, other in combinations(groups, 2):
            names = (group[0].role.name, other[0].role.name)
            lies = laterality.opposed(*([_places(one) for one in each] for each in (group, other)), axis)
            if lies and not odd & set(names):
                text = f'has {lies[0]}, but {other[0].role.dataset.folder} {lies[1]}'
                problem = _mirrored(group, text, 'one of them', words, lies[2], min(len(group), len(other)))
                found.setdefault((*names, words if lies[2] else ''), problem)
    return [*found.values(), *single]


def _mirrored(group, text, which, words, every, count) -> Problem:
    """A set, or one of two, in which every pair of organs lies the wrong way round, or some do."""
    role = group[0].role
    if every:
        text += f': {which} is stored mirrored {words} against its affine; look at a scan, and mirror voxels or affines'
    else:
        text += f': are values exchanged in {which}? Look at a label, and name its values with --labels'
    return Problem(f'{role.dataset.folder}: {text}', role.name, '', count >= ENOUGH)


def _stray(one, words) -> Problem:
    text = f'{one.case.label}: its organs lie mirrored {words}, unlike those of the other scans; look at it'
    return Problem(text, one.role.name, one.role.role, error=False)


def _places(one) -> laterality.Places:
    return one.centres if one.body is None else {**one.centres, laterality.BODY: one.body}


def _unnamed(group) -> Iterator[Problem]:
    """What the labels of a set hold that has yet to be named."""
    role, values = group[0].role, {value for one in group for value in one.held}
    values = sorted(values, key=lambda value: (isinstance(value, str), value))
    if values and not role.role:
        told = ','.join(f'NAME:{value}' for value in values[:EXAMPLES])
        text = f'its labels hold {label_maps.abbreviated(values)}; name them, --labels={role.name}={told}'
        yield Problem(f'{role.dataset.folder}: {text}', role.name, role.role, error=False)


def _missing(group) -> Iterator[Problem]:
    """Classes that no label of a set's roles shows, an error where they are to be learnt, or that some do not."""
    unseen: dict[str, list[Role]] = {}
    for labels in _grouped([one for one in group if one.centres is not None], lambda one: one.role.role):
        role = labels[0].role
        for name in classes_of(role)[1:]:
            without = [one for one in labels if name not in one.centres]
            if len(without) == len(labels):
                unseen.setdefault(name, []).append(role)
            elif without:
                files = ', '.join(str(one.case.label) for one in without[:EXAMPLES])
                text = f'{files}: without {name} ({len(without)} of {len(labels)} labels); is it out of view?'
                yield Problem(text, role.name, role.role, error=False)
    for name, roles in unseen.items():
        learnt = next((role for role in roles if role.classes is not None and role.role == 'train'), None)
        where = 'train' if learnt else ', '.join(role.role or 'all' for role in roles)
        text = f'{roles[0].dataset.folder}: no label of {where} shows {name}; add some, or set data.classes'
        yield Problem(text, roles[0].name, (learnt or roles[0]).role, bool(learnt))


def _odd(group, told: Callable[[Checked], str]) -> Iterator[Problem]:
    """What is told of some scans of a set, of the first of them, and how many more there are."""
    if odd := [one for one in group if told(one)]:
        role, others = odd[0].role, _grouped(odd[1:], lambda one: one.role.role)
        named = any(own[0].role.role != role.role for own in others)
        counts = [f'{len(own)} more scans' + (f' of {own[0].role.role or "all"}' if named else '') for own in others]
        more = f' (and {", ".join(counts)})' if counts else ''
        yield Problem(f'{odd[0].case.image}: {told(odd[0])}{more}', role.name, role.role, error=False)


def _grouped(checked, key: Callable) -> list[list[Checked]]:
    return list(_by(checked, key).values())


def _by(checked, key: Callable) -> dict:
    groups: dict = {}
    for one in checked:
        groups.setdefault(key(one), []).append(one)
    return groups
