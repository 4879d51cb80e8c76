"""The registry's two forms, CSV files and a spreadsheet, say the same, and mistakes have places."""

import io
import unicodedata
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.workbook.workbook import Workbook
from openpyxl.worksheet.formula import ArrayFormula
from openpyxl.worksheet.worksheet import Worksheet

from roles.accounts.encodings import readable, seems_to_be
from roles.accounts.registry import (
    _EVERY_UNIT,
    _HIDDEN,
    _KINDS,
    _POSTERS,
    _RIGHTS,
    _SCOPES,
    _STATES,
    DELEGATIONS,
    DOMAINS,
    LISTS,
    PEOPLE,
    UNITS,
    Delegation,
    MailDomain,
    Registry,
    load_registry,
)
from roles.accounts.settings import AccountsSettings
from roles.accounts.tables import plain
from roles.common.errors import SiteError
from roles.common.site import ROOT
from tests.registry import province, write_csv, write_workbook

Value = str | int | float | bool | date | None
TABLES: dict[str, list[list[Value]]] = {
    "units": [
        ["code", "name", "kind", "parent", "head", "phone", "redirect", "order"],
        ["stttt", "Sở Thông tin và Truyền thông", "department", None, "2", None, True, 1],
        ["mytho", "Ủy ban nhân dân thành phố Mỹ Tho", "district", None, None, None, None, None],
    ],
    "people": [
        ["id", "name", "unit", "phone", "state", "until", "successor"],
        [1, "Nguyễn Văn A", "stttt", "+84 273 000 001", "departed", date(2026, 11, 25), 2.0],
        [2, "Trần Thị B", "stttt", None, None, datetime(2027, 1, 31), None],
    ],
    "delegations": [
        ["unit", "person", "right", "since", "until"],
        ["mytho", 2, "read send", date(2026, 1, 1), "31/12/2026"],
    ],
    "lists": [
        ["address", "name", "contains", "unit", "members", "since"],
        ["tatca", "Toàn Sở", "subtree", "stttt", 2, date(2026, 1, 1)],
    ],
    "domains": [["domain", "until"], ["cu.gov.vn", "31/12/2026"]],
}
CSV = {
    "units": "code,name,kind,parent,head,redirect,order\n"
    "stttt,Sở Thông tin và Truyền thông,department,,2,yes,1\n"
    "mytho,Ủy ban nhân dân thành phố Mỹ Tho,district,,,,\n",
    "people": "id,name,unit,phone,state,until,successor\n"
    "1,Nguyễn Văn A,stttt,+84 273 000 001,departed,25/11/2026,2\n"
    "2,Trần Thị B,stttt,,,2027-01-31,\n",
    "delegations": "unit,person,right,since,until\n"
    "mytho,2,read send,2026-01-01,31/12/2026\n",
    "lists": "address,name,contains,unit,members,since\n"
    "tatca,Toàn Sở,subtree,stttt,2,1/1/2026\n",
    "domains": "domain,until\ncu.gov.vn,2026-12-31\n",
}  # fmt: skip

TABLES_READ = (UNITS, PEOPLE, DELEGATIONS, LISTS, DOMAINS)
VOCABULARIES: tuple[Mapping[Any, tuple[str, ...]], ...] = (
    _KINDS, _RIGHTS, _STATES, _HIDDEN, _SCOPES, _POSTERS, _EVERY_UNIT,
)  # fmt: skip

PEOPLE_PART = "xl/worksheets/sheet2.xml"


def read(folder: Path) -> Registry:
    settings = AccountsSettings(postmaster_unit="stttt")
    return load_registry(folder, settings, ["postmaster", "root"], ["store-a"])


def refused(folder: Path) -> list[str]:
    """Every mistake, without the folder's path."""
    with pytest.raises(SiteError) as error:
        read(folder)
    return str(error.value).replace(f"{folder}/", "").splitlines()


