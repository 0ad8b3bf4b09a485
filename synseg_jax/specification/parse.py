"""Parses a ConfigDict into frozen dataclasses, once per command; no other module sees a ConfigDict."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from ml_collections import ConfigDict

from synseg_jax.errors import InputError, known
from synseg_jax.specification.check import check, check_complete, fits, value_type
from synseg_jax.specification.data import Data
from synseg_jax.specification.experiment import Experiment
from synseg_jax.specification.field import FrozenMapping, leaves
from synseg_jax.specification.resolve import flat, nested, overlay, resolve
from synseg_jax.specification.stage import Stage


def defaults() -> ConfigDict:
    """All fields at their defaults, without those that default to the architecture's."""
    tree = flat(mapping(Experiment()))
    group_names = ('loss_weights', 'table')  # their members are added by configurations
    return ConfigDict(nested({k: v for k, v in tree.items() if v is not None and not k.startswith(group_names)}))


def parse(config: ConfigDict) -> Experiment:
    """Parse a configuration; InputError with one line for each invalid or missing field."""
    return experiment_of(config.copy_and_resolve_references().to_dict())


def parse_data(config: ConfigDict) -> Data:
    """Parse only the `data` group of a configuration; other fields may be missing."""
    tree = config.copy_and_resolve_references().to_dict()
    check_complete(tree, 'data.')
    check(tree)
    return build(Data, tree['data'])


def experiment_of(tree: Mapping) -> Experiment:
    """Parse a configuration given as nested mappings, see `parse`."""
    check_complete(tree)
    check(tree)
    systems = FrozenMapping({name: _stages(tree, name) for name in tree['systems']})
    own = {name: value for name, value in tree.items() if name not in ('systems', 'stages')}
    return dataclasses.replace(build(Experiment, own), systems=systems, given=tree)


def _stages(tree, system) -> FrozenMapping:
    """The stages of a system by name, in order of their dependencies; InputError for cyclic dependencies."""
    stages = {name: build(Stage, fields) for name, fields in resolve(tree, system).items()}
    stages = {name: _with_judge(stage, stages, f'{name} of {system}') for name, stage in stages.items()}
    needs = {name: [other for other in stage.depends_on() if other in stages] for name, stage in stages.items()}
    try:
        return FrozenMapping({name: stages[name] for name in TopologicalSorter(needs).static_order()})
    except CycleError as error:
        names = ', '.join(error.args[1])
        raise InputError(f'system {system}: cyclic dependency between stages {names}') from None


def _with_judge(stage, stages, where) -> Stage:
    """The stage with the architecture of its judge, where it has one; InputError for an unknown stage."""
    if stage.judge:
        raise InputError(f'stage {where}: config.judge is set by judge_from; name there the stage that trains it')
    if not stage.judge_from:
        return stage
    judge = stages[known(f'stage (judge_from of {where})', stage.judge_from, stages)].segmentor
    return dataclasses.replace(stage, judge=FrozenMapping(judge.given()))


def changed(experiment: Experiment, fields: Mapping[str, object]) -> Experiment:
    """The experiment with the values of `fields`, {dotted name: value}, in its configuration."""
    return experiment_of(overlay(experiment.given, nested(fields)))


def replaced(stage: Stage, fields: Mapping[str, object]) -> Stage:
    """The stage with the values of `fields`, {dotted name: value}; InputError for invalid ones."""
    tree = nested(fields)
    check(tree)
    return build(Stage, overlay(mapping(stage), tree))


def stage_of(tree: Mapping, where: str, remedy: str) -> Stage:
    """The stage stored in a file as `mapping` writes it; InputError naming the file for an invalid or missing field."""
    try:
        check(tree)
        needed = (name for name, one, _ in leaves(Stage()) if not one.metadata.get('added'))
        if missing := [name for name in needed if not _holds(tree, name)]:
            raise InputError(f'config.{missing[0]}: missing')
    except InputError as error:
        raise InputError(*(f'{where}: {line}; {remedy}' for line in error.args)) from error
    return build(Stage, tree)


def _holds(tree, name) -> bool:
    """Whether a nested mapping has a field with this dotted name."""
    group, _, rest = name.partition('.')
    inner = tree.get(group) if rest else None
    return _holds(inner, rest) if isinstance(inner, Mapping) else not rest and group in tree


def compiled(stage: Stage) -> Stage:
    """The stage with all fields at their defaults on which neither the networks nor the train step depend."""
    return _compiled(stage, Stage())


def _compiled(spec, default):
    kept = {}
    for field in dataclasses.fields(spec):
        value, other = getattr(spec, field.name), getattr(default, field.name)
        nested_ = dataclasses.is_dataclass(value)
        kept[field.name] = _compiled(value, other) if nested_ else value if field.metadata['compiled'] else other
    return type(spec)(**kept)


def build(kind: type, tree: Mapping) -> typing.Any:
    """A dataclass of fields from a checked mapping; absent fields have their defaults."""
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in tree and 'text' in field.metadata:
            group = field.metadata.get('group')
            value = tree[field.name]
            values[field.name] = build(group, value) if group else _value(value, field.type)
    return kind(**values)


def _value(value, kind):
    """A value converted to the type of its field: lists to tuples, integers to floats; so equal ones digest alike."""
    if isinstance(value, Mapping):
        member = value_type(kind)
        items = {k: v for k, v in value.items() if v is not None}
        if dataclasses.is_dataclass(member):
            return FrozenMapping({name: build(member, fields) for name, fields in items.items()})
        return FrozenMapping({name: _value(item, member) for name, item in items.items()})
    if isinstance(kind := value_type(kind), types.UnionType):
        kind = next(part for part in typing.get_args(kind) if fits(value, part))
    if isinstance(value, tuple | list):
        kinds = typing.get_args(kind) or (object,)
        kinds = [kinds[0]] * len(value) if kinds[1:] in ((...,), ()) else kinds
        return tuple(map(_value, value, kinds))
    return float(value) if kind is float and value is not None else value


def mapping(spec: object) -> dict:
    """A dataclass of fields as nested dictionaries of tuples, numbers and strings; the inverse of `build`."""
    return {
        field.name: _plain(getattr(spec, field.name)) for field in dataclasses.fields(spec) if 'text' in field.metadata
    }


def _plain(value):
    if dataclasses.is_dataclass(value):
        return mapping(value)
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value
