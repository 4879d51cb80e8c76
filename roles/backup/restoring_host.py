"""What a host that is made anew gets back besides its directory and its databases: files.

    site-restore host plan|apply    {"at": …, "parts": ["keys", "archive", "mail"]}

Files that are there already are left alone, save its TLS key and certificate. Its SSH host keys are
new: those that the operator has seen when he came to the new machine. Mail comes back as whole
homes where a home is not there yet; the others are named, and are merged letter by letter by
`site-restore-mail`.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from roles.backup import snapshots
from roles.backup.snapshots import Backup, RestoreError, Run, Snapshot, command, understood
from roles.backup.stages import KINDS, MAIL, MAIL_STAGE, MANIFEST

STAGED = snapshots.STAGE / "keys"
"""Where keys lie in a snapshot."""
PARTS = ("keys", "archive", "mail")
"""What this brings back, in this order."""
_NOT_BACK = ("--exclude", f"/{MANIFEST}", "--exclude", "/etc/ssh")
"""What of the part `keys` does not come back."""


@dataclass(frozen=True)
class Request:
    """What shall come back."""

    at: datetime
    parts: tuple[str, ...]
    archive: str
    """The folder of archives."""
    source: str = ""
    """A further target instead of the backup host."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Request":
        """A request as JSON has it.

        Raises:
            RestoreError: it is none.
        """
        with understood():
            request = cls(
                datetime.fromisoformat(values["at"]),
                tuple(values["parts"]),
                values["archive"],
                values["source"],
            )
        if unknown := set(request.parts) - set(PARTS):
            raise RestoreError(f"standard input: parts: {unknown}; expected of {PARTS}")
        return request


def homes(folder: Path) -> set[str]:
    """The homes of a store, or of its stage: `people/1042`."""
    return {
        f"{kind}/{path.name}"
        for kind in KINDS
        if (folder / kind).is_dir()
        for path in (folder / kind).iterdir()
        if path.is_dir()
    }


class Files:
    """The files of this host."""

    def __init__(
        self, backup: Backup, scratch: Path, root: Path = Path("/"), run: Run = command
    ) -> None:
        """Nothing is asked yet.

        Args:
            backup: where from.
            scratch: a folder that root alone reads.
            root: below it all lies.
            run: how programs are run.
        """
        self._scratch = scratch
        self._root = root
        self._backup = backup
        self._mail = root / MAIL.relative_to("/")
        self._run = run

    def homes_then(self, snapshot: Snapshot) -> set[str]:
        """The homes of a snapshot."""
        return {
            f"{kind}/{name}"
            for kind in KINDS
            for name in self._backup.folders(snapshot, MAIL_STAGE / kind)
        }

    def plan(self, request: Request) -> dict[str, Any]:
        """What would come back."""
        result: dict[str, Any] = {}
        for part in PARTS:
            if part not in request.parts:
                continue
            try:
                snapshot = self._backup.latest(part, request.at)
            except RestoreError as error:
                # A host that never held any has nothing of it to bring back.
                result[part] = {"none": str(error)}
                continue
            result[part] = snapshot.said()
            if part == "mail":
                then, now = self.homes_then(snapshot), homes(self._mail)
                result[part] |= {"whole": sorted(then - now), "merged": sorted(then & now)}
        return result

    def apply(self, request: Request) -> dict[str, Any]:
        """Bring it back; run again after a cut, it goes on."""
        planned = self.plan(request)
        for part, state in planned.items():
            if "none" in state:
                continue
            snapshot = self._backup.latest(part, request.at)
            if part == "mail":
                self._mail_back(snapshot, state["whole"])
            elif part == "keys":
                self._keys_back(snapshot)
            else:
                folder = Path(request.archive)
                self._backup.restore(snapshot, folder, folder, "--overwrite", "never")
        return planned

    def _keys_back(self, snapshot: Snapshot) -> None:
        """Each file into its place; folders are as the deploy made them."""
        with TemporaryDirectory(dir=self._scratch) as scratch:
            self._backup.restore(snapshot, STAGED, Path(scratch), *_NOT_BACK)
            for file in sorted(Path(scratch).rglob("*")):
                if not file.is_file():
                    continue
                target = self._root / file.relative_to(scratch)
                target.parent.mkdir(parents=True, exist_ok=True)
                draft = target.with_name(f".{target.name}.new")
                shutil.copy2(file, draft)
                status = file.stat()
                os.chown(draft, status.st_uid, status.st_gid)
                draft.replace(target)

    def _mail_back(self, snapshot: Snapshot, wanted: list[str]) -> None:
        """Whole homes, beside their places first: each is there as a whole or not at all."""
        if not wanted:
            return
        # As the stage has them: vmail's.
        self._mail.mkdir(mode=0o700, exist_ok=True)
        beside = self._mail / ".restoring"
        include = [part for name in wanted for part in ("--include", f"/{name}")]
        whole = [] if len(wanted) == len(self.homes_then(snapshot)) else include
        self._backup.restore(snapshot, MAIL_STAGE, beside, "--overwrite", "if-changed", *whole)
        for name in wanted:
            target = self._mail / name
            if not target.parent.exists():
                target.parent.mkdir(mode=0o700)
                self._run(["chown", "--reference", str(beside / name), str(target.parent)])
            if not target.exists():
                (beside / name).rename(target)
        self._run(["chown", "--reference", str(target), str(self._mail)])
        self._run(["rm", "-rf", str(beside)])
