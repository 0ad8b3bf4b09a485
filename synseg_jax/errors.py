"""What a user can mend: raised anywhere, printed as one line by every command."""


class InputError(ValueError):
    """A file, field or value that a user can correct; the message names it and the remedy in one line.

    Several mistakes found together are several arguments, `InputError(*lines)`: each is printed on a line of its own.
    """

    def __str__(self) -> str:
        return '\n'.join(map(str, self.args))


def known(kind: str, name: str, names) -> str:
    """`name`, if it is among `names`; else an InputError that lists them."""
    if name not in names:
        raise InputError(f'unknown {kind} {name!r}; known: {", ".join(sorted(names))}')
    return name
