"""Names: taken apart, turned into addresses by the policy, and sorted as Vietnamese lists are."""

import random
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.accounts.names import (
    Name,
    family_name,
    folded,
    given_name,
    local_part,
    sort_key,
    taken_apart,
    text_key,
)
from roles.accounts.settings import AddressPolicy
from tests.registry import FAMILIES, GIVEN, MIDDLES

POLICIES: tuple[AddressPolicy, ...] = ("given-initials", "full-name", "given.family")
policies = st.sampled_from(POLICIES)
names = st.builds(
    " ".join,
    st.tuples(st.sampled_from(FAMILIES), st.sampled_from(MIDDLES), st.sampled_from(GIVEN)),
)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Nguyễn Văn A", ("Nguyễn", "Văn", "A")),
        ("Nguyễn A", ("Nguyễn", "", "A")),
        ("An", ("", "", "An")),
        ("Tôn Nữ Thị Đào", ("Tôn Nữ", "Thị", "Đào")),
        ("TÔN NỮ THỊ ĐÀO", ("TÔN NỮ", "THỊ", "ĐÀO")),
        ("Tôn Nữ", ("Tôn", "", "Nữ")),
        ("Công Tằng Tôn Nữ Mẫu", ("Công Tằng Tôn Nữ", "", "Mẫu")),
        ("Nguyễn Phúc Mẫu", ("Nguyễn", "Phúc", "Mẫu")),
        ("Nguyễn Thị Mẫu-Thử", ("Nguyễn", "Thị", "Mẫu-Thử")),
        ("H'Hen Niê", ("Niê", "", "H'Hen")),
        ("H’Bia Niê Kdăm", ("Niê Kdăm", "", "H’Bia")),
        ("Y Moan Ênuôl", ("Ênuôl", "", "Y Moan")),
        ("Y Mẫu", ("Y", "", "Mẫu")),
        ("K'Krajan Plin", ("K'Krajan", "", "Plin")),
        ("Ksor H'Mẫu", ("Ksor", "", "H'Mẫu")),
        ("Rơ Châm Mẫu", ("Rơ Châm", "", "Mẫu")),
    ],
)
def test_a_name_has_its_parts(name: str, parts: tuple[str, str, str]) -> None:
    assert taken_apart(name) == Name(*parts)
    assert taken_apart(unicodedata.normalize("NFD", name)) == Name(*parts)
    assert given_name(name) == parts[2]
    assert family_name(name) == (parts[0] or parts[2])


@pytest.mark.regulation("3.1b")
@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("Nguyễn Văn A", ("anv", "nguyenvana", "a.nguyenvan")),
        ("Tôn Nữ Thị Đào", ("daotnt", "tonnuthidao", "dao.tonnuthi")),
        ("Đỗ Đức Ưng", ("ungdd", "doducung", "ung.doduc")),
        ("O'Connor Ánh", ("anho", "oconnoranh", "anh.oconnor")),
        ("Nguyễn Mẫu-Thử", ("mauthun", "nguyenmauthu", "mauthu.nguyen")),
        ("H'Hen Niê", ("hhenn", "hhennie", "hhen.nie")),
        ("K'Krajan Plin", ("plink", "kkrajanplin", "plin.kkrajan")),
        ("An", ("an", "an", "an")),
        ("王", ("", "", "")),
        ("王 An", ("an", "an", "an")),
    ],
)
def test_a_name_asks_for_an_address(name: str, addresses: tuple[str, str, str]) -> None:
    assert tuple(local_part(name, policy) for policy in POLICIES) == addresses
    assert local_part(name) == addresses[0]


@given(st.sampled_from(FAMILIES), st.sampled_from(MIDDLES), st.sampled_from(GIVEN))
def test_names_are_taken_apart(family: str, middle: str, given_: str) -> None:
    name = f"{family} {middle} {given_}"
    assert taken_apart(name) == Name(family, middle, given_)
    assert local_part(name).startswith(folded(given_))


@given(st.text(), policies)
def test_an_address_holds_only_what_it_may(text: str, policy: AddressPolicy) -> None:
    assert re.fullmatch(r"([a-z0-9]+(\.[a-z0-9]+)?)?", local_part(text, policy))


@given(st.text(), policies)
def test_an_address_does_not_depend_on_the_form_of_unicode(
    text: str, policy: AddressPolicy
) -> None:
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert local_part(composed, policy) == local_part(apart, policy)


@given(st.text())
def test_no_word_of_a_name_is_lost(text: str) -> None:
    parts = " ".join(part for part in taken_apart(text) if part).split()
    assert sorted(parts) == sorted(unicodedata.normalize("NFC", text).split())


@given(st.text(st.characters(codec="utf-8")))
def test_the_search_name_is_plain(text: str) -> None:
    assert folded(text).isascii()
    assert folded(text) == folded(text).lower()


def shuffled(values: list[str]) -> list[str]:
    return random.Random(2009).sample(values, len(values))  # noqa: S311 - no secret


def test_people_stand_in_vietnamese_order() -> None:
    """By given name, then family, then middle name; letters before tones."""
    in_order = [
        "Lê Văn An", "Nguyễn Thị An", "Nguyễn Văn An", "Trần Thị Ánh", "Phạm Ăn", "Lê Văn Ân",
        "Tạ Ẩn", "Lê Bình", "Nguyễn Bình", "Nguyễn Bỉnh", "Nguyễn Bĩnh", "Nguyễn Bính",
        "Nguyễn Bịnh", "Đỗ Dũng", "Đỗ Đạt", "Võ Em", "Võ Êm", "Võ Hoa", "Lê Hòa", "Võ Hoan",
        "Lê Oanh", "Lê Ông", "Lê Ơn", "Lê Uyên", "Lê Ưng", "Lê Yến",
    ]  # fmt: skip
    assert sorted(shuffled(in_order), key=sort_key) == in_order


def test_units_stand_in_vietnamese_order() -> None:
    in_order = [
        "Ấp 3", "Ấp Bắc", "Dân vận", "Đảng ủy", "Khu phố 2", "Khu phố 10", "Sở Xây dựng",
        "Sở Y tế", "Ủy ban nhân dân huyện Cái Bè",
    ]  # fmt: skip
    assert sorted(shuffled(in_order), key=text_key) == in_order


@given(names, names)
def test_the_order_is_by_the_given_name_first(one: str, other: str) -> None:
    if text_key(given_name(one)) < text_key(given_name(other)):
        assert sort_key(one) < sort_key(other)
    if given_name(one) == given_name(other) and text_key(family_name(one)) < text_key(
        family_name(other)
    ):
        assert sort_key(one) < sort_key(other)


@given(st.text())
def test_everything_has_a_place(text: str) -> None:
    assert sort_key(text) == sort_key(unicodedata.normalize("NFD", text))
    assert text_key(text) <= text_key(f"{text} a")
