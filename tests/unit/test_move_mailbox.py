"""Moving a mailbox without a host: what is copied, closed, refused, and left behind."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import move_mailbox
from deploy.move_mailbox import Mailbox, differing, disagreements, misplaced
from roles.accounts.registry import Delegation
from roles.common.errors import SiteError
from roles.common.rendering import render
from roles.common.site import load
from roles.mailstore.files import move
from roles.mailstore.files.move import Move, MoveError
from roles.mailstore.values import values
from tests.unit.test_accounts_reconcile import BASE, TARGET, apply, person, planned, registry

PLACE, ADDRESS = "people/1042", "anv@example.vn"
LETTER = "mail/mailboxes/Đề án/dbox-Mails/u.7"
TWO = ["store-a.example.vn", "store-b.example.vn"]


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What Dovecot is told; files keep their owner, for there is no vmail."""
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(move, "_doveadm", lambda *words: said.append(words))
    monkeypatch.setattr(move, "is_closed", lambda _: True)
    monkeypatch.setattr(Move, "_owned", lambda _, folder: folder.mkdir(parents=True, exist_ok=True))
    return said


@pytest.fixture
def mailbox(tmp_path: Path) -> Move:
    """A mailbox with a letter, a script that is active, and an index."""
    one = at(tmp_path)
    letter = one.home / LETTER
    letter.parent.mkdir(parents=True)
    letter.write_text("thư", encoding="utf-8")
    (letter.parent / "dovecot.index.log").write_bytes(b"log")
    (one.home / "sieve").mkdir()
    (one.home / ".dovecot.sieve").symlink_to("sieve/thu.sieve")
    return one


def at(path: Path, place: str = PLACE, patience: float = 5.0) -> Move:
    return Move(place, path / "vmail", path / "closed", patience)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# -- the store's part ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["people/..", "people/a/b", "other/1", "people/", "/etc"])
def test_a_place_is_a_mailboxs(place: str) -> None:
    with pytest.raises(MoveError, match="is no mailbox's place; expected such as people/1042"):
        Move(place)


def test_a_listing_says_what_is_there(mailbox: Move) -> None:
    found = mailbox.listed("home", ())
    assert found["sieve"] == ["d", 0, 0, ""]
    assert found[".dovecot.sieve"] == ["l", 0, 0, "sieve/thu.sieve"]
    kind, size, _, digest = found[LETTER]
    assert (kind, size, len(digest)) == ("f", 4, 64)
    # A letter that is known is not read again; whatever else there is may have changed.
    log = f"{LETTER.rpartition('/')[0]}/dovecot.index.log"
    known = mailbox.listed("home", {LETTER, log})
    assert known[LETTER][3] == ""
    assert known[log] == found[log]
    assert mailbox.listed("incoming", ()) == {}


def test_who_is_closed_is_a_line_of_dovecots_file(
    mailbox: Move, tmp_path: Path, told: list[tuple[str, ...]]
) -> None:
    other = at(tmp_path, "mailboxes/stttt")
    other.close(["stttt@example.vn", "gvv@example.vn"])
    mailbox.close([ADDRESS])
    closed = tmp_path / "closed"
    lines = closed.read_text().splitlines()
    assert lines == ["stttt@example.vn::::mailboxes/stttt::", f"{ADDRESS}::::{PLACE}::"]
    assert closed.stat().st_mode & 0o777 == 0o644
    assert ("kick", "gvv@example.vn") in told
    mailbox.reopen([ADDRESS])
    other.finish("20261127T000000Z")
    # Empty, not gone: Dovecot complains of a file that is not there.
    assert closed.read_text() == ""


def test_a_closed_mailbox_is_reached_by_no_path(mailbox: Move) -> None:
    before = files(mailbox.home)
    assert mailbox.close([ADDRESS]) == {"outgoing": True}
    assert mailbox.home.is_file()
    assert files(mailbox.outgoing) == before
    with pytest.raises(NotADirectoryError):
        (mailbox.home / "mail").mkdir()
    # Again, as by a run after one that was cut off.
    assert mailbox.close([ADDRESS]) == {"outgoing": True}
    mailbox.reopen([ADDRESS])
    assert files(mailbox.home) == before
    assert not os.path.lexists(mailbox.outgoing)


def test_a_mailbox_that_was_never_used_moves_as_well(tmp_path: Path) -> None:
    one = at(tmp_path)
    one.home.parent.mkdir(parents=True)
    assert one.close([ADDRESS]) == {"outgoing": False}
    assert one.home.is_file()
    one.reopen([ADDRESS])
    assert not os.path.lexists(one.home)
    one.close([ADDRESS])
    assert one.finish("20261127T000000Z") == {"old": ""}
    # And comes back, over the file in its place.
    assert one.put("20261127T000001Z") == {"old": ""}
    assert not os.path.lexists(one.home)


