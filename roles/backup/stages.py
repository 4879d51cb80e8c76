"""Stages: what a backup reads, and a restore finds in it."""

import hashlib
from pathlib import Path

MANIFEST = "MANIFEST"
"""At the top of every stage: a line `SHA256 SIZE PATH` for each file."""
MAIL = Path("/var/vmail")
"""Below it lie homes: `KIND/NAME`."""
MAIL_STAGE = MAIL / ".backup"
"""Where they lie in a stage, and so in a snapshot."""
KINDS = ("mailboxes", "people")
"""Folders of homes."""


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
