"""What only a store can tell."""

import base64
from collections.abc import Iterable

from pyinfra.api.facts import FactBase

NO_ANSWER = "unit mailboxes: the directory does not answer; the timer makes them once it does"
_EX_TEMPFAIL = 75
UNITS = "/usr/local/lib/site-mailstore/units"


class MailOwner(FactBase[bool]):
    """Whether the user that owns all mail is there; a run may have ended after its group."""

    def command(self) -> str:
        """Ask for the user."""
        return "getent passwd vmail || true"

    @staticmethod
    def default() -> bool:
        """Not yet."""
        return False

    def process(self, output: Iterable[str]) -> bool:
        """Its line of the table."""
        return any(output)


class UncompiledSieve(FactBase[list[str]]):
    """Those of the site's Sieve scripts whose binary is missing, or older than they or Dovecot."""

    def command(self) -> str:
        """Compare the times at which the files came to be on this host."""
        return (
            "for script in /etc/dovecot/sieve/*.sieve; do binary=${script%.sieve}.svbin;"
            ' test -n "$(find "$binary" -newercc "$script"'
            ' -newercc /usr/lib/dovecot/modules/lib90_sieve_plugin.so 2>/dev/null)"'
            ' || echo "$script"; done; true'
        )

    @staticmethod
    def default() -> list[str]:
        """All are compiled."""
        return []

    def process(self, output: Iterable[str]) -> list[str]:
        """One path a line; the pattern itself where there is none."""
        return [line for line in output if "*" not in line]


class UnitMailboxesToDo(FactBase[list[str]]):
    """What `units --check` would do: one line a change, or `NO_ANSWER`."""

    def command(self, script: bytes) -> str:
        """Ask the very script that the timer will run; before Dovecot runs, all is to be done.

        Args:
            script: its text, which need not be in place yet.
        """
        text = base64.b64encode(script).decode()
        return (
            "if ! systemctl -q is-active dovecot.service; then"
            f" echo 'all unit mailboxes: make them';"
            f" else echo {text} | base64 -d | perl - --check"
            f" || {{ test $? = {_EX_TEMPFAIL} && echo '{NO_ANSWER}'; }}; fi"
        )

    @staticmethod
    def default() -> list[str]:
        """Nothing to do."""
        return []

    def process(self, output: Iterable[str]) -> list[str]:
        """The lines as they are."""
        return list(output)
