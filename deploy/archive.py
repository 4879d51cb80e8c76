"""Archives of departed mailboxes: what is there, one letter of it, back again, destroyed.

    python -m deploy.archive --env production list
    python -m deploy.archive --env production find anv@tiengiang.gov.vn --subject "de nghi"
    python -m deploy.archive --env production restore anv@tiengiang.gov.vn --to btt --letters 3,17
    python -m deploy.archive --env production now anv@tiengiang.gov.vn
    python -m deploy.archive --env production hold anv --until 2035-12-31 --reason "…"
    python -m deploy.archive --env production purge anv@tiengiang.gov.vn --reason "…"

Archives lie on the stores, encrypted; what opens them is `archive_identity` of the environment's
secrets, which this program uses on the operator's machine. Letters pass through it and are written
nowhere but into the mailbox that they are restored to. What it prints is Vietnamese. Who asked for
what is in the journal of a directory host. Exit codes: 0 done; 1 not, with the reason; 2 a wrong
command line.
"""

import argparse
import contextlib
import getpass
import gzip
import json
import os
import shlex
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from typing import IO, Any
from zoneinfo import ZoneInfo

import pyrage

from deploy import moments
from deploy.answers import answer
from deploy.hosts import escaped, everywhere, first, modify, noted, search, shell, ssh
from roles.accounts.names import folded
from roles.archive.container import Letter
from roles.archive.deploy import identities
from roles.archive.settings import ArchiveSettings
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost, load
from roles.directory.ldif import Attributes

_KINDS = {"people": "người", "mailboxes": "đơn vị"}
_SHOWN_MOST = 200

Answer = tuple[dict[str, Any], list[str]]


def catalogue(site: Site) -> tuple[list[tuple[SiteHost, dict[str, Any]]], list[str]]:
    """The descriptions of all archives, each with its store, and what went wrong."""
    said, faults = everywhere(site, site.group("store"), "site-archive list")
    found = [(site.hosts[name], item) for name, text in said.items() for item in json.loads(text)]
    return sorted(found, key=lambda pair: (pair[1]["address"], pair[1]["made"])), faults


def full(site: Site, words: str) -> str:
    """An address, also where its domain is left out."""
    text = words.strip().lower()
    return text if "@" in text or "/" in text else f"{text}@{site.domain}"


def the_archive(site: Site, words: str) -> tuple[SiteHost, dict[str, Any]]:
    """The one archive that is meant, by its name or by the mailbox's address.

    Raises:
        SiteError: there is none, or there are several; with their names.
    """
    every, faults = catalogue(site)
    wanted = full(site, words)
    found = [pair for pair in every if wanted in (pair[1]["address"], pair[1]["name"].lower())]
    if len(found) != 1:
        names = ", ".join(item["name"] for _, item in found)
        there = f"có {len(found)} bản lưu trữ ({names})" if found else "không có bản lưu trữ"
        expected = "cần địa chỉ hoặc tên của đúng một bản lưu trữ, xem lệnh list"
        raise SiteError("\n".join([f"{words!r}: {there}; {expected}", *faults]))
    return found[0]


def described(site: Site, host: SiteHost, item: dict[str, Any]) -> dict[str, Any]:
    """An archive in words."""
    kept = f"từ {item['first']} đến {item['last']}" if item["first"] else "không có thư"
    return {
        "bản lưu trữ": item["name"],
        "hộp thư": f"{item['display']} <{item['address']}>",
        "loại": _KINDS[item["name"].partition("/")[0]],
        "số thư": str(item["letters"]),
        "thời gian của thư": kept,
        "dung lượng thư": f"{item['bytes'] / 2**20:.1f} MiB",
        "thôi sử dụng từ": moments.day(item["since"]),
        "lưu trữ lúc": moments.day(item["made"]),
        "giữ đến": moments.day(until(site, item)) or "không thời hạn",
        "SHA-256": item["digest"],
        "máy chủ": host.name,
    }


