"""Tables of text from CSV files or the sheets of one spreadsheet: rows, each with its place."""

import csv
import io
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import openpyxl
from openpyxl.cell.cell import Cell, MergedCell
from openpyxl.utils import get_column_letter
from openpyxl.workbook.workbook import Workbook
from openpyxl.worksheet.worksheet import Worksheet
from pydantic import TypeAdapter, ValidationError

from roles.accounts.encodings import readable, seems_to_be
from roles.accounts.names import folded
from roles.common.settings import Size

WORKBOOK = "registry.xlsx"
"""The spreadsheet that may take the place of the CSV files."""
_SPREADSHEETS = (".xls", ".xlsx", ".xlsm", ".xlsb", ".ods")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How an `.xls` begins, and also an encrypted `.xlsx`."""
_LARGEST = 100 * 2**20
"""Bytes of XML in a spreadsheet; 20,000 people are about 15 MB."""
_BLANKS = "\u034f\u115f\u1160\u2800\u3164\ufe0e\ufe0f\uffa0"
"""Letters and marks that show nothing."""
_LOOKALIKES = str.maketrans("\u00d0\u0189\u00f0", "ĐĐđ")
"""The Icelandic and the African letter that fonts show as `Đ`."""
_OWN = "ĂăĐđĨĩŨũƠơƯưẠ-ỹ"
_USUAL = re.compile(f"(?=.*[{_OWN}])[ -~ÀÁÂÃÈÉÊÌÍÒÓÔÕÙÚÝàáâãèéêìíòóôõùúý{_OWN}]+")
"""Vietnamese, composed, with a letter of its own: nothing to put right, and of no older font, which
knows Western letters alone. Nearly every name is so, and of a province there are thousands."""
_EXACT = 10**15
"""A spreadsheet rounds whole numbers from here on."""
_DATE = re.compile(r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)|(?P<D>\d\d?)/(?P<M>\d\d?)/(?P<Y>\d{4})")
_EXPECTED_DATE = "a day from 2000 to 2099, such as 2026-11-25 or 25/11/2026"
_FLAGS: Mapping[bool, tuple[str, ...]] = {
    True: ("yes", "true", "có", "x"),
    False: ("no", "false", "không"),
}
_SIZE: TypeAdapter[int] = TypeAdapter(Size)
T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    headings: tuple[str, ...] = ()
    """Vietnamese headings; accents, case, and signs between words do not matter."""
    needed: bool = False
    kind: Literal["text", "date", "flag", "ignored"] = "text"


@dataclass(frozen=True)
class Table:
    """A table: the file `NAME.csv`, or the sheet NAME."""

    name: str
    sheets: tuple[str, ...]
    """Vietnamese names of the sheet."""
    columns: tuple[Column, ...]
    optional: bool = False
    """Whether it may be missing, which is the same as one without rows."""

    def expected(self) -> str:
        """What the heading must and may hold, in words."""
        needed = ", ".join(column.name for column in self.columns if column.needed)
        optional = [
            column.name for column in self.columns if not column.needed and column.kind != "ignored"
        ]
        return f"{needed} and any of {', '.join(optional)}"


@dataclass
class Report:
    """Every mistake, in the order of files and lines, and what was put right."""

    found: list[tuple[int, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrong(self, text: str, table: int = -1, number: int = 0) -> None:
        """Note a mistake.

        Args:
            text: the file, the place, what was found; what is expected.
            table: place of the table among the tables.
            number: number of the line.
        """
        self.found.append((table, number, text))

    @property
    def mistakes(self) -> list[str]:
        """The mistakes from the first line to the last."""
        return [text for _, _, text in sorted(self.found, key=lambda found: found[:2])]


@dataclass(frozen=True)
class Source:
    """A file or a sheet that holds a table."""

    place: str
    """Its path; for a sheet, with the sheet."""
    title: str
    """What other tables' mistakes call it: `people.csv`, `sheet people`."""
    between: str
    """What stands between its place and a line: `: line`, or `, row`."""
    order: int
    """Place of the table among the tables."""

    def at(self, number: int) -> str:
        """The place of a line."""
        return f"{self.place}{self.between} {number}"


