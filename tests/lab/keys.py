"""The lab's SSH keys: of the operator, the admins and each host, known before it first starts."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PUBLIC_KEY = "etc/ssh/ssh_host_ed25519_key.pub"
"""Where a host keeps the key by which it is known."""


@dataclass(frozen=True)
class File:
    """A file that a host has of its own before it first starts."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Keys:
    """The folder of an instance's keys."""

    folder: Path

    @property
    def private(self) -> Path:
        """The operator's private key."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys."""
        return self.folder / "known_hosts"

    def public(self) -> bytes:
        """The operator's public key; the pair is made where there is none."""
        if not self.private.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _generate(self.private, "lab")
        return self.private.with_suffix(".pub").read_bytes()

    def person(self, name: str) -> Path:
        """The private key of an admin of the hosts; the pair is made where there is none."""
        private = self.folder / name
        if not private.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _generate(private, name)
        return private

    def knows(self, address: str) -> bool:
        """Whether the host at `address` can be reached with these keys."""
        if not self.private.exists() or not self.known_hosts.exists():
            return False
        return any(line.split()[0] == address for line in self.known_hosts.read_text().splitlines())

    def host_files(self, host: str) -> dict[str, File]:
        """A new key pair of a host, and the operator's public key."""
        with tempfile.TemporaryDirectory() as folder:
            key = Path(folder, "key")
            _generate(key, host)
            private, public = key.read_bytes(), key.with_suffix(".pub").read_bytes()
        return {
            "etc/ssh/ssh_host_ed25519_key": File(private, 0o600),
            PUBLIC_KEY: File(public),
            "root/.ssh/authorized_keys": File(self.public(), 0o600),
        }

    def remember(self, address: str, public: bytes) -> None:
        """Know the host at `address` by its public key from now on."""
        self.forget(address)
        kind, key = public.decode().split()[:2]
        with self.known_hosts.open("a") as file:
            file.write(f"{address} {kind} {key}\n")

    def forget(self, address: str) -> None:
        """Know no host at `address` any more."""
        if self.known_hosts.exists():
            lines = self.known_hosts.read_text().splitlines(keepends=True)
            self.known_hosts.write_text(
                "".join(line for line in lines if line.split()[0] != address)
            )

    def ssh(self, address: str) -> list[str]:
        """The command that opens a shell on the host at `address`."""
        return [
            "ssh", "-q", "-i", str(self.private),
            "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5",
            f"root@{address}",
        ]  # fmt: skip


def _generate(path: Path, comment: str) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True
    )


def tar(files: Mapping[str, File]) -> bytes:
    """A tar archive of files that belong to root; folders of dotfiles are root's alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in sorted({str(Path(path).parent) for path in files if "/." in path}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(entry)
        for path, file in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.content), file.mode
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()
