"""Runs a deploy against an environment and says what it changed, or would change.

    python -m deploy.run plan site --env staging
    python -m deploy.run apply site --env staging --limit mx

It starts the very `pyinfra` command that an operator may type, and condenses its output: only what
changes is shown. Exit codes: 0 nothing to do (`plan`) or done (`apply`); 2 the plan has changes;
1 an error, which is printed.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from roles.common.errors import SiteError
from roles.common.site import GROUPS, ROOT, load

EXIT_DONE, EXIT_ERROR, EXIT_CHANGES = 0, 1, 2
_QUIET = re.compile(
    r" *(?:\[[^]]+\] +(?:nested +)?(?:No changes(?: on retry \d+)?|Skipped|Connected(?: \(.*\))?"
    r"|Ready: (?:.+\.py|\w+(?:\.\w+)+))|Loading: .+)\s*"
)
"""The whole of a line in which pyinfra 3.10 itself says that nothing happened; a diff or a daemon
may well use the same words."""
OPERATION = re.compile(r"--> Starting (?:serial )?operation: .*")
"""What pyinfra says above an operation; `serial`: on one host after the other."""
_HEADING = re.compile(rf"(?:{OPERATION.pattern}|--> (?:.*\.\.\.|.*:))\s*")
"""What pyinfra says above other lines; its own errors begin with the same arrow."""


def command(
    action: str,
    deploy: str,
    environment: str,
    limit: Iterable[str],
    removals: int | None = None,
) -> list[str]:
    """The pyinfra command line.

    Args:
        action: `plan` or `apply`.
        deploy: name of a file in `deploy/`, without its ending.
        environment: folder below `inventories/`.
        limit: hosts or groups; all when empty.
        removals: so many mailboxes may be locked or closed, as a plan showed it.
    """
    return [
        str(Path(sys.executable).with_name("pyinfra")),
        *(["--dry"] if action == "plan" else ["-y"]),
        "--json",
        *(["--data", f"removals={removals}"] if removals is not None else []),
        *(part for name in limit for part in ("--limit", name)),
        str(ROOT / "inventories" / environment / "inventory.py"),
        str(ROOT / "deploy" / f"{deploy}.py"),
    ]


def condensed(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a run that say something changed or went wrong, below their heading.

    pyinfra prints a heading for each operation and a line for each host; a run that changes
    nothing would print hundreds of both.
    """
    heading = ""
    for line in lines:
        if _HEADING.fullmatch(line):
            heading = line
        elif line.strip() and not _QUIET.fullmatch(line):
            if heading:
                yield heading
                heading = ""
            yield line


def changes(outcome: dict[str, Any], action: str) -> list[tuple[str, list[str]]]:
    """What changes: operations with their hosts, from pyinfra's JSON."""
    if action == "plan":
        rows = outcome["plan"]
        keys = ["hosts_with_change", "hosts_with_conditional_change"]
    else:
        rows = outcome["results"]["operations"]
        keys = ["success"]
    return [
        (row["name"], hosts) for row in rows if (hosts := [h for key in keys for h in row[key]])
    ]


def run(
    action: str,
    deploy: str,
    environment: str,
    limit: list[str],
    log: TextIO,
    *,
    removals: int | None = None,
) -> int:
    """Run pyinfra, show what matters on `log`, return the exit code."""
    site = load(environment)
    if deploy == "accounts":
        # One directory host makes changes, the others follow.
        limit = limit or [site.group("directory")[0].name]
    known = {*site.hosts, *GROUPS}
    for name in limit:
        if name not in known:
            raise SiteError(
                f"--limit {name}: no such host or group in {environment}; expected one of "
                f"{', '.join(sorted(known))}"
            )
    site.secrets  # noqa: B018 - fails here, before any connection, where there are none
    # Into a file: a pipe that nobody empties while the log is read would stop pyinfra.
    with tempfile.TemporaryFile("w+") as output:
        with subprocess.Popen(
            command(action, deploy, environment, limit, removals),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            if process.stderr is None:
                raise AssertionError("it was asked for")
            for line in condensed(process.stderr):
                print(line, end="", file=log, flush=True)
        output.seek(0)
        said = output.read()
    if process.returncode != 0:
        print(f"{action} of {environment}: failed; see above", file=log)
        return EXIT_ERROR
    outcome = json.loads(said)
    found = changes(outcome, action)
    print(f"\n{environment}: {summary(action, found)}", file=log)
    for name, hosts in found:
        print(f"  {', '.join(hosts)}: {name}", file=log)
    return EXIT_CHANGES if action == "plan" and found else EXIT_DONE


def summary(action: str, found: list[tuple[str, list[str]]]) -> str:
    """One sentence on the run."""
    if not found:
        return "nothing to change" if action == "plan" else "nothing changed"
    count = sum(len(hosts) for _, hosts in found)
    verb = "would change" if action == "plan" else "changed"
    return f"{count} operation{'s' if count > 1 else ''} {verb} something"


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m deploy.run", description=__doc__)
    parser.add_argument("action", choices=["plan", "apply"])
    parser.add_argument("deploy", choices=sorted(_deploys()), help="a job in deploy/")
    parser.add_argument("--env", required=True, help="a folder in inventories/")
    parser.add_argument("--limit", action="append", default=[], help="a host or a group")
    parser.add_argument(
        "--removals", type=int, help="let so many mailboxes be locked or closed, as a plan said"
    )
    options = parser.parse_args(arguments)
    try:
        return run(
            options.action,
            options.deploy,
            options.env,
            options.limit,
            sys.stdout,
            removals=options.removals,
        )
    except SiteError as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR


def _deploys() -> list[str]:
    tools = {
        "__init__", "answers", "archive", "backup", "dns", "helpdesk", "hosts", "letters",
        "moments", "move_mailbox", "replies", "restore", "restore_mail", "restore_targets", "run",
        "secrets", "sessions", "trace",
    }  # fmt: skip
    return [path.stem for path in (ROOT / "deploy").glob("*.py") if path.stem not in tools]


if __name__ == "__main__":
    sys.exit(main())
