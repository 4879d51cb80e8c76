"""A deploy of one role in which one template ends in a line that its daemon cannot understand.

Run by `test_broken_configuration` as an operator would run a role; the variables BROKEN_ROLE,
BROKEN_TEMPLATE and BROKEN_LINE say what to break.
"""

import importlib
import os
from typing import Any

from pyinfra.context import host

from roles.common import files
from roles.common.rendering import render
from roles.common.site import current_host, roles_of

ROLE = os.environ["BROKEN_ROLE"]


def _broken(name: str, values: dict[str, Any]) -> str:
    text = render(name, values)
    if name == os.environ["BROKEN_TEMPLATE"]:
        text += os.environ["BROKEN_LINE"] + "\n"
    return text


files.render = _broken  # type: ignore[assignment,attr-defined]
if ROLE in roles_of(current_host()):
    getattr(importlib.import_module(f"roles.{ROLE}"), ROLE)()
else:
    raise AssertionError(f"{host.name} has no role {ROLE}")