@dataclass
class Row:
    """A line of a table: its cells as clean text, and where they stand."""

    source: Source
    number: int
    labels: Mapping[str, str]
    """What each column is called in the file."""
    report: Report
    cells: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The place within its table: `line 4`, `row 4`."""
        return f"{self.source.between.strip(',: ')} {self.number}"

    @property
    def place(self) -> str:
        """The place for a mistake in another table: `people.csv, line 4`."""
        return f"{self.source.title}, {self.where}"

    def cell(self, column: str) -> str:
        """The place of a cell: `registry/people.csv: line 4, column unit`."""
        return f"{self.source.at(self.number)}, column {self.labels.get(column, column)}"

    def wrong(self, column: str, found: str, expected: str) -> None:
        """Note a mistake."""
        self.report.wrong(
            f"{self.cell(column)}: {found}; expected {expected}",
            self.source.order,
            self.number,
        )

    def note(self, column: str, what: str) -> None:
        """Note what was put right."""
        self.report.notes.append(f"{self.cell(column)}: {what}")

    def text(self, column: str, pattern: re.Pattern[str] | None, expected: str) -> str:
        """A cell that may be empty and otherwise fits a pattern."""
        value = self.cells.get(column, "")
        if value and pattern is not None and not pattern.fullmatch(value):
            self.wrong(column, f"{value!r}", expected)
        return value

    def needed(self, column: str, pattern: re.Pattern[str] | None, expected: str) -> str:
        """A cell that must not be empty."""
        if not self.cells.get(column):
            self.wrong(column, "is empty", expected)
        return self.text(column, pattern, expected)

    def words(self, column: str, pattern: re.Pattern[str], expected: str) -> tuple[str, ...]:
        """Several values separated by spaces, commas or semicolons."""
        cell = self.cells.get(column, "")
        values = tuple(re.split(r"[\s,;]+", cell.strip(" ,;"))) if cell else ()
        for value in values:
            if value and not pattern.fullmatch(value):
                self.wrong(column, f"{value!r}", expected)
        return tuple(value for value in values if value)

    def one_of(
        self,
        column: str,
        choices: Sequence[T],
        default: T | None = None,
        vocabulary: Mapping[T, Sequence[str]] | None = None,
    ) -> T:
        """One of a few words, or of the words that the vocabulary has for them."""
        value = self.cells.get(column, "")
        if not value and default is not None:
            return default
        known = {plain(word): choice for choice, word in _spelled(choices, vocabulary or {})}
        found = value if value in choices else known.get(plain(value))
        if found is None or not value:
            self.wrong(column, f"{value!r}" if value else "is empty", either(choices))
            return choices[0]
        return choices[choices.index(found)]

    def some_of(
        self, column: str, choices: Sequence[T], vocabulary: Mapping[T, Sequence[str]]
    ) -> tuple[T, ...]:
        """Several of a few words; separated by spaces, commas or semicolons."""
        found, others = self.some_or_others(column, choices, vocabulary)
        for word in others:
            self.wrong(column, f"{word!r}", either(choices))
        return found

    def some_or_others(
        self, column: str, choices: Sequence[T], vocabulary: Mapping[T, Sequence[str]]
    ) -> tuple[tuple[T, ...], tuple[str, ...]]:
        """Several of a few words, and what is none of them; separated as above."""
        cell = self.cells.get(column, "")
        if not cell:
            return (), ()
        known = {plain(word): choice for choice, word in _spelled(choices, vocabulary)}
        found: dict[T, None] = {}
        others: dict[str, None] = {}
        for part in re.split("[,;]", cell):
            words = part.split()
            while words:
                # The longest first: a choice may be of several words.
                for count in range(len(words), 0, -1):
                    text = " ".join(words[:count])
                    choice = known.get(plain(text) or text)
                    if choice is not None:
                        found[choice] = None
                        break
                else:
                    count = 1
                    others[words[0]] = None
                words = words[count:]
        return tuple(found), tuple(others)

    def size(self, column: str) -> int | None:
        """A size in bytes, such as `5GiB`."""
        value = self.cells.get(column, "")
        if not value:
            return None
        try:
            return _SIZE.validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            found, _, expected = message.partition("; expected ")
            self.wrong(column, found, expected)
            return None

    def day(self, column: str) -> date | None:
        """A day, such as `2026-11-25` or `25/11/2026`."""
        value = self.cells.get(column, "")
        if not value:
            return None
        match = _DATE.fullmatch(value)
        if match is None:
            self.wrong(column, f"{value!r} is no date", _EXPECTED_DATE)
            return None
        year, month, day = (int(match[a] or match[b]) for a, b in ("yY", "mM", "dD"))
        try:
            found = date(year, month, day)
        except ValueError:
            self.wrong(column, f"{value!r} is not in the calendar", _EXPECTED_DATE)
            return None
        if not 2000 <= year < 2100:  # noqa: PLR2004 - said in the message
            self.wrong(column, f"{value!r}", _EXPECTED_DATE)
        return found

    def flag(self, column: str) -> bool:
        """Yes or no; empty is no."""
        return self.one_of(column, (True, False), False, _FLAGS)

    def count(self, column: str) -> int | None:
        """A whole number from 0 to 999999."""
        value = self.text(column, re.compile("[0-9]{1,6}"), "a whole number from 0 to 999999")
        return int(value) if value.isdecimal() else None


def either(choices: Sequence[object]) -> str:
    """Choices in words."""
    return ", ".join(
        {True: "yes", False: "no"}[choice] if isinstance(choice, bool) else str(choice)
        for choice in choices
    )


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Text for comparisons: ASCII letters in lower case, and single spaces."""
    return " ".join(re.findall("[a-z0-9]+", folded(text)))


