"""How backups stand: what there is of each host and part, every alarm, and both in words."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from roles.backup import growth
from roles.backup.moments import moment
from roles.backup.repositories import KeeperError, Repositories
from roles.backup.retention import CLOCK, SMALL, Snapshot, doubts
from roles.backup.targets import Target


def status(repositories: Repositories) -> dict[str, Any]:
    """What there is of each host and part, and every alarm."""
    now = repositories.now()
    drills, checks = repositories.noted("drills"), repositories.noted("checks")
    copies, watched = repositories.noted("copies"), repositories.noted("watched")
    rows: list[dict[str, Any]] = []
    copied: list[dict[str, Any]] = []
    alarms: list[dict[str, str]] = []

    def alarm(kind: str, words: str, host: str = "", part: str = "") -> None:
        alarms.append({"host": host, "part": part, "kind": kind, "words": words})

    for host, parts in repositories.config.hosts.items():
        try:
            every = repositories.snapshots(host)
        except (KeeperError, OSError, ValueError, KeyError) as error:
            alarm("unreadable", f"its repository cannot be read: {error}", host)
            continue
        if growth.is_shut(repositories.config.folder / host):
            alarm("shut", f"it grew too fast: site-backup-keeper open {host}", host)
        check = checks.get(host, {})
        if check and not check["good"]:
            alarm("damaged", f"the check of {check['at']} failed: {check['words']}", host)
        if strange := [one.id[:8] for one in every if not one.part]:
            alarm("strange", f"snapshots of no part: {', '.join(strange[:5])}", host)
        for part in parts:
            found = [one for one in every if one.part == part]
            drill = drills.get(host, {}).get(part, {})
            row = _row(host, part, found, drill, now)
            rows.append(row)
            since = moment(watched.get(host, {}).get(part) or now.isoformat())
            for kind, words in _faults(repositories, found, drill, since, now):
                alarm(kind, words, host, part)
        for name, target in repositories.config.targets.items():
            record = copies.get(name, {}).get(host, {})
            copied.append(_copy_row(name, host, record, now))
            for kind, words in _copy_faults(target, record, every, now):
                alarm(kind, words, host, name)
    disk = shutil.disk_usage(repositories.config.folder)
    if disk.free < repositories.config.free * disk.total:
        alarm("disk", f"{disk.free >> 20} MiB of {disk.total >> 20} MiB are free")
    return {
        "at": now.isoformat(timespec="seconds"),
        "free": disk.free, "total": disk.total, "rows": rows, "copies": copied,
        "alarms": alarms,
    }  # fmt: skip


def _faults(
    repositories: Repositories,
    found: Sequence[Snapshot],
    drill: dict[str, Any],
    watched: datetime,
    now: datetime,
) -> Iterator[tuple[str, str]]:
    config = repositories.config
    if not found:
        # A part that is new has as long for its first backup as it has for each other one.
        if now - watched > timedelta(seconds=config.stale):
            yield "missing", "there is no backup"
        return
    doubtful = doubts(found, config.policy)
    trusted = repositories.trusted(found)
    if not trusted or now - trusted[-1].written > timedelta(seconds=config.stale):
        last = trusted[-1].written.isoformat(timespec="seconds") if trusted else "none"
        yield "stale", f"the last backup was written {last}"
    if any(doubtful.get(one.id) == SMALL for one in trusted[-1:]):
        yield "small", f"the last backup holds {trusted[-1].size} bytes, far less than before"
    if wrong := [one.id[:8] for one in found if doubtful.get(one.id) == CLOCK]:
        yield "clock", f"snapshots bear a time that is not theirs: {', '.join(wrong[:5])}"
    if drill and not drill["good"]:
        yield "drill", f"the drill of {drill['at']} failed: {drill['words']}"
    since = moment(drill["verified"]) if drill.get("verified") else found[0].written
    if now - since > timedelta(seconds=config.drilled):
        yield "unverified", f"nothing was restored since {since.isoformat(timespec='seconds')}"


def _row(
    host: str, part: str, found: Sequence[Snapshot], drill: dict[str, Any], now: datetime
) -> dict[str, Any]:
    """What `status` says of a part."""
    last = found[-1] if found else None
    day = [one for one in found if now - one.written <= timedelta(days=1)]
    before = [one for one in found if now - one.written > timedelta(days=1)]
    return {
        "host": host,
        "part": part,
        "snapshots": len(found),
        "written": last.written.isoformat(timespec="seconds") if last else None,
        "age": int((now - last.written).total_seconds()) if last else None,
        "size": last.size if last else None,
        "growth": last.size - before[-1].size if last and before else None,
        "added": sum(one.added for one in day),
        "verified": drill.get("verified") or None,
    }


def _copy_row(name: str, host: str, record: dict[str, Any], now: datetime) -> dict[str, Any]:
    """What `status` says of a host's copy at a further target."""
    at = record.get("copied") or None
    age = int((now - moment(at)).total_seconds()) if at else None
    return {"target": name, "host": host, "copied": at, "age": age}


def _copy_faults(
    target: Target, record: dict[str, Any], every: Sequence[Snapshot], now: datetime
) -> Iterator[tuple[str, str]]:
    if record and not record["good"]:
        yield "copy", f"the copy of {record['at']} failed: {record['words']}"
    # Of what was never copied, since there was something to copy.
    since = moment(record["copied"]) if record.get("copied") else every[0].written if every else now
    if now - since > timedelta(seconds=target.stale):
        yield "uncopied", f"nothing was copied since {since.isoformat(timespec='seconds')}"


def sentence(alarm: dict[str, str]) -> str:
    """An alarm as a line."""
    place = "/".join(name for name in (alarm["host"], alarm["part"]) if name)
    return f"{place or 'the backup host'}: {alarm['kind']}: {alarm['words']}"


def table(status: dict[str, Any]) -> list[str]:
    """The status as lines for people."""
    head = ("host", "part", "last success", "age", "size", "growth", "added/24h", "verified")
    lines = [head]
    for row in status["rows"]:
        lines.append((
            row["host"], row["part"], row["written"] or "never", _age(row["age"]),
            _size(row["size"]), _size(row["growth"]), _size(row["added"]),
            row["verified"] or "never",
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    for copy in status["copies"]:
        shown.append(
            f"copy at {copy['target']}: {copy['host']}: last {copy['copied'] or 'never'}, "
            f"age {_age(copy['age'])}"
        )
    if status["free"] is not None:
        shown.append(f"free: {_size(status['free'])} of {_size(status['total'])}")
    return [*shown, *(f"ALARM {sentence(one)}" for one in status["alarms"])]


def _age(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds // 86400}d {seconds // 3600 % 24}h {seconds // 60 % 60}min"


def _size(value: int | None) -> str:
    if value is None:
        return "-"
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
