"""Drills: the last backup of a part is restored into a scratch folder, compared, and read."""

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from roles.backup.repositories import KeeperError, Repositories, Run
from roles.backup.retention import Snapshot
from roles.backup.stages import MANIFEST, digest

log = logging.getLogger("site-backup-keeper")


def drill(repositories: Repositories, host: str, only: str = "") -> None:
    """Restore the last snapshot of each part of a host, compare, and forget the copy.

    Raises:
        KeeperError: a part is not what it was, or could not be restored.
    """
    every = repositories.snapshots(host)
    failed = []
    for part in repositories.config.hosts[host]:
        found = [one for one in every if one.part == part]
        if only not in ("", part) or not found:
            continue
        snapshot = (repositories.trusted(found) or found)[-1]
        begin = repositories.now()
        try:
            files, size = _restored(repositories, host, snapshot)
            words = ""
            log.info("%s: %s: %d files, %d bytes are as they were", host, part, files, size)
        except (KeeperError, OSError, ValueError) as error:
            words = str(error)
            files = size = 0
            failed.append(f"{part}: {error}")
        records = repositories.noted("drills")
        before = records.setdefault(host, {}).get(part, {})
        records[host][part] = {
            "at": begin.isoformat(timespec="seconds"), "good": not words, "words": words,
            "snapshot": snapshot.id, "files": files, "bytes": size,
            "seconds": round((repositories.now() - begin).total_seconds(), 1),
            "verified": before.get("verified", "")
            if words else begin.isoformat(timespec="seconds"),
        }  # fmt: skip
        repositories.note("drills", records)
    if failed:
        raise KeeperError("; ".join(failed))


def _restored(repositories: Repositories, host: str, snapshot: Snapshot) -> tuple[int, int]:
    """Restore a snapshot and compare it; how many files and bytes it has."""
    scratch = repositories.config.state / "drill"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    free = shutil.disk_usage(scratch).free
    if free < snapshot.size * 1.1:
        raise KeeperError(
            f"{scratch}: {free >> 20} MiB are free; expected {snapshot.size * 11 // 10 >> 20}"
        )
    try:
        repositories.restic(
            host, "restore", snapshot.id, "--quiet", "--target", str(scratch), lock=False
        )
        found = list(scratch.rglob(MANIFEST))
        if not found:
            raise KeeperError(f"snapshot {snapshot.id[:8]} has no {MANIFEST}")
        # Mailboxes may hold a file of that name; the stage's is the highest.
        manifest = min(found, key=lambda path: len(path.parts))
        count = compared(manifest, scratch)
        if extra := EXTRAS.get(snapshot.part):
            extra(repositories.run, manifest.parent, scratch)
        return count
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def compared(manifest: Path, root: Path) -> tuple[int, int]:
    """Compare restored files with their MANIFEST; how many, and their bytes.

    Args:
        manifest: it stands at the top of the stage.
        root: the folder that stands for `/`: paths of a MANIFEST may be whole ones.

    Raises:
        KeeperError: a file is missing, is another one, or is not in the MANIFEST; with its path.
    """
    listed: dict[Path, tuple[str, int]] = {}
    for number, line in enumerate(
        manifest.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1
    ):
        matched = re.fullmatch(r"([0-9a-f]{64}) (\d+) (.+)", line)
        if not matched:
            raise KeeperError(f"MANIFEST:{number}: {line[:80]!r}; expected SHA256 SIZE PATH")
        path = matched[3]
        base = root / path[1:] if path.startswith("/") else manifest.parent / path
        listed[base] = (matched[1], int(matched[2]))
    there = {path for path in root.rglob("*") if path.is_file() and not path.is_symlink()}
    if more := there - listed.keys() - {manifest}:
        raise KeeperError(f"{min(more).relative_to(root)}: is not in the MANIFEST")
    for path, expected in listed.items():
        place = path.relative_to(root)
        if path not in there:
            raise KeeperError(f"{place}: is missing")
        if (digest(path), path.stat().st_size) != expected:
            raise KeeperError(f"{place}: is not what was backed up")
    return len(listed), sum(size for _, size in listed.values())


def _directory(run: Run, stage: Path, scratch: Path) -> None:
    """Load the directory's LDIF as a new server would: configuration first, then data."""
    databases, config = scratch / "ldap", scratch / "slapd.d"
    config.mkdir()
    text = (stage / "config.ldif").read_text(encoding="utf-8")
    # Its databases in the scratch folder, each in one of its own.
    moved, names = [], []
    for line in text.splitlines():
        if line.startswith("olcDbDirectory: "):
            folder = databases / line.rpartition("/")[2]
            folder.mkdir(parents=True)
            moved.append(f"olcDbDirectory: {folder}")
        else:
            moved.append(line)
        if line.startswith("olcSuffix: "):
            names.append(line.removeprefix("olcSuffix: "))
    (scratch / "config.ldif").write_text("\n".join(moved) + "\n", encoding="utf-8")
    slapadd = ["/usr/sbin/slapadd", "-F", str(config)]
    run([*slapadd, "-n0", "-l", str(scratch / "config.ldif")])
    for suffix in names:
        name = "accesslog" if suffix == "cn=accesslog" else "data"
        run([*slapadd, "-q", "-b", suffix, "-l", str(stage / f"{name}.ldif")])


def _database(run: Run, stage: Path, _scratch: Path) -> None:
    """Read every table of every dump, as a new server would."""
    dumps = sorted(stage.glob("*.dump"))
    if not dumps:
        raise KeeperError("there is no dump")
    for dump in dumps:
        run(["pg_restore", "--file=/dev/null", str(dump)])


EXTRAS: dict[str, Callable[[Run, Path, Path], None]] = {
    "directory": _directory,
    "database": _database,
}
"""What is done with a part besides comparing files."""
