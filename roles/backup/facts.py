"""What the role `backup` asks a backup host."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase

MAKER = "site-backup-repositories.service"
"""The unit that makes repositories and keys."""


@dataclass(frozen=True)
class Key:
    """A key of a repository, which some password opens."""

    id: str
    host: str
    label: str


class Repositories(FactBase[dict[str, list[Key]]]):
    """The repositories that are there, each with its keys.

    restic keeps with each key, in clear, for which host and by whom it was made.
    """

    def command(self, folder: str) -> StringCommand:
        """Print the keys, one a line; what a deploy that was cut off began is waited for.

        Args:
            folder: where repositories lie.
        """
        return StringCommand(
            f'test "$(systemctl is-active {MAKER})" != activating || systemctl start {MAKER};',
            "cd", QuoteString(folder), "2>/dev/null || exit 0;",
            'for key in */keys/*; do test -f "${key%/keys/*}/config" || continue;'
            """ printf '%s ' "$key"; tr -d '\\n' < "$key"; echo; done""",
        )  # fmt: skip

    @staticmethod
    def default() -> dict[str, list[Key]]:
        """None."""
        return {}

    def process(self, output: Iterable[str]) -> dict[str, list[Key]]:
        """Read them."""
        found: dict[str, list[Key]] = {}
        for line in output:
            path, _, text = line.partition(" ")
            name, _, id_ = path.split("/")
            values = json.loads(text)
            key = Key(id_, values.get("hostname", ""), values.get("username", ""))
            found.setdefault(name, []).append(key)
        return found
