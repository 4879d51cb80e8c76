"""Repositories on the backup host."""

import shlex
from collections.abc import Generator, Mapping, Sequence
from io import BytesIO

from pydantic import SecretStr
from pyinfra.api.command import FileUploadCommand, QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state

from roles.backup.facts import MAKER, Repositories
from roles.backup.keys import fingerprint
from roles.backup.repositories import LABEL
from roles.common.plan import say

JOBS = "/run/site-backup-keys"
"""What `MAKER` shall make, and the passwords of it: gone once it is made."""


@operation()
def repositories(
    passwords: Mapping[str, SecretStr], folder: str, owner: str
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """Repositories that the maintenance password and their hosts' own open: their making begins.

    A key of a former password of a host goes.

    Args:
        passwords: of each repository, which has the name of its host.
        folder: where repositories lie.
        owner: whose they are.
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
            jobs[name] = (f"{folder}/{name}", label, f"{JOBS}/{name}.secret", *former)
    if not jobs:
        return
    yield StringCommand(f"rm -rf {JOBS} && install -d -m 700 {JOBS}")
    for name in jobs:
        text = passwords[name].get_secret_value()
        yield FileUploadCommand(BytesIO(text.encode()), f"{JOBS}/{name}.secret")
    lines = "".join(f"{shlex.join(job)}\n" for job in jobs.values())
    yield FileUploadCommand(BytesIO(lines.encode()), f"{JOBS}/list")
    yield StringCommand(
        "chown -R", QuoteString(owner), JOBS,
        f"&& {{ test $(systemctl show -P NeedDaemonReload {MAKER}) = no"
        f" || systemctl daemon-reload; }} && systemctl start --no-block {MAKER}",
    )  # fmt: skip


@operation()
def repositories_made(begun: OperationMeta) -> Generator[StringCommand, None, None]:
    """The repositories that an earlier step began to make are there.

    Args:
        begun: that step.
    """
    if begun.did_change() if state.is_executing else begun.will_change:
        yield StringCommand(
            f"systemctl start {MAKER} || {{ journalctl --no-pager -n 30 -u {MAKER} >&2; false; }}"
        )
