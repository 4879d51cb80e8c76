"""`site-backup`: what this host holds, part by part, into its repository.

    site-backup run [PART…]             back up all parts, or these
    site-backup alarm                   a letter to the postmaster when that was too long ago
    site-backup list                    snapshots, the newest last
    site-backup restic [--from NAME] -- ARGS…   restic with this host's credentials

How consistent each part is:

- `directory`: slapcat reads each database in one transaction of LMDB, while slapd goes on. The data
  comes first, the audit log behind it: the log has every change that the data has, or more;
- `database`: pg_dump reads each database in one snapshot of PostgreSQL;
- `mail`: each home as it was at one moment (`mail.py`);
- `archive`: files that are written beside their places and never change;
- `keys`: small files, copied.

Every stage has a file MANIFEST: a line `SHA256 SIZE PATH` for each file, sorted by path; paths are
those below the stage, of the archive whole ones.

One run at a time: another one waits. A part that fails fails the run, and no other part. Exit
codes: 0 done; 1 a part failed, with its reason in the journal; 2 `alarm` found one.
"""

import argparse
import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from roles.backup import abandoned, journal, records
from roles.backup.absence import Absence
from roles.backup.letters import Letters, NotTakenError
from roles.backup.locks import held
from roles.backup.refusals import tries_again, watched
from roles.backup.stages import MAIL, MAIL_STAGE, MANIFEST, digest
from roles.backup.targets import ON_CLIENT, TargetError
from roles.backup.targets import read as read_targets

CONFIG = Path("/etc/site-backup/client.toml")
LOCK = Path("/run/site-backup.lock")
_KEYS = ("etc/site-tls/*.pem", "etc/ssh/ssh_host_*", "etc/dkimkeys/site.private")
"""Files below / that a new host must have again: by them others know it, or what it sends."""
_SLAPD, _AUDIT = Path("/etc/ldap/slapd.d"), "cn=accesslog"
_SLAPD_LOCK = Path("/run/site-directory.lock")
"""Held by whoever changes slapd's configuration or databases as files."""

log = logging.getLogger("site-backup")


class PartError(Exception):
    """A part could not be backed up."""


@dataclass(frozen=True)
class Config:
    """What the role wrote into the program's file."""

    host: str
    repository: str
    login: Path
    password: Path
    authority: Path
    base: str
    parts: tuple[str, ...]
    archive: Path
    state: Path
    upload_limit: int
    """KiB a second; 0: none."""
    alone: int
    """Seconds without a backup after which the host says so itself."""

    @classmethod
    def read(cls, path: Path = CONFIG) -> Self:
        """The file of the role."""
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        for name in ("login", "password", "authority", "archive", "state"):
            values[name] = Path(values[name])
        return cls(**{**values, "parts": tuple(values["parts"])})

    @property
    def stage(self) -> Path:
        """Where what is dumped lies while it is read."""
        return self.state / "stage"

    @property
    def absence(self) -> Absence:
        """What the host knows of its own backups."""
        return Absence(self.state, self.host, self.parts, self.alone)


