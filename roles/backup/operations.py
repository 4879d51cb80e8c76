"""Repositories on the backup host."""

import shlex
from collections.abc import Generator, Mapping, Sequence
from io import BytesIO

from pydantic import SecretStr
from pyinfra.api.command import FileUploadCommand, QuoteString, StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.backup.facts import LABEL, Repositories
from roles.backup.keys import fingerprint
from roles.common.plan import say

_DRAFTS = "/run/site-backup-keys"


@operation()
def repositories(
    passwords: Mapping[str, SecretStr], folder: str, program: str
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """Repositories that the maintenance password and their hosts' own open.

    A key of a former password of a host goes. A key takes seconds of one core, by design: so as
    many are made side by side as there are cores.

    Args:
        passwords: of each repository, which has the name of its host.
        folder: where repositories lie.
        program: path of `files/repository`.
    """
    found = host.get_fact(Repositories, folder=folder)
    jobs: dict[str, Sequence[str]] = {}
    for name, password in passwords.items():
        wanted = f"{LABEL}{fingerprint(password.get_secret_value())}"
        own = [
            key for key in found.get(name, []) if key.host == name and key.label.startswith(LABEL)
        ]
        former = [key.id for key in own if key.label != wanted]
        missing = not any(key.label == wanted for key in own)
        if missing or former:
            say(f"repository {name}: {'a new key for its host' if name in found else 'new'}")
            label = wanted if missing else ""
            jobs[name] = (f"{folder}/{name}", label, f"{_DRAFTS}/{name}", *former)
    if not jobs:
        return
    yield StringCommand(f"install -d -m 700 -o restic-rest-server {_DRAFTS}")
    for name in jobs:
        text = passwords[name].get_secret_value()
        yield FileUploadCommand(BytesIO(text.encode()), f"{_DRAFTS}/{name}")
    lines = [shlex.join(job) for job in jobs.values()]
    yield StringCommand(
        "chown", "-R", "restic-rest-server", _DRAFTS, "&&",
        "printf", r"'%s\n'", *map(QuoteString, lines), "|",
        "xargs", "--max-lines=1", '--max-procs="$(nproc)"', QuoteString(program), ">&2;",
        f"result=$?; rm -rf {_DRAFTS}; exit $result",
    )  # fmt: skip
