"""The role `publicdirectory`: what is public, in which order, and the files that say it."""

import csv
import io
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from roles.common.rendering import render
from roles.common.site import ROOT, load
from roles.directory.ldif import Attributes, Change
from roles.publicdirectory import publish
from roles.publicdirectory.content import Person, Public, Unit, tree
from roles.publicdirectory.deploy import PROGRAM
from roles.publicdirectory.downloads import table, vcards
from roles.publicdirectory.pages import PEOPLE_PER_FILE, Look, files
from roles.publicdirectory.settings import PublicDirectorySettings
from roles.webmail.settings import WebmailSettings

BASE = "dc=tiengiang,dc=gov,dc=vn"
EVERYTHING = Public(
    frozenset(("phone", "location", "address", "head")),
    frozenset(("title", "phone", "address")),
    people=True,
)
LOOK = Look(
    title="Danh bạ thư điện tử công vụ",
    organisation="Ủy ban nhân dân tỉnh Thử",
    contact="0273 <1>",
    address="https://mail.tiengiang.gov.vn/danh-ba/",
    in_clear=False,
    csv_separator=",",
)
NOW = datetime(2026, 11, 25, 8, 30, tzinfo=UTC)


def unit(code: str, name: str, parent: str = "", **more: list[str]) -> tuple[str, Attributes]:
    """An entry of a unit."""
    attributes = {
        "objectClass": ["organizationalUnit", "unitProfile"],
        "ou": [code],
        "displayName": [name],
        "unitKind": ["department"],
        **more,
    }
    if parent:
        attributes["unitParent"] = [f"ou={parent},ou=units,{BASE}"]
    return f"ou={code},ou=units,{BASE}", attributes


def mailbox(code: str) -> tuple[str, Attributes]:
    """An entry of a unit mailbox."""
    attributes = {
        "objectClass": ["unitMailbox", "inetLocalMailRecipient", "mailboxAccount"],
        "cn": [code],
        "mail": [f"{code}@tiengiang.gov.vn"],
    }
    return f"cn={code},ou=mailboxes,{BASE}", attributes


def dn_of(number: str) -> str:
    """DN of a person."""
    return f"employeeNumber={number},ou=people,{BASE}"


def person(number: str, name: str, of: str, **more: list[str]) -> tuple[str, Attributes]:
    """An entry of a person."""
    attributes = {
        "objectClass": ["inetOrgPerson", "inetLocalMailRecipient", "mailboxAccount"],
        "cn": [name],
        "departmentNumber": [of],
        "mail": [f"p{number}@tiengiang.gov.vn"],
        "title": ["Chuyên viên"],
        "telephoneNumber": [f"+84 273 000 {number}"],
        **more,
    }
    return dn_of(number), attributes


def names(units: Sequence[Unit]) -> list[str]:
    return [unit.name for unit in units]


# -- what is public, and in which order ------------------------------------------------------------


def test_units_are_a_tree_in_vietnamese_order() -> None:
    found = tree(
        [
            unit("syt", "Sở Y tế"),
            unit("stttt.b", "Phòng Ứng dụng", "stttt"),
            unit("stttt.a", "Phòng Bưu chính", "stttt"),
            unit("stttt", "Sở Thông tin và Truyền thông"),
            unit("sct", "Sở Công Thương"),
            unit("bql", "Ban Quản lý"),
            unit("stttt.a.x", "Tổ Đo kiểm", "stttt.a"),
        ],
        EVERYTHING,
    )
    assert names(found) == [
        "Ban Quản lý", "Sở Công Thương", "Sở Thông tin và Truyền thông", "Sở Y tế",
    ]  # fmt: skip
    assert names(found[2].children) == ["Phòng Bưu chính", "Phòng Ứng dụng"]
    assert names(found[2].children[0].children) == ["Tổ Đo kiểm"]


def test_a_place_that_is_given_comes_first() -> None:
    found = tree(
        [
            unit("a", "An"),
            unit("b", "Bình", directoryOrder=["2"]),
            unit("c", "Chi", directoryOrder=["10"]),
            unit("d", "Dung", directoryOrder=["1"]),
        ],
        EVERYTHING,
    )
    assert names(found) == ["Dung", "Bình", "Chi", "An"]


