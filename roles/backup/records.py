"""What the programs of backups note for their next run: JSON files, each whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """What was noted; nothing where there is no such file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Note it, in place of what was noted before."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    draft.replace(path)
