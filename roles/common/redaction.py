"""What may be shown: no secret, neither today's nor one that a host still holds after a rotation.

Today's are known and replaced wherever they appear. A former one is known to nobody here; so where
a file holds secrets, nothing of what it says on the host is shown that the wanted text does not
say as well.
"""

import logging
import re
from collections.abc import Iterable

MASK = "********"

_PRIVATE_KEY = "PRIVATE KEY-----"
_NOTHING_ELSE = re.compile(rf"(?:{re.escape(MASK)}|\s)+")


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` with every line of every secret replaced by asterisks."""
    for secret in secrets:
        for line in secret.splitlines():
            if line and not line.startswith("-----"):
                text = text.replace(line, MASK)
    return text


def comparable(
    old: str, new: str, secrets: Iterable[str], *, private: bool
) -> tuple[str, str] | None:
    """Two versions of a file as a diff may show them; None where it may show nothing of them.

    Args:
        old: the text on the host, with secrets that may be nobody's any more.
        new: the text as it shall be.
        secrets: those of the site.
        private: whether not everybody may read the file: it may have held a secret before.
    """
    after = masked(new, secrets)
    if _PRIVATE_KEY in old + new or (MASK in after and _NOTHING_ELSE.fullmatch(after)):
        return None
    before = masked(old, secrets)
    if after == new and not private:
        return before, after
    known = set(after.splitlines())
    words = {line.split()[0] for line in known if line.strip()}
    patterns = {
        line: re.compile(".*".join(re.escape(part) for part in line.split(MASK)))
        for line in known
        if MASK in line
    }

    def safe(line: str) -> str:
        if line in known or not line.strip():
            return line
        for wanted, pattern in patterns.items():
            if pattern.fullmatch(line):
                return wanted
        # A line of another layout: its first word says where, if the wanted text has that word.
        first = line.split(maxsplit=1)[0]
        return f"{first} {MASK}" if first in words else MASK

    return "\n".join(safe(line) for line in before.splitlines()), after


class Redacting(logging.Filter):
    """Keeps the site's secrets out of all that pyinfra logs: daemons may quote what they refuse."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self.secrets = list(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without secrets."""
        if isinstance(record.msg, str):
            record.msg, record.args = masked(record.getMessage(), self.secrets), ()
        return True
