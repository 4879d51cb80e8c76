"""Registries of people who do not exist, for the lab and for measurements.

    python -m tests.registry 40 > people.csv

Given names say what these people are: Mẫu (sample), Thử (test), Nháp (draft), Dụ (of ví dụ,
example), Giả (made up).
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from random import Random

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


def main() -> None:
    """Print rows for the units of the lab."""
    with open("inventories/local/registry/units.csv", encoding="utf-8") as file:  # noqa: PTH123
        units = [row["code"] for row in csv.DictReader(file)]
    rows = list(people(int(sys.argv[1]), units))
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