def test_people_stand_in_their_unit_by_given_name_the_head_apart() -> None:
    (found,) = tree(
        [
            unit("stttt", "Sở Thử", owner=[dn_of("3")]),
            person("1", "Trần Văn Bình", "stttt"),
            person("2", "Lê Thị Ánh", "stttt"),
            person("3", "Võ Văn Giám", "stttt", title=["Giám đốc"]),
            person("4", "Nguyễn Văn An", "stttt"),
            person("5", "Đỗ Văn Zét", "stttt", directoryOrder=["1"]),
            person("6", "Phan Thị Xa", "khac"),
        ],
        EVERYTHING,
    )
    assert found.head == Person("Võ Văn Giám", "Giám đốc", "+84 273 000 3", "p3@tiengiang.gov.vn")
    assert [person.name for person in found.people] == [
        "Đỗ Văn Zét", "Nguyễn Văn An", "Lê Thị Ánh", "Trần Văn Bình",
    ]  # fmt: skip


def test_only_what_the_settings_name_is_said() -> None:
    entries = [
        unit(
            "stttt",
            "Sở Thử",
            telephoneNumber=["+84 273 1"],
            postalAddress=["Số 1, đường A$Phường B \\24"],
            owner=[dn_of("1")],
        ),
        mailbox("stttt"),
        person("1", "Võ Văn Giám", "stttt"),
        person("2", "Lê Thị Ánh", "stttt"),
    ]
    assert tree(entries, Public(frozenset(), frozenset(), people=False)) == (
        Unit("stttt", "Sở Thử", "department"),
    )
    (all_of_it,) = tree(entries, EVERYTHING)
    assert all_of_it.phone == "+84 273 1"
    assert all_of_it.location == "Số 1, đường A, Phường B $"
    assert all_of_it.address == "stttt@tiengiang.gov.vn"
    (without,) = tree(entries, replace(EVERYTHING, people=False, person_attributes=frozenset()))
    assert without.head == Person("Võ Văn Giám")
    assert without.people == ()


def test_what_an_entry_hides_is_left_out() -> None:
    (found,) = tree(
        [
            unit(
                "stttt",
                "Sở Thử",
                telephoneNumber=["+84 273 1"],
                postalAddress=["Đường A"],
                directoryHidden=["mail", "TELEPHONENUMBER"],
                owner=[dn_of("3")],
            ),
            mailbox("stttt"),
            person("1", "Lê Văn Một", "stttt", directoryHidden=["telephoneNumber"]),
            person("2", "Lê Văn Hai", "stttt", directoryHidden=["*"]),
            person("3", "Lê Văn Ba", "stttt", directoryHidden=["*"]),
        ],
        EVERYTHING,
    )
    assert (found.phone, found.address, found.location) == ("", "", "Đường A")
    assert found.head is None
    assert [(person.name, person.phone) for person in found.people] == [("Lê Văn Một", "")]


def test_with_a_hidden_unit_go_those_below_it() -> None:
    below = [unit("a.b", "Dưới", "a"), unit("a.b.c", "Dưới nữa", "a.b"), unit("d", "Khác")]
    hidden = [unit("a", "Trên", directoryHidden=["*"]), *below]
    assert names(tree(hidden, EVERYTHING)) == ["Khác"]
    # The directory itself does not show it to this account.
    assert names(tree(below, EVERYTHING)) == ["Khác"]


# -- downloads -------------------------------------------------------------------------------------

CHIEF = Person("Đặng Thị Thùy Anh", "Giám đốc; Bí thư", "+84 273 000 001", "anhdtt@x.gov.vn")
BELOW = Unit("stttt.cntt", "Trung tâm Thử", "service-unit", people=(Person("=1+1"),))
UNIT = Unit(
    code="stttt",
    name="Sở Thông tin và Truyền thông",
    kind="department",
    phone="+84 273 000 000",
    location="Số 1, đường A, phường B",
    address="stttt@x.gov.vn",
    head=CHIEF,
    people=(Person("Lê Văn Tám"),),
    children=(BELOW,),
)


def cards(content: bytes) -> list[dict[str, str]]:
    """The vCards of a file by property, unfolded as RFC 6350 says."""
    text = content.decode()
    assert text.endswith("\r\n")
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    result: list[dict[str, str]] = []
    for line in text.replace("\r\n ", "").split("\r\n"):
        name, _, value = line.partition(":")
        if name == "BEGIN":
            result.append({})
        elif name and name != "END":
            result[-1][name] = value
    assert text.count("BEGIN:VCARD\r\nVERSION:4.0\r\n") == text.count("END:VCARD\r\n")
    return result


