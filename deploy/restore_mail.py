"""Letters, folders and mailboxes from the backup, for `python -m deploy.restore`.

    … plan message anv@tiengiang.gov.vn --at "2026-11-20 08:00" --message-id "<1@vidu.vn>"
    … apply folder anv@tiengiang.gov.vn "Đề án/2026" --at "2026-11-20 08:00"
    … apply mailbox stttt@tiengiang.gov.vn --at "2026-11-20 08:00" --beside

It runs on the mailbox's store, which reads the backup with its own credentials; what is restored,
and what "in place" and "beside" mean, says `roles/backup/restoring.py`. Where the mailbox lay on
another store at that time (`deploy.move_mailbox`), that store fetches it from its own backup, and
it is carried over through this machine. Who restored what for whom
is in the journal of a directory host.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from deploy import moments, restore_targets
from deploy.archive import mailbox
from deploy.hosts import escaped, first, noted, search, ssh
from roles.accounts.lifecycle import handover_group
from roles.archive.settings import ArchiveSettings
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost
from roles.directory.ldif import Attributes
from roles.mailstore.settings import MailstoreSettings

JOBS = {
    "message": "one letter, or several that fit",
    "folder": "a folder with those below it",
    "mailbox": "a person's or a unit's mailbox",
}
COMMAND = "/usr/local/sbin/site-restore-mail"


def add_jobs(jobs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Tell the command line what it can restore of mail."""
    for name, text in JOBS.items():
        job = jobs.add_parser(name, help=text)
        job.add_argument("address", help="of the mailbox, or a person's number")
        if name == "folder":
            job.add_argument("folder", help="as programs show it, such as 'Đề án/2026'")
        if name == "message":
            job.add_argument("--message-id", default="", help="such as '<1@vidu.vn>'")
            job.add_argument("--subject", default="", help="words of it, also without diacritics")
            job.add_argument("--day", default="", help="when it came, such as 2026-11-20")
        job.add_argument("--at", required=True, help="the last backup not after this time")
        job.add_argument("--beside", action="store_true", help="below a folder of its own")
        job.add_argument("--from", dest="source", default="", help="a further target")


def place(dn: str) -> str:
    """Where a mailbox lies on its store: `people/1042`, `mailboxes/stttt`."""
    rdn, container = dn.split(",")[:2]
    return f"{container.partition('=')[2]}/{rdn.partition('=')[2]}"


def request(site: Site, options: argparse.Namespace, now: datetime) -> tuple[SiteHost, Any]:
    """The store that is asked, and what.

    Args:
        site: the site.
        options: of the command line.
        now: with the province's time zone.

    Raises:
        SiteError: the mailbox is not in service, or the request names no letter.
    """
    dn, entry = mailbox(site, options.address)
    mail = first(entry, "mail")
    if first(entry, "mailboxState") in ("archived", "purged"):
        raise SiteError(f"{mail}: is no mailbox any more; expected one on a store")
    at = moments.passed(options.at, now)
    asked: dict[str, Any] = {}
    if options.job == "message":
        asked = {"message_id": options.message_id, "subject": options.subject, "day": options.day}
        if not (options.message_id or options.subject):
            raise SiteError("message: names no letter; expected --message-id, or --subject")
        if options.day:
            try:
                datetime.strptime(options.day, "%Y-%m-%d")
            except ValueError:
                raise SiteError(f"--day {options.day!r}: expected such as 2026-11-20") from None
    elif options.job == "folder":
        asked = {"folder": options.folder.strip("/")}
    store = site.store_host(first(entry, "mailHost").partition(".")[0])
    restored = site.of(ArchiveSettings, store.name).restore_folder
    home = place(dn)
    return store, {
        **asked, "home": home, "address": mail, "at": at.isoformat(), "restored": restored,
        "beside": f"{restored}/{at:%Y-%m-%d %H%M}" if options.beside else "",
        "source": options.source, "units": site.of(MailstoreSettings, store.name).units_folder,
        "readers": readers(site, home),
    }  # fmt: skip


def reading(site: Site, where: str) -> list[tuple[str, Attributes]]:
    """Entries of the people who may open somebody else's mailbox: a unit's, or who departed.

    Args:
        site: the site.
        where: its place.
    """
    kind, _, code = where.partition("/")
    groups = (code, f"{code}+file") if kind == "mailboxes" else (handover_group(code),)
    condition = "".join(f"(mailboxGroup={escaped(name)})" for name in groups)
    return search(site, site.base_dn, f"(&(objectClass=mailboxAccount)(|{condition}))",
                  "mail", "mailHost")  # fmt: skip


