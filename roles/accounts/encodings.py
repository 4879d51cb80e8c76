"""Vietnamese text from before Unicode: what a file or a cell seems to be written in."""

import re
import unicodedata
from collections.abc import Callable, Mapping

_SYLLABLE = re.compile(
    "(b|c|ch|d|đ|g|gh|gi|h|k|kh|l|m|n|ng|ngh|nh|p|ph|q|r|s|t|th|tr|v|x)?"
    "([aăâeêioôơuưy]|[aâêiôơuư]u|[aâoôơuư]i|[aâ]y|[ae]o|i[aêu]|iêu|o[aăeo]|oa[ioy]|oeo"
    "|u[aâêôơy]|uôi|uây|uy[aêu]|ư[aơ]|ươ[iu]|yêu?)"
    "(c|ch|m|n|ng|nh|p|t)?"
)
"""A syllable of Vietnamese without its tone."""
_BETWEEN_WORDS = re.compile(r"[\s!-/:-@\[-`{-~0-9]+")
# What each byte from 0x80 on means; a blank stands for what no Vietnamese text holds.
_VISCII = (
    "ẠẮẰẶẤẦẨẬẼẸẾỀỂỄỆỐỒỔỖỘỢỚỜỞỊỎỌỈỦŨỤỲ"
    "ÕắằặấầẩậẽẹếềểễệốồổỗỠƠộờởịỰỨỪỬơớƯ"
    "ÀÁÂÃẢĂẳẵÈÉÊẺÌÍĨỳĐứÒÓÔạỷừửÙÚỹỵÝỡư"
    "àáâãảăữẫèéêẻìíĩỉđựòóôõỏọụùúũủýợỮ"
)
_TCVN3 = (
    "ÀẢÃÁẠẶẬÈẺẼÉẸỆÌỈĨÍỊÒỎÕÓỌỘỜỞỠỚỢÙỦŨ"
    " ĂÂÊÔƠƯĐăâêôơưđẰ     àảãáạẲằẳẵắẴ"
    "ẮẦẨẪẤỀặầẩẫấậèỂẻẽéẹềểễếệìỉỄẾỒĩíịò"
    "ỔỏõóọồổỗốộờởỡớợùỖủũúụừửữứựỳỷỹýỵỐ"
)
_VNI = {
    "F9": "\u0301", "F8": "\u0300", "FB": "\u0309", "F5": "\u0303", "EF": "\u0323",
    "E2": "\u0302", "E1": "\u0302\u0301", "E0": "\u0302\u0300", "E5": "\u0302\u0309",
    "E3": "\u0302\u0303", "E4": "\u0302\u0323", "EA": "\u0306", "E9": "\u0306\u0301",
    "E8": "\u0306\u0300", "FA": "\u0306\u0309", "FC": "\u0306\u0303", "EB": "\u0306\u0323",
    "F1": "đ", "F4": "ơ", "F6": "ư", "ED": "í", "EC": "ì", "E6": "ỉ", "F3": "ĩ", "F2": "ị",
    "EE": "ỵ",
}  # fmt: skip
"""VNI writes a letter, then its marks; capitals lie 0x20 below."""


def _by_table(table: Mapping[int, str]) -> Callable[[bytes], str]:
    def decode(content: bytes) -> str:
        return unicodedata.normalize("NFC", content.decode("latin-1").translate(table))

    return decode


def _windows_1258(content: bytes) -> str:
    return unicodedata.normalize("NFC", content.decode("cp1258", "replace"))


_OLDER: Mapping[str, Callable[[bytes], str]] = {
    "windows-1258": _windows_1258,
    "VISCII": _by_table(dict(enumerate(_VISCII, 0x80))),
    "TCVN3 (ABC)": _by_table(dict(enumerate(_TCVN3, 0x80))),
    "VNI": _by_table(
        {int(code, 16): text for code, text in _VNI.items()}
        | {int(code, 16) - 0x20: text.upper() for code, text in _VNI.items()}
    ),
}


def seems_to_be(content: bytes) -> str:
    """The encoding in which most words of a file that is not UTF-8 are Vietnamese."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    shares = {name: _share(decode(content)) for name, decode in _OLDER.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 1 / 2 else "no Vietnamese encoding known here"


def readable(text: str) -> tuple[str, str] | None:
    """What text of an older font (`.VnTime`, `VNI-Times`) was meant to be.

    A spreadsheet keeps such text as Latin letters that look right in that font only: `NguyÔn V¨n`.

    Returns:
        The encoding and the text in Unicode; nothing if the text is right as it is.
    """
    if text.isascii():
        return None
    try:
        content = text.encode("cp1252")
    except UnicodeEncodeError:
        # Vietnamese in Unicode ends here: hardly a name does without a letter of its own.
        return None
    odd = re.findall(r"[^\x00-\x7f]", text)
    # One odd letter may be a foreign name's; an odd sign is no name's.
    if len(odd) == 1 and odd[0].isalpha() and odd[0] not in "ªºµ":
        return None
    # Older capitals are other fonts, so a capital within a word is a sign of one.
    usual = all(w in (w.lower(), w.upper(), w.capitalize()) for w in _words(text))
    if _share(text) == 1 and usual:
        return None
    for name in ("TCVN3 (ABC)", "VNI"):
        meant = _OLDER[name](content)
        if _share(meant) == 1:
            return name, meant
    return None


def _words(text: str) -> list[str]:
    """The words that are not plain ASCII."""
    return [word for word in _BETWEEN_WORDS.split(text) if not word.isascii()]


def _share(text: str) -> float:
    """Share of Vietnamese syllables among those words."""
    words = _words(text)
    return sum(map(_is_syllable, words)) / len(words) if words else 0.0


def _is_syllable(word: str) -> bool:
    parts = unicodedata.normalize("NFD", word.lower())
    toneless = re.sub("[\u0300\u0301\u0303\u0309\u0323]", "", parts)
    return _SYLLABLE.fullmatch(unicodedata.normalize("NFC", toneless)) is not None
