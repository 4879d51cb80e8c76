"""The files of the public directory: pages, styles, script, search index, downloads."""

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from roles.publicdirectory.content import Person, Unit
from roles.publicdirectory.downloads import table, vcards

FILES = Path(__file__).parent / "files"
STATIC = ("danh-ba.css", "danh-ba.js")
"""Served as they are."""
PEOPLE_PER_FILE = 2000
"""The search fetches people only when somebody searches, and shows what has come so far."""
KINDS = {
    "department": "Sở, ban, ngành và tương đương",
    "service-unit": "Đơn vị sự nghiệp công lập",
    "district": "Huyện, thành phố, thị xã",
    "commune": "Xã, phường, thị trấn",
    "party": "Cơ quan Đảng",
    "association": "Mặt trận, đoàn thể và hội",
    "enterprise": "Doanh nghiệp",
}
"""Headings of the units at the top, in this order, by kind."""
OTHER = "Cơ quan, đơn vị khác"


@dataclass(frozen=True)
class Look:
    """What the pages say besides the units."""

    title: str
    organisation: str
    contact: str
    """Whom a reader turns to."""
    address: str
    """Of the public directory, with a slash at its end."""
    in_clear: bool
    """Whether personal addresses stand in pages and downloads."""
    csv_separator: str


def files(units: Sequence[Unit], look: Look, made: datetime) -> dict[str, bytes]:
    """Every file by its path below the public directory.

    Args:
        units: those at the top, with everything below them.
        look: what the pages say besides.
        made: the time that the pages name.
    """
    environment = _environment(look, made)
    chunks = _people(units)
    result = {name: (FILES / name).read_bytes() for name in STATIC}
    result["index.html"] = _render(
        environment, "index.html", sections=_sections(units), chunks=len(chunks)
    )
    for number, chunk in enumerate(chunks, 1):
        result[f"tim-kiem/{number}.json"] = _json(chunk)
    public = units if look.in_clear else [_without_addresses(unit) for unit in units]
    result |= _downloads("danh-ba", public, look)
    for above, unit, downloaded in _walk(units, public):
        folder = f"don-vi/{unit.code}"
        result[f"{folder}/index.html"] = _render(environment, "unit.html", unit=unit, above=above)
        result |= _downloads(f"{folder}/{unit.code}", [downloaded], look)
    return result


def said(time: datetime) -> tuple[str, str]:
    """A time for programs and in words, by this host's clock."""
    local = time.astimezone()
    return local.isoformat(timespec="seconds"), f"{local:%H:%M} ngày {local:%d/%m/%Y}"


def _walk(
    units: Iterable[Unit], public: Iterable[Unit], above: tuple[Unit, ...] = ()
) -> Iterator[tuple[tuple[Unit, ...], Unit, Unit]]:
    """Every unit: those above it, itself, and what of it may be downloaded."""
    for unit, downloaded in zip(units, public, strict=True):
        yield above, unit, downloaded
        yield from _walk(unit.children, downloaded.children, (*above, unit))


def _downloads(path: str, units: Collection[Unit], look: Look) -> dict[str, bytes]:
    return {
        f"{path}.vcf": vcards(units, look.organisation, look.address),
        f"{path}.csv": table(units, look.csv_separator),
    }


def _sections(units: Iterable[Unit]) -> Mapping[str, list[Unit]]:
    """The units at the top under the heading of their kind."""
    by_kind: dict[str, list[Unit]] = {heading: [] for heading in (*KINDS.values(), OTHER)}
    for unit in units:
        by_kind[KINDS.get(unit.kind, OTHER)].append(unit)
    return {heading: found for heading, found in by_kind.items() if found}


def _people(units: Iterable[Unit]) -> list[list[tuple[str, str, str, str]]]:
    """Unit, name, title, telephone of everybody, in pieces; addresses are not searched for."""
    everybody = [
        (unit.code, person.name, person.title, person.phone)
        for top in units
        for unit in top.all()
        for person in (*([unit.head] if unit.head else []), *unit.people)
    ]
    starts = range(0, len(everybody), PEOPLE_PER_FILE)
    return [everybody[start : start + PEOPLE_PER_FILE] for start in starts]


def _without_addresses(unit: Unit) -> Unit:
    """The unit and all below it, without the addresses of people."""
    return replace(
        unit,
        head=replace(unit.head, address="") if unit.head else None,
        people=tuple(replace(person, address="") for person in unit.people),
        children=tuple(_without_addresses(child) for child in unit.children),
    )


def _environment(look: Look, made: datetime) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FILES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    time, words = said(made)
    environment.globals |= {"look": look, "made": time, "made_in_words": words}
    environment.filters |= {"tel": _tel, "veiled": _veiled}
    return environment


def _render(environment: Environment, name: str, **values: object) -> bytes:
    return environment.get_template(name).render(values).encode()


def _tel(phone: str) -> str:
    """A telephone number as a link calls it (RFC 3966)."""
    return f"tel:{re.sub('[^+0-9]', '', phone)}"


def _veiled(person: Person) -> str:
    """An address as only the script reads it, not a program that collects addresses."""
    return base64.b64encode(person.address[::-1].encode()).decode()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
