"""Databases of PostgreSQL as they were at a time: `site-restore database`.

A database comes back as a whole, in one transaction: who asks it meanwhile waits, then sees the one
of that time; a restore that fails leaves it as it was. What was in it before is dumped first, into
`/var/lib/site-backup/before`, from where `pg_restore` brings it back. Roles and databases
themselves are the deployment's; they must be there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roles.backup.snapshots import (
    STAGE,
    Backup,
    RestoreError,
    Run,
    Snapshot,
    command,
    piped,
    understood,
)

BEFORE = Path("/var/lib/site-backup/before")
"""Dumps of what was there before a restore."""
_STATE = (
    "SELECT json_object_agg(datname, pg_database_size(datname)) FROM pg_database"
    " WHERE datname !~ '^template'"
)
_TABLES = (
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE relkind IN ('r', 'p') AND nspname !~ '^(pg_|information_schema$)'"
)
_PATIENCE = 60
"""Seconds that a table may be in somebody's use before the restore gives up, nothing changed."""


@dataclass(frozen=True)
class Request:
    """What shall come back."""

    at: datetime
    names: tuple[str, ...] = ()
    """Databases; all of the snapshot by default."""
    source: str = ""
    """A further target instead of the backup host."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Request":
        """A request as JSON has it.

        Raises:
            RestoreError: it is none.
        """
        with understood():
            at = datetime.fromisoformat(values["at"])
            return cls(at, tuple(values["names"]), values["source"])


class Cluster:
    """The server of this host."""

    def __init__(self, run: Run = command) -> None:
        """Nothing is asked yet.

        Args:
            run: how programs are run.
        """
        self._run = run

    def _psql(self, query: str, database: str = "postgres") -> str:
        return self._run([*_AS_POSTGRES, "psql", "-XAtq", "-d", database, "-c", query]).strip()

    def sizes(self) -> dict[str, int]:
        """The databases that are there, with their bytes."""
        found: dict[str, int] = json.loads(self._psql(_STATE) or "{}")
        return found

    def tables(self, name: str) -> int:
        """How many tables a database has."""
        return int(self._psql(_TABLES, name))

    def keep(self, name: str, path: Path) -> None:
        """Dump a database into a file.

        Raises:
            RestoreError: it failed; then there is no such file.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        with draft.open("wb") as file:
            piped([*_AS_POSTGRES, "pg_dump", "-Fc", name], stdout=file)
        draft.rename(path)

    def load(self, name: str, path: Path) -> None:
        """Make a database what a dump says, in one transaction.

        Raises:
            RestoreError: it failed, and nothing has changed.
        """
        options = f"-c lock_timeout={_PATIENCE}s"
        with path.open("rb") as file:
            piped(
                [*_AS_POSTGRES, "env", f"PGOPTIONS={options}", "pg_restore", "--clean",
                 "--if-exists", "--single-transaction", "--exit-on-error", "-d", name],
                stdin=file,
            )  # fmt: skip
        # The planner knows nothing of tables that were just made.
        self._psql("ANALYZE", name)


_AS_POSTGRES = ("runuser", "-u", "postgres", "--")


def _wanted(request: Request, backup: Backup, snapshot: Snapshot) -> dict[str, int]:
    """The databases that come back, with the bytes of their dumps."""
    found = {
        name.removesuffix(".dump"): size
        for name, size in backup.files(snapshot, STAGE / "database").items()
        if name.endswith(".dump")
    }
    if unknown := set(request.names) - set(found):
        raise RestoreError(
            f"{', '.join(sorted(unknown))}: no such database in the backup; expected one of "
            f"{', '.join(sorted(found))}"
        )
    return {name: found[name] for name in sorted(request.names or found)}


def plan(request: Request, backup: Backup, cluster: Cluster) -> dict[str, Any]:
    """What would come back, and in the place of what.

    Raises:
        RestoreError: a database is not there yet.
    """
    snapshot = backup.latest("database", request.at)
    wanted = _wanted(request, backup, snapshot)
    sizes = cluster.sizes()
    if absent := set(wanted) - set(sizes):
        raise RestoreError(
            f"{', '.join(sorted(absent))}: no such database on this host; deploy it first"
        )
    return {
        **snapshot.said(),
        "databases": {
            name: {"dump": size, "bytes": sizes[name], "tables": cluster.tables(name)}
            for name, size in wanted.items()
        },
    }


def apply(request: Request, backup: Backup, cluster: Cluster, scratch: Path) -> dict[str, Any]:
    """Bring databases back, one after the other.

    Returns:
        The plan, and in `before` where dumps of what was there are.
    """
    planned = plan(request, backup, cluster)
    snapshot = backup.latest("database", request.at)
    before = {}
    for name, state in planned["databases"].items():
        path = scratch / f"{name}.dump"
        try:
            backup.file(snapshot, STAGE / "database" / path.name, path)
            if state["tables"]:
                before[name] = str(BEFORE / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump")
                cluster.keep(name, Path(before[name]))
            cluster.load(name, path)
        finally:
            path.unlink(missing_ok=True)
    return {**planned, "before": before}