def test_a_mailbox_that_dovecot_does_not_close_is_not_moved(
    tmp_path: Path, mailbox: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "is_closed", lambda _: False)
    with pytest.raises(MoveError, match="Dovecot still opens it though it stands in"):
        at(tmp_path, patience=0).close([ADDRESS])
    assert (mailbox.home / LETTER).exists()
    assert (tmp_path / "closed").read_text() == ""


def test_who_has_it_open_is_waited_for_and_named(tmp_path: Path, mailbox: Move) -> None:
    log = mailbox.home / LETTER.replace("u.7", "dovecot.index.log")
    with log.open("rb"):
        with pytest.raises(MoveError, match=r"dovecot.index.log: is open for .* in process \d+ "):
            at(tmp_path, patience=0).close([ADDRESS])
        # As before: not closed, and in its place.
        assert (mailbox.home / LETTER).exists()
        assert (tmp_path / "closed").read_text() == ""
    at(tmp_path, patience=0).close([ADDRESS])


def test_two_homes_are_not_chosen_from(mailbox: Move) -> None:
    (mailbox.outgoing / "mail").mkdir(parents=True)
    with pytest.raises(MoveError, match="expected one of them"):
        mailbox.close([ADDRESS])


def test_what_comes_is_there_as_a_whole(mailbox: Move) -> None:
    mailbox.close([ADDRESS])
    old = mailbox.finish("20261127T021500Z")["old"]
    assert old.endswith("/.moved/people-1042-20261127T021500Z")
    # It comes back later: what lies in its place by then is set aside, too.
    for number in (1, 2):
        (mailbox.incoming / f"new{number}").mkdir(parents=True)
        kept = mailbox.put(f"20261127T02160{number}Z")["old"]
        assert files(mailbox.home) == {f"new{number}"}
    assert files(Path(kept)) == {"new1"}
    mailbox.unplace()
    assert files(mailbox.incoming) == {"new2"}
    assert not mailbox.home.exists()


def test_only_what_was_gathered_is_removed(mailbox: Move) -> None:
    box = mailbox.incoming / "mail" / "box"
    box.mkdir(parents=True)
    (box / "u.1").touch()
    mailbox.remove(["mail/box", "mail/box/u.1", "gone"])
    assert files(mailbox.incoming) == {"mail"}
    with pytest.raises(MoveError, match="leads out of"):
        mailbox.remove(["../../x"])


def test_the_night_removes_what_has_had_its_time(tmp_path: Path) -> None:
    site = load("pair")
    host = site.hosts["store1"]
    names = {"site": site, "host": host, **values(site, host)}
    text = render("mailstore/usr/local/lib/site-mailstore/retention.j2", names)
    clean_up = text[text.index("cd /var/vmail") :].replace("/var/vmail", str(tmp_path))
    keep = names["settings"].moved_keep
    # As root's, where it is root who runs this; by days that the clock of a test has not.
    clean_up = clean_up.replace("-cmin +1440", "-cmin -1440").replace(
        "-user root", f"-user {os.getuid()}"
    )
    for name, age in (("people-1-old", keep + 120), ("people-1-new", keep - 120)):
        folder = tmp_path / ".moved" / name
        folder.mkdir(parents=True)
        moment = folder.stat().st_mtime - age
        os.utime(folder, (moment, moment))
    for name in ("people/1", "people/2", "mailboxes/a", "mailboxes/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mailboxes/c").mkdir()
    (tmp_path / ".moving/people-2.out").mkdir(parents=True)
    subprocess.run(["sh", "-eu", "-c", clean_up], check=True)
    assert files(tmp_path / ".moved") == {"people-1-new"}
    assert files(tmp_path / "people") == {"2"}
    assert files(tmp_path / "mailboxes") == {"c"}


# -- the operator's part ---------------------------------------------------------------------------

_FILE = st.tuples(
    st.just("f"), st.integers(0, 2), st.integers(0, 2), st.sampled_from(["", "x", "y"])
)
_FOLDER = st.just(("d", 0, 0, ""))
_LISTING = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), (_FILE | _FOLDER).map(list))


@given(_LISTING, _LISTING)
def test_what_is_sent_makes_the_copy_like_its_source(
    source: move_mailbox.Listing, copy: move_mailbox.Listing
) -> None:
    missing, wrong = differing(source, copy)
    after = {name: file for name, file in copy.items() if name not in wrong}
    after |= {name: source[name] for name in missing}
    assert differing(source, after) == ([], [])
    assert after.keys() == source.keys()
    # What is alike is not sent again.
    for name in source.keys() - {*missing}:
        assert copy[name][:3] == source[name][:3]


def box(number: str, target: str = "store-b", source: str = "store-a") -> Mailbox:
    dn = f"employeeNumber={number},ou=people,{BASE}"
    return Mailbox(dn, f"{number}@example.vn", f"people/{number}", source, target, ())


def test_a_row_that_names_another_store_is_named() -> None:
    wanted = replace(
        registry([person("1", store="store-a"), person("2", store="store-b"), person("3")]),
        store_places={"people/1": "registry/people.csv: line 2, column store"},
    )
    assert misplaced(wanted, [box("1"), box("2"), box("3"), box("4")]) == [
        "registry/people.csv: line 2, column store: 'store-a', but 1@example.vn is to go to "
        "store-b; expected 'store-b', or nothing"
    ]


