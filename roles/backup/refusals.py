"""restic, which tries for a quarter of an hour whatever fails; here it is heard of at once.

A server that is away may come back: that restic tries again is a line in the journal. A server that
answers and does not take a file will not take it in a quarter of an hour either: its disk is full,
or it has shut the repository (`growth.py`). Then restic is ended after a few tries. A reader needs
no lock there: it reads without one, for nothing that could be locked out is written.

A further target that cannot even be opened is not waited for: of storage by S3's interface restic
tries again whatever the reason is, a key or a certificate that is wrong, too.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

TRIES = 4
"""So often a file is refused before restic is ended: some seconds."""
_AGAIN = re.compile(r"(?P<what>.+?) returned error, retrying after [^:]+: (?P<why>.+)")
_ANSWER = re.compile(r"HTTP response \(\d+\)")
_LOCK = "Save(<lock/"
_OPENING = "Stat(<config/>)"
"""What restic asks for first."""


@dataclass(frozen=True)
class Ended:
    """How restic ended."""

    code: int
    words: str
    """The end of what it said on standard error."""
    refused: str = ""
    """What the server did not take or open, and its answer, where restic was ended for that."""

    @property
    def unlocked(self) -> bool:
        """Whether it was a lock that the server did not take."""
        return self.refused.startswith(_LOCK)


def watched(
    command: Sequence[str],
    environment: Mapping[str, str],
    said: Callable[[str], None],
    stdout: IO[str] | None = None,
    *,
    patient: bool = True,
) -> Ended:
    """Run restic.

    Args:
        command: its command line.
        environment: its environment.
        said: called with each line of its standard error, as it comes.
        stdout: where it prints; by default where this program does.
        patient: whether a repository that cannot be opened is waited for.
    """
    words, refusals, refused = "", Counter[str](), ""
    with subprocess.Popen(
        command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        try:
            for line in process.stderr or ():
                said(line.rstrip("\n"))
                words = (words + line)[-2000:]
                again = _AGAIN.match(line)
                if again and (
                    (again["what"].startswith("Save(") and _ANSWER.search(again["why"]))
                    or (again["what"] == _OPENING and not patient)
                ):
                    refusals[again["what"]] += 1
                    if refusals[again["what"]] == TRIES and not refused:
                        refused = f"{again['what']}: {again['why'].strip()}"
                        process.terminate()
        except BaseException:
            # As `subprocess.run` does: whoever ends this program waits for nothing else.
            process.kill()
            raise
    return Ended(process.returncode, words.strip(), refused)


def tries_again(line: str) -> bool:
    """Whether a line says that restic tries something again."""
    return bool(_AGAIN.match(line))
