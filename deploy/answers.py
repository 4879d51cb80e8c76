"""What a command for people says: a result, and what could not be asked."""

import json
import sys
from collections.abc import Callable
from typing import Any

from roles.common.errors import SiteError

Answer = tuple[dict[str, Any], list[str]]
"""What a job found, by its Vietnamese headings, and the faults of hosts."""


def answer(work: Callable[[], Answer], *, as_json: bool) -> int:
    """Do the work, print its result and what went wrong; return the exit code.

    Args:
        work: what is asked for.
        as_json: for programs instead of people.
    """
    try:
        result, faults = work()
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    text = json.dumps(result, ensure_ascii=False, indent=1) if as_json else "\n".join(shown(result))
    print(text)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def shown(value: Any, depth: int = 0) -> list[str]:
    """A result as lines of text."""
    pad = "  " * depth
    lines = []
    for key, part in value.items():
        if isinstance(part, list):
            lines.append(f"{pad}{key}:" if part else f"{pad}{key}: không có")
            for number, item in enumerate(part):
                lines += [""] if number and len(item) > 4 else []  # noqa: PLR2004 - long ones apart
                lines += shown(item, depth + 1)
        elif part:
            lines.append(f"{pad}{key}: {part}")
    return lines
