"""Settings of the role `database`."""

from typing import ClassVar

from pydantic import Field

from roles.common.settings import Duration, Settings, Size


class DatabaseSettings(Settings):
    """Settings of the role `database`."""

    role: ClassVar[str] = "database"

    webmail_connections: int = Field(default=60, ge=5)
    """Connections of the webmail at the most: one for each PHP worker of all fronts."""
    bayes_connections: int = Field(default=150, ge=5)
    """Connections of SpamAssassin at the most: one for each worker of all mx (`filtering.workers`),
    one for each store that learns, one for the nightly cleaning. The default serves two mx with 16
    processors each."""
    shared_buffers: Size = Field(default="256MiB", validate_default=True)
    """PostgreSQL's own cache; about a quarter of the memory on a host of its own."""
    effective_cache_size: Size = Field(default="1GiB", validate_default=True)
    """What the kernel's cache may hold besides, for the planner; nothing is allocated."""
    work_mem: Size = Field(default="8MiB", validate_default=True)
    """Memory for one sort or hash of one query."""
    maintenance_work_mem: Size = Field(default="64MiB", validate_default=True)
    """Memory for autovacuum and for building an index."""
    max_wal_size: Size = Field(default="1GiB", validate_default=True)
    """How much write-ahead log may collect between two checkpoints."""
    slow_query: Duration = Field(default="5s", validate_default=True)
    """A query that takes longer is logged, without its parameters."""