def until(site: Site, item: dict[str, Any]) -> str:
    """Until when an archive is kept: what the directory says counts."""
    for _, entry in search(
        site, site.base_dn,
        f"(&(mailboxState=archived)(mailboxArchive={escaped(item['name'])}))",
        "mailboxRetainUntil",
    ):  # fmt: skip
        return first(entry, "mailboxRetainUntil")
    return str(item["keep_until"])


def list_(site: Site, options: argparse.Namespace) -> Answer:
    """All archives, or those of an address."""
    every, faults = catalogue(site)
    wanted = full(site, options.address) if options.address else ""
    items = [
        described(site, host, item)
        for host, item in every
        if not wanted or item["address"] == wanted
    ]
    return {"số bản lưu trữ": len(items), "bản lưu trữ": items}, faults


def index(site: Site, host: SiteHost, item: dict[str, Any]) -> list[Letter]:
    """The letters of an archive: only its index is decrypted."""
    path = f"{site.of(ArchiveSettings, host.name).folder}/{item['name']}.index.gz.age"
    done = subprocess.run(
        ssh(site, host, f"cat {shlex.quote(path)}"), capture_output=True, check=False
    )
    if done.returncode:
        raise SiteError(f"{host.name}: {done.stderr.decode(errors='replace').strip()}")
    try:
        text = gzip.decompress(pyrage.decrypt(done.stdout, identities(site))).decode()
    except (pyrage.DecryptError, OSError, EOFError) as error:
        raise SiteError(f"{item['name']}: không giải mã được mục lục: {error}") from None
    return [Letter.read(line) for line in text.splitlines()]


def when(letter: Letter) -> datetime:
    """When the mailbox got a letter."""
    return datetime.strptime(letter.received.strip(), "%d-%b-%Y %H:%M:%S %z")


def fits(letter: Letter, options: argparse.Namespace, zone: ZoneInfo) -> bool:
    """Whether a letter is one that is looked for: words without diacritics or case."""
    received = when(letter).astimezone(zone).date()
    return (
        (options.since is None or options.since <= received)
        and (options.until is None or received <= options.until)
        and folded(options.sender) in folded(letter.sender)
        and folded(options.recipient) in folded(letter.recipients)
        and folded(options.subject) in folded(letter.subject)
        and options.message_id.strip("<>") in letter.message_id
    )


def find(site: Site, options: argparse.Namespace) -> Answer:
    """Letters of an archive, by what its index says."""
    host, item = the_archive(site, options.address)
    noted(site, "archive find", item["name"])
    zone = moments.zone(site)
    found = [letter for letter in index(site, host, item) if fits(letter, options, zone)]
    found.sort(key=when)
    rows = [
        {
            "số": str(letter.number),
            "nhận lúc": when(letter).astimezone(zone).strftime("%H:%M %d/%m/%Y"),
            "từ": letter.sender,
            "đến": letter.recipients,
            "tiêu đề": letter.subject,
            "thư mục": letter.folder,
            "mã thư": letter.message_id,
            "số byte": str(letter.size),
        }
        for letter in found[-_SHOWN_MOST:]
    ]
    return {"bản lưu trữ": item["name"], "số thư tìm thấy": len(found), "thư": rows}, []


def mailbox(site: Site, words: str) -> tuple[str, Attributes]:
    """The one mailbox of an address, also of an alias, or of a person's number.

    Raises:
        SiteError: there is none.
    """
    wanted = escaped(full(site, words))
    found = search(
        site, site.base_dn,
        f"(&(objectClass=mailboxAccount)(|(mailLocalAddress={wanted})(mail={wanted})"
        f"(employeeNumber={escaped(words.strip())})))",
    )  # fmt: skip
    if len(found) != 1:
        raise SiteError(f"{words!r}: không có hộp thư nào như vậy; cần một địa chỉ hoặc mã số")
    return found[0]


