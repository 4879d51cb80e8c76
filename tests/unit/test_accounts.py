"""The registry's files: every mistake is named, at once, with its place; what is right is read."""

import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.accounts.deploy import site_registry
from roles.accounts.handover import generated_password, hand_over, hashes
from roles.accounts.names import family_name, folded, given_name, local_part
from roles.accounts.reconcile import Mailbox, Plan
from roles.accounts.registry import Delegation, Registry, load_registry
from roles.accounts.settings import AccountsSettings
from roles.common.errors import SiteError
from roles.common.site import ROOT, load
from tests.registry import FAMILIES, GIVEN, MIDDLES

UNITS = """\
code,name,kind,parent,head
stttt,Sở Thông tin và Truyền thông,department,,2
mytho,Ủy ban nhân dân thành phố Mỹ Tho,district,,
mytho.tanlong,Ủy ban nhân dân phường Tân Long,commune,mytho,
"""
PEOPLE = """\
id,name,unit,address,aliases,quota,state
1,Nguyễn Văn A,stttt,,,,
2,Trần Thị B,stttt,tranthib,giamdoc b.tran,2MiB,locked
3,Lê Văn C,mytho.tanlong,,,,
"""
DELEGATIONS = """\
unit,person,right
stttt,1,read send
mytho,3,file
"""


def written(folder: Path, **files: str | bytes) -> Path:
    """A registry's folder; `units`, `people`, `delegations` replace what is right."""
    texts: dict[str, str | bytes] = {
        "units": UNITS, "people": PEOPLE, "delegations": DELEGATIONS, **files,
    }  # fmt: skip
    for name, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(content)
    return folder


def read(folder: Path) -> Registry:
    settings = AccountsSettings(postmaster_unit="stttt")
    return load_registry(folder, settings, ["postmaster", "root"], ["store-a", "store-b"])


def mistakes(folder: Path, **files: str | bytes) -> list[str]:
    """What is wrong, without the folder's path."""
    with pytest.raises(SiteError) as refused:
        read(written(folder, **files))
    return str(refused.value).replace(f"{folder}/", "").splitlines()


def test_a_registry_is_read(tmp_path: Path) -> None:
    registry = read(written(tmp_path))
    assert list(registry.units) == ["stttt", "mytho", "mytho.tanlong"]
    assert registry.people["2"].aliases == ("giamdoc", "b.tran")
    assert registry.people["2"].quota == 2 * 2**20
    assert registry.people["2"].state == "locked"
    assert registry.delegations == {
        Delegation("stttt", "1", "read"),
        Delegation("stttt", "1", "send"),
        Delegation("mytho", "3", "file"),
    }
    assert registry.root("mytho.tanlong") == "mytho"
    assert registry.notes == ()


@pytest.mark.regulation("4")
def test_a_kind_of_unit_may_be_switched_on(tmp_path: Path) -> None:
    units = UNITS.replace("department", "party", 1)
    (found,) = mistakes(tmp_path, units=units)
    assert found.startswith("units.csv: line 2, column kind: 'party'; expected department")
    kinds = (*AccountsSettings().kinds, "party")
    settings = AccountsSettings(postmaster_unit="stttt", kinds=kinds)
    registry = load_registry(tmp_path, settings, ["postmaster"], ["store-a"])
    assert registry.units["stttt"].kind == "party"


