"""Vietnamese names: taken apart, sorted, and turned into what an address may hold."""

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    # Not on a front, where the public directory sorts with this and the standard library alone.
    from roles.accounts.settings import AddressPolicy

_ASCII = str.maketrans("ĐđƉÐðɃƀ", "DdDDdBb")
"""Letters that do not fall apart into one of ASCII and a mark."""
_COMPOUND = (
    "Công Tằng Tôn Nữ", "Công Huyền Tôn Nữ", "Huyền Tôn Nữ", "Tôn Nữ", "Tôn Thất", "Công Tôn",
    "Âu Dương", "Hoàng Phủ", "Gia Cát", "Tư Mã", "Thượng Quan", "Rơ Châm", "Rơ Mah", "Rơ Lan",
)  # fmt: skip
"""Family names of several words. What is family and middle name as well, such as Nguyễn Phúc, is
not among them: nobody can tell."""
_COMPOUND_BEGINS = tuple((f"{name.casefold()} ", name.count(" ") + 1) for name in _COMPOUND)
_GIVEN_FIRST = re.compile(r"(H['’ʼ] ?\w+|Y (?=\w+ \w))", re.IGNORECASE)
"""How an Ê Đê or M'Nông name begins that puts the family last: `H'Hen Niê`, `Y Moan Ênuôl`."""
_LETTERS = "aăâbcdđeêfghijklmnoôơpqrstuưvwxyz"
_TONES = "\u0300\u0309\u0303\u0301\u0323"
"""Huyền, hỏi, ngã, sắc, nặng: the order of dictionaries."""

Key = tuple[tuple[int, ...], ...]


class Name(NamedTuple):
    """The parts of a person's name; only `given` is never empty."""

    family: str
    middle: str
    given: str


def folded(text: str) -> str:
    """`text` in lower case without diacritics: `Đề nghị` becomes `de nghi`.

    What has no ASCII letter then is left out.
    """
    plain = unicodedata.normalize("NFD", text.translate(_ASCII))
    return plain.encode("ascii", "ignore").decode().lower()


@lru_cache(maxsize=65536)
def taken_apart(name: str) -> Name:
    """The parts of a name: `Nguyễn`, `Văn` and `An` of `Nguyễn Văn An`.

    The family name stands first and the given name last, save in names such as `H'Hen Niê`. A name
    of one word is a given name.
    """
    words = unicodedata.normalize("NFC", name).split()
    text = " ".join(words)
    if first := _GIVEN_FIRST.match(text):
        given, _, family = text[first.end() :].partition(" ")
        given = first[0] + given
        if family:
            return Name(family, "", given)
    if len(words) < 2:  # noqa: PLR2004 - a family name and a given name
        return Name("", "", text)
    plain = text.casefold()
    count = next((n for begin, n in _COMPOUND_BEGINS if plain.startswith(begin)), 1)
    return Name(" ".join(words[:count]), " ".join(words[count:-1]), words[-1])


def family_name(name: str) -> str:
    """The family name; of a name of one word, that word."""
    parts = taken_apart(name)
    return parts.family or parts.given


def given_name(name: str) -> str:
    """The given name, by which one is addressed."""
    return taken_apart(name).given


def local_part(name: str, policy: "AddressPolicy" = "given-initials") -> str:
    """The address that a name asks for; `accounts.address_policy` says which.

    Empty for a name without a Latin letter.
    """
    parts = taken_apart(name)
    given = _plain(parts.given)
    others = [_plain(word) for word in f"{parts.family} {parts.middle}".split()]
    others = [word for word in others if word]
    if policy == "given-initials":
        return given + "".join(word[0] for word in others) if given else "".join(others)
    if policy == "given.family":
        return ".".join(part for part in (given, "".join(others)) if part)
    return "".join(_plain(word) for word in name.split())


def sort_key(name: str) -> Key:
    """The place of a person in a Vietnamese list: by given name, then family, then middle name."""
    parts = taken_apart(name)
    return *text_key(parts.given), (), *text_key(parts.family), (), *text_key(parts.middle)


def text_key(text: str) -> Key:
    """The place of a text in Vietnamese order, word by word.

    Letters decide first (a ă â b c d đ e ê …), then tones (none, huyền, hỏi, ngã, sắc, nặng).
    Numbers stand before letters and count as numbers: `Khu phố 2` before `Khu phố 10`.
    """
    return tuple(_word_key(word) for word in re.findall(r"\d+|[^\W\d]+", _composed(text)))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _word_key(word: str) -> tuple[int, ...]:
    if word.isdecimal():
        return 1, int(word)
    letters: list[int] = []
    tones: list[int] = []
    for char in word:
        marks = unicodedata.normalize("NFD", char)
        toneless = unicodedata.normalize("NFC", "".join(m for m in marks if m not in _TONES))
        # A letter of another language stands with its base, or behind all of ours.
        base = toneless if toneless in _LETTERS else marks[0]
        letters.append(_LETTERS.index(base) + 2 if base in _LETTERS else 100 + ord(base))
        tones.append(next((_TONES.index(m) + 1 for m in marks if m in _TONES), 0))
    # 0 ends the letters: a shorter word stands before a longer one that begins so.
    return 2, *letters, 0, *tones


@lru_cache(maxsize=4096)
def _plain(word: str) -> str:
    return re.sub("[^a-z0-9]", "", folded(word))