class Client:
    """This host as it backs itself up."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def restic(self) -> tuple[list[str], dict[str, str]]:
        """The command line that runs restic, and its environment."""
        config = self.config
        environment = {
            **os.environ,
            "RESTIC_REPOSITORY": config.repository,
            "RESTIC_PASSWORD_FILE": str(config.password),
            "RESTIC_REST_USERNAME": config.host,
            "RESTIC_REST_PASSWORD": config.login.read_text(encoding="utf-8").strip(),
            "RESTIC_CACERT": str(config.authority),
            "RESTIC_CACHE_DIR": str(config.state / "cache"),
            "RESTIC_PROGRESS_FPS": "0.1",
        }
        limit = [f"--limit-upload={config.upload_limit}"] if config.upload_limit else []
        return ["restic", *limit, "--retry-lock=15m"], environment

    @contextmanager
    def restic_at(self, source: str) -> Iterator[tuple[list[str], dict[str, str]]]:
        """The same for what a further target has of this host.

        Args:
            source: its name.

        Raises:
            PartError: nobody has said how to reach it.
            TargetError: what was said opens another host's repository.
        """
        known = read_targets(ON_CLIENT) if ON_CLIENT.exists() else {}
        if source not in known:
            raise PartError(f"--from {source}: {ON_CLIENT} has none; deploy.restore puts it there")
        command, environment = self.restic()
        # Others than the server's; and its certificate may be of any authority.
        for name in ("RESTIC_PASSWORD_FILE", "RESTIC_CACERT"):
            del environment[name]
        with known[source].reached(self.config.host) as (options, own):
            yield [*command, *options], environment | own

    def all(self, parts: Sequence[str]) -> int:
        """Back up, when nobody else does; the exit code.

        Args:
            parts: which; all by default.

        Raises:
            PartError: this host has no such part.
        """
        unknown = set(parts) - {*self.config.parts}
        if unknown:
            raise PartError(
                f"{', '.join(sorted(unknown))}: no part of this host; expected some of "
                f"{', '.join(self.config.parts)}"
            )
        with held(LOCK, "another run"):
            _tidy()
            return 1 if self.run(parts or self.config.parts) else 0

    def run(self, parts: Sequence[str]) -> int:
        """Back parts up, one after the other; how many failed."""
        failed = 0
        for part in parts:
            try:
                PARTS[part](self)
                self.config.absence.succeeded(part, datetime.now(UTC))
            except (PartError, OSError, KeyError, ValueError) as error:
                log.error("%s: failed: %s", part, error)
                failed += 1
        return failed

    def snapshot(
        self, part: str, begun: datetime, *paths: Path, options: Sequence[str] = ()
    ) -> None:
        """Send what lies in folders.

        Args:
            part: what it is.
            begun: when it began to be read on this host: the snapshot bears this time, for of what
                came later it may lack something. When restic began, nothing was staged any more:
                that it notes by itself.
            paths: the folders.
            options: further ones of `restic backup`.

        Raises:
            PartError: restic failed, or could not read everything.
        """
        command, environment = self.restic()

        def told(line: str) -> None:
            if tries_again(line):
                log.warning("%s: restic: %s", part, line)

        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            done = watched(
                [*command, "backup", "--json", "--quiet", "--host", self.config.host, "--tag",
                 f"part={part}", "--group-by", "host,tags",
                 f"--time={begun.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}",
                 *options, *map(str, paths)],
                # By whose clock restic reads the time.
                {**environment, "TZ": "UTC"}, told, output,
            )  # fmt: skip
            output.seek(0)
            printed = output.read()
        if done.refused:
            raise PartError(
                f"the backup host does not take it ({done.refused}): its disk is full, or this "
                "host is shut out; there: site-backup-keeper status"
            )
        if done.code:
            raise PartError(f"restic: {done.words}")
        said = json.loads(printed.splitlines()[-1])
        log.info(
            "%s: snapshot %s, %d files, %d bytes, %d of them new", part, said["snapshot_id"][:8],
            said["total_files_processed"], said["total_bytes_processed"], said["data_added"],
        )  # fmt: skip

    @contextmanager
    def staged(self, part: str) -> Iterator[Path]:
        """A folder for the dumps of a part, which is empty before and gone afterwards."""
        folder = self.config.stage / part
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _tidy() -> None:
    try:
        for path in abandoned.forget():
            log.info("%s: of a restore that failed and was not run again: removed", path)
    except OSError as error:
        # No reason to be without a backup.
        log.error("what restores left could not be removed: %s", error)


def dump(command: Sequence[str], target: Path, user: str = "root") -> None:
    """What a command prints, as a file.

    Args:
        command: the command.
        target: the file, which root alone reads.
        user: who runs it.

    Raises:
        PartError: the command failed.
    """
    with target.open("wb") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd="/",
            user=user, group=user, extra_groups=[], check=False,
        )  # fmt: skip
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise PartError(f"{' '.join(command[:8])}: {words or f'exit code {done.returncode}'}")


def describe(folder: Path) -> None:
    """Write the MANIFEST of a stage."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    text = "".join(
        f"{digest(path)} {path.stat().st_size} {path.relative_to(folder)}\n" for path in files
    )
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _directory(client: Client) -> None:
    begun = datetime.now(UTC)
    slapcat = ["slapcat", "-F", str(_SLAPD), "-o", "ldif-wrap=no"]
    with client.staged("directory") as folder:
        with held(_SLAPD_LOCK, "a change of slapd's configuration"):
            dump([*slapcat, "-n0"], folder / "config.ldif", "openldap")
            dump([*slapcat, "-b", client.config.base], folder / "data.ldif", "openldap")
            dump([*slapcat, "-b", _AUDIT], folder / "accesslog.ldif", "openldap")
        for name, suffix in (
            ("config", "cn=config"), ("data", client.config.base), ("accesslog", _AUDIT),
        ):  # fmt: skip
            # Of an empty database slapcat prints nothing, and is content.
            with (folder / f"{name}.ldif").open(encoding="utf-8") as file:
                if file.readline().strip().lower() != f"dn: {suffix}".lower():
                    raise PartError(f"slapcat: {suffix} is empty; expected its entries")
        describe(folder)
        client.snapshot("directory", begun, folder)


def _database(client: Client) -> None:
    begun = datetime.now(UTC)
    with client.staged("database") as folder:
        query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        dump(["psql", "-XAtqc", query], folder / "names", "postgres")
        names = (folder / "names").read_text(encoding="utf-8").split()
        (folder / "names").unlink()
        if not names:
            raise PartError("there is no database")
        for name in names:
            # Uncompressed: restic finds what is the same in the next one, and compresses.
            target = folder / f"{name}.dump"
            dump(["pg_dump", "-Fc", "-Z0", name], target, "postgres")
            dump(["pg_restore", "--list", str(target)], Path(os.devnull))
        dump(["pg_dumpall", "--globals-only"], folder / "globals.sql", "postgres")
        describe(folder)
        client.snapshot("database", begun, folder)


