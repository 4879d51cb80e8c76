"""Times as restic writes them."""

import re
from datetime import UTC, datetime


def moment(text: str) -> datetime:
    """A time of restic's JSON: it counts nanoseconds, Python does not."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)
