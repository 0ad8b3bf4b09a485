"""Resolves the fields of each stage: those of the configuration, overridden by its system, then by the stage."""

from collections.abc import Mapping


def resolve(config: Mapping, system: str) -> dict[str, Mapping]:
    """{stage: all its fields} of a system."""
    common = {name: value for name, value in config.items() if name not in ('systems', 'stages')}
    changes = dict(config['systems'][system])
    stages = changes.pop('stages', config['stages'])
    own = overlay(common, changes)
    return {name: overlay(own, fields) for name, fields in stages.items()}


def overlay(base: Mapping, changes: Mapping) -> dict:
    """`base` with `changes` merged recursively; a network with an `architecture` replaces the whole group."""
    changed = dict(base)
    for name, value in changes.items():
        merged = isinstance(value, Mapping) and isinstance(base.get(name), Mapping) and 'architecture' not in value
        changed[name] = overlay(base[name], value) if merged else value
    return changed


def flat(tree: Mapping, prefix: str = '') -> dict[str, object]:
    """{'train.batch': 4, ...}: leaves of a nested mapping, including empty mappings, by dotted name."""
    fields = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping) and value
        fields.update(flat(value, f'{prefix}{name}.') if nested else {f'{prefix}{name}': value})
    return fields


def nested(fields: Mapping[str, object]) -> dict:
    """The inverse of `flat`."""
    tree: dict = {}
    for name, value in fields.items():
        *groups, last = name.split('.')
        group = tree
        for part in groups:
            group = group.setdefault(part, {})
        group[last] = value
    return tree
