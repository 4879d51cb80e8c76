"""The generated pages: what they say of the code is true."""

import tomllib
from pathlib import Path

import pytest

from docs import generate
from roles.common.errors import SiteError
from roles.common.site import ROOT

DEMANDED = {
    "2", "3", "3.1a", "3.1b", "3.2", "3.3", "4", "5", "7", "8", "9", "10", "11", "12", "13", "15",
    "16",
}  # fmt: skip
"""Articles of decision 15/2009/QĐ-UBND that demand something of the system."""
ROW = {"article": "3.1a", "demand": "A mailbox.", "answer": "It is.", "settings": ["site.domain"]}


def test_a_test_stands_at_its_articles(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "test_a.py").write_text(
        "@pytest.mark.regulation('2')\n@pytest.mark.regulation('3.1a')\n"
        "@pytest.mark.parametrize('x', [1])\ndef test_b(x): ...\n\ndef test_c(): ...\n"
    )
    tests = generate.marked(tmp_path)
    assert tests == {"2": ["mail/test_a.py::test_b"], "3.1a": ["mail/test_a.py::test_b"]}
    page = generate.matrix({"row": [ROW, {**ROW, "article": "2"}]}, tests)
    assert page.splitlines()[-1] == (
        "| 2 | A mailbox. | It is. Settings: `site.domain`. | `mail/test_a.py::test_b` |"
    )


def test_a_test_that_is_marked_with_several_articles_stands_at_each(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("@pytest.mark.regulation('8', '13')\ndef test_b(): ...\n")
    assert generate.marked(tmp_path) == {article: ["test_a.py::test_b"] for article in ("8", "13")}


def test_every_article_that_demands_something_has_one_row() -> None:
    document = tomllib.loads((ROOT / "docs" / "regulation.toml").read_text(encoding="utf-8"))
    articles = [row["article"] for row in document["row"]]
    assert sorted(articles) == sorted(DEMANDED)


def test_a_row_that_no_test_shows_is_refused() -> None:
    with pytest.raises(SiteError, match=r"article 3\.1a: no test shows it; expected"):
        generate.matrix({"row": [ROW]}, {})


def test_a_setting_that_is_not_there_is_refused() -> None:
    with pytest.raises(SiteError, match=r"article 3\.1a: there is no setting 'mta\.colour'"):
        generate.matrix({"row": [{**ROW, "settings": ["mta.colour"]}]}, {"3.1a": ["test"]})


def test_an_article_without_a_row_is_refused() -> None:
    with pytest.raises(SiteError, match=r"article 99: has no row; expected one for mail/test_a"):
        generate.matrix({"row": [ROW]}, {"99": ["mail/test_a.py::test_b"]})


def test_a_page_that_is_out_of_date_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "regulation.md"
    monkeypatch.setattr(generate, "pages", lambda: {page: "other"})
    assert generate.main(["--check"]) == 1
    assert "docs/regulation.md: is out of date; run `make docs`" in capsys.readouterr().err
