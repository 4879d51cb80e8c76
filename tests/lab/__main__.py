"""The lab's command line: `python -m tests.lab --help`."""

import argparse
import json
import os
import sys

from roles.common.errors import SiteError
from roles.common.site import load
from tests.lab.info import info, welcome
from tests.lab.lab import LabInstance
from tests.lab.progress import say

EXIT_DONE, EXIT_ERROR, EXIT_NOT_UP, EXIT_INTERRUPTED = 0, 1, 3, 130


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--env", default=os.environ.get("ENV", "local"), help="a folder in inventories/"
    )
    common.add_argument(
        "--instance",
        default=os.environ.get("LAB_INSTANCE", "up"),
        help="which lab of the environment: up, or one that lab.instances names",
    )
    result = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", parents=[common], help="make and start what is not there")
    up.add_argument(
        "--prepared",
        action="store_true",
        default=bool(os.environ.get("LAB_PREPARED")),
        help="make hosts on which the packages are installed already",
    )
    down = commands.add_parser("down", parents=[common], help="remove all of the instance")
    down.add_argument("--keep", action="store_true", help="keep the base image for the next up")
    commands.add_parser("status", parents=[common], help="exit 0 when all hosts run, else 3")
    shell = commands.add_parser("shell", parents=[common], help="open a shell on a host")
    shell.add_argument("host")
    shell.add_argument("words", nargs=argparse.REMAINDER, help="a command instead of a shell")
    commands.add_parser("info", parents=[common], help="print the lab as JSON, for tools")
    commands.add_parser("welcome", parents=[common], help="print how to use the lab")
    for command, text in (
        ("snapshot", "keep all hosts as they are now"),
        ("restore", "bring all hosts back as they were kept"),
    ):
        added = commands.add_parser(command, parents=[common], help=text)
        added.add_argument("name", nargs="?", default="kept")
    return result


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit code."""
    site = load(options.env, options.instance)
    lab = LabInstance(site, options.instance)
    match options.command:
        case "up":
            lab.up(options.prepared)
        case "down":
            lab.down(options.keep)
        case "status":
            rows = lab.status()
            for host, address, state in rows:
                sys.stdout.write(f"{host:12} {address:15} {state}\n")
            return EXIT_DONE if all(row[2] == "running" for row in rows) else EXIT_NOT_UP
        case "shell":
            command = [*lab.keys.ssh(lab.container(options.host).address), *options.words]
            os.execvp(command[0], command)  # noqa: S606 - the shell takes this process's place
        case "info":
            sys.stdout.write(json.dumps(info(site), ensure_ascii=False, indent=2) + "\n")
        case "welcome":
            sys.stdout.write(welcome(site))
        case "snapshot":
            lab.snapshot(options.name)
        case "restore":
            lab.restore(options.name)
    return EXIT_DONE


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run."""
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except (SiteError, TimeoutError) as error:
        say(f"lab: {error}")
        return EXIT_ERROR
    except KeyboardInterrupt:
        say("lab: interrupted; run it again to go on, or `down` to remove what was made")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