@pytest.mark.regulation("12")
def test_the_head_has_every_right_and_filing_includes_reading(tmp_path: Path) -> None:
    holders = read(written(tmp_path)).holders()
    assert holders["stttt"] == {
        "read": frozenset("12"), "file": frozenset("2"), "send": frozenset("12"),
    }  # fmt: skip
    assert holders["mytho"]["read"] == holders["mytho"]["file"] == frozenset("3")
    assert holders["mytho"]["send"] == frozenset()


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("units", "mytho,Ủy", "stttt,Ủy", "line 3, column code: 'stttt' is also in line 2"),
        ("units", ",mytho,\n", ",caibe,\n", "line 4, column parent: 'caibe'; expected 'm"),
        ("units", "department", "office", "line 2, column kind: 'office'; expected depart"),
        ("units", "stttt,Sở", "STTTT,Sở", "line 2, column code: 'STTTT'; expected lower"),
        ("units", "parent,head", "cha,head", "line 1: the heading is 'code,name,kind,cha"),
        ("units", ",,2", ",,9", "line 2, column head: '9' is no person of people.csv"),
        ("units", "Sở Thông", "Sở\u200b Thông", "line 2, column name: holds the invisible"),
        ("people", "Lê Văn C,mytho", "Lê Văn C,x", "line 4, column unit: 'x.tanlong' is"),
        ("people", "3,Lê", "1,Lê", "line 4, column id: '1' is also in line 2; expected"),
        ("people", "1,Nguyễn Văn A,stttt,,,,\n2,", "a1,Nguyễn Văn A,stttt,,,,\nA1,",
         "line 3, column id: 'A1' is also in line 2; expected each once"),
        ("people", "3,Lê", ",Lê", "line 4, column id: is empty; expected letters and"),
        ("people", "2MiB", "26GIGOTS", "line 3, column quota: '26GIGOTS' is not a size;"),
        ("people", "tranthib", "Trầnthib", "line 3, column address: 'Trầnthib'; expected"),
        ("people", "tranthib", "root", "line 3, column address: 'root' belongs to the m"),
        ("people", "b.tran", "postmaster", "line 3, column aliases: 'postmaster' belongs"),
        ("units", "stttt,Sở", "root,Sở", "line 2, column code: 'root' belongs to the mai"),
        ("people", "b.tran", "stttt", "line 3, column aliases: 'stttt' is also code in"),
        ("people", "b.tran", "tranthib", "line 3, column aliases: 'tranthib' is also ad"),
        ("people", "locked", "shut", "line 3, column state: 'shut'; expected active, lo"),
        ("people", "Lê Văn C", "=A1&B1", "line 4, column name: '=A1&B1' is a formula"),
        ("people", "Lê Văn C", "王", "line 4, column name: '王' makes no address; expect"),
        ("people", "Lê Văn C,", "", "line 4: has 6 cells; expected 7"),
        ("people", "Lê Văn C", '"Lê', "line 4: is not CSV"),
        ("delegations", "mytho,3", "mytho,7", "line 3, column person: '7' is no"),
        ("delegations", "mytho,3", "caibe,3", "line 3, column unit: 'caibe' is no"),
        ("delegations", "file", "write", "line 3, column right: 'write'; expected"),
        ("delegations", ",file", ",", "line 3, column right: is empty; expected"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, file: str, old: str, new: str, expected: str
) -> None:
    original = {"units": UNITS, "people": PEOPLE, "delegations": DELEGATIONS}[file]
    assert old in original
    found = mistakes(tmp_path, **{file: original.replace(old, new, 1)})
    assert any(line.startswith(f"{file}.csv: {expected}") for line in found), found
    assert all("; expected" in line for line in found)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        units=UNITS.replace("department", "office"),
        people=PEOPLE.replace("2MiB", "2").replace("locked", "shut"),
        delegations=DELEGATIONS.replace("file", "write"),
    )
    assert len(found) == 4


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "people.csv").unlink()
    with pytest.raises(SiteError, match=r"people\.csv: cannot be read: No such file"):
        read(tmp_path)


def test_a_circle_in_the_tree_is_refused(tmp_path: Path) -> None:
    # Codes name their parents, so a circle always breaks that rule, too; both are said.
    units = UNITS.replace("Mỹ Tho,district,,", "Mỹ Tho,district,mytho.tanlong,")
    found = mistakes(tmp_path, units=units)
    assert any("a circle: mytho -> mytho.tanlong -> mytho; expected a tree" in m for m in found)


@pytest.mark.regulation("3.3")
def test_text_that_is_not_nfc_is_normalised_with_a_note(tmp_path: Path) -> None:
    people = PEOPLE.replace("Nguyễn", "Nguye\u0302\u0303n")
    registry = read(written(tmp_path, people=people))
    assert registry.people["1"].name == "Nguyễn Văn A"
    (note,) = registry.notes
    assert "line 2, column name: 'Nguyễn Văn A' was not in NFC" in note


@pytest.mark.regulation("3.3")
@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (PEOPLE.encode("utf-16"), "UTF-16"),
        (PEOPLE.replace("ễ", "ê\u0303").replace("ầ", "â\u0300").replace("ị", "i\u0323")
         .encode("cp1258"), "windows-1258"),
        (b"id,name,unit\n1,Nguy\xd4n V\xa8n A", "TCVN3 (ABC)"),
    ],
    ids=["UTF-16", "windows-1258", "TCVN3"],
)  # fmt: skip
def test_another_encoding_is_refused_with_its_name(
    tmp_path: Path, content: bytes, encoding: str
) -> None:
    (found,) = [line for line in mistakes(tmp_path, people=content) if "UTF-8" in line]
    assert f"is not UTF-8; it seems to be {encoding}" in found