def test_vcards_are_those_of_rfc_6350() -> None:
    found = cards(vcards([UNIT], "Tỉnh Thử", "https://x/danh-ba/"))
    assert [card["FN"] for card in found] == [
        UNIT.name, CHIEF.name, "Lê Văn Tám", BELOW.name, "=1+1",
    ]  # fmt: skip
    office, chief, _, below, _ = found
    assert office == {
        "VERSION": "4.0",
        "KIND": "org",
        "FN": UNIT.name,
        "ORG": f"Tỉnh Thử;{UNIT.name}",
        "TEL;TYPE=work": "+84 273 000 000",
        "EMAIL;TYPE=work": "stttt@x.gov.vn",
        "ADR;TYPE=work": ";;Số 1\\, đường A\\, phường B;;;;",
        "URL": "https://x/danh-ba/don-vi/stttt/",
    }
    assert chief["N"] == "Đặng;Anh;Thị Thùy;;"
    assert chief["TITLE"] == "Giám đốc\\; Bí thư"
    assert below["ORG"] == f"Tỉnh Thử;{UNIT.name};{BELOW.name}"


def test_a_table_opens_in_a_spreadsheet_and_computes_nothing() -> None:
    content = table([UNIT], ";")
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";"))
    assert rows[0][:3] == ["Mã đơn vị", "Đơn vị", "Họ và tên"]
    assert rows[1] == [
        "stttt", UNIT.name, "", "", "+84 273 000 000", "stttt@x.gov.vn", UNIT.location,
    ]  # fmt: skip
    assert rows[2][2:] == [CHIEF.name, CHIEF.title, CHIEF.phone, CHIEF.address, ""]
    assert [row[2] for row in rows[3:]] == ["Lê Văn Tám", "", "'=1+1"]


# -- pages -----------------------------------------------------------------------------------------


def all_text(made: dict[str, bytes]) -> str:
    return "\n".join(content.decode() for content in made.values())


def test_every_unit_has_a_page_and_downloads() -> None:
    made = files([UNIT], LOOK, NOW)
    for path in ("don-vi/stttt/index.html", "don-vi/stttt.cntt/index.html", "index.html"):
        assert made[path].decode().startswith('<!DOCTYPE html>\n<html lang="vi">')
    for path in ("danh-ba", "don-vi/stttt/stttt"):
        assert [card["FN"] for card in cards(made[f"{path}.vcf"])][:2] == [UNIT.name, CHIEF.name]
    assert cards(made["don-vi/stttt.cntt/stttt.cntt.vcf"])[0]["FN"] == BELOW.name
    page = made["don-vi/stttt.cntt/index.html"].decode()
    assert '<a href="../stttt/">Sở Thông tin và Truyền thông</a>' in page
    assert "0273 &lt;1&gt;" in page
    assert "ngày 25/11/2026" in page


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    text = all_text(files([UNIT], replace(LOOK, contact="x"), NOW))
    urls = re.findall(r'(?:src|href)="(?!tel:|mailto:|#)([^"]*)"', text)
    assert urls
    assert not [url for url in urls if ":" in url or url.startswith("/")]
    assert not re.search(r"<style|<script(?! src=)|style=|\son\w+=", text)


def test_names_are_text_and_no_markup() -> None:
    odd = Unit("a", 'A <b> & "c"', "enterprise", people=(Person("<script>"),))
    page = files([odd], LOOK, NOW)["don-vi/a/index.html"].decode()
    assert "A &lt;b&gt; &amp; &#34;c&#34;" in page
    assert "&lt;script&gt;" in page


def test_a_personal_address_is_nowhere_in_clear_unless_allowed() -> None:
    made = files([UNIT], LOOK, NOW)
    assert "anhdtt" not in all_text(made)
    assert "data-veiled=" in made["don-vi/stttt/index.html"].decode()
    assert "stttt@x.gov.vn" in all_text(made)
    clear = files([UNIT], replace(LOOK, in_clear=True), NOW)
    for path in ("don-vi/stttt/index.html", "don-vi/stttt/stttt.csv", "danh-ba.vcf"):
        assert "anhdtt@x.gov.vn" in clear[path].decode()
    assert "data-veiled=" not in all_text(clear)