def readers(site: Site, home: str) -> dict[str, str]:
    """Homes and addresses of the people who may open a unit mailbox."""
    if not home.startswith("mailboxes/"):
        return {}
    return {place(dn): first(entry, "mail") for dn, entry in reading(site, home)}


def asked(site: Site, store: SiteHost, job: str, what: Any) -> dict[str, Any]:
    """What the store answers; its progress goes to standard error as it comes.

    Raises:
        SiteError: it failed, with the reason above.
    """
    done = subprocess.run(
        ssh(site, store, f"{COMMAND} {shlex.quote(job)}"),
        input=json.dumps(what, ensure_ascii=False), stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SiteError(f"{store.name}: not done; see above")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def found(site: Site, store: SiteHost, what: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Inside the block the mailbox as it was is at hand on its store: what is to be asked there.

    Args:
        site: the site.
        store: where it lies now.
        what: as `request` returns it.

    Raises:
        SiteError: a store did not answer, or what it had did not come over.
    """
    others = [host for host in site.group("store") if host != store]
    own = asked(site, store, "holds", what) if others else {"latest": True}
    if own.pop("latest", False):
        yield what
        return
    with restore_targets.reached(site, others, what["source"]):
        answers = {host.name: asked(site, host, "holds", what) for host in others}
        held = {name: answer for name, answer in answers.items() if answer}
        held |= {store.name: own} if own else {}
        name = max(held, key=lambda name: moment(held[name]), default=store.name)
        if name == store.name:
            yield what | {"pinned": own}
            return
        held[name].pop("latest")
        pinned = what | {"pinned": held[name]}
        sys.stderr.write(f"it lay on {name} then: from the backups of {name}\n")
        carried(site, site.hosts[name], store, pinned)
    yield pinned | {"elsewhere": True}


def moment(answer: dict[str, Any]) -> datetime:
    """When a backup was begun."""
    return datetime.fromisoformat(answer["settled"])


def carried(site: Site, source: SiteHost, target: SiteHost, what: dict[str, Any]) -> None:
    """A mailbox as it was, from a store whose backups have it to the one where it lies now.

    Raises:
        SiteError: it did not come over.
    """
    folder = PurePosixPath(asked(site, source, "bring", what)["folder"])
    above, name = shlex.quote(str(folder.parent)), shlex.quote(folder.name)
    read = f"tar -C {above} --numeric-owner --format=posix --exclude=brought.json -c {name}"
    write = f"install -d -m 700 -o vmail -g vmail {above} && tar -C {above} --numeric-owner -xp"
    try:
        with subprocess.Popen(ssh(site, source, read), stdout=subprocess.PIPE) as reading:
            writing = subprocess.run(ssh(site, target, write), stdin=reading.stdout, check=False)
        if reading.returncode or writing.returncode:
            raise SiteError(f"{target.name}: {folder}: did not come over whole; run it again")
    finally:
        asked(site, source, "forget", what)


def shown(answer: dict[str, Any], what: dict[str, Any], zone: ZoneInfo) -> list[str]:
    """A plan in words."""
    taken = datetime.fromisoformat(answer["taken"]).astimezone(zone)
    where = f"below {what['beside']!r}" if what["beside"] else "in place"
    lines = [
        f"{what['address']} as it was at {taken:%Y-%m-%d %H:%M}, {where}:",
        f"  {answer['letters']} of {answer['then']} letters come back,"
        f" {answer['bytes'] / 2**20:.1f} MiB",
    ]
    lines += [f"    {name}: {count}" for name, count in answer["by_folder"].items()]
    for key, words in (
        ("folders", "folders that are made"), ("subscriptions", "folders that are subscribed to"),
        ("scripts", "Sieve scripts"),
    ):  # fmt: skip
        if answer[key]:
            lines.append(f"  {words}: {', '.join(answer[key])}")
    return lines


def run(site: Site, options: argparse.Namespace) -> bool:
    """Print the plan, and with `options.action` of `apply` do it; whether the plan has anything.

    Raises:
        SiteError: it cannot be done.
    """
    zone = moments.zone(site)
    store, what = request(site, options, datetime.now(zone))
    noted(site, f"restore {options.action} {options.job} at {options.at} of", what["address"])
    with (
        restore_targets.reached(site, [store], options.source),
        found(site, store, what) as what,
    ):
        # What is applied is fetched once.
        plan = asked(site, store, "plan" if options.action == "plan" else "prepare", what)
        sys.stdout.write("\n".join(shown(plan, what, zone)) + "\n")
        if options.action == "apply":
            done = asked(site, store, "apply", what)
            sys.stdout.write(f"done: {done['letters']} letters came back\n")
    return any(plan[name] for name in ("letters", "folders", "subscriptions", "scripts"))