def test_what_the_registry_would_refuse_is_refused_before() -> None:
    target = replace(TARGET, stores=TWO)
    people = [person("1", store="store-a"), person("2", store="store-a")]
    reads = [Delegation("a", "1", "read"), Delegation("a", "2", "read")]
    units = [replace(unit, store="store-a") for unit in registry().units.values()]
    before = registry(people, units, reads)
    directory = apply({}, planned(before, {}, stores=TWO).changes)
    free = registry([person("1"), person("2")], delegations=reads)
    unit = Mailbox(f"cn=a,ou=mailboxes,{BASE}", "a@example.vn", "mailboxes/a", "", "store-b", ())
    (fault,) = disagreements(free, directory, target, [box("1")])
    assert fault.startswith("person 1 reads the mailbox of a, but lies on store-b.example.vn and")
    assert fault.endswith("move_mailbox apply --env … --to store-a 1")
    # Together they may.
    assert disagreements(free, directory, target, [box("1"), box("2"), unit]) == []
    # Who reads nothing there yet, and is refused for that: the move is what mends it.
    joins = registry([person("1"), person("2"), person("3", "Lê B")], delegations=[
        *reads, Delegation("a", "3", "read"),
    ])  # fmt: skip
    away = registry([person("3", "Lê B", store="store-b")])
    third = apply(directory, [change for change in planned(away, {}, stores=TWO).changes
                              if "employeeNumber=3," in change.dn])  # fmt: skip
    with pytest.raises(SiteError, match="--to store-a 3"):
        planned(joins, third, stores=TWO)
    assert disagreements(joins, third, target, [box("3", "store-a", "store-b")]) == []
    # What was wrong before is no reason against another one's move.
    assert disagreements(joins, third, target, []) == []


def mailboxes(monkeypatch: pytest.MonkeyPatch, *entries: dict[str, list[str]]) -> None:
    found = [(f"employeeNumber={entry['employeeNumber'][0]},ou=people,{BASE}", entry)
             for entry in entries]  # fmt: skip
    monkeypatch.setattr(move_mailbox, "search", lambda *_: found)


def test_words_must_mean_one_mailbox_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    site = load("pair")
    one = {"employeeNumber": ["1"], "mail": ["a@example.vn"], "mailboxState": ["active"]}
    two = {**one, "employeeNumber": ["2"], "mail": ["1@example.vn"]}
    mailboxes(monkeypatch)
    with pytest.raises(SiteError, match=r"'1': 0 mailboxes \(none\); expected the address"):
        move_mailbox.found(site, "1")
    # An ID comes before an address of the same letters.
    mailboxes(monkeypatch, one, two)
    assert move_mailbox.found(site, "1")[1] == one
    with pytest.raises(SiteError, match=r"2 mailboxes \(a@example.vn, 1@example.vn\)"):
        move_mailbox.found(site, "3")
    mailboxes(monkeypatch, {**one, "mailboxState": ["purged"]})
    with pytest.raises(SiteError, match="'1': is purged; expected a mailbox that lies on a store"):
        move_mailbox.found(site, "1")


def test_room_is_counted_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    site = load("pair")
    state = {"bytes": 500 * 2**20, "gathered": 100 * 2**20, "free": 2**30, "size": 10 * 2**30,
             "outgoing": False}  # fmt: skip
    monkeypatch.setattr(move_mailbox, "told", lambda *_, **__: dict(state))
    one = move_mailbox.Move(site, box("1"))
    move_mailbox.room([one])
    with pytest.raises(
        SiteError,
        match=r"^store2: /var/vmail: 1024 MiB are free, and 800 MiB are to come; expected 5%",
    ):
        move_mailbox.room([one, one])


def test_letters_that_wait_are_counted_by_their_recipient(monkeypatch: pytest.MonkeyPatch) -> None:
    def item(queue: str, *addresses: str) -> str:
        return json.dumps(
            {
                "queue_name": queue,
                "recipients": [{"address": address} for address in addresses],
                "arrival_time": 100,
            }
        )

    said = {
        "mx1": f"{item('deferred', 'a@x.vn', 'B@x.vn')}\n{item('active', 'b@x.vn')}\n",
        "mx2": item("deferred", "c@x.vn"),
    }

    def everywhere(_: Any, hosts: Any, command: str) -> tuple[dict[str, str], list[str]]:
        assert [host.name for host in hosts] == ["mx1", "mx2"]
        assert command == "postqueue -j"
        return said, []

    monkeypatch.setattr(move_mailbox, "everywhere", everywhere)
    assert move_mailbox.waiting(load("pair"), {"b@x.vn"}, 100) == (2, 1)
    # What came later goes its way.
    assert move_mailbox.waiting(load("pair"), {"b@x.vn"}, 99) == (1, 1)
    assert move_mailbox.waiting(load("pair"), {"d@x.vn"}, 100) == (0, 0)
