"""First passwords: made on the operator's machine, kept until they are handed over.

They lie in `accounts.json` in the environment's state folder, readable by the operator only. The
file is written before the directory knows the passwords: a run that is cut off in between uses
them again. Once they are handed over, delete the file; the directory keeps hashes only.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gevent.threadpool import ThreadPoolExecutor  # type: ignore[import-untyped]
from passlib.hash import argon2

from roles.accounts.reconcile import Plan
from roles.directory.settings import DirectorySettings
from roles.directory.tree import hashed_generated

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without characters that look alike on paper."""


def generated_password() -> str:
    """A password of 16 characters, 79 bits, in groups that can be read out."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


def hand_over(file: Path, plan: Plan) -> dict[str, str]:
    """Write the first passwords of new people, and return them by ID.

    The passwords of people who are in the directory already stay as the file has them, if it does.
    """
    known = {entry["id"]: entry for entry in _load(file)}
    passwords: dict[str, str] = {}
    entries: list[dict[str, Any]] = []
    for person_id, mailbox in plan.people.items():
        entry = known.get(person_id, {})
        before, since = entry.get("password"), plan.returning.get(person_id)
        if since and entry.get("departed") != since:
            # Of before the departure: known to who knows whom.
            before = None
        if person_id in plan.new:
            passwords[person_id] = before or generated_password()
        if password := passwords.get(person_id, before):
            entry = _entry(person_id, mailbox.address, password, "person", mailbox.name)
            entries.append(entry | ({"departed": since} if since else {}))
    if entries:
        # Nobody logs in to a unit mailbox: it has no password.
        entries += [
            _entry(code, mailbox.address, None, "unit", mailbox.name)
            for code, mailbox in plan.units.items()
        ]
        _store(file, sorted(entries, key=lambda entry: (entry["kind"], entry["address"])))
    return passwords


def hashes(passwords: Mapping[str, str], settings: DirectorySettings) -> dict[str, str]:
    """Each password as `userPassword` holds it; on all processors, thousands take seconds."""
    # Real threads: those of the standard library take turns under pyinfra, which runs on gevent.
    # Chosen before they begin: passlib's choice at first use is not made for several.
    argon2.set_backend("argon2_cffi")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = pool.map(lambda each: hashed_generated(each, settings), passwords.values())
        return dict(zip(passwords, values, strict=True))


def _entry(key: str, address: str, password: str | None, kind: str, name: str) -> dict[str, Any]:
    return {"id": key, "address": address, "password": password, "kind": kind, "name": name}


def _load(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def _store(file: Path, entries: list[dict[str, Any]]) -> None:
    """Write it whole, and to the disk, before anybody relies on it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    with draft.open("w", encoding="utf-8") as stream:
        json.dump(entries, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
