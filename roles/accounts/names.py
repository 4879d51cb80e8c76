"""Vietnamese names: taken apart, and turned into what an address may hold."""

import re
import unicodedata

_ASCII = str.maketrans("Đđ", "Dd")
_TWO_WORDS = ("Tôn Nữ", "Tôn Thất", "Công Tôn", "Âu Dương")
"""Family names of two words."""


def folded(text: str) -> str:
    """`text` in lower case without diacritics: `Đề nghị` becomes `de nghi`.

    What has no ASCII letter then is left out.
    """
    plain = unicodedata.normalize("NFD", text.translate(_ASCII))
    return plain.encode("ascii", "ignore").decode().lower()


def family_name(name: str) -> str:
    """The family name, which stands first: `Nguyễn` of `Nguyễn Văn An`."""
    for family in _TWO_WORDS:
        if name.startswith(f"{family} "):
            return family
    return name.split(maxsplit=1)[0]


def given_name(name: str) -> str:
    """The given name, which stands last and by which one is addressed: `An`."""
    return name.rsplit(maxsplit=1)[-1]


def local_part(name: str) -> str:
    """The address that a name asks for: the given name, then the initials of the rest.

    `Nguyễn Văn A` asks for `anv`, `Trần Thị Bình` for `binhtt`: given names tell people apart,
    family names hardly do. Empty for a name without a Latin letter.
    """
    words = [re.sub(r"[^a-z0-9]", "", folded(word)) for word in name.split()]
    words = [word for word in words if word]
    if not words:
        return ""
    *rest, given = words
    return given + "".join(word[0] for word in rest)
