"""Scripts that are made from templates; `make check` looks at those that are files."""

import re
import shutil
import subprocess
from typing import Any

import pytest

from roles.common.rendering import render
from roles.common.site import ROOT, load
from roles.directory.settings import DirectorySettings
from roles.mailstore.values import values

TEMPLATES = ROOT / "templates"
_SHELL = re.compile(r"#!/bin/(ba)?sh\b")


def names() -> dict[str, Any]:
    """What the templates see, of all roles that have any, on a host with every role."""
    site = load("single")
    host = site.hosts["mail1"]
    own = {"settings": DirectorySettings()}
    return {"site": site, "host": host, "secrets": site.secrets, **own, **values(site, host)}


def shell_templates() -> list[str]:
    """Every template whose first line names a shell."""
    return [
        str(path.relative_to(TEMPLATES))
        for path in sorted(TEMPLATES.rglob("*.j2"))
        if _SHELL.match(path.read_text(encoding="utf-8"))
    ]


def test_there_are_templates_of_scripts() -> None:
    assert "mailstore/usr/local/lib/site-mailstore/quota-warning.j2" in shell_templates()


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("template", shell_templates())
def test_shellcheck_takes_what_a_template_makes(template: str) -> None:
    done = subprocess.run(
        ["shellcheck", "-"],
        input=render(template, names()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
