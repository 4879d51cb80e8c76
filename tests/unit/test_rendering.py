"""Templates are strict: what is missing or senseless never reaches a host."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from roles.common.errors import SiteError
from roles.common.rendering import render


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    (tmp_path / "a.j2").write_text("first\nvalue = {{ value }}\n")
    return tmp_path


def test_a_secret_is_written_in_clear_only_here(templates: Path) -> None:
    assert render("a.j2", {"value": SecretStr("x")}, templates) == "first\nvalue = x\n"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "'value' is undefined"),
        ({"value": None}, "a value is None"),
        ({"value": True}, "a value is a boolean"),
    ],
)
def test_a_wrong_value_names_template_and_line(
    templates: Path, values: dict[str, object], reason: str
) -> None:
    with pytest.raises(SiteError, match=rf"a\.j2, line 2: cannot be rendered: {reason}"):
        render("a.j2", values, templates)


def test_a_broken_template_names_its_line(templates: Path) -> None:
    (templates / "b.j2").write_text("x\n{% if %}\n")
    with pytest.raises(SiteError, match=r"b\.j2, line 2: "):
        render("b.j2", {}, templates)
