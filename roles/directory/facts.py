"""What slapd's configuration and databases hold, read without asking the daemon.

`slapcat` reads consistently while slapd runs, and just as well while it does not: a plan is honest
in both cases. It runs as slapd's own user, for it may create the database's lock file.
"""

import base64
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import FactError
from pyinfra.api.facts import FactBase

from roles.directory.ldif import OPERATIONAL

CONFIG = "/etc/ldap/slapd.d"
"""Where slapd keeps cn=config."""
DATA = "/var/lib/ldap/mail"
"""The database of units, people and mailboxes."""
AUDIT = "/var/lib/ldap/accesslog"
"""The database of the audit log."""
WORDS = "/var/lib/site-directory/words"
"""Folder of the list of forbidden passwords, as cracklib reads it."""
REPLICATOR = "/etc/ldap/replicator.secret"
"""The password with which the directory hosts read each other; only where there are several."""
LOCKED = "exec 9>/run/site-directory.lock && flock -w 900 9"
"""Waits until a change that a lost connection left running is done, and keeps others waiting."""
_IF_DATABASE = f"if test -d {CONFIG} && test -s {DATA}/data.mdb; then"
_SLAPCAT = f"runuser -u openldap -- slapcat -F {CONFIG} -o ldif-wrap=no"


@dataclass(frozen=True)
class ConfigState:
    """slapd's configuration on a host."""

    text: str
    """As LDIF; empty where there is none yet."""
    active: bool
    """Whether slapd runs, and so can change its configuration itself."""


class SlapdConfig(FactBase[ConfigState]):
    """cn=config as it is."""

    def command(self) -> str:
        """Print the unit's state, then the configuration."""
        return f"systemctl is-active slapd.service; if test -d {CONFIG}; then {_SLAPCAT} -n0; fi"

    def process(self, output: Iterable[str]) -> ConfigState:
        """Part the first line from the rest."""
        state, *lines = output
        return ConfigState("\n".join(lines), state == "active")


class DirectoryText(FactBase[str]):
    """The entries below a DN, as LDIF; empty where there is no database yet.

    Password hashes stay on the host: they are shown as an asterisk, unless `hashes` is set.
    """

    def command(
        self,
        base: str,
        attributes: Sequence[str] = (),
        where: str = "(objectClass=*)",
        hashes: bool = False,
    ) -> StringCommand:
        """Read all in one go, packed: tens of thousands of entries cross the net in a second.

        Args:
            base: the DN.
            attributes: those that are needed, as the schema spells them; by default all but those
                that the server itself writes, a third of all.
            where: a filter (RFC 4515) that entries meet.
            hashes: whether to show password hashes.
        """
        kept = rf"/^((dn|{'|'.join(attributes)}):|$)/!d"
        noise = f"/^({'|'.join(sorted(OPERATIONAL))}):/d"
        hide = "" if hashes else "; s/^userPassword:.*/userPassword: */"
        # A pipe ends as its last command does, and an empty text would mean an empty directory:
        # how slapcat ended, and what it said, goes another way.
        return StringCommand(
            f"{_IF_DATABASE} {{ said=$({{ {{ {{ {LOCKED} && {_SLAPCAT} -s", QuoteString(base),
            "-a", QuoteString(where), '; } 2>&3; echo "result $?" >&3; } |',
            f"sed -E '{kept if attributes else noise}{hide}'", "| gzip -c1 | base64 -w0 >&4; }",
            '3>&1); } 4>&1; case $said in *"result 0") ;; *) echo; echo "$said" ;; esac; fi',
        )  # fmt: skip

    @staticmethod
    def default() -> str:
        """No database."""
        return ""

    def process(self, output: Iterable[str]) -> str:
        """Unpack.

        Raises:
            FactError: the database could not be read.
        """
        packed, *said = output
        if said:
            raise FactError(f"the directory's database cannot be read: {' '.join(said)}")
        return gzip.decompress(base64.b64decode(packed)).decode()


