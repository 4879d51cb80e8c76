"""What the programs of backups say: to a terminal in words, to the journal with their level."""

import logging
import os


def begin() -> None:
    """From now on lines of every logger go to standard error."""
    handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_Levelled())
    logging.basicConfig(format="%(message)s", level=logging.INFO, handlers=[handler])


class _Levelled(logging.Formatter):
    """Lines as systemd reads them: with their level (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        level = 3 if record.levelno >= logging.ERROR else 6
        return f"<{level}>{super().format(record)}"