def _spelled(
    choices: Sequence[T], vocabulary: Mapping[T, Sequence[str]]
) -> Iterator[tuple[T, str]]:
    for choice in choices:
        yield choice, str(choice)
        for word in vocabulary.get(choice, ()):
            yield choice, word


def read_tables(folder: Path, tables: Sequence[Table], report: Report) -> dict[str, "Read"]:
    """Read every table from its CSV file, or all of them from `registry.xlsx`.

    Args:
        folder: where they lie.
        tables: what is expected.
        report: gets every mistake and note.

    Returns:
        Each table's rows, by its name.
    """
    files = [folder / f"{table.name}.csv" for table in tables]
    workbook = folder / WORKBOOK
    _check_folder(folder, files, report)
    if workbook.exists():
        return _read_workbook(workbook, tables, report)
    return {
        table.name: _read_csv(file, order, table, report)
        for order, (file, table) in enumerate(zip(files, tables, strict=True))
    }


@dataclass
class Read:
    """A table that was read."""

    title: str
    """What it is called in the mistakes of others."""
    rows: list[Row] = field(default_factory=list)
    whole: bool = False
    """Whether nothing of it was left out."""


def _check_folder(folder: Path, files: Sequence[Path], report: Report) -> None:
    present = [file.name for file in files if file.exists()]
    if (folder / WORKBOOK).exists():
        if present:
            report.wrong(
                f"{folder}: holds {', '.join(present)} and {WORKBOOK}; expected the CSV files or "
                "the spreadsheet"
            )
        return
    for file in sorted(folder.glob("*")):
        # `~$…` is the mark that a spreadsheet is open somewhere.
        if file.suffix.lower() in _SPREADSHEETS and not file.name.startswith("~$"):
            report.wrong(
                f"{file}: a spreadsheet that is not read; expected {WORKBOOK} (Excel workbook), or "
                "CSV files alone"
            )


