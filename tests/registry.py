"""Registries of people who do not exist, for the lab and for measurements.

    python -m tests.registry 40 > people.csv
    python -m tests.registry 20000 600 FOLDER [xlsx]

The first prints people of the lab's units, the second writes a whole province into a folder.

Given names say what these people are: Mẫu (sample), Thử (test), Nháp (draft), Dụ (of ví dụ,
example), Giả (made up). Units are numbered offices (phòng mẫu) of numbered departments (sở mẫu).
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

import openpyxl

FAMILIES = (
    "Nguyễn", "Trần", "Lê", "Phạm", "Huỳnh", "Võ", "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô", "Dương",
    "Lý", "Tôn Nữ",
)  # fmt: skip
MIDDLES = ("Văn", "Thị", "Hữu", "Minh", "Ngọc", "Đức", "Quốc", "Thanh", "Xuân", "Ánh")
GIVEN = ("Mẫu", "Thử", "Nháp", "Dụ", "Giả")
TITLES = ("Chuyên viên", "Văn thư", "Phó Trưởng phòng", "Trưởng phòng", "Kế toán viên")


def people(count: int, units: Sequence[str], first: int = 1001) -> Iterator[dict[str, str]]:
    """Rows of `people.csv`: the same for the same arguments.

    Args:
        count: how many.
        units: codes of units, which get people in turn.
        first: the first ID.
    """
    names = [" ".join(parts) for parts in product(FAMILIES, MIDDLES, GIVEN)]
    random = Random(2009)  # noqa: S311 - no secret is made of it
    random.shuffle(names)
    for index in range(count):
        yield {
            "id": str(first + index),
            "name": names[index % len(names)],
            "unit": units[index % len(units)],
            "title": random.choice(TITLES),
            "phone": f"+84 273 000 {index % 1000:03}",
        }


@dataclass(frozen=True)
class Province:
    """The rows of a whole registry."""

    units: list[dict[str, str]]
    people: list[dict[str, str]]
    delegations: list[dict[str, str]]

    def tables(self) -> dict[str, list[dict[str, str]]]:
        """The rows by table."""
        return {"units": self.units, "people": self.people, "delegations": self.delegations}


def province(people_count: int, unit_count: int, first: int = 1001) -> Province:
    """A province: departments with nine offices each, heads, and two delegates a unit.

    The same for the same arguments. At least three people a unit are needed.

    Args:
        people_count: how many people.
        unit_count: how many units.
        first: the first person's ID.
    """
    codes = [_code(index) for index in range(unit_count)]
    staff = list(people(people_count, codes, first))
    units = [
        {
            "code": code,
            "name": f"{'Phòng' if '.' in code else 'Sở'} mẫu số {index}",
            "kind": "service-unit" if "." in code else "department",
            "parent": code.rpartition(".")[0],
            "head": staff[index]["id"],
            "phone": f"+84 273 001 {index % 1000:03}",
        }
        for index, code in enumerate(codes)
    ]
    delegations = [
        {
            "unit": code,
            "person": staff[index + times * unit_count]["id"],
            "right": right,
            "since": "2026-01-01",
            "until": "",
        }
        for index, code in enumerate(codes)
        for times, right in ((1, "read file"), (2, "read send"))
    ]
    return Province(units, staff, delegations)


def _code(index: int) -> str:
    top = f"mau{index // 10}"
    return top if index % 10 == 0 else f"{top}.p{index % 10}"


Table = Sequence[Mapping[str, str]]
Tables = Mapping[str, Table]
"""Rows by table; every row of a table has the same columns."""


def read_table(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a registry's CSV file."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def alike(rows: Table, others: Table = ()) -> list[dict[str, str]]:
    """Rows, each with all the columns of them and of others; what is not there is empty."""
    columns = dict.fromkeys(column for row in (*others, *rows) for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


def write_csv(folder: Path, tables: Tables) -> None:
    """Write a file a table."""
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, table[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)


def write_workbook(folder: Path, tables: Tables) -> None:
    """Write the spreadsheet."""
    book = openpyxl.Workbook(write_only=True)
    for name, table in tables.items():
        sheet = book.create_sheet(name)
        sheet.append(list(table[0]))
        for row in table:
            sheet.append([value or None for value in row.values()])
    book.save(folder / "registry.xlsx")


def main() -> None:
    """Print rows for the units of the lab, or write a province."""
    count, *rest = sys.argv[1:]
    if rest:
        write = write_workbook if rest[2:] == ["xlsx"] else write_csv
        write(Path(rest[1]), province(int(count), int(rest[0])).tables())
        return
    with open("inventories/local/registry/units.csv", encoding="utf-8") as file:  # noqa: PTH123
        units = [row["code"] for row in csv.DictReader(file)]
    rows = list(people(int(count), units))
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
