"""What was lost, from the backup: a plan first, then the deed.

    python -m deploy.restore --env production plan mailbox anv --at "2026-11-20 08:00"
    python -m deploy.restore --env production apply directory --at "2026-11-20 08:00"
    python -m deploy.restore --env production apply directory anv@tiengiang.gov.vn --at -2h
    python -m deploy.restore --env production apply database roundcube --at yesterday
    python -m deploy.restore --env production apply host store1
    python -m deploy.restore --env production apply site --from second

`plan` says what would happen and changes nothing; `apply` says it, too, and does it. Times are
those of the province's clock; what comes back is the last backup not after that time. Each host
reads the backup with its own credentials. What each restore leaves alone is said in `roles/backup`:
mail that arrived since stays in any case.

`host` and `site` rebuild from nothing: hosts that are fresh Debian machines are deployed, get their
data, and are deployed to the end. Who restored what is in the journal of a directory host.

Exit codes: 0 done, or nothing to do; 2 the plan has changes; 1 an error, or something could not be
brought back, which is printed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from deploy import restore_mail, restore_targets
from deploy.hosts import everywhere, first, noted, search, shell, ssh
from deploy.moments import joined, passed, zone
from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR, run
from roles.archive.settings import ArchiveSettings
from roles.backup.deploy import CLIENTS
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost, load
from roles.directory.tree import CONTAINERS

COMMAND = "/usr/local/sbin/site-restore"
_SHOWN_MOST = 20
"""Entries of each kind that a plan names."""
_QUIET = "systemctl stop site-backup.timer site-backup.service 2>/dev/null || true"
"""What comes back is not backed up half; the deploy at the end starts the timer again."""


@dataclass(frozen=True)
class Step:
    """One step of a rebuild."""

    words: str
    work: Callable[[], list[str]]
    """Does it; what could not be brought back."""
    on: str = ""
    """The one host that is busy with it, if it is one: on others the next such steps run beside."""


def asked(
    site: Site, host: SiteHost, job: str, request: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What `site-restore` answers on a host.

    Args:
        site: the site.
        host: which holds the data.
        job: such as `directory plan`.
        request: what is asked for.

    Raises:
        SiteError: it was not done, with the reason.
    """
    done = subprocess.run(
        ssh(site, host, f"{COMMAND} {job}"), input=json.dumps(request or {}, ensure_ascii=False),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SiteError(f"{host.name}: {done.stderr.strip() or 'did not answer'}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def say(lines: Iterable[str]) -> None:
    """Print lines at once: somebody waits for them."""
    for line in lines:
        # Whole, though two hosts are spoken of at a time.
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def at(site: Site, text: str) -> datetime:
    """The moment that is asked for; now, where none is.

    Raises:
        SiteError: it is no moment, or it has not come yet.
    """
    now = datetime.now(zone(site))
    return passed(text, now) if text else now


def taken(site: Site, answer: dict[str, Any]) -> str:
    """When the backup was made, by the province's clock."""
    return f"{datetime.fromisoformat(answer['taken']).astimezone(zone(site)):%Y-%m-%d %H:%M:%S}"


# -- the directory ---------------------------------------------------------------------------------


def directory_request(site: Site, moment_: datetime, options: argparse.Namespace) -> dict[str, Any]:
    """What a directory host is asked for."""
    return {
        "at": moment_.isoformat(), "base": site.base_dn, "entry": options.entry,
        "containers": [f"ou={name},{site.base_dn}" for name in CONTAINERS],
        "exact": options.exact, "source": options.source,
    }  # fmt: skip


def directory_shown(site: Site, answer: dict[str, Any]) -> list[str]:
    """The plan of a directory in words."""
    lines = [f"the directory as it was at {taken(site, answer)}:"]
    if answer["loaded"]:
        return [*lines, f"  is empty now: all {answer['loaded']} entries are loaded, with the log"]
    for key, words in (
        ("added", "come back"), ("deleted", "were made since and go"),
        ("stays", "were made since and stay"),
        ("revoked", "passwords for applications stay revoked"),
    ):  # fmt: skip
        lines += _some(answer[key], words)
    lines += _some(
        [line for change in answer["modified"] for line in _change(change)],
        "values become what they were", len(answer["modified"]),
    )  # fmt: skip
    lines += _some([f"{dn}: {why}" for dn, why in answer["refused"].items()], "CANNOT come back")
    return lines if len(lines) > 1 else [*lines, "  nothing differs"]


def _change(change: dict[str, Any]) -> list[str]:
    values = [
        f"    {name}: {', '.join(values) or 'none'}"
        for name, values in change["attributes"].items()
    ]
    return [change["dn"], *values]


def _some(lines: Sequence[str], words: str, count: int | None = None) -> list[str]:
    if not lines:
        return []
    shown = [f"    {line}" for line in lines[:_SHOWN_MOST]]
    more = len(lines) - len(shown)
    return [
        f"  {len(lines) if count is None else count} {words}:", *shown,
        *([f"    … and {more} lines more (--json has all)"] if more else []),
    ]  # fmt: skip


def directory_back(site: Site, request: dict[str, Any]) -> list[str]:
    """Bring the directory back; what is still not as it was."""
    told, *others = site.group("directory")
    planned = asked(site, told, "directory plan", request)
    # Of a directory that is loaded, another host must not keep entries that it made on its own.
    alone = others if planned["loaded"] else []
    for host in alone:
        asked(site, host, "directory empty", request)
    try:
        done = asked(site, told, "directory apply", request)
    finally:
        for host in alone:
            shell(site, host, "systemctl start slapd.service")
    left = [f"{told.name}: {dn}: is not as it was" for dn in done["left"]]
    left += [f"{told.name}: {dn}: {why}" for dn, why in done["refused"].items()]
    return [*left, *([done["words"]] if done["words"] else [])]


def directory(site: Site, options: argparse.Namespace) -> int:
    """The directory at a time, or one entry of it."""
    request = directory_request(site, at(site, options.at), options)
    with restore_targets.reached(site, site.group("directory")[:1], options.source):
        return _directory(site, request, options)


def _directory(site: Site, request: dict[str, Any], options: argparse.Namespace) -> int:
    planned = asked(site, site.group("directory")[0], "directory plan", request)
    if options.json:
        say([json.dumps(planned, ensure_ascii=False, indent=1)])
    else:
        say(directory_shown(site, planned))
    changes = any(planned[key] for key in ("added", "modified", "deleted", "loaded"))
    if options.action == "plan":
        return EXIT_CHANGES if changes else EXIT_DONE
    noted(site, f"restore directory at {options.at} of", options.entry or "everybody")
    faults = directory_back(site, request)
    say(faults or ["done: compared once more, nothing differs"])
    say(["the registry may want something else: see `make accounts-plan` before the next deploy"])
    return EXIT_ERROR if faults else EXIT_DONE


# -- the databases ---------------------------------------------------------------------------------


def database_request(moment_: datetime, options: argparse.Namespace) -> dict[str, Any]:
    """What the database host is asked for."""
    return {"at": moment_.isoformat(), "names": options.names, "source": options.source}


def database_shown(site: Site, answer: dict[str, Any]) -> list[str]:
    """The plan of databases in words."""
    return [f"the databases as they were at {taken(site, answer)}:"] + [
        f"  {name}: its dump has {state['dump'] / 2**20:.1f} MiB; "
        + (
            f"what is there now ({state['tables']} tables, {state['bytes'] / 2**20:.1f} MiB) is "
            "dumped first, then replaced: what was written since is in that dump alone"
            if state["tables"]
            else "it is empty now"
        )
        for name, state in answer["databases"].items()
    ]


def database_back(site: Site, request: dict[str, Any]) -> dict[str, str]:
    """Bring databases back; where dumps of what was there before are."""
    before: dict[str, str] = asked(
        site, site.group("database")[0], "database apply", request
    )["before"]  # fmt: skip
    return before


def database(site: Site, options: argparse.Namespace) -> int:
    """Databases at a time."""
    request = database_request(at(site, options.at), options)
    with restore_targets.reached(site, site.group("database")[:1], options.source):
        return _database(site, request, options)


def _database(site: Site, request: dict[str, Any], options: argparse.Namespace) -> int:
    told = site.group("database")[0]
    planned = asked(site, told, "database plan", request)
    say(database_shown(site, planned))
    if options.action == "plan":
        return EXIT_CHANGES
    noted(site, f"restore database at {options.at} of", " ".join(planned["databases"]))
    for name, path in database_back(site, request).items():
        say([f"{name}: what was there before is in {told.name}:{path}"])
    say(["done"])
    return EXIT_DONE


# -- hosts from nothing ----------------------------------------------------------------------------


def held(host: SiteHost) -> list[str]:
    """The parts of a host that are files."""
    return ["keys", *(["archive", "mail"] if host.serves("store") else [])]


def steps(site: Site, hosts: Sequence[SiteHost], options: argparse.Namespace) -> list[Step]:
    """What rebuilds hosts, in the order in which they need each other.

    Args:
        site: the site.
        hosts: those that are lost.
        options: of the command line.
    """
    names = [host.name for host in hosts]
    moment_ = at(site, options.at)
    everything = len(names) == len(site.hosts)
    limit = [] if everything else names
    of = f" of {', '.join(names)}"
    holders = [host for host in hosts if host.serves(*CLIENTS)]
    result = [Step(f"deploy the foundation{of}", lambda: _deployed(site, "foundation", limit))]
    result.append(Step("no backup begins meanwhile", lambda: _said(site, holders, _QUIET)))

    if options.source:
        result.append(Step(
            f"they learn how {options.source} is reached",
            lambda: _reachable(site, holders, options.source),
        ))  # fmt: skip

    lost = [host for host in site.group("directory") if host in hosts]
    if lost and len(lost) == len(site.group("directory")):
        asked_for = argparse.Namespace(entry="", exact=False, source=options.source)
        request = directory_request(site, moment_, asked_for)
        result.append(Step(
            f"the directory on {lost[0].name}, loaded as a whole",
            lambda: directory_back(site, request),
        ))  # fmt: skip
    merged: dict[str, list[str]] = {}
    for host in holders:
        files = {
            "at": moment_.isoformat(), "parts": held(host), "source": options.source,
            "archive": site.of(ArchiveSettings, host.name).folder,
        }  # fmt: skip
        result.append(Step(
            f"{', '.join(held(host))} of {host.name}",
            lambda host=host, files=files: _files_back(site, host, files, merged),  # type: ignore[misc]
            on=host.name,
        ))  # fmt: skip
    if site.group("database")[0] in hosts:
        databases = {"at": moment_.isoformat(), "names": [], "source": options.source}
        result.append(Step(
            f"the databases on {site.group('database')[0].name}",
            lambda: _databases_back(site, databases),
            on=site.group("database")[0].name,
        ))  # fmt: skip
    result.append(Step(f"deploy everything{of}", lambda: _deployed(site, "site", limit)))
    if any(host.serves("store") for host in hosts):
        result.append(Step(
            "letters of mailboxes that were there already",
            lambda: _merged(site, merged, moment_, options.source),
        ))  # fmt: skip
    return result


def _deployed(site: Site, deploy: str, limit: list[str]) -> list[str]:
    if run("apply", deploy, site.environment, limit, sys.stdout) != EXIT_DONE:
        raise SiteError(f"the deploy of {deploy} failed; when that is mended, run this again")
    return []


def _said(site: Site, hosts: Sequence[SiteHost], command: str) -> list[str]:
    _, faults = everywhere(site, hosts, command)
    if faults:
        raise SiteError("\n".join(faults))
    return []


def _reachable(site: Site, hosts: Sequence[SiteHost], source: str) -> list[str]:
    restore_targets.put(site, hosts, source)
    return []


def _databases_back(site: Site, request: dict[str, Any]) -> list[str]:
    database_back(site, request)
    return []


def _files_back(
    site: Site, host: SiteHost, request: dict[str, Any], merged: dict[str, list[str]]
) -> list[str]:
    done = asked(site, host, "host apply", request)
    for part, state in done.items():
        say([f"  {host.name}: {part}: {state.get('none') or f'as at {taken(site, state)}'}"])
    mail = done.get("mail", {})
    if "whole" in mail:
        say([f"  {host.name}: mail: {len(mail['whole'])} mailboxes as a whole, "
             f"{len(mail['merged'])} to merge"])  # fmt: skip
        merged[host.name] = mail["merged"]
    return []


def _merged(site: Site, homes: dict[str, list[str]], moment_: datetime, source: str) -> list[str]:
    """Bring letters back to mailboxes that were there already."""
    if not any(homes.values()):
        return []
    found = search(site, site.base_dn, "(objectClass=mailboxAccount)", "mail", "mailboxState")
    known = {restore_mail.place(dn): first(entry, "mail") for dn, entry in found}
    faults = []
    for name, wanted in homes.items():
        for number, home in enumerate(wanted, 1):
            if home not in known:
                faults.append(f"{name}: {home}: belongs to nobody in the directory")
                continue
            options = argparse.Namespace(
                job="mailbox", address=known[home], at=f"{moment_:%Y-%m-%d %H:%M:%S}",
                beside=False, source=source,
            )  # fmt: skip
            try:
                store, what = restore_mail.request(site, options, datetime.now(zone(site)))
                done = restore_mail.asked(site, store, "apply", what)
            except SiteError as error:
                faults.append(f"{known[home]}: {error}")
                continue
            say([f"  {number} of {len(wanted)}: {known[home]}: {done['letters']} letters"])
    return faults


def rebuild(site: Site, hosts: Sequence[SiteHost], options: argparse.Namespace) -> int:
    """Hosts from nothing, or what of it is not done yet."""
    todo = steps(site, hosts, options)
    when = f"{at(site, options.at):%Y-%m-%d %H:%M}"
    source = options.source or ", ".join(host.name for host in site.group("backup"))
    say([f"{', '.join(host.name for host in hosts)}: the last backup not after {when}, "
         f"from {source}"])  # fmt: skip
    say(f"  {number}. {step.words}" for number, step in enumerate(todo, 1))
    if options.action == "plan":
        return EXIT_CHANGES
    begun, faults = time.monotonic(), []
    try:
        for _, some in groupby(enumerate(todo, 1), key=lambda one: bool(one[1].on)):
            faults += _side_by_side(list(some))
    finally:
        if options.source:
            holders = [host for host in hosts if host.serves(*CLIENTS)]
            if not restore_targets.take_away(site, holders):
                faults.append(f"not every host forgot how {options.source} is reached")
    noted(site, f"restore at {when} of", ", ".join(host.name for host in hosts))
    say(faults)
    say([f"{'NOT ALL ' if faults else ''}done in {(time.monotonic() - begun) / 60:.1f} min"])
    return EXIT_ERROR if faults else EXIT_DONE


def _side_by_side(steps: Sequence[tuple[int, Step]]) -> list[str]:
    """Do numbered steps: those on one host one after the other, each host beside the others.

    Raises:
        SiteError: a host failed; the others have done what is theirs.
    """
    by_host: dict[str, list[tuple[int, Step]]] = {}
    for number, step in steps:
        by_host.setdefault(step.on, []).append((number, step))

    def on_one(own: Sequence[tuple[int, Step]]) -> list[str]:
        faults = []
        for number, step in own:
            start = time.monotonic()
            say([f"{number}. {step.words}"])
            faults += step.work()
            say([f"   {number}. done in {time.monotonic() - start:.0f} s"])
        return faults

    with ThreadPoolExecutor(len(by_host)) as pool:
        running = [pool.submit(on_one, own) for own in by_host.values()]
    failed = [error for one in running if (error := one.exception())]
    for error in failed:
        if not isinstance(error, SiteError):
            raise error
    if failed:
        raise SiteError("\n".join(map(str, failed)))
    return [fault for one in running for fault in one.result()]


def host(site: Site, options: argparse.Namespace) -> int:
    """One host from nothing."""
    if options.name not in site.hosts:
        raise SiteError(
            f"host {options.name}: no such host in {site.environment}; expected one of "
            f"{', '.join(sorted(site.hosts))}"
        )
    return rebuild(site, [site.hosts[options.name]], options)


def whole_site(site: Site, options: argparse.Namespace) -> int:
    """The whole site from nothing but the backup."""
    return rebuild(site, list(site.hosts.values()), options)


# -- the command line ------------------------------------------------------------------------------

JOBS: dict[str, tuple[Callable[[Site, argparse.Namespace], int], str]] = {
    "directory": (directory, "units, people, mailboxes and passwords, or one entry"),
    "database": (database, "the webmail's database, or Bayes'"),
    "host": (host, "one host, from nothing"),
    "site": (whole_site, "all hosts, from nothing"),
}


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    result = argparse.ArgumentParser(
        prog="python -m deploy.restore", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    result.add_argument("--env", required=True, help="a folder in inventories/")
    actions = result.add_subparsers(dest="action", required=True)
    for action, text in (("plan", "say what would happen"), ("apply", "do it")):
        jobs = actions.add_parser(action, help=text).add_subparsers(dest="job", required=True)
        restore_mail.add_jobs(jobs)
        for name, (_, words) in JOBS.items():
            job = jobs.add_parser(name, help=words)
            from_nothing = name in ("host", "site")
            job.add_argument(
                "--at", required=not from_nothing, default="",
                help="the last backup not after this time" + (", now" if from_nothing else ""),
            )  # fmt: skip
            job.add_argument("--from", dest="source", default="", help="a further target")
        directory_ = jobs.choices["directory"]
        directory_.add_argument(
            "entry", nargs="?", default="", help="one entry: DN, address, number or code"
        )
        directory_.add_argument("--exact", action="store_true", help="what was made since goes")
        directory_.add_argument("--json", action="store_true", help="the plan for programs")
        jobs.choices["database"].add_argument(
            "names", nargs="*", help="such as roundcube; by default all"
        )
        jobs.choices["host"].add_argument("name", help="of the inventory")
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and do it."""
    options = parser().parse_args(joined(sys.argv[1:] if arguments is None else arguments))
    try:
        site = load(options.env)
        if options.source:
            # Before anything is asked or done.
            restore_targets.check(site, options.source)
        if options.job in restore_mail.JOBS:
            changes = restore_mail.run(site, options)
            return EXIT_CHANGES if changes and options.action == "plan" else EXIT_DONE
        return JOBS[options.job][0](site, options)
    except SiteError as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