def _read_csv(file: Path, order: int, table: Table, report: Report) -> Read:
    """The rows of a CSV file, which a semicolon may separate as a Vietnamese Excel does."""
    source = Source(str(file), file.name, ": line", order)
    result = Read(file.name)
    if table.optional and not file.exists():
        result.whole = True
        return result
    try:
        content = file.read_bytes()
    except OSError as error:
        report.wrong(
            f"{file}: cannot be read: {error.strerror}; expected {table.expected()}", order
        )
        return result
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        report.wrong(
            f"{file}: line {line}: is not UTF-8; it seems to be {seems_to_be(content)}; expected "
            "UTF-8 (TCVN 6909:2001)",
            order,
        )
        return result
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    heading: _Heading | None = None
    last = 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if heading is None:
                heading = _heading(source, line, cells, table, report, letters=False)
                if heading is None:
                    return result
            elif len(cells) != heading.width:
                report.wrong(
                    f"{source.at(line)}: has {len(cells)} cells; expected {heading.width}",
                    order,
                    line,
                )
            else:
                result.rows.append(
                    _row(source, line, heading, [_Value(cell) for cell in cells], report)
                )
    except csv.Error as error:
        report.wrong(f"{source.at(last + 1)}: is not CSV: {error}; expected CSV", order, last + 1)
        return result
    if heading is None:
        report.wrong(f"{file}: line 1: is empty; expected the heading {table.expected()}", order)
    result.whole = heading is not None
    return result


def _read_workbook(file: Path, tables: Sequence[Table], report: Report) -> dict[str, Read]:
    """The rows of a spreadsheet's sheets."""
    result = {table.name: Read(f"sheet {table.name}") for table in tables}
    workbook = _opened(file, report)
    if workbook is None:
        return result
    sheets: dict[str, list[Worksheet]] = {table.name: [] for table in tables}
    for sheet in workbook.worksheets:
        names = [t.name for t in tables if plain(sheet.title) in map(plain, (t.name, *t.sheets))]
        for name in names:
            sheets[name].append(sheet)
        if not names:
            report.notes.append(f"{file}: sheet {sheet.title}: is not of the registry, not read")
    for order, table in enumerate(tables):
        found = sheets[table.name]
        if len(found) == 1:
            result[table.name] = _read_sheet(file, found[0], order, table, report)
        elif table.optional and not found:
            result[table.name].whole = True
        else:
            what = f"sheets {', '.join(s.title for s in found)}" if found else "no such sheet"
            report.wrong(
                f"{file}: has {what}; expected one sheet {table.name} "
                f"(or {', '.join(table.sheets)})",
                order,
            )
    return result


def _opened(file: Path, report: Report) -> Workbook | None:
    expected = "a spreadsheet of today's Excel (.xlsx) without a password"
    try:
        content = file.read_bytes()
    except OSError as error:
        report.wrong(f"{file}: cannot be read: {error.strerror}; expected {expected}")
        return None
    if content.startswith(_OLE):
        encrypted = "EncryptedPackage".encode("utf-16-le") in content
        what = "is encrypted with a password" if encrypted else "is in the old format (.xls)"
        report.wrong(f"{file}: {what}; expected {expected}")
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _LARGEST:
            report.wrong(
                f"{file}: unpacks to {size // 2**20} MiB; expected at most {_LARGEST // 2**20} "
                "MiB, without pictures and formatted empty rows"
            )
            return None
        with warnings.catch_warnings():
            # Of what it leaves out: charts, the colours of conditions.
            warnings.simplefilter("ignore")
            return openpyxl.load_workbook(io.BytesIO(content))
    except Exception as error:
        # Of a broken file openpyxl raises whatever it met.
        words = " ".join(f"{type(error).__name__}: {error}".split())
        report.wrong(f"{file}: is no .xlsx ({words}); expected {expected}")
        return None