def restore(site: Site, options: argparse.Namespace) -> Answer:
    """Bring letters back into a folder of somebody in service, byte for byte."""
    host, item = the_archive(site, options.address)
    _, entry = mailbox(site, options.to or item["address"])
    to = first(entry, "mail")
    if first(entry, "mailboxState") not in ("active", "expiring", "locked"):
        raise SiteError(f"{to}: không còn sử dụng; cần --to với địa chỉ của người nhận")
    store = site.store_host(first(entry, "mailHost").partition(".")[0])
    letters = index(site, host, item)
    numbers = {int(number) for number in options.letters.split(",") if number}
    if unknown := numbers - {letter.number for letter in letters}:
        raise SiteError(f"--letters {min(unknown)}: không có thư số này; xem lệnh find")
    wanted = [letter for letter in letters if not numbers or letter.number in numbers]
    moment = datetime.now(moments.zone(site))
    above = site.of(ArchiveSettings, store.name).restore_folder
    folder = f"{above}/{item['address'].partition('@')[0]} {moment:%Y-%m-%d %H%M%S}"
    noted(site, f"archive restore {item['name']} to", to)
    path = f"{site.of(ArchiveSettings, host.name).folder}/{item['name']}.tar.zst.age"
    command = (
        f"site-archive restore --bytes {sum(letter.size for letter in wanted)}"
        f" --letters {shlex.quote(','.join(map(str, sorted(numbers))))}"
        f" {shlex.quote(to)} {shlex.quote(folder)}"
    )
    done = _passed_on(site, (host, f"cat {shlex.quote(path)}"), (store, command))
    return {
        "bản lưu trữ": item["name"],
        "khôi phục cho": to,
        "vào thư mục": folder,
        "số thư": str(done["letters"]),
        "số byte": str(done["bytes"]),
        "kiểm tra": "mọi thư đã được đọc lại và đúng từng byte",
    }, []


def _passed_on(
    site: Site, source: tuple[SiteHost, str], target: tuple[SiteHost, str]
) -> dict[str, int]:
    """What a command on one host prints, decrypted, to a command on another; its answer."""
    wrong: list[str] = []
    keys = identities(site)

    def decrypt(reader: IO[bytes], writer: IO[bytes]) -> None:
        try:
            pyrage.decrypt_io(reader, writer, keys)
        except (pyrage.DecryptError, OSError, ValueError) as error:
            wrong.append(str(error))
        with contextlib.suppress(OSError):
            writer.close()

    pipe = subprocess.PIPE
    with (
        subprocess.Popen(ssh(site, *source), stdout=pipe) as reading,
        subprocess.Popen(ssh(site, *target), stdin=pipe, stdout=pipe, stderr=pipe) as writing,
    ):
        worker = threading.Thread(target=decrypt, args=(reading.stdout, writing.stdin))
        worker.start()
        answer, words = (stream.read() for stream in (writing.stdout, writing.stderr) if stream)
        worker.join()
    # Where both say something, the second is the cause: it ended before it had read everything.
    reasons = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
    if writing.returncode or wrong:
        raise SiteError(
            f"{target[0].name}: không khôi phục được: {'; '.join(reasons[-1:] or wrong)}"
        )
    result: dict[str, int] = json.loads(answer)
    return result


def now(site: Site, options: argparse.Namespace) -> Answer:
    """Archive a departed mailbox before its time."""
    dn, entry = mailbox(site, options.address)
    if first(entry, "mailboxState") != "departed":
        mail = first(entry, "mail")
        raise SiteError(f"{mail}: chưa thôi sử dụng, hoặc đã được lưu trữ từ trước")
    rdn, container = dn.split(",")[:2]
    place = f"{container.partition('=')[2]}/{rdn.partition('=')[2]}"
    store = site.store_host(first(entry, "mailHost").partition(".")[0])
    noted(site, "archive now", first(entry, "mail"))
    item = json.loads(shell(site, store, f"site-archive now {shlex.quote(place)}"))
    return described(site, store, item), []