def _mail(client: Client) -> None:
    owner = pwd.getpwnam("vmail")
    known = client.config.state / "mail" / "known.sqlite"

    def stage(action: str) -> int:
        done = subprocess.run(
            [sys.executable, "-B", "-m", "roles.backup.mail", action, "--mail", str(MAIL),
             "--stage", str(MAIL_STAGE), "--known", str(known)],
            user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], stdout=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
        log.info("mail: %s: %s", action, done.stdout.strip())
        return done.returncode

    begun = datetime.now(UTC)
    try:
        taken = stage("take")
        # Homes that are missing from the stage fail the part; the others are sent nevertheless.
        if not (MAIL_STAGE / MANIFEST).exists():
            raise PartError("there is no stage; see above")
        # Linking changes the time of an inode, not the letter.
        client.snapshot("mail", begun, MAIL_STAGE, options=["--ignore-ctime"])
    finally:
        with _unended():
            released = stage("release")
    if taken:
        raise PartError("homes are missing from the snapshot; see above")
    if released:
        raise PartError("links of the stage are left; see above")


@contextmanager
def _unended() -> Iterator[None]:
    """SIGTERM waits, for this process and for what it starts: systemd sends it to all of them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _archive(client: Client) -> None:
    begun = datetime.now(UTC)
    archive = client.config.archive
    known = client.config.state / "archive.json"
    before = records.read(known)
    digests: dict[str, list[Any]] = {}
    # The nightly run of archives waits meanwhile; what it is writing is in `work`.
    with client.staged("archive") as folder, held(archive / "lock", "site-archive"):
        for path in sorted(path for path in archive.rglob("*") if path.is_file()):
            if path.relative_to(archive).parts[0] in ("lock", "work"):
                continue
            status = path.stat()
            state = [status.st_ino, status.st_mtime_ns, status.st_size]
            last = before.get(str(path), [])
            # Archives never change: each is read once.
            digests[str(path)] = [*state, last[3] if last[:3] == state else digest(path)]
        (folder / MANIFEST).write_text(
            "".join(f"{sha256} {size} {path}\n" for path, (_, _, size, sha256) in digests.items()),
            encoding="utf-8",
        )
        work = ["--exclude", str(archive / "work"), "--exclude", str(archive / "lock")]
        client.snapshot("archive", begun, archive, folder, options=work)
    records.write(known, digests)


def _keys(client: Client) -> None:
    begun = datetime.now(UTC)
    with client.staged("keys") as folder:
        for pattern in _KEYS:
            for path in sorted(Path("/").glob(pattern)):
                if path.is_file():
                    target = folder / path.relative_to("/")
                    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                    shutil.copy2(path, target)
                    status = path.stat()
                    os.chown(target, status.st_uid, status.st_gid)
        describe(folder)
        client.snapshot("keys", begun, folder)


PARTS: dict[str, Callable[[Client], None]] = {
    "directory": _directory,
    "database": _database,
    "mail": _mail,
    "archive": _archive,
    "keys": _keys,
}


def passed_on(command: Sequence[str], environment: Mapping[str, str], source: str = "") -> int:
    """Run restic for whoever asked; what it says is shown as it comes.

    Args:
        command: its command line.
        environment: its environment.
        source: the further target that it asks; empty for the backup host.

    Returns:
        Its exit code.
    """
    where = source or "the backup host"

    def told(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    done = watched(command, environment, told, patient=not source)
    if done.unlocked and "--no-lock" not in command:
        # Nothing was read yet, nor printed.
        log.warning("%s takes no lock (%s): without one", where, done.refused)
        done = watched([*command, "--no-lock"], environment, told, patient=not source)
    if done.refused:
        log.error("%s does not take it (%s)", where, done.refused)
    return done.code


def _end(*_: object) -> None:
    """End the run once: what tidies up then, and what it starts, is not ended again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="site-backup", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    run = jobs.add_parser("run", help="back up")
    run.add_argument("parts", nargs="*", metavar="PART", help="all by default")
    jobs.add_parser("alarm", help="tell the postmaster of missing backups")
    jobs.add_parser("list", help="what there is")
    plain = jobs.add_parser("restic", help="restic, on this host's repository")
    plain.add_argument("--from", dest="source", default="", help="a further target")
    plain.add_argument("arguments", nargs="+")
    options = parser.parse_args(arguments)
    journal.begin()
    os.umask(0o077)
    # Whoever ends a run still gets the stage of mail released, and the lock.
    signal.signal(signal.SIGTERM, _end)
    client = Client(Config.read())
    try:
        if options.job == "run":
            return client.all(options.parts)
        if options.job == "alarm":
            letters = Letters.read()
            found = client.config.absence.tell(letters, letters.post, datetime.now(UTC))
            return 2 if found else 0
        source = getattr(options, "source", "")
        wanted = options.arguments if options.job == "restic" else ["snapshots"]
        with client.restic_at(source) if source else nullcontext(client.restic()) as reached:
            command, environment = reached
            code = passed_on([*command, *wanted], environment, source)
            if code and source:
                # For the reason that the way there may know.
                raise PartError(f"--from {source}: restic failed (exit code {code})")
            return code
    except (PartError, TargetError, NotTakenError, OSError) as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