class Written(FactBase[str]):
    """When the database was last written, by whomever; empty where there is none yet.

    Asked before the entries are read, it tells later, at the price of a `stat`, whether what was
    read is still true.
    """

    def command(self) -> str:
        """Print the file's number and time, to the nanosecond."""
        return f"if test -e {DATA}/data.mdb; then stat -c '%i %y' {DATA}/data.mdb; fi"

    @staticmethod
    def default() -> str:
        """No database."""
        return ""

    def process(self, output: Iterable[str]) -> str:
        """The line."""
        return "".join(output)


class Holding(FactBase[Literal["nothing", "part", "all"]]):
    """What the database holds: a part, as long as a first copy of another host's is not complete.

    Then the number (CSN) of the last change is written on the suffix.
    """

    def command(self, base: str) -> StringCommand:
        """Print the suffix's entry."""
        return StringCommand(
            f"{_IF_DATABASE} {_SLAPCAT} -b", QuoteString(base), "-a '(objectClass=organization)'",
            '2>&1 || echo "result $?"; fi',
        )  # fmt: skip

    @staticmethod
    def default() -> Literal["nothing", "part", "all"]:
        """No database."""
        return "nothing"

    def process(self, output: Iterable[str]) -> Literal["nothing", "part", "all"]:
        """Look for the entry, and for the number on it.

        Raises:
            FactError: the database could not be read.
        """
        lines = list(output)
        if any(line.startswith("result ") for line in lines):
            raise FactError(f"the directory's database cannot be read: {' '.join(lines)}")
        if any(line.startswith("contextCSN: ") for line in lines):
            return "all"
        return "part" if any(line.startswith("dn:") for line in lines) else "nothing"


class Behind(FactBase[list[str]]):
    """Those of `peers` whose changes have not all arrived here.

    A host that was away, or is new, must not be written to before it knows what the others know. A
    peer that does not answer, or holds nothing yet, has nothing to wait for.
    """

    def command(self, peers: Sequence[str], base: str, replicator: str) -> StringCommand:
        """Compare the number (CSN) of every host's last change, theirs with ours.

        Ours is read after theirs, and again for a few seconds: changes arrive all the time.

        Args:
            peers: full names of the other directory hosts.
            base: the suffix.
            replicator: who may read it.
        """
        search = "ldapsearch -LLL -o ldif-wrap=no -o nettimeout=3 -s base"
        theirs = (
            f"{search} -x -D {replicator} -y {REPLICATOR} -H ldaps://$peer -b {base} contextCSN"
        )
        ours = f"{search} -Q -Y EXTERNAL -H ldapi:/// -b {base} contextCSN"
        # The number of a change: time, count, host, count. A newer one of the same host is larger.
        newer = (
            "awk -F'#' 'NR == FNR { have[$3] = $1; next } $1 > have[$3] { behind = 1 }"
            " END { exit behind }'"
        )
        return StringCommand(
            f"test -s {REPLICATOR} || exit 0; for peer in", *peers,
            f"; do theirs=$({theirs} 2>/dev/null | grep ^contextCSN) || continue;"
            " for try in 1 2 3 4 5; do"
            f" if {{ {ours} 2>/dev/null | grep ^contextCSN; echo; }} > /run/site-directory.csn;"
            f' echo "$theirs" | {newer} /run/site-directory.csn -; then continue 2; fi;'
            " sleep 1; done; echo $peer; done; rm -f /run/site-directory.csn",
        )  # fmt: skip

    @staticmethod
    def default() -> list[str]:
        """None."""
        return []

    def process(self, output: Iterable[str]) -> list[str]:
        """One name a line."""
        return list(output)


class PackedWords(FactBase[bool]):
    """Whether the list of forbidden passwords was packed from these very files."""

    def command(self, sources: Sequence[str]) -> StringCommand:
        """Compare the digest that was written behind the list.

        Args:
            sources: the program and the lists that it reads.
        """
        return StringCommand(
            words_digest(sources), f"2>/dev/null | cmp -s - {WORDS}/digest && echo packed || true"
        )

    @staticmethod
    def default() -> bool:
        """Never yet."""
        return False

    def process(self, output: Iterable[str]) -> bool:
        """One word, or none."""
        return "packed" in output


def words_digest(sources: Sequence[str]) -> str:
    """The command that prints the digest of the files that forbidden passwords come from."""
    return f"cat {' '.join(sources)} | sha256sum"