def _read_sheet(file: Path, sheet: Worksheet, order: int, table: Table, report: Report) -> Read:
    source = Source(f"{file}: sheet {sheet.title}", f"sheet {sheet.title}", ", row", order)
    result = Read(source.title)
    if sheet.sheet_state != "visible":
        report.wrong(f"{source.place}: is hidden; expected what a reviewer can see", order)
    for merged in sheet.merged_cells.ranges:
        report.wrong(
            f"{source.place}: the cells {merged.coord} are merged; expected each with a value of "
            "its own",
            order,
            merged.min_row,
        )
    hidden_columns = {
        get_column_letter(index)
        for dimension in sheet.column_dimensions.values()
        if dimension.hidden
        for index in range(dimension.min or 1, (dimension.max or 0) + 1)
    }
    hidden_rows = {number for number, row in sheet.row_dimensions.items() if row.hidden}
    heading: _Heading | None = None
    for number, cells in enumerate(sheet.iter_rows(), 1):
        values = [_value(cell) for cell in cells]
        if not any(value.text.strip() for value in values):
            continue
        if number in hidden_rows:
            report.wrong(
                f"{source.at(number)}: is hidden (by a filter?); expected what a reviewer can see",
                order,
                number,
            )
        if heading is None:
            titles = [value.text for value in values]
            heading = _heading(source, number, titles, table, report, letters=True)
            if heading is None:
                return result
            used = zip(heading.columns, heading.letters, strict=True)
            for letter in [at for column, at in used if column and at in hidden_columns]:
                report.wrong(
                    f"{source.at(number)}, column {letter}: is hidden; expected what a reviewer "
                    "can see",
                    order,
                    number,
                )
        else:
            result.rows.append(_row(source, number, heading, values, report))
    if heading is None:
        report.wrong(f"{source.place}: is empty; expected the heading {table.expected()}", order)
    result.whole = heading is not None
    return result


@dataclass(frozen=True)
class _Value:
    """A cell of a spreadsheet as text, and what is to be said of it."""

    text: str
    kind: Literal["text", "number", "date", "flag"] = "text"
    mistake: tuple[str, str] | None = None
    """What was found and what is expected instead."""


def _value(cell: Cell | MergedCell) -> _Value:
    """What a reader of the sheet sees in a cell, as far as it may be in a registry."""
    value: object = cell.value
    result = _Value(str(value), mistake=(f"{value} is a time", "a date or text"))
    if value is None:
        result = _Value("")
    elif cell.data_type == "f":
        text = value if isinstance(value, str) else "="
        result = _Value(text, mistake=(f"{text!r} is a formula", "its value"))
    elif cell.data_type == "e":
        result = _Value(str(value), mistake=(f"{value!r} is an error of the sheet", "a value"))
    elif isinstance(value, bool):
        result = _Value("yes" if value else "no", "flag")
    elif isinstance(value, int | float):
        result = _number(value, str(cell.number_format))
    elif isinstance(value, datetime) and value.time() == time():
        result = _Value(value.date().isoformat(), "date")
    elif isinstance(value, str):
        result = _Value(value)
    return result


def _number(value: float, shown_as: str) -> _Value:
    """A number as text: whole, with the leading zeros that its format shows."""
    if value != int(value):
        return _Value(str(value), mistake=(f"{value} is a number with a fraction", "text"))
    if abs(value) >= _EXACT:
        found = f"{int(value)} is a number of more than 15 digits, which a spreadsheet rounds"
        return _Value(str(int(value)), mistake=(found, "text (format the cell as text)"))
    width = len(shown_as) if re.fullmatch("0+", shown_as) else 0
    return _Value(f"{int(value):0{width}}", "number")


@dataclass(frozen=True)
class _Heading:
    """What the columns of a file are."""

    columns: tuple[Column | None, ...]
    labels: Mapping[str, str]
    letters: tuple[str, ...]
    """What each column is called by its place."""

    @property
    def width(self) -> int:
        return len(self.columns)


