"""The registry's files: every mistake is named, at once, with its place; what is right is read."""

import json
import re
import stat
from datetime import date
from pathlib import Path

import pytest

from roles.accounts.deploy import site_registry
from roles.accounts.handover import generated_password, hand_over, hashes
from roles.accounts.reconcile import Mailbox, Plan, Target, reconcile
from roles.accounts.registry import Delegation, MailDomain, MailList, Registry, load_registry
from roles.accounts.settings import AccountsSettings
from roles.common.errors import SiteError
from roles.common.site import ROOT, load
from roles.directory.settings import DirectorySettings

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


LISTS = """\
address,name,contains,unit,members,posters,owner,aliases,since,until
tatca,Toàn Sở,subtree,stttt,,members,1,toanso,,
donvi,Hộp thư các đơn vị,mailboxes,*,,"site, mytho, van.thu@vidu.example",stttt,,2026-01-01,
tocongtac,Tổ công tác,members,,1 3 mytho tatca,1,,,,31/12/2026
"""
DOMAINS = """\
domain,since,until
cu.gov.vn,,31/12/2027
"""


def written(folder: Path, **files: str | bytes) -> Path:
    """A registry's folder; `units`, `people`, … replace what is right."""
    texts: dict[str, str | bytes] = {
        "units": UNITS, "people": PEOPLE, "delegations": DELEGATIONS, "lists": LISTS,
        "domains": DOMAINS, **files,
    }  # fmt: skip
    for name, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(content)
    return folder


def read(folder: Path) -> Registry:
    settings = AccountsSettings(postmaster_unit="stttt")
    own = ["tinh.vn", "mail.tinh.vn"]
    return load_registry(folder, settings, ["postmaster", "root"], ["store-a", "store-b"], own)


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
    assert registry.lists["tatca"] == MailList(
        "tatca", "Toàn Sở", "subtree", "stttt", posters=("members",), owner="1",
        aliases=("toanso",),
    )  # fmt: skip
    units = registry.lists["donvi"]
    assert (units.unit, units.since) == ("*", date(2026, 1, 1))
    assert units.posters == ("site", "mytho", "van.thu@vidu.example")
    assert registry.lists["tocongtac"].members == ("1", "3", "mytho", "tatca")
    assert registry.domains == {"cu.gov.vn": MailDomain("cu.gov.vn", None, date(2027, 12, 31))}
    assert registry.below("mytho") == ["mytho", "mytho.tanlong"]
    assert registry.below("*") == list(registry.units)
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


