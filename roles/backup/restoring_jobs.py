"""`site-restore` on a host: what it holds, from the backup. `python -m deploy.restore` asks for it.

    site-restore directory|database|host plan|apply <request.json
    site-restore directory empty <request.json
    site-restore snapshots

The answer is JSON. Exit codes: 0 done; 1 not, with the reason.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from roles.backup import restoring_database, restoring_directory, restoring_host
from roles.backup.locks import taken
from roles.backup.snapshots import Backup, RestoreError

SCRATCH = Path("/var/lib/site-backup/restore")
"""Dumps on their way back."""
LOCK = Path("/run/lock/site-restore")
"""Held while something comes back."""

log = logging.getLogger("site-restore")


@contextmanager
def alone() -> Iterator[None]:
    """Nothing else comes back meanwhile: what an operator cut off on his side may go on here.

    Raises:
        RestoreError: something does already.
    """
    with taken(LOCK) as free:
        if not free:
            raise RestoreError("another restore runs on this host; wait for its end")
        yield


def do(what: str, action: str, values: dict[str, Any]) -> dict[str, Any]:
    """One job.

    Args:
        what: directory, database or host.
        action: plan or apply; for a directory also empty.
        values: the request.

    Raises:
        RestoreError: it cannot be done.
    """
    SCRATCH.mkdir(mode=0o700, parents=True, exist_ok=True)
    backup = Backup(str(values.get("source", "")))
    if what == "directory":
        asked = restoring_directory.Request.read(values)
        directory = restoring_directory.Directory(asked.base)
        if action == "empty":
            directory.empty()
            return {}
        if action == "plan":
            return restoring_directory.plan(asked, backup, directory)
        return restoring_directory.apply(asked, backup, directory, SCRATCH)
    if what == "database":
        wanted = restoring_database.Request.read(values)
        cluster = restoring_database.Cluster()
        if action == "plan":
            return restoring_database.plan(wanted, backup, cluster)
        return restoring_database.apply(wanted, backup, cluster, SCRATCH)
    request = restoring_host.Request.read(values)
    files = restoring_host.Files(backup, SCRATCH)
    return files.plan(request) if action == "plan" else files.apply(request)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job; what it found is printed as JSON."""
    parser = argparse.ArgumentParser(prog="site-restore", description=__doc__)
    parser.add_argument("what", choices=["directory", "database", "host", "snapshots"])
    parser.add_argument("action", nargs="?", default="plan", choices=["plan", "apply", "empty"])
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    try:
        if options.what == "snapshots":
            found = Backup().snapshots
            answer: Any = [{**one.said(), "part": one.part} for one in found]
        else:
            with nullcontext() if options.action == "plan" else alone():
                answer = do(options.what, options.action, json.loads(sys.stdin.read()))
    except (RestoreError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
