"""The errors that stop a run before it touches a host."""

from pyinfra.api.exceptions import PyinfraError


class SiteError(PyinfraError):
    """An input is wrong: the message names the file, the place, what was found, what is expected.

    A `PyinfraError`, so that plain `pyinfra` prints the message without a traceback.
    """