def operator() -> str:
    """Who works here."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def purge(site: Site, options: argparse.Namespace) -> Answer:
    """Destroy an archive by order, with a certificate."""
    host, item = the_archive(site, options.address)
    noted(site, "archive purge", item["name"])
    command = shlex.join(
        ["site-archive", "purge", item["name"], "--rule", options.reason, "--by", operator()]
    )
    name = json.loads(shell(site, host, command))["certificate"]
    folder = site.of(ArchiveSettings, host.name).folder
    return {"đã hủy": item["name"], "biên bản": f"{host.name}:{folder}/certificates/{name}.txt"}, []


def hold(site: Site, options: argparse.Namespace) -> Answer:
    """Keep a departed mailbox, or its archive, until another day."""
    zone = moments.zone(site)
    end = datetime(options.until.year, options.until.month, options.until.day, tzinfo=zone)
    moment = (end + timedelta(days=1)).astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
    note = f"archive hold until {options.until} ({options.reason})"
    dn, entry = mailbox(site, options.address)
    mail = first(entry, "mail")
    if first(entry, "mailboxState") not in ("departed", "archived"):
        # Who came back has a mailbox without an end; the archive of before has one of its own.
        host, item = the_archive(site, mail)
        noted(site, note, item["name"])
        shell(site, host, f"site-archive keep {shlex.quote(item['name'])} {moment}")
        return {
            "bản lưu trữ": item["name"],
            "giữ đến": moments.day(moment),
            "trước đây": moments.day(item["keep_until"]),
        }, []
    noted(site, note, mail)
    modify(
        site,
        f"dn: {dn}\nchangetype: modify\nreplace: mailboxRetainUntil\n"
        f"mailboxRetainUntil: {moment}\n-\n",
    )
    return {
        "hộp thư": mail,
        "giữ đến": moments.day(moment),
        "trước đây": moments.day(first(entry, "mailboxRetainUntil")) or "không thời hạn",
    }, []


JOBS = {
    "list": (list_, "các bản lưu trữ"),
    "find": (find, "tìm thư trong một bản lưu trữ"),
    "restore": (restore, "khôi phục thư vào hộp thư của một người"),
    "now": (now, "lưu trữ ngay một hộp thư đã thôi sử dụng"),
    "hold": (hold, "giữ thư lâu hơn, như khi có thanh tra"),
    "purge": (purge, "hủy một bản lưu trữ, có biên bản"),
}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do the job, print what it found."""
    parser = argparse.ArgumentParser(prog="python -m deploy.archive")
    parser.add_argument("--env", required=True, help="một thư mục trong inventories/")
    parser.add_argument("--json", action="store_true", help="in dạng JSON cho chương trình khác")
    jobs = parser.add_subparsers(dest="job", required=True)
    for name, (_, text) in JOBS.items():
        job = jobs.add_parser(name, help=text)
        what = "địa chỉ của hộp thư, hoặc tên bản lưu trữ"
        if name == "list":
            job.add_argument("address", nargs="?", default="", help=what)
        else:
            job.add_argument("address", help=what)
    search_ = jobs.choices["find"]
    search_.add_argument("--since", type=date.fromisoformat, help="nhận từ ngày, 2025-01-31")
    search_.add_argument("--until", type=date.fromisoformat, help="nhận đến hết ngày")
    search_.add_argument("--from", dest="sender", default="", help="người gửi")
    search_.add_argument("--to", dest="recipient", default="", help="người nhận")
    search_.add_argument("--subject", default="", help="một phần tiêu đề, không cần dấu")
    search_.add_argument("--message-id", default="", help="Message-ID")
    jobs.choices["restore"].add_argument("--to", default="", help="người nhận, nếu là người khác")
    jobs.choices["restore"].add_argument("--letters", default="", help="số của thư theo lệnh find")
    jobs.choices["hold"].add_argument("--until", type=date.fromisoformat, required=True)
    for name in ("hold", "purge"):
        jobs.choices[name].add_argument("--reason", required=True, help="căn cứ, ghi vào nhật ký")
    options = parser.parse_args(arguments)
    return answer(lambda: JOBS[options.job][0](load(options.env), options), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
