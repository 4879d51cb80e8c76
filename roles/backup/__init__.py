"""Backups of whatever a host holds, and their way back.

On hosts of the group `backup` it serves one restic repository for each host that holds something,
over TLS, append-only: with a host's credentials nothing can be deleted or overwritten, and no other
host's backup can be read. The server makes each repository with the maintenance password, which no
other host knows, and gives the host a key of its own; only the server forgets and prunes.

On every host that holds something `site-backup` runs by a timer: one part after the other, each a
snapshot with the tag `part=NAME` (`client.py` says what each is and how consistent). A part that
fails fails the job, and no other part. The repositories are on the first host of the group.

There `site-backup-keeper` (`keeper.py`) forgets, reads back, restores and compares, copies to
further targets (`backup.targets`), shuts out who fills the disk, and tells the postmaster of every
alarm. That it is away itself, each host tells when it has no new backups (`absence.py`).

`python -m deploy.restore` is the way back; `site-restore` and `site-restore-mail` do its work on
the host that holds the data.
"""

from roles.backup.deploy import backup, backup_repositories

__all__ = ["backup", "backup_repositories"]
