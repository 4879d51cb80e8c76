"""Copies of backups at further targets: how one is reached, `targets.py` says."""

import json
import logging
from collections.abc import Sequence

from roles.backup.moments import moment
from roles.backup.repositories import KeeperError, Repositories, batches
from roles.backup.retention import Snapshot, forgettable
from roles.backup.targets import Target, TargetError

log = logging.getLogger("site-backup-keeper")


def copy(repositories: Repositories, host: str, only: str = "") -> None:
    """Copy the last backup of each part of a host to further targets, and forget there.

    Args:
        repositories: all of this host.
        host: the host.
        only: the one target; by default every one.

    Raises:
        KeeperError: there is no such target; or one did not take it, or could not be read.
    """
    targets = repositories.config.targets
    if only and only not in targets:
        expected = ", ".join(targets) or "none is set"
        raise KeeperError(f"{only}: no further target; expected one of {expected}")
    if not targets:
        return
    repositories.see_open(host)
    every = repositories.snapshots(host)
    if not any(one.part for one in every):
        # That there should be one by now is another alarm.
        log.info("%s: there is no backup yet", host)
        return
    failed = []
    for name, target in targets.items():
        if only not in ("", name):
            continue
        begin, words = repositories.now().isoformat(timespec="seconds"), ""
        try:
            _copied(repositories, host, target, every)
            log.info("%s: copied to %s", host, name)
        except (KeeperError, TargetError, OSError, ValueError) as error:
            words = str(error)
            failed.append(f"{name}: {error}")
        records = repositories.noted("copies")
        before = records.setdefault(name, {}).get(host, {})
        records[name][host] = {
            "at": begin, "good": not words, "words": words,
            "copied": before.get("copied", "") if words else begin,
        }  # fmt: skip
        repositories.note("copies", records)
    if failed:
        raise KeeperError("; ".join(failed))


def _copied(
    repositories: Repositories, host: str, target: Target, every: Sequence[Snapshot]
) -> None:
    config = repositories.config
    source = [
        "--from-repo", str(config.folder / host), "--from-password-file", str(config.password),
        *repositories.hint(host, "--from-key-hint"),
    ]  # fmt: skip
    wanted = [
        trusted[-1].id
        for part in config.hosts[host]
        if (trusted := repositories.trusted([one for one in every if one.part == part]))
    ]
    if not wanted:
        raise KeeperError("there is no backup that could be copied")
    limit = [f"--limit-upload={target.upload_limit}"] if target.upload_limit else []
    with target.reached(host) as (options, environment):

        def there(*arguments: str, cached: bool = False) -> str:
            cache = ["--cache-dir", str(config.state / "cache")] if cached else ["--no-cache"]
            return repositories.run(["restic", *options, *limit, *cache, *arguments], environment)

        try:
            asked = ["restic", *options, "--no-cache", "--no-lock", "cat", "config"]
            repositories.opened(asked, environment)
        except KeeperError as first:
            try:
                # Cut into the same pieces, so that what is there is known again.
                there("init", "--copy-chunker-params", *source)
            except KeeperError:
                raise first from None
        # Locks of runs that ended without removing them; never one of a run that goes on.
        there("unlock", "--quiet")
        there("copy", "--quiet", "--retry-lock=1h", *source, *wanted)
        if target.prune and repositories.is_sound(host):
            items = json.loads(there("snapshots", "--json", "--no-lock")) or []
            # Their times were judged before they were copied.
            found = [repositories.snapshot(host, item, moment(item["time"])) for item in items]
            gone = forgettable(found, config.policy_of(target.keep), repositories.now())
            for batch in batches(gone):
                there("forget", "--quiet", "--retry-lock=1h", *batch)
            if gone:
                there("prune", "--quiet", "--retry-lock=1h", cached=True)