def _heading(
    source: Source,
    number: int,
    cells: Sequence[str],
    table: Table,
    report: Report,
    *,
    letters: bool,
) -> _Heading | None:
    """Read the heading; nothing if it is not this table's."""
    by_name = {
        plain(heading): column
        for column in table.columns
        for heading in (column.name, *column.headings)
    }
    titles = [cell.strip() for cell in cells]
    columns = [by_name.get(plain(title)) if title else None for title in titles]
    found = [column.name for column in columns if column is not None]
    absent = [c.name for c in table.columns if c.needed and c.name not in found]
    unknown = [t for t, column in zip(titles, columns, strict=True) if t and column is None]
    twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    wrong = [
        f"{what} {', '.join(names)}"
        for what, names in (("without", absent), ("unknown:", unknown), ("twice:", twice))
        if names
    ]
    if wrong:
        report.wrong(
            f"{source.at(number)}: the heading is {','.join(titles)!r} ({'; '.join(wrong)}); "
            f"expected {table.expected()}",
            source.order,
            number,
        )
        return None
    places = tuple(
        get_column_letter(index) if letters else str(index) for index in range(1, len(titles) + 1)
    )
    labels = {}
    for place, title, column in zip(places, titles, columns, strict=True):
        if column is not None:
            same = title == column.name
            in_text = column.name if same else f"{title!r} ({column.name})"
            labels[column.name] = f"{place} ({column.name})" if letters else in_text
    return _Heading(tuple(columns), labels, places)


def _row(
    source: Source,
    number: int,
    heading: _Heading,
    cells: Sequence[_Value],
    report: Report,
) -> Row:
    """A row of clean text."""
    row = Row(source, number, heading.labels, report)
    for column, place, value in zip(heading.columns, heading.letters, cells, strict=True):
        if column is None:
            if value.text.strip():
                row.wrong(place, f"{value.text!r} has no heading", "a heading above it")
        elif column.kind == "ignored":
            continue
        elif value.mistake:
            row.wrong(column.name, *value.mistake)
        elif value.kind in ("date", "flag") and value.kind != column.kind:
            what = "a date" if value.kind == "date" else "true or false"
            row.wrong(column.name, f"the cell holds {what}", "text (format the cell as text)")
        else:
            row.cells[column.name] = _clean(row, column.name, value.text)
    return row


def _clean(row: Row, column: str, cell: str) -> str:
    """A cell without surrounding space, in NFC; refuse what no eye can see."""
    if not cell:
        return cell
    text = cell.strip(" \t")
    if text.startswith("="):
        row.wrong(column, f"{text!r} is a formula", "its value")
    usual = text.isprintable() if text.isascii() else _USUAL.fullmatch(text)
    if usual and "  " not in text:
        return text
    for char in text:
        if not char.isprintable() or char in _BLANKS:
            name = unicodedata.name(char, "a control character")
            row.wrong(column, f"holds the invisible U+{ord(char):04X} ({name})", "visible text")
            break
    meant = readable(text)
    if meant:
        row.wrong(column, f"{text!r} is text of a {meant[0]} font", f"Unicode: {meant[1]!r}")
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        row.note(column, f"{composed!r} was not in NFC (TCVN 6909:2001); it is read as if it were")
    single = re.sub(" +", " ", composed)
    if single != composed:
        row.note(column, f"{single!r} had several spaces in a row; it is read with one")
    latin = single.translate(_LOOKALIKES)
    if latin != single:
        row.note(
            column, f"{latin!r} had another letter that looks like Đ; it is read as if it were Đ"
        )
    _check_letters(row, column, latin)
    return latin


def _check_letters(row: Row, column: str, text: str) -> None:
    """Refuse a word that mixes alphabets: `Сường` with a Cyrillic С looks right and is not."""
    for word in text.split():
        names = [
            (char, unicodedata.name(char, ""))
            for char in word
            if char.isalpha() and char >= "\u0370"
        ]
        others = [(char, name) for char, name in names if not name.startswith("LATIN")]
        if others and re.search("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]", word):
            char, name = others[0]
            row.wrong(
                column,
                f"{word!r} holds U+{ord(char):04X} ({name}) among Latin letters",
                "Latin letters",
            )
            return
