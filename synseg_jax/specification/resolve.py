"""The fields of one stage: those of the configuration, changed by its system and by itself."""

from ml_collections import ConfigDict

from synseg_jax.errors import InputError, known


def configure(config: ConfigDict, system: str, stage: str = '') -> ConfigDict:
    """The configuration of one stage of a system, its only one unless named: all fields, changed by its own."""
    changed = config.copy_and_resolve_references()
    _update(changed, changed.systems[known('system', system, changed.systems)], f'systems.{system}')
    stages = changed.stages
    if not stage and len(stages) > 1:
        raise InputError(f'system {system} has the stages {", ".join(stages)}; name one')
    stage = stage or next(iter(stages))
    changes = stages[known(f'stage of system {system}', stage, stages)]
    with changed.unlocked():
        del changed['systems'], changed['stages']
    _update(changed, changes, f'systems.{system}.stages.{stage}')
    return changed


def _update(config, changes, where):
    if not isinstance(changes, ConfigDict):
        raise InputError(f'config.{where}={changes!r}: give the fields in which it differs, e.g. {{}}')
    for field, value in changes.items():
        known(f'field of {where}', field, config)
        group = isinstance(config[field], ConfigDict) and field != 'stages'
        if group and not (isinstance(value, ConfigDict) and 'architecture' in value):
            _update(config[field], value, f'{where}.{field}')
        else:
            _set(config, field, value, where)


def _set(config, field, value, where):
    """Sets a field; InputError for a value of another type."""
    try:
        config[field] = value
    except TypeError as error:
        raise InputError(f'config.{where}.{field}={value!r}: not of the type of {config[field]!r}') from error
