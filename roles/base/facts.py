"""What the role `base` asks a host."""

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase


class Hostname(FactBase[str]):
    """The name that the kernel knows."""

    def command(self) -> str:
        """Ask the kernel."""
        return "cat /proc/sys/kernel/hostname"

    def process(self, output: Iterable[str]) -> str:
        """One line."""
        return next(iter(output), "")


class Timezone(FactBase[str]):
    """The name of the host's time zone."""

    def command(self) -> str:
        """Where the link leads, which may be another link."""
        return "readlink /etc/localtime"

    def process(self, output: Iterable[str]) -> str:
        """Below the folder of all zones; Debian's own link is a relative one."""
        return next(iter(output), "").rpartition("usr/share/zoneinfo/")[2]


class KernelParameters(FactBase[dict[str, str]]):
    """The values of those of `keys` that this host has and may set.

    In a container most of `/proc/sys` is read-only: the machine's operator sets those.
    """

    def command(self, keys: Iterable[str]) -> StringCommand:
        """Read those that are writable, without a process for each."""
        paths = [f"/proc/sys/{key.replace('.', '/')}" for key in keys]
        return StringCommand(
            "for file in", *paths, "; do",
            'test -w $file && read -r value < $file && echo "$file=$value"; done; true',
        )  # fmt: skip

    @staticmethod
    def default() -> dict[str, str]:
        """None may be set."""
        return {}

    def process(self, output: Iterable[str]) -> dict[str, str]:
        """Read `path=value`; several numbers are one value."""
        pairs = (line.removeprefix("/proc/sys/").split("=", 1) for line in output)
        return {path.replace("/", "."): " ".join(value.split()) for path, value in pairs}


@dataclass(frozen=True)
class AdminState:
    """A person's account on a host."""

    uid: int
    comment: str
    shell: str
    locked_out: bool
    """The account has expired: no login, not even by key."""
    member: bool
    """Belongs to `site-admins`."""


class Admins(FactBase[dict[str, AdminState]]):
    """The accounts among `names`, and every member of the group `site-admins`."""

    def command(self, names: Iterable[str]) -> StringCommand:
        """Read the three databases at once; of `shadow` only the expiry."""
        return StringCommand(
            "members=$(getent group site-admins | cut -d: -f4 | tr , ' ');",
            "for name in $members", *[QuoteString(name) for name in names], "; do",
            'line=$(getent passwd "$name") || continue;',
            'case " $members " in *" $name "*) in=yes;; *) in=no;; esac;',
            'echo "$in:$(getent shadow "$name" | cut -d: -f8):$line"; done',
        )  # fmt: skip

    @staticmethod
    def default() -> dict[str, AdminState]:
        """No account."""
        return {}

    def process(self, output: Iterable[str]) -> dict[str, AdminState]:
        """Read `member:expiry:passwd…`."""
        found = {}
        for line in output:
            member, expiry, name, _, uid, _, comment, _, shell = line.split(":")
            found[name] = AdminState(
                uid=int(uid),
                comment=comment.split(",")[0],
                shell=shell,
                locked_out=expiry == "1",
                member=member == "yes",
            )
        return found


class FirewallLoaded(FactBase[bool]):
    """Whether the kernel still holds the rules that were loaded last.

    `systemctl` knows only that they were loaded; `nft flush ruleset` or a rule added by hand goes
    unnoticed by it.
    """

    def command(self) -> str:
        """Compare with the listing that was taken after loading; counters left out."""
        return (
            "nft --stateless list table inet site 2>/dev/null"
            f" | cmp -s - {FIREWALL_STAMP} && echo yes || echo no"
        )

    def process(self, output: Iterable[str]) -> bool:
        """`yes` or `no`."""
        return next(iter(output), "no") == "yes"


FIREWALL_STAMP = "/run/site-firewall"
"""The rules as the kernel listed them after they were loaded; gone after a boot."""


class SshSource(FactBase[str]):
    """The address from which this very SSH connection comes, as the host sees it."""

    def command(self) -> str:
        """The SSH server tells in the environment."""
        return 'echo "$SSH_CONNECTION"'

    def process(self, output: Iterable[str]) -> str:
        """The first word; empty when it is not known."""
        return next(iter(output), "").partition(" ")[0]


class StalePackageLists(FactBase[bool]):
    """Whether package lists are there that were fetched from other sources than today's."""

    def command(self) -> str:
        """Compare the sources' change time with that of the lists."""
        return (
            "find /var/lib/apt/lists -maxdepth 1 -name '*Packages*'"
            " ! -cnewer /etc/apt/sources.list.d/site.sources 2>/dev/null | grep -q ."
            " && echo yes || echo no"
        )

    def process(self, output: Iterable[str]) -> bool:
        """`yes` or `no`."""
        return next(iter(output), "no") == "yes"
