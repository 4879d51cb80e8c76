"""Which snapshots are kept, and which are doubtful: judged by the server's clock, not the client's.

A client chooses the time that its snapshot bears, and with a stolen host's credentials somebody may
add snapshots that bear any time: a policy that went by them would forget the true ones. What counts
here is when the server wrote the snapshot's file, and a doubtful one never takes another's place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

CLOCK, SMALL = "clock", "small"
"""Why a snapshot is doubtful: its time is not that of its writing; it holds suspiciously little."""
AHEAD = timedelta(minutes=5)
"""How far a host's clock may be ahead of the server's."""
PERIOD = timedelta(days=7)
"""How far back a snapshot's size is compared."""
DOUBTFUL = timedelta(days=90)
"""How long a doubtful snapshot is kept."""

_BUCKETS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    # With the offset to UTC: an hour that a clock has twice is two.
    "hourly": lambda at: (
        *at.timetuple()[:4],
        int((at.utcoffset() or timedelta()).total_seconds()),
    ),
    "daily": lambda at: at.timetuple()[:3],
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: at.timetuple()[:2],
    "yearly": lambda at: at.timetuple()[:1],
}


@dataclass(frozen=True)
class Snapshot:
    """One snapshot of a part."""

    id: str
    part: str
    """Empty where it is none that a host of ours makes."""
    taken: datetime
    """As the client says."""
    written: datetime
    """As the server saw."""
    size: int
    """Bytes that it holds."""
    added: int
    """Bytes that it brought into the repository."""


@dataclass(frozen=True)
class Policy:
    """What is kept, and what is doubtful."""

    keep: Mapping[str, int]
    """By `hourly`, `daily`, `weekly`, `monthly`, `yearly`: of so many periods that have snapshots
    the last one each."""
    patience: timedelta
    """How long a run may take: so much lies between a snapshot's time and its writing at most."""
    small: float
    """A snapshot is suspiciously small below this share of the largest of the days before."""
    zone: ZoneInfo
    """Where days begin."""


def doubts(snapshots: Sequence[Snapshot], policy: Policy) -> dict[str, str]:
    """Doubtful snapshots of one part, each with the reason."""
    found: dict[str, str] = {}
    before: list[Snapshot] = []
    for snapshot in sorted(snapshots, key=lambda one: one.written):
        lag = snapshot.written - snapshot.taken
        if not -AHEAD <= lag <= policy.patience + AHEAD:
            found[snapshot.id] = CLOCK
            continue
        recent = [one.size for one in before if snapshot.written - one.written <= PERIOD]
        if snapshot.size < policy.small * max(recent, default=0):
            found[snapshot.id] = SMALL
        before.append(snapshot)
    return found


def retained(snapshots: Sequence[Snapshot], policy: Policy, now: datetime) -> set[str]:
    """The ids of those snapshots of one part that are kept.

    Args:
        snapshots: all of the part.
        policy: what is kept.
        now: the server's time.
    """
    doubtful = doubts(snapshots, policy)
    kept = {one.id for one in snapshots if one.id in doubtful and now - one.written <= DOUBTFUL}
    good = sorted(
        (one for one in snapshots if one.id not in doubtful),
        key=lambda one: one.written,
        reverse=True,
    )
    # However little a policy keeps: never nothing.
    kept |= {one.id for one in good[:1]}
    for name, bucket in _BUCKETS.items():
        last: dict[tuple[int, ...], str] = {}
        for one in good:
            last.setdefault(bucket(one.written.astimezone(policy.zone)), one.id)
        kept |= set(list(last.values())[: policy.keep[name]])
    return kept


def forgettable(every: Sequence[Snapshot], policy: Policy, now: datetime) -> list[str]:
    """The ids of snapshots that a policy does not keep; what is of no part is kept."""
    kept = {one.id for one in every if not one.part}
    for part in {one.part for one in every if one.part}:
        kept |= retained([one for one in every if one.part == part], policy, now)
    return [one.id for one in every if one.id not in kept]