def workbook(**changed: Sequence[Sequence[Value]]) -> Workbook:
    """A right spreadsheet; `units`, `people`, `delegations` replace what is right."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in {**TABLES, **changed}.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return book


def saved(book: Workbook, folder: Path) -> Path:
    book.save(folder / "registry.xlsx")
    return folder


def saved_parts(folder: Path) -> tuple[dict[str, bytes], bytes]:
    """The parts of a right spreadsheet, and its sheet `people`."""
    saved(workbook(), folder)
    with zipfile.ZipFile(folder / "registry.xlsx") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return parts, parts[PEOPLE_PART]


def rewritten(folder: Path, people: bytes) -> None:
    """Put another sheet `people` into the spreadsheet."""
    parts, _ = saved_parts(folder)
    with zipfile.ZipFile(folder / "registry.xlsx", "w") as archive:
        for name, content in {**parts, PEOPLE_PART: people}.items():
            archive.writestr(name, content)


def sheet_of(book: Workbook, name: str) -> Worksheet:
    sheet = book[name]
    assert isinstance(sheet, Worksheet)
    return sheet


def as_csv(folder: Path, **changed: str | bytes) -> Path:
    for name, text in {**CSV, **changed}.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(content)
    return folder


@pytest.mark.regulation("10")
def test_both_forms_say_the_same(tmp_path: Path) -> None:
    folders = [tmp_path / "csv", tmp_path / "xlsx"]
    for folder in folders:
        folder.mkdir()
    registry = read(as_csv(folders[0]))
    assert read(saved(workbook(), folders[1])) == registry
    assert registry.units["stttt"].redirect
    assert registry.units["stttt"].order == 1
    assert registry.people["1"].until == date(2026, 11, 25)
    assert registry.people["1"].successor == "2"
    days = date(2026, 1, 1), date(2026, 12, 31)
    assert (registry.lists["tatca"].members, registry.lists["tatca"].since) == (("2",), days[0])
    assert registry.domains == {"cu.gov.vn": MailDomain("cu.gov.vn", None, days[1])}
    assert registry.delegations == {
        Delegation("mytho", "2", "read", *days),
        Delegation("mytho", "2", "send", *days),
    }


def test_both_forms_together_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,name,unit\n", encoding="utf-8")
    assert any(
        "holds people.csv and registry.xlsx; expected the CSV files or the spreadsheet" in line
        for line in refused(saved(workbook(), tmp_path))
    )


@pytest.mark.parametrize("name", ["registry.xls", "Registry-2026.xlsx", "registry.ods"])
def test_a_spreadsheet_that_is_not_read_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    (tmp_path / f"~${name}").write_bytes(b"")
    (found,) = refused(as_csv(tmp_path))
    assert found.startswith(f"{name}: a spreadsheet that is not read; expected registry.xlsx")


def test_vietnamese_headings_and_words_are_read(tmp_path: Path) -> None:
    registry = read(
        as_csv(
            tmp_path,
            units="STT,MÃ ĐƠN VỊ,Tên đơn vị,Loại,Đơn vị cấp trên,người đứng đầu,Địa chỉ,"
            "Chuyển tiếp,Ẩn,Thứ tự,Ghi chú\n"
            '1,stttt,Sở Thông tin và Truyền thông,Sở,,2,"Số 1, Mỹ Tho",có,'
            '"điện thoại, địa chỉ thư",3,=A1\n'
            "2,mytho,Ủy ban nhân dân thành phố Mỹ Tho,Thành phố,,,,không,,,\n",
            people="ma so;ho va ten;don vi;trang thai;den ngay\n"
            "1;Nguyễn Văn A;stttt;Khoá;\n2;Trần Thị B;stttt;đang làm việc;1/2/2027\n",
            delegations="Đơn vị,Người,Quyền,Từ ngày\nmytho,2,đọc xử lý gửi thư,1/1/2026\n",
            lists="STT;Địa chỉ;Tên danh sách;Gồm;Đơn vị;Thành viên;Ai được gửi;Người quản lý\n"
            "1;dv;Các đơn vị;hộp thư đơn vị;Toàn tỉnh;1 mytho;nội bộ, 2, thành viên;2\n",
            domains="Tên miền;Ghi chú;Đến ngày\ncu.gov.vn;sáp nhập;31/12/2026\n",
        )
    )
    unit = registry.units["stttt"]
    assert (unit.kind, unit.head, unit.location) == ("department", "2", "Số 1, Mỹ Tho")
    assert (unit.redirect, unit.hidden, unit.order) == (True, ("phone", "address"), 3)
    assert registry.units["mytho"].kind == "district"
    assert registry.people["1"].state == "locked"
    assert registry.people["2"].until == date(2027, 2, 1)
    assert {given_.right for given_ in registry.delegations} == {"read", "file", "send"}
    of_units = registry.lists["dv"]
    assert (of_units.scope, of_units.unit, of_units.owner) == ("mailboxes", "*", "2")
    assert (of_units.members, of_units.posters) == (("1", "mytho"), ("site", "members", "2"))
    assert registry.domains["cu.gov.vn"].until == date(2026, 12, 31)


def test_vietnamese_sheets_are_read(tmp_path: Path) -> None:
    book = workbook()
    titles = {"units": "Đơn vị", "people": "CÁN BỘ", "delegations": "Uỷ quyền",
              "lists": "Danh sách thư", "domains": "Tên miền bổ sung"}  # fmt: skip
    for name, title in titles.items():
        book[name].title = title
    book.create_sheet("Hướng dẫn")["A1"] = "=1+1"
    registry = read(saved(book, tmp_path))
    assert set(registry.people) == {"1", "2"}
    assert registry.lists
    assert registry.domains
    (note,) = registry.notes
    assert note.endswith("registry.xlsx: sheet Hướng dẫn: is not of the registry, not read")


@pytest.mark.parametrize("table", TABLES_READ, ids=lambda table: table.name)
def test_a_heading_means_one_column(table: object) -> None:
    assert isinstance(table, type(UNITS))
    headings = [
        plain(heading) for column in table.columns for heading in (column.name, *column.headings)
    ]
    assert len(headings) == len(set(headings))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_word_means_one_value(vocabulary: dict[str, tuple[str, ...]]) -> None:
    words = [plain(word) for key, values in vocabulary.items() for word in (key, *values)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("guide", ["operations.md", "van-hanh.md"])
def test_the_guide_has_every_heading_and_word(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8").casefold()
    for table in TABLES_READ:
        for column in table.columns:
            assert f"`{column.name}`" in text
            assert not [word for word in column.headings if f"*{word.casefold()}*" not in text]
    for vocabulary in VOCABULARIES:
        for words in vocabulary.values():
            assert not [word for word in words if f"*{word.casefold()}*" not in text]


def cell(sheet: str, place: str, value: Value) -> Callable[[Workbook], None]:
    def change(book: Workbook) -> None:
        book[sheet][place] = value

    return change


def array_formula(book: Workbook) -> None:
    sheet_of(book, "people")["B3"] = ArrayFormula("B3", "=B2")


def hidden_row(book: Workbook) -> None:
    sheet_of(book, "people").row_dimensions[3].hidden = True


def hidden_column(book: Workbook) -> None:
    sheet_of(book, "people").column_dimensions["D"].hidden = True


def hidden_sheet(book: Workbook) -> None:
    sheet_of(book, "delegations").sheet_state = "hidden"


def merged(book: Workbook) -> None:
    sheet_of(book, "people").merge_cells("C2:C3")


def two_sheets(book: Workbook) -> None:
    book.create_sheet("Cán bộ")


def two_optional_sheets(book: Workbook) -> None:
    book.create_sheet("Danh sách thư")


def no_sheet(book: Workbook) -> None:
    book.remove(book["delegations"])


PLACE = "registry.xlsx: sheet people, row"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (cell("people", "D2", 273000001), f"{PLACE} 2, column D (phone): '273000001' seems to hav"),
        (cell("people", "D2", 84273000001), f"{PLACE} 2, column D (phone): '84273000001' seems to"),
        (cell("people", "B3", "=B2"), f"{PLACE} 3, column B (name): '=B2' is a formula; expected"),
        (cell("people", "B3", "#N/A"), f"{PLACE} 3, column B (name): '#N/A' is an error of the"),
        (cell("people", "A3", 2.5), f"{PLACE} 3, column A (id): 2.5 is a number with a fraction"),
        (cell("people", "A3", 10**16), f"{PLACE} 3, column A (id): 10000000000000000 is a number"),
        (cell("people", "A3", date(2026, 1, 2)), f"{PLACE} 3, column A (id): the cell holds a dat"),
        (cell("people", "C3", True), f"{PLACE} 3, column C (unit): the cell holds true or false"),
        (cell("people", "F3", datetime(2026, 1, 2, 3)), f"{PLACE} 3, column F (until): 2026-01-02"),
        (cell("people", "H3", "x"), f"{PLACE} 3, column H: 'x' has no heading; expected a heading"),
        (cell("people", "B2", "NguyÔn V¨n A"), f"{PLACE} 2, column B (name): 'NguyÔn V¨n A' is "
         "text of a TCVN3 (ABC) font; expected Unicode: 'Nguyễn Văn A'"),
        (cell("people", "B2", "Nguyeãn Vaên A"), f"{PLACE} 2, column B (name): 'Nguyeãn Vaên A' i"),
        (cell("people", "B1", "fullname"), f"{PLACE} 1: the heading is 'id,fullname,unit,phone,st"),
        (cell("people", "D1", "Họ tên"), f"{PLACE} 1: the heading is 'id,name,unit,Họ tên,state,u"),
        (array_formula, f"{PLACE} 3, column B (name): '=' is a formula; expected its value"),
        (hidden_row, f"{PLACE} 3: is hidden (by a filter?); expected what a reviewer can see"),
        (hidden_column, f"{PLACE} 1, column D: is hidden; expected what a reviewer can see"),
        (hidden_sheet, "registry.xlsx: sheet delegations: is hidden; expected what a reviewer can"),
        (merged, "registry.xlsx: sheet people: the cells C2:C3 are merged; expected each with a v"),
        (two_sheets, "registry.xlsx: has sheets people, Cán bộ; expected one sheet people (or cán"),
        (two_optional_sheets, "registry.xlsx: has sheets lists, Danh sách thư; expected one she"),
        (cell("lists", "E2", 9), "registry.xlsx: sheet lists, row 2, column E (members): '9' is n"),
        (no_sheet, "registry.xlsx: has no such sheet; expected one sheet delegations (or ủy quyền"),
        (cell("units", "E2", 9), "registry.xlsx: sheet units, row 2, column E (head): '9' is no "
         "person of sheet people; expected an ID"),
        (cell("people", "A3", 1), f"{PLACE} 3, column A (id): '1' is also in row 2; expected each"),
    ],
)  # fmt: skip
def test_a_spreadsheets_mistake_is_named_with_its_cell(
    tmp_path: Path, change: Callable[[Workbook], None], expected: str
) -> None:
    book = workbook()
    change(book)
    found = refused(saved(book, tmp_path))
    assert any(line.startswith(expected) for line in found), found
    assert all("; expected" in line for line in found)


def test_sheets_of_lists_and_domains_may_be_missing(tmp_path: Path) -> None:
    book = workbook()
    for name in ("lists", "domains"):
        book.remove(book[name])
    registry = read(saved(book, tmp_path))
    assert (registry.lists, registry.domains, registry.notes) == ({}, {}, ())


def test_numbers_are_read_as_they_are_shown(tmp_path: Path) -> None:
    book = workbook()
    for row, number_format in ((2, "General"), (3, "0000")):
        book["people"].cell(row, 1).number_format = number_format
    book["people"]["D3"] = 2733000001
    book["people"]["D3"].number_format = "00000000000"
    for place in ("A2", "G2"):
        book["people"][place] = "0002" if place == "G2" else 1042.0
    for sheet, place in (("units", "E2"), ("delegations", "B2"), ("lists", "E2")):
        book[sheet][place] = "0002"
    registry = read(saved(book, tmp_path))
    assert list(registry.people) == ["1042", "0002"]
    assert registry.people["0002"].phone == "02733000001"


def test_a_table_may_stand_anywhere_on_its_sheet(tmp_path: Path) -> None:
    book = workbook()
    sheet = sheet_of(book, "people")
    sheet.insert_rows(1, 2)
    sheet.insert_rows(4, 1)
    sheet.insert_cols(1, 1)
    assert set(read(saved(book, tmp_path)).people) == {"1", "2"}
    sheet["B6"] = None
    expected = "registry.xlsx: sheet people, row 6, column B (id): is empty; expected letters and"
    assert any(line.startswith(expected) for line in refused(saved(book, tmp_path)))


def test_a_sheet_without_anything_is_named(tmp_path: Path) -> None:
    (found,) = refused(saved(workbook(delegations=[]), tmp_path))
    assert found.startswith("registry.xlsx: sheet delegations: is empty; expected the heading")


def a_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    return stream.getvalue()


def a_broken_sheet() -> bytes:
    with TemporaryDirectory() as folder:
        space = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        rewritten(
            Path(folder),
            b'<worksheet xmlns="%s"><sheetData><row r="x"/></sheetData></worksheet>' % space,
        )
        return (Path(folder) / "registry.xlsx").read_bytes()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "is encrypted with a password; expected a"),
        (OLE + "Workbook".encode("utf-16-le"), "is in the old format (.xls); expected a spreadshe"),
        (b"id,name,unit\n", "is no .xlsx (BadZipFile: File is not a zip file); expected a spreads"),
        (a_zip(), "is no .xlsx (KeyError"),
        (a_broken_sheet(), "is no .xlsx (ValueError: Unable to read workbook: could not read work"),
        (b"", "is no .xlsx (BadZipFile: File is not a zip file); expected a spreadsheet"),
    ],
    ids=["encrypted", "xls", "csv", "ods", "broken", "empty"],
)  # fmt: skip
def test_what_is_no_spreadsheet_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "registry.xlsx").write_bytes(content)
    (found,) = refused(tmp_path)
    assert found.startswith(f"registry.xlsx: {expected}")


def test_a_spreadsheet_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    saved(workbook(), tmp_path)
    with zipfile.ZipFile(tmp_path / "registry.xlsx", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.bmp", bytes(101 * 2**20))
    (found,) = refused(tmp_path)
    assert "unpacks to 101 MiB; expected at most 100 MiB" in found


def test_what_a_vietnamese_excel_saves_as_csv_is_read(tmp_path: Path) -> None:
    texts = {
        name: b"\xef\xbb\xbf\r\n" + text.replace(",", ";").replace("\n", "\r\n").encode()
        for name, text in CSV.items()
    }
    assert set(read(as_csv(tmp_path, **texts)).people) == {"1", "2"}
    texts["people"] = texts["people"].replace(b"1;Ng", b";Ng")
    # The mark in front is not part of the first heading.
    assert any(
        "people.csv: line 3, column id: is empty" in m for m in refused(as_csv(tmp_path, **texts))
    )


@pytest.mark.regulation("3.3")
def test_what_looks_like_another_letter_is_put_right_with_a_note(tmp_path: Path) -> None:
    people = CSV["people"].replace("Nguyễn Văn A", "\u00d0ặng  Văn A")
    registry = read(as_csv(tmp_path, people=people))
    assert registry.people["1"].name == "Đặng Văn A"
    spaces, letter = registry.notes
    assert "line 2, column name: 'Ðặng Văn A' had several spaces in a row; it is read" in spaces
    assert "line 2, column name: 'Đặng Văn A' had another letter that looks like Đ;" in letter


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("people", "25/11/2026", "31/02/2026", "line 2, column until: '31/02/2026' is not in the"),
        ("people", "25/11/2026", "25/11/26", "line 2, column until: '25/11/26' is no date; expect"),
        ("people", "25/11/2026", "25/11/1926", "line 2, column until: '25/11/1926'; expected a da"),
        ("people", ",2\n", ",9\n", "line 2, column successor: '9' is no person of people.csv; exp"),
        ("people", ",2\n", ",1\n", "line 2, column successor: '1' is the person; expected another"),
        ("people", "departed,25/11/2026", ",", "line 2, column successor: '2', but the person sta"),
        ("people", "2,Trần Thị B,stttt,,,", "2,Trần Thị B,stttt,,departed,",
         "line 2, column successor: '2' has departed (people.csv, line 3); expected a person in s"),
        ("units", ",,2,yes", ",,1,yes", "line 2, column head: '1' has departed (people.csv, line"),
        ("units", ",,2,yes", ",,,yes", "line 2, column redirect: is set, but the unit has no head"),
        ("units", "yes,1", "perhaps,1", "line 2, column redirect: 'perhaps'; expected yes, no"),
        ("units", "yes,1", "yes,-1", "line 2, column order: '-1'; expected a whole number from 0"),
        ("delegations", "mytho,2", "mytho,1", "line 2, column person: '1' has departed (people.cs"),
        ("delegations", "31/12/2026", "31/12/2025", "line 2, column until: 2025-12-31 is before 2"),
        ("delegations", "/2026\n", "/2026\nmytho,2,read,31/12/2026,\n",
         "line 3, column right: 'read' is also in line 2 for the same days; expected each once"),
        ("delegations", "/2026\n", "/2026\nmytho,2,send,1/1/2026,31/12/2026\n",
         "line 3, column right: 'send' is also in line 2 for the same days; expected each once"),
        ("people", "+84 273", "273", "line 2, column phone: '273 000 001' seems to have lost its"),
        ("people", "Nguyễn", "Ngu\u0443ễn", "line 2, column name: 'Nguуễn' holds U+0443 (CYRILLIC"),
        ("people", "Nguyễn", "Nguyễn\u3164", "line 2, column name: holds the invisible U+3164 (HA"),
        ("people", "id,name,unit,phone,state,until,successor\n1,Nguyễn Văn A,stttt,",
         "id,name,unit,address,phone,state,until,successor\n1,Nguyễn Văn A,stttt,a..b,",
         "line 2, column address: 'a..b'; expected the part before the @"),
        ("people", "id,", "id;x,", "line 1: the heading is 'id;x,name,unit,phone,state,until,succ"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(
    tmp_path: Path, file: str, old: str, new: str, expected: str
) -> None:
    assert old in CSV[file]
    found = refused(as_csv(tmp_path, **{file: CSV[file].replace(old, new, 1)}))
    assert any(line.startswith(f"{file}.csv: {expected}") for line in found), found
    assert all("; expected" in line for line in found)


def test_a_right_may_be_given_again_later(tmp_path: Path) -> None:
    later = CSV["delegations"] + "mytho,2,read,1/1/2027,\n"
    assert len(read(as_csv(tmp_path, delegations=later)).delegations) == 3


def test_mistakes_stand_in_the_order_of_lines_with_those_across_files(tmp_path: Path) -> None:
    found = refused(
        as_csv(
            tmp_path,
            units=CSV["units"].replace(",,2,yes", ",,9,yes").replace("district", "island"),
            people=CSV["people"].replace("25/11/2026", "soon").replace("B,stttt", "B,nowhere"),
            delegations=CSV["delegations"].replace("mytho", "caibe"),
        )
    )
    assert [line.partition(", column")[0] for line in found] == [
        "units.csv: line 2", "units.csv: line 3", "people.csv: line 2", "people.csv: line 3",
        "delegations.csv: line 2",
    ]  # fmt: skip


def test_what_a_broken_table_lacks_is_said_once(tmp_path: Path) -> None:
    found = refused(as_csv(tmp_path, people="ID number,full name\n1,Nguyễn Văn A\n"))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("Nguyễn".encode("utf-16"), "UTF-16"),
        (b"1,Nguy\xea\xden V\xe3n A,2,Tr\xe2\xccn Th\xf2i B\xecnh", "windows-1258"),
        (b"1,Nguy\xa7n V\xe5n A,2,\xd0\xa7ng H\xe6u Ph\xdf\xbec", "VISCII"),
        (b"1,Nguy\xd4n V\xa8n A,2,Tr\xc7n Th\xde B\xd7nh", "TCVN3 (ABC)"),
        (b"1,Nguye\xe3n Va\xean A,2,\xd1a\xebng Th\xf2 B\xecnh", "VNI"),
        (b"M\xfcller & S\xf8n", "no Vietnamese encoding known here"),
    ],
)
def test_an_older_encoding_is_recognised(content: bytes | str, encoding: str) -> None:
    assert isinstance(content, bytes)
    assert seems_to_be(content) == encoding


NAMES = ["Nguyễn Văn A", "Y Bhă Niê", "H'Hen Niê", "Kpă Klơng", "Ñam", "José", "Müller", "Sön",
         "số 5 – lô B", "Tôn Nữ"]  # fmt: skip


def test_text_of_an_older_font_is_recognised_by_capitals_within_words() -> None:
    assert readable("Kinh tÕ, y tÕ") == ("TCVN3 (ABC)", "Kinh tế, y tế")


@pytest.mark.parametrize("name", NAMES)
def test_unicode_is_not_taken_for_an_older_font(name: str) -> None:
    assert readable(name) is None
    assert readable(unicodedata.normalize("NFD", name)) is None


@given(st.text())
def test_whatever_is_in_a_cell_has_an_answer(text: str) -> None:
    meant = readable(text)
    assert meant is None or meant[1] != text


def test_a_whole_province_is_read_in_both_forms(tmp_path: Path) -> None:
    rows = province(300, 60)
    folders = [tmp_path / "csv", tmp_path / "xlsx"]
    for folder, write in zip(folders, (write_csv, write_workbook), strict=True):
        folder.mkdir()
        write(folder, rows.tables())
    settings = AccountsSettings(postmaster_unit="mau0")
    one, other = (load_registry(folder, settings, [], ["store-a"]) for folder in folders)
    assert one == other
    assert (len(one.units), len(one.people), len(one.delegations)) == (60, 300, 240)


@given(st.permutations(CSV["people"].splitlines()[1:]), st.sampled_from(["\n", "\r\n"]))
def test_the_order_of_rows_does_not_matter(rows: list[str], end: str) -> None:
    with TemporaryDirectory() as folder:
        heading = CSV["people"].splitlines()[0]
        turned = read(as_csv(Path(folder), people=end.join([heading, *rows]))).people
        assert turned == read(as_csv(Path(folder))).people


@given(st.binary() | st.text().map(str.encode))
def test_whatever_a_file_holds_is_read_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        for file in ("people.csv", "registry.xlsx"):
            as_csv(Path(folder))
            (Path(folder) / file).write_bytes(content)
            with pytest.raises(SiteError, match="; expected"):
                read(Path(folder))


@given(st.data())
def test_a_damaged_spreadsheet_is_read_or_refused(data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        content = bytearray(saved_parts(folder)[1])
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
        rewritten(folder, bytes(content))
        with suppress(SiteError):
            read(folder)
