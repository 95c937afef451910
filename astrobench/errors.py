"""What can go wrong, sorted by who can mend it.

AstrobenchError
├── InputError        the file or folder is not what it should be
├── ParameterError    a setting is outside what is allowed
├── ProcessingError   the sky or the data do not allow what was asked
└── Stopped           somebody pressed stop
"""


class AstrobenchError(Exception):
    """Base of every error that astrobench raises on purpose; its text is a sentence for people."""

    exit_code = 4


class InputError(AstrobenchError):
    """A file or folder cannot be used as it is."""

    exit_code = 3


class ParameterError(AstrobenchError, ValueError):
    """A parameter has a value that is not allowed."""

    exit_code = 2


class ProcessingError(AstrobenchError):
    """The data do not allow what was asked of them."""

    exit_code = 4


class Stopped(AstrobenchError):
    """The work was stopped on request; nothing half-written is left."""

    exit_code = 130