def test_people_are_searched_in_pieces() -> None:
    crowd = Unit("a", "A", "commune", people=(Person("Lê Văn Tám"),) * (PEOPLE_PER_FILE + 1))
    made = files([crowd], LOOK, NOW)
    pieces = sorted(path for path in made if path.startswith("tim-kiem/"))
    assert [len(json.loads(made[path])) for path in pieces] == [PEOPLE_PER_FILE, 1]
    assert json.loads(made[pieces[1]]) == [["a", "Lê Văn Tám", "", ""]]
    assert 'data-files="2"' in made["index.html"].decode()


def test_units_at_the_top_stand_under_the_heading_of_their_kind() -> None:
    made = files([Unit("a", "A", "other"), Unit("b", "B", "commune"), UNIT], LOOK, NOW)
    headings = re.findall(r"<h2[^>]*>(.*)</h2>", made["index.html"].decode())
    assert headings == [
        "Sở, ban, ngành và tương đương", "Xã, phường, thị trấn", "Cơ quan, đơn vị khác",
    ]  # fmt: skip


def test_a_province_of_20000_people_loads_fast() -> None:
    units = [
        Unit(
            code=f"donvithu{number}",
            name=f"Ủy ban nhân dân phường Thử nghiệm số {number}",
            kind="commune",
            phone=f"+84 273 000 {number:03}",
            address=f"donvithu{number}@tiengiang.gov.vn",
            people=(Person("Nguyễn Văn Thử", "Chuyên viên", "+84 273 000 000"),) * 33,
        )
        for number in range(600)
    ]
    made = files(units, LOOK, NOW)
    first = [made[path] for path in ("index.html", "danh-ba.css", "danh-ba.js")]
    assert sum(map(len, first)) < 300_000


# -- replacing them --------------------------------------------------------------------------------


@pytest.fixture
def configuration(tmp_path: Path) -> publish.Configuration:
    """A configuration that writes into a folder of its own."""
    (tmp_path / "versions").mkdir()
    source = publish.Source(["ldaps://directory1.x"], BASE, "cn=x", "/dev/null")
    return publish.Configuration(tmp_path, source, EVERYTHING, LOOK)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_nothing_is_written_where_nothing_changed(configuration: publish.Configuration) -> None:
    current = configuration.output / "current"
    assert publish.publish([UNIT], configuration, NOW)
    first, before = current.resolve(), content(current)
    later = NOW.replace(day=26)
    assert not publish.publish([UNIT], configuration, later)
    assert current.resolve() == first
    after = content(current)
    assert json.loads(after.pop(publish.CHECKED))["checked"].startswith("2026-11-26")
    assert json.loads(before.pop(publish.CHECKED))["checked"].startswith("2026-11-25")
    assert after == before


def test_a_change_replaces_everything_and_the_version_before_stays(
    configuration: publish.Configuration,
) -> None:
    current = configuration.output / "current"
    seen = []
    for number in range(3):
        assert publish.publish(
            [replace(UNIT, phone=str(number))], configuration, NOW.replace(minute=number)
        )
        seen.append(current.resolve())
    kept = set((configuration.output / "versions").iterdir())
    assert kept == set(seen[1:])
    # The look is a part of it.
    other = replace(configuration, look=replace(LOOK, contact="khác"))
    assert publish.publish([replace(UNIT, phone="2")], other, NOW)


def test_a_run_that_was_cut_off_is_done_again(
    configuration: publish.Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.publish([UNIT], configuration, NOW)
    before = (configuration.output / "current").resolve()

    def cut_off() -> None:
        raise KeyboardInterrupt

    changed = replace(UNIT, phone="1")
    with monkeypatch.context() as patch:
        patch.setattr("roles.publicdirectory.publish.os.sync", cut_off)
        with pytest.raises(KeyboardInterrupt):
            publish.publish([changed], configuration, NOW.replace(minute=31))
    assert (configuration.output / "current").resolve() == before
    assert publish.publish([changed], configuration, NOW.replace(minute=32))
    assert len(list((configuration.output / "versions").iterdir())) == 2


def answering(
    monkeypatch: pytest.MonkeyPatch, status: int, entries: list[tuple[str, Attributes]]
) -> None:
    """As if ldapsearch said this."""
    text = "".join(Change("add", *entry).entry() for entry in entries)
    done = SimpleNamespace(returncode=status, stdout=text.encode(), stderr=b"Can't contact\n")
    monkeypatch.setattr("roles.publicdirectory.publish.subprocess.run", lambda *_, **__: done)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((0, [unit("stttt", "Sở Thử")]), ""),
        ((255, []), "the directory did not answer: Can't contact; the pages stay as they are"),
        # A size limit: some are missing.
        ((4, [unit("stttt", "Sở Thử")]), "the directory did not answer"),
        ((0, []), "the directory has no unit"),
    ],
)
def test_without_a_whole_answer_the_pages_stay(
    configuration: publish.Configuration,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, list[tuple[str, Attributes]]],
    said: str,
) -> None:
    answering(monkeypatch, *answer)
    monkeypatch.setattr(publish, "read", lambda _: configuration)
    assert publish.main(["x.toml"]) == (75 if said else 0)
    assert said in capsys.readouterr().err
    assert (configuration.output / "current").exists() == (not said)


