"""The program on a front: asks the directory and, where something changed, replaces the pages.

python3 -m roles.publicdirectory.publish [--check] CONFIGURATION

`--check` only judges the configuration. Exit status 75: the directory did not answer, or knows no
unit; the pages stay as they are.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from roles.directory.ldif import Attributes, parse
from roles.publicdirectory.content import ATTRIBUTES, Public, Unit, tree
from roles.publicdirectory.pages import Look, files, said

CHECKED = "doi-chieu.json"
"""When the pages were last found to say what the directory says."""
_PROGRAM = Path(__file__).parents[1]
_TEMPORARY = 75
"""EX_TEMPFAIL of sysexits(3)."""
_DIGITS = 16
"""Of a digest, in the name of a version."""
_FILTER = "(|(objectClass=unitProfile)(objectClass=unitMailbox)(objectClass=inetOrgPerson))"


class NoAnswerError(Exception):
    """The directory cannot be read now."""


@dataclass(frozen=True)
class Source:
    """Where the directory is, and who asks."""

    directories: list[str]
    """Their URIs; the first that answers is asked."""
    base: str
    bind: str
    password: str
    """Path of a file that holds it, without an end of line."""


@dataclass(frozen=True)
class Configuration:
    """The program's configuration."""

    output: Path
    source: Source
    public: Public
    look: Look


def read(path: Path) -> Configuration:
    """Read a configuration.

    Raises:
        ValueError: it is not TOML.
        TypeError, KeyError: a value is missing, or there is one too many.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    public = values["public"]
    return Configuration(
        output=Path(values["output"]),
        source=Source(**values["source"]),
        public=Public(
            unit_attributes=frozenset(public.pop("unit_attributes")),
            person_attributes=frozenset(public.pop("person_attributes")),
            **public,
        ),
        look=Look(**values["look"]),
    )


def ask(source: Source) -> list[tuple[str, Attributes]]:
    """The entries that this account may read.

    Raises:
        NoAnswerError: with what ldapsearch said.
    """
    done = subprocess.run(
        [
            *("ldapsearch", "-x", "-LLL", "-o", "ldif_wrap=no", "-o", "nettimeout=10"),
            *("-H", " ".join(source.directories), "-D", source.bind, "-y", source.password),
            *("-b", source.base, _FILTER, *ATTRIBUTES),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
        raise NoAnswerError(f"the directory did not answer: {said}")
    return list(parse(done.stdout.decode().splitlines()))


def publish(units: Sequence[Unit], configuration: Configuration, now: datetime) -> bool:
    """Replace the pages, all at once, where they would say something else.

    Each version is a folder; the link `current` names the one that is served. The one before stays,
    for who is just reading it.

    Args:
        units: those at the top.
        configuration: the program's.
        now: the time at which the directory was asked.

    Returns:
        Whether there is a new version.
    """
    versions, current = configuration.output / "versions", configuration.output / "current"
    digest = _digest(units, configuration)
    before = current.resolve() if current.exists() else None
    new = before is None or not before.name.endswith(digest)
    version = versions / f"{now:%Y%m%dT%H%M%S}-{digest}" if new else current.resolve()
    if new:
        # What a run that was cut off left behind goes, too.
        for folder in versions.glob("*"):
            if folder != before:
                shutil.rmtree(folder)
        for name, content in files(units, configuration.look, now).items():
            path = version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # A file may not be empty after a power failure whose name says that it is complete.
        os.sync()
    _replace(version / CHECKED, json.dumps(dict(zip(("checked", "words"), said(now), strict=True))))
    if new:
        link = configuration.output / ".current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(version.relative_to(configuration.output))
        link.replace(current)
    return new


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _digest(units: Sequence[Unit], configuration: Configuration) -> str:
    """What the pages depend on: the data, what is said besides, and this program."""
    digest = hashlib.sha256(repr((units, configuration.look)).encode())
    for path in sorted(path for path in _PROGRAM.rglob("*") if path.suffix in _SUFFIXES):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_DIGITS]


_SUFFIXES = {".py", ".html", ".css", ".js"}


def main(arguments: Sequence[str]) -> int:
    """Run the program."""
    configuration = read(Path(arguments[-1]))
    if arguments[0] == "--check":
        return 0
    try:
        units = tree(ask(configuration.source), configuration.public)
        if not units:
            raise NoAnswerError("the directory has no unit")
    except (NoAnswerError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}; the pages stay as they are\n")
        return _TEMPORARY
    if publish(units, configuration, datetime.now(UTC)):
        count = sum(1 for top in units for _ in top.all())
        sys.stdout.write(f"new pages: {count} units\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