def test_rules_of_a_unit_that_is_not_there_are_refused(tmp_path: Path) -> None:
    settings = AccountsSettings.model_validate(
        {"postmaster_unit": "stttt", "unit_rules": {"khong": {"person_quota": "3GiB"}}}
    )
    with pytest.raises(SiteError, match=r"accounts\.unit_rules\.khong: is no unit of .*expected"):
        load_registry(written(tmp_path), settings, ["postmaster", "root"], ["store-a", "store-b"])


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
        ("lists", "tatca,T", "Tatca,T", "line 2, column address: 'Tatca'; expected the par"),
        ("lists", "tatca,T", "root,T", "line 2, column address: 'root' belongs to the mail"),
        ("lists", "tatca,T", "mytho,T", "line 2, column address: 'mytho' is also code in u"),
        ("lists", "tatca,T", "tranthib,T", "line 2, column address: 'tranthib' is also add"),
        ("lists", "toanso", "giamdoc", "line 2, column aliases: 'giamdoc' is also aliases i"),
        ("lists", "toanso", "tocongtac", "line 2, column aliases: 'tocongtac' is also addre"),
        ("lists", "tocongtac", "tatca", "line 4, column address: 'tatca' is also in line 2;"),
        ("lists", "Toàn Sở", "", "line 2, column name: is empty; expected the list's name"),
        ("lists", "subtree", "all", "line 2, column contains: 'all'; expected unit, subtree,"),
        ("lists", "subtree", "", "line 2, column contains: is empty; expected unit, subtree,"),
        ("lists", "stttt,,m", "caibe,,m", "line 2, column unit: 'caibe' is no unit of unit"),
        ("lists", "stttt,,m", ",,m", "line 2, column unit: is empty; expected a unit's code"),
        ("lists", "subtree,stttt", "unit,*", "line 2, column unit: '*' is no unit; expected"),
        ("lists", "1 3 mytho tatca", "", "line 4, column members: is empty; expected people"),
        ("lists", "1 3 mytho tatca", "1 9", "line 4, column members: '9' is none of person"),
        ("lists", "1 3 mytho tatca", "tocongtac", "line 4, column members: a circle: tocong"),
        ("lists", "1 3 mytho tatca", "a@b.vn", "line 4, column members: 'a@b.vn'; expected"),
        ("lists", "site, mytho", "everybody", "line 3, column posters: 'everybody' is none"),
        ("lists", "vidu.example", "vidu", "line 3, column posters: 'van.thu@vidu' is no add"),
        ("lists", "vidu.example", "tinh.vn", "line 3, column posters: 'van.thu@tinh.vn'; ex"),
        ("lists", "members,1", "members,donvi", "line 2, column owner: 'donvi' is none of p"),
        ("lists", ",31/12/2026", "2027-01-01,31/12/2026", "line 4, column until: 2026-12-31"),
        ("lists", ",31/12/2026", ",31/11/2026", "line 4, column until: '31/11/2026' is not"),
        ("people", "locked", "departed", "line 2, column head: '2' has departed (people.csv"),
        ("domains", "cu.gov.vn", "tinh.vn", "line 2, column domain: 'tinh.vn' is the site's"),
        ("domains", "cu.gov.vn", "mail.tinh.vn", "line 2, column domain: 'mail.tinh.vn' is"),
        ("domains", "cu.gov.vn", "Cu.gov.vn", "line 2, column domain: 'Cu.gov.vn'; expecte"),
        ("domains", "cu.gov.vn", "@cu.gov.vn", "line 2, column domain: '@cu.gov.vn'; expect"),
        ("domains", "cu.gov.vn", "cu", "line 2, column domain: 'cu'; expected a mail domai"),
        ("domains", "cu.gov.vn", "cũ.gov.vn", "line 2, column domain: 'cũ.gov.vn'; expecte"),
        ("domains", "cu.gov.vn,,31/12/2027\n", "cu.gov.vn,,\ncu.gov.vn,,\n",
         "line 3, column domain: 'cu.gov.vn' is also in line 2; expected each once"),
        ("domains", "cu.gov.vn,,31", "cu.gov.vn,1/1/2028,31", "line 2, column until: 2027-1"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, file: str, old: str, new: str, expected: str
) -> None:
    original = {
        "units": UNITS, "people": PEOPLE, "delegations": DELEGATIONS, "lists": LISTS,
        "domains": DOMAINS,
    }[file]  # fmt: skip
    assert old in original
    found = mistakes(tmp_path, **{file: original.replace(old, new, 1)})
    said = f"{'units' if 'column head' in expected else file}.csv: {expected}"
    assert any(line.startswith(said) for line in found), found
    assert all("; expected" in line for line in found)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        units=UNITS.replace("department", "office"),
        people=PEOPLE.replace("2MiB", "2").replace("locked", "shut"),
        delegations=DELEGATIONS.replace("file", "write"),
        lists=LISTS.replace("subtree", "all").replace("1 3", "1 9"),
        domains=DOMAINS.replace("cu.gov", "@cu.gov"),
    )
    assert len(found) == 7


def test_lists_and_domains_may_be_missing(tmp_path: Path) -> None:
    written(tmp_path)
    for name in ("lists", "domains"):
        (tmp_path / f"{name}.csv").unlink()
    registry = read(tmp_path)
    assert (registry.lists, registry.domains) == ({}, {})


def test_a_word_in_a_list_means_one_thing(tmp_path: Path) -> None:
    people = PEOPLE.replace("3,Lê", "mytho,Lê")
    delegations = DELEGATIONS.replace("mytho,3,file", "mytho,mytho,file")
    lists = LISTS.replace("1 3 mytho", "mytho")
    found = mistakes(tmp_path, people=people, delegations=delegations, lists=lists)
    expected = "column {}: 'mytho' is a person and a unit; expected a word for one only"
    assert found == [
        f"lists.csv: line 3, {expected.format('posters')}",
        f"lists.csv: line 4, {expected.format('members')}",
    ]


def test_who_has_departed_is_named_in_no_list(tmp_path: Path) -> None:
    people = PEOPLE.replace("1,Nguyễn Văn A,stttt,,,,", "1,Nguyễn Văn A,stttt,,,,departed")
    found = mistakes(tmp_path, people=people, delegations=DELEGATIONS.replace("stttt,1", "stttt,3"))
    assert found == [
        f"lists.csv: {place}: '1' has departed (people.csv, line 2); expected somebody in service"
        for place in ("line 2, column owner", "line 4, column members", "line 4, column posters")
    ]


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


@pytest.mark.regulation("3.1b")
def test_new_addresses_follow_the_policy(tmp_path: Path) -> None:
    settings = AccountsSettings(postmaster_unit="stttt", address_policy="given.family")
    target = Target("dc=example", "example.vn", ["store-a.example.vn"], [], settings)
    people = reconcile(read(written(tmp_path)), {}, target).people
    assert people["1"].address == "a.nguyenvan@example.vn"
    assert people["2"].address == "tranthib@example.vn"


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
    for value in hashes(passwords, DirectorySettings()).values():
        assert value.startswith("{ARGON2}$argon2id$v=19$m=256,t=1,p=1$")


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_what_is_delivered_makes_no_mailbox_for_anybody(environment: str) -> None:
    """The units are the province's own; who works there is not for the repository to invent."""
    registry = site_registry(load(environment))
    assert not registry.people
    assert not registry.delegations
    assert not [unit.code for unit in registry.units.values() if unit.head]
    assert site_registry(load("local")).people
