"""What restoring the directory changes, and what it leaves alone."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pytest

from roles.backup import restoring_directory as restoring
from roles.backup.restoring_directory import Request, difference, is_fresh, read
from roles.backup.snapshots import Backup, RestoreError, Snapshot
from roles.directory.ldif import Entries

BASE = "dc=tiengiang,dc=gov,dc=vn"
PEOPLE, MAILBOXES, UNITS = (f"ou={name},{BASE}" for name in ("people", "mailboxes", "units"))


def person(number: int, name: str, **attributes: str) -> str:
    values = {
        "objectClass": "mailboxAccount", "cn": name, "mail": f"{name}@tiengiang.gov.vn",
        "mailLocalAddress": f"{name}@tiengiang.gov.vn", "employeeNumber": str(number),
        "userPassword": f"{{ARGON2}}{name}", "entryUUID": f"uuid-{number}",
        "entryCSN": "20261120010000.000000Z#000000#001#000000", "pwdLastSuccess": "20261120010000Z",
    } | attributes  # fmt: skip
    lines = "".join(f"{key}: {value}\n" for key, value in values.items() if value)
    return f"dn: employeeNumber={number},{PEOPLE}\n{lines}\n"


def unit_mailbox(code: str, *readers: int) -> str:
    lines = "".join(f"mailboxReader: employeeNumber={number},{PEOPLE}\n" for number in readers)
    return f"dn: cn={code},{MAILBOXES}\nobjectClass: unitMailbox\ncn: {code}\n{lines}\n"


def app(number: int, name: str, ended: str = "") -> str:
    end = f"pwdEndTime: {ended}\n" if ended else ""
    return f"dn: cn={name},employeeNumber={number},{PEOPLE}\nobjectClass: appPassword\n{end}\n"


def directory(*texts: str) -> Entries:
    return read("".join(texts).splitlines())


def request(entry: str = "", *, exact: bool = False) -> Request:
    return Request(datetime(2026, 11, 20, tzinfo=UTC), BASE, (PEOPLE, MAILBOXES, UNITS),
                   entry, exact)  # fmt: skip


def dn(number: int) -> str:
    return f"employeeNumber={number},{PEOPLE}"


def test_nothing_differs() -> None:
    then = directory(person(1, "anv"))
    now = directory(person(1, "anv", entryCSN="later", pwdLastSuccess="20261121010000Z"))
    found = difference(then, now, request())
    assert not found.changes
    assert not found.stays


def test_who_was_removed_comes_back_with_identity_and_password() -> None:
    # A dump has entries in the order of their making, which a renamed one is out of.
    then = directory(app(1, "phone"), person(1, "anv", pwdHistory="old"))
    found = difference(then, {}, request())
    above, below = found.added
    assert above.dn == dn(1)
    assert above.attributes["entryUUID"] == ["uuid-1"]
    assert above.attributes["userPassword"] == ["{ARGON2}anv"]
    assert above.attributes["pwdHistory"] == ["old"]
    # The server's own numbers: replication and the log rely on new ones.
    assert not {"entryCSN", "pwdLastSuccess", "dn"} & set(above.attributes)
    assert below.dn == f"cn=phone,{dn(1)}"


def test_a_password_and_its_state_become_what_they_were() -> None:
    then = directory(person(1, "anv"))
    now = directory(person(1, "anv", userPassword="{ARGON2}stolen", pwdReset="TRUE"))
    (change,) = difference(then, now, request()).modified
    assert change.attributes == {"userPassword": ["{ARGON2}anv"], "pwdReset": []}
    shown = restoring.shown(change)
    assert shown["attributes"]["userPassword"] == ["*"]


def test_what_was_made_since_stays_or_goes_when_exact() -> None:
    then, now = (
        directory(person(1, "anv")),
        directory(person(1, "anv"), person(2, "btt"), app(2, "x")),
    )
    assert difference(then, now, request()).stays == [dn(2).lower(), f"cn=x,{dn(2)}".lower()]
    gone = difference(then, now, request(exact=True)).deleted
    # Children first.
    assert [change.dn for change in gone] == [f"cn=x,{dn(2)}", dn(2)]


def test_services_policies_and_containers_are_left_alone() -> None:
    service = f"dn: cn=postfix,ou=services,{BASE}\nobjectClass: applicationProcess\n"
    container = f"dn: {PEOPLE}\nobjectClass: organizationalUnit\n"
    then = directory(f"{service}userPassword: old\n\n", f"{container}description: old\n\n")
    now = directory(f"{service}userPassword: new\n\n", f"{container}\n")
    assert not difference(then, now, request(exact=True)).changes
    assert not difference(directory(f"{container}\n"), now, request(exact=True)).changes


def test_one_entry_comes_back_with_the_rights_that_others_gave_it() -> None:
    then = directory(person(1, "anv"), person(2, "btt"), unit_mailbox("stttt", 1, 2))
    now = directory(unit_mailbox("stttt", 3))
    one = request("anv").resolved(then)
    assert one.entry == dn(1).lower()
    found = difference(then, now, one)
    assert [change.dn for change in found.added] == [dn(1)]
    (change,) = found.modified
    # Neither the reader who came since nor the one that is not asked for is touched.
    assert change.attributes == {"mailboxReader": [dn(3), dn(1)]}


def test_one_entry_does_not_touch_others() -> None:
    then = directory(person(1, "anv"), person(2, "btt"))
    now = directory(person(1, "anv", title="x"), person(2, "btt", title="x"))
    found = difference(then, now, request("btt").resolved(then))
    assert [change.dn for change in found.changes] == [dn(2)]


@pytest.mark.parametrize("word", ["anv", "anv@tiengiang.gov.vn", "1", dn(1).lower()])
def test_an_entry_is_found_by_what_people_call_it(word: str) -> None:
    assert request(word).resolved(directory(person(1, "anv"))).entry == dn(1).lower()


def test_an_entry_that_was_not_there_or_may_be_two_is_refused() -> None:
    then = directory(
        person(1, "anv"), unit_mailbox("stttt"),
        f"dn: ou=stttt,{UNITS}\nobjectClass: organizationalUnit\nou: stttt\n\n",
    )  # fmt: skip
    with pytest.raises(RestoreError, match="btt: was not there at that time"):
        request("btt").resolved(then)
    with pytest.raises(RestoreError, match=r"may be cn=stttt.*; ou=stttt"):
        request("stttt").resolved(then)


def test_an_address_that_somebody_else_has_now_is_not_taken_from_him() -> None:
    then = directory(person(1, "anv"), app(1, "phone"))
    now = directory(person(9, "anv"))
    found = difference(then, now, request())
    assert not found.changes
    assert "belongs to employeenumber=9" in found.refused[dn(1).lower()]
    assert f"cn=phone,{dn(1)}".lower() in found.refused
    # When exact, the other goes first.
    exact = difference(then, now, request(exact=True))
    assert not exact.refused
    assert [change.kind for change in exact.changes] == ["delete", "add", "add"]


def test_a_swap_of_addresses_is_no_conflict() -> None:
    then = directory(person(1, "anv"), person(2, "btt"))
    now = directory(
        person(1, "anv", mail="btt@tiengiang.gov.vn", mailLocalAddress="btt@tiengiang.gov.vn"),
        person(2, "btt", mail="anv@tiengiang.gov.vn", mailLocalAddress="anv@tiengiang.gov.vn"),
    )  # fmt: skip
    found = difference(then, now, request())
    assert not found.refused
    assert len(found.modified) == 2


def test_a_revoked_password_for_an_application_stays_revoked() -> None:
    then = directory(person(1, "anv"), app(1, "phone"))
    now = directory(person(1, "anv"), app(1, "phone", "20261121000000Z"))
    found = difference(then, now, request())
    assert not found.changes
    assert found.revoked == [f"cn=phone,{dn(1)}"]
    (change,) = difference(then, now, request(exact=True)).modified
    assert change.attributes == {"pwdEndTime": []}


def test_a_fresh_directory_holds_what_the_deployment_makes() -> None:
    made = directory(f"dn: {PEOPLE}\nou: people\n\n", f"dn: cn=x,ou=services,{BASE}\ncn: x\n\n")
    containers = request().containers
    assert is_fresh({}, [name.lower() for name in containers])
    assert is_fresh(made, [name.lower() for name in containers])
    assert not is_fresh(made | directory(person(1, "anv")), [name.lower() for name in containers])


# -- snapshots -------------------------------------------------------------------------------------

SAID = """[
 {"id": "b", "time": "2026-11-20T09:00:00.123456789+07:00", "tags": ["part=directory"]},
 {"id": "a", "time": "2026-11-20T07:00:00+07:00", "tags": ["part=directory"]},
 {"id": "m", "time": "2026-11-20T07:30:00+07:00", "tags": ["part=mail"]},
 {"id": "?", "time": "2026-11-20T07:30:00+07:00"}
]"""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_last_snapshot_not_after_the_moment() -> None:
    backup = Backup(run=lambda _: SAID)
    assert backup.latest("directory", at("2026-11-20T08:00:00+07:00")).id == "a"
    assert backup.latest("directory", at("2026-11-20T09:00:01+07:00")).id == "b"
    with pytest.raises(RestoreError, match=r"no backup of directory as old as .*; the first: 2026"):
        backup.latest("directory", at("2026-11-20T06:00:00+07:00"))
    with pytest.raises(RestoreError, match="the first: there is none"):
        backup.latest("database", at("2026-11-20T09:00:01+07:00"))


def test_a_further_target_is_named_to_restic() -> None:
    asked: list[list[str]] = []

    def run(arguments: Sequence[str]) -> str:
        asked.append(list(arguments))
        return "[]"

    assert Backup("second", run).snapshots == []
    assert asked == [
        ["/usr/local/sbin/site-backup", "restic", "--from", "second", "--", "snapshots", "--json"]
    ]


# -- a directory that is loaded as a whole ---------------------------------------------------------


class Slapd(restoring.Directory):
    """Whose databases are files of the test."""

    def __init__(self, fails: bool = False) -> None:
        self.ran: list[str] = []
        self.fails = fails
        super().__init__(BASE, self.command, self.feed)

    def command(self, arguments: Sequence[str]) -> str:  # noqa: D102
        words = " ".join(arguments)
        self.ran.append(words)
        if "slapadd" in words:
            folder = restoring.DATABASES["accesslog" if "cn=accesslog" in words else "data"]
            (folder / "data.mdb").write_text("half" if self.fails else "new")
            if self.fails:
                raise RestoreError("slapadd: refused")
        return ""

    def feed(self, arguments: Sequence[str], _: IO[bytes]) -> None:  # noqa: D102
        self.command(arguments)


@pytest.fixture
def databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in restoring.DATABASES}
    for folder in folders.values():
        folder.mkdir()
        (folder / "data.mdb").write_text("old")
        (folder / "lock.mdb").write_text("")
    monkeypatch.setattr(restoring, "DATABASES", folders)
    for name in folders:
        (tmp_path / f"{name}.ldif").touch()
    return folders


def held(databases: dict[str, Path]) -> set[str]:
    return {
        f"{path.parent.name}/{path.name}: {path.read_text()}"
        for folder in databases.values()
        for path in folder.iterdir()
    }


def test_loading_replaces_both_databases_while_slapd_is_stopped(
    databases: dict[str, Path], tmp_path: Path
) -> None:
    slapd = Slapd()
    slapd.load({name: tmp_path / f"{name}.ldif" for name in databases})
    assert held(databases) == {"data/data.mdb: new", "accesslog/data.mdb: new"}
    assert slapd.ran[0] == "systemctl stop slapd.service"
    assert slapd.ran[-1] == "systemctl start slapd.service"


def test_a_dump_that_slapadd_refuses_changes_nothing(
    databases: dict[str, Path], tmp_path: Path
) -> None:
    slapd = Slapd(fails=True)
    with pytest.raises(RestoreError, match="refused"):
        slapd.load({name: tmp_path / f"{name}.ldif" for name in databases})
    assert held(databases) == {"data/data.mdb: old", "accesslog/data.mdb: old"}
    assert slapd.ran[-1] == "systemctl start slapd.service"


def test_a_load_that_was_cut_off_is_undone_by_the_next_run(databases: dict[str, Path]) -> None:
    (databases["data"] / "data.mdb").rename(databases["data"] / "data.mdb.before")
    (databases["data"] / "data.mdb").write_text("half")
    slapd = Slapd()
    slapd.mend()
    assert "data/data.mdb: old" in held(databases)
    assert "data/data.mdb.before: old" not in held(databases)
    slapd.mend()
    assert len(slapd.ran) == 2


def test_a_snapshot_says_when_it_was_taken() -> None:
    moments = at("2026-11-20T08:00:00+00:00"), at("2026-11-20T08:03:00+00:00")
    assert Snapshot("a", "mail", *moments).said() == {
        "snapshot": "a", "taken": "2026-11-20T08:00:00+00:00",
        "settled": "2026-11-20T08:03:00+00:00",
    }  # fmt: skip


def test_what_was_still_being_staged_at_the_moment_is_not_taken() -> None:
    """Somebody's letters, deleted while others were staged, are in the snapshot before."""
    items = [
        {"id": name, "time": f"2026-11-20T{hour}:00:00Z", "tags": ["part=mail"],
         "summary": {"backup_start": f"2026-11-20T{hour}:10:00.123456789Z"}}
        for name, hour in (("a", "08"), ("b", "09"))
    ]  # fmt: skip
    backup = Backup(run=lambda _: json.dumps(items))
    assert backup.latest("mail", at("2026-11-20T09:09:00+00:00")).id == "a"
    found = backup.latest("mail", at("2026-11-20T09:11:00+00:00"))
    assert (found.id, found.taken) == ("b", at("2026-11-20T09:00:00+00:00"))
