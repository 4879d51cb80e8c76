"""Deploys as tests and benches run them: without a word, for what pyinfra says in JSON."""

import json
import subprocess
from typing import Any

from deploy.run import command
from roles.common.site import ROOT


def outcome(action: str, environment: str) -> dict[str, Any]:
    """Run pyinfra and return its JSON.

    Args:
        action: `plan` or `apply`.
        environment: folder below `inventories/`.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        command(action, "site", environment, []),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said