# -- on a host -------------------------------------------------------------------------------------


def rendered(**settings: Any) -> str:
    """The configuration of production's first front."""
    site = load("production")
    values = {
        "site": site,
        "host": site.group("front")[0],
        "settings": PublicDirectorySettings.model_validate(settings),
        "contact": 'Tổ "trực" \\ 0273',
        "directories": site.group("directory"),
        "bind": f"cn=publicdirectory,ou=services,{BASE}",
        "password": "/etc/site-publicdirectory/ldap-password",
        "output": "/var/lib/site-publicdirectory",
    }
    return render("publicdirectory/etc/site-publicdirectory/publicdirectory.toml.j2", values)


def test_the_program_reads_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(rendered(people=True, public_person_attributes=["title"]))
    found = publish.read(path)
    assert found.look.contact == 'Tổ "trực" \\ 0273'
    assert found.look.address == "https://mail.tiengiang.gov.vn/danh-ba/"
    assert found.public == Public(EVERYTHING.unit_attributes, frozenset(("title",)), people=True)
    assert found.source.directories == [
        "ldaps://directory1.tiengiang.gov.vn", "ldaps://directory2.tiengiang.gov.vn",
    ]  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The program as it lies on a host, without what only operators have."""
    for name in PROGRAM:
        path = tmp_path / "roles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / "roles" / name).read_bytes())
    return tmp_path


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with nothing in reach but the standard library and Jinja2."""
    allowed = "{'jinja2', 'markupsafe', 'roles', *sys.stdlib_module_names}"
    program = (
        "import sys, runpy\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] not in {allowed}: raise ImportError(name)\n"
        "sys.path.insert(0, '.')\n"
        "import jinja2\n"
        "sys.meta_path.insert(0, Guard())\n"
        f"sys.argv = ['publish', *{list(arguments)!r}]\n"
        "runpy.run_module('roles.publicdirectory.publish', run_name='__main__')\n"
    )
    command = [sys.executable, "-B", "-c", program]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True, check=False)


def test_it_runs_with_what_debian_has(installed: Path) -> None:
    config = installed / "x.toml"
    config.write_text(rendered())
    done = run(installed, "--check", str(config))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("good", "bad"),
    [("people = false", "peeple = false"), ("[look]", "[look"), ('output = "', 'ouput = "')],
)
def test_a_wrong_configuration_is_refused(installed: Path, good: str, bad: str) -> None:
    text = rendered()
    assert good in text
    config = installed / "x.toml"
    config.write_text(text.replace(good, bad))
    assert run(installed, "--check", str(config)).returncode != 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"public_unit_attributes": ["colour"]}, "'phone', 'location', 'address' or 'head'"),
        ({"public_person_attributes": ["password"]}, "'title', 'phone' or 'address'"),
        ({"refresh": "5"}, "expected a whole number and a unit"),
        ({"readers": []}, "at least 1 item"),
        ({"csv_separator": "\t"}, "',' or ';'"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        PublicDirectorySettings.model_validate(values)


def test_who_may_read_it_is_a_setting() -> None:
    site = load("production")
    name = "webmail/etc/nginx/conf.d/webmail.conf.j2"

    def location(**settings: Any) -> str:
        values = {
            "site": site,
            "host": site.group("front")[0],
            "settings": site.of(WebmailSettings),
            "public": PublicDirectorySettings.model_validate(settings),
        }
        return render(name, values).partition("location /danh-ba/ {")[2].partition("\n    }\n")[0]

    assert "deny" not in location()
    own = location(readers=["10.1.0.0/16", "192.0.2.0/24"])
    assert "allow 10.1.0.0/16;\n        allow 192.0.2.0/24;\n        deny all;" in own


def test_the_configuration_is_toml() -> None:
    assert tomllib.loads(rendered(title='"Danh bạ" \\'))["look"]["title"] == '"Danh bạ" \\'
