"""Further places that hold backups: how restic gets there, on the backup host and on a client.

The role writes `targets.json` (`target_file.py`) for the backup host, which copies. A client has
none, until an operator restores from such a place: then `deploy.restore` puts one that opens this
host's repository alone, and takes it away again.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

ON_CLIENT = Path("/run/site-backup-targets.json")
"""The file on a client, as long as an operator restores from there."""
SSH = (
    "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
    " -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={known}"
    " -o ConnectTimeout=60 -o ServerAliveInterval=60 -E {said} -i {key} {to} -s sftp"
)
"""The command that restic starts for SFTP: nothing but what the file says counts. A server that
says nothing any more is given up after minutes: everything else of the keeper waits meanwhile."""


_WORDS = 300
"""Letters of ssh's words that are told: the reason is at their end."""


class TargetError(Exception):
    """There is no such target; the message says which there are."""


@dataclass(frozen=True)
class Target:
    """One further place."""

    url: str
    """As restic knows it; a host's repository is below it, by the host's name."""
    passwords: Mapping[str, str]
    """Of the repositories there, by host."""
    environment: Mapping[str, str]
    """What restic needs besides, such as the keys of S3."""
    authority: str
    """Certificates (PEM) of those whose word counts for the server's certificate; empty: of all
    that Debian trusts."""
    ssh: Mapping[str, str]
    """For SFTP `to` (`-p PORT USER@HOST`), `key` and `known`, as ssh's files have them."""
    upload_limit: int
    """KiB a second; 0: none."""
    stale: int
    """Seconds after which a host without a new copy is an alarm."""
    prune: bool
    """Whether the backup host forgets there what `keep` does not keep."""
    keep: Mapping[str, int]
    """As `retention.Policy` has it."""

    @contextmanager
    def reached(self, host: str) -> Iterator[tuple[list[str], dict[str, str]]]:
        """Options and environment by which restic reaches the repository of a host.

        Raises:
            TargetError: the file does not open that one; or the block failed, and ssh said why.
        """
        if host not in self.passwords:
            raise TargetError(f"{self.url}: {host}: its password is not known here")
        environment = {
            **self.environment,
            "RESTIC_REPOSITORY": f"{self.url}/{host}",
            "RESTIC_PASSWORD": self.passwords[host],
        }
        with TemporaryDirectory(prefix="site-backup-") as folder:
            try:
                yield self._options(Path(folder)), environment | self._trust(Path(folder))
            except Exception as error:
                # What ssh says, restic passes on only if it has not ended before.
                if words := _words(Path(folder) / "said"):
                    raise TargetError(f"ssh: {words}; {error}") from error
                raise

    def _trust(self, folder: Path) -> dict[str, str]:
        """The environment by which restic believes the authority alone."""
        if not self.authority:
            return {}
        path = folder / "authority.pem"
        path.write_text(self.authority, encoding="utf-8")
        return {"RESTIC_CACERT": str(path)}

    def _options(self, folder: Path) -> list[str]:
        if not self.ssh:
            return []
        for name in ("key", "known"):
            path = folder / name
            path.touch(mode=0o600)
            path.write_text(self.ssh[name], encoding="utf-8")
        files = {name: folder / name for name in ("known", "key", "said")}
        command = SSH.format(**files, to=self.ssh["to"])
        return ["-o", f"sftp.command={command}"]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """A target as the file has it."""
        return cls(**values)


def _words(path: Path) -> str:
    """The end of what ssh said, without its ornaments; once, however often it was started."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = " ".join(dict.fromkeys(text.splitlines()))
    return " ".join(re.sub(r"(?<!\S)@+(?!\S)", " ", lines).split())[-_WORDS:]


def read(path: Path) -> dict[str, Target]:
    """The targets of a file, by their names.

    Raises:
        OSError: there is no such file.
    """
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: Target.of(values) for name, values in found.items()}