def test_a_spreadsheets_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert read(written(tmp_path, people=PEOPLE.encode("utf-8-sig"))).people["1"].id == "1"


@pytest.mark.parametrize(
    "environment", sorted(path.parent.name for path in ROOT.glob("inventories/*/registry"))
)
def test_the_registry_of_each_environment_is_valid(environment: str) -> None:
    registry = site_registry(load(environment))
    assert len(registry.units) == 40


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("Nguyễn Văn A", "anv"),
        ("Tôn Nữ Thị Đào", "daotnt"),
        ("Ngô Đức Ưng", "ungnd"),
        ("O'Connor Ánh", "anho"),
        ("An", "an"),
        ("王", ""),
    ],
)
@pytest.mark.regulation("3.1b")
def test_a_name_asks_for_an_address(name: str, address: str) -> None:
    assert local_part(name) == address


@given(st.sampled_from(FAMILIES), st.sampled_from(MIDDLES), st.sampled_from(GIVEN))
def test_names_are_taken_apart(family: str, middle: str, given_: str) -> None:
    name = f"{family} {middle} {given_}"
    assert family_name(name) == family
    assert given_name(name) == given_
    assert local_part(name).startswith(folded(given_))


@given(st.text())
def test_an_address_holds_only_what_it_may(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]*", local_part(text))


@given(st.text(st.characters(codec="utf-8")))
def test_the_search_name_is_plain(text: str) -> None:
    assert folded(text).isascii()
    assert folded(text) == folded(text).lower()


def plan_for(people: dict[str, str], new: tuple[str, ...]) -> Plan:
    return Plan(
        changes=(),
        words=(),
        unmanaged=(),
        people={key: Mailbox(f"cn={key}", address, key) for key, address in people.items()},
        units={"stttt": Mailbox("cn=stttt", "stttt@example.vn", "Sở")},
        new=new,
    )


def test_first_passwords_are_written_for_the_operator_only(tmp_path: Path) -> None:
    file = tmp_path / "state" / "accounts.json"
    passwords = hand_over(file, plan_for({"1": "a@example.vn"}, ("1",)))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    person, unit = json.loads(file.read_text())
    assert person == {
        "id": "1", "address": "a@example.vn", "password": passwords["1"], "kind": "person",
        "name": "1",
    }  # fmt: skip
    assert unit["kind"] == "unit"
    assert unit["password"] is None


def test_a_run_that_was_cut_off_uses_its_passwords_again(tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    first = hand_over(file, plan_for({"1": "a@example.vn"}, ("1",)))
    assert hand_over(file, plan_for({"1": "a@example.vn"}, ("1",))) == first


def test_passwords_of_those_who_are_there_are_never_made_again(tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    first = hand_over(file, plan_for({"1": "a@example.vn"}, ("1",)))
    second = hand_over(file, plan_for({"1": "b@example.vn", "2": "c@example.vn"}, ("2",)))
    assert list(second) == ["2"]
    entries = {entry["id"]: entry for entry in json.loads(file.read_text())}
    assert entries["1"]["password"] == first["1"]
    assert entries["1"]["address"] == "b@example.vn"
    # The operator handed them over and deleted the file.
    file.unlink()
    assert hand_over(file, plan_for({"1": "b@example.vn"}, ())) == {}
    assert not file.exists()


def test_a_first_password_satisfies_the_policy_and_its_hash_is_argon2id() -> None:
    passwords = {str(number): generated_password() for number in range(20)}
    assert len(set(passwords.values())) == 20
    assert all(re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", p) for p in passwords.values())
    for value in hashes(passwords, AccountsSettings()).values():
        assert value.startswith("{ARGON2}$argon2id$v=19$m=1024,t=1,p=1$")


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_what_is_delivered_makes_no_mailbox_for_anybody(environment: str) -> None:
    """The units are the province's own; who works there is not for the repository to invent."""
    registry = site_registry(load(environment))
    assert not registry.people
    assert not registry.delegations
    assert not [unit.code for unit in registry.units.values() if unit.head]
    assert site_registry(load("local")).people
