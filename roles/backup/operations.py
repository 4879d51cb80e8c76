"""Repositories on the backup host."""

from collections.abc import Generator
from io import BytesIO

from pydantic import SecretStr
from pyinfra.api.command import FileUploadCommand, QuoteString, StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.backup.facts import LABEL, Repositories
from roles.backup.keys import fingerprint
from roles.common.plan import say

_DRAFT = "/run/site-backup-key"


@operation()
def repository(
    repository: str, folder: str, program: str, password: SecretStr
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """A repository that the maintenance password and its host's own open.

    A key of a former password of the host goes.

    Args:
        repository: the host's name.
        folder: where repositories lie.
        program: path of `files/repository`.
        password: the host's own.
    """
    text = password.get_secret_value()
    wanted = f"{LABEL}{fingerprint(text)}"
    found = host.get_fact(Repositories, folder=folder)
    own = [
        key
        for key in found.get(repository, [])
        if key.host == repository and key.label.startswith(LABEL)
    ]
    former = [key.id for key in own if key.label != wanted]
    missing = not any(key.label == wanted for key in own)
    if not missing and not former:
        return
    say(f"repository {repository}: {'a new key for its host' if repository in found else 'new'}")
    path = f"{folder}/{repository}"
    yield StringCommand(f"install -m 600 -o restic-rest-server /dev/null {_DRAFT}")
    yield FileUploadCommand(BytesIO(text.encode()), _DRAFT)
    yield StringCommand(
        QuoteString(program), QuoteString(path), QuoteString(wanted if missing else ""), _DRAFT,
        *former, f">&2; result=$?; rm -f {_DRAFT}; exit $result",
    )  # fmt: skip
