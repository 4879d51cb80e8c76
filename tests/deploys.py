"""Deploys as tests and benches run them: without a word, for what pyinfra says in JSON."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deploy.run import command
from roles.common.site import ROOT


def outcome(
    action: str, environment: str, deploy: str = "site", limit: Sequence[str] = ()
) -> dict[str, Any]:
    """Run pyinfra and return its JSON.

    Args:
        action: `plan` or `apply`.
        environment: folder below `inventories/`.
        deploy: name of a file in `deploy/`, without its ending.
        limit: hosts or groups; all when empty.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        command(action, deploy, environment, limit),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@contextmanager
def overlaid(settings: str) -> Iterator[None]:
    """Inside the block a lab's environment has other settings than its own.

    Args:
        settings: TOML as in `site.toml`, laid over it.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as overlay:
        overlay.write(settings)
        overlay.flush()
        os.environ["LAB_SETTINGS"] = overlay.name
        try:
            yield
        finally:
            del os.environ["LAB_SETTINGS"]
