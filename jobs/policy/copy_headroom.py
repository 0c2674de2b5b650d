"""Whether the images that wait can all be copied before their links die, at the measured pace. Pure.

Links that die first are copied first, so all are saved exactly when the k-th of them to die has longer to live than k
copies take, for every k. `load` is the largest share of its life that any of them needs: above 1, images die.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds back over which stored images are counted: the short look sees a pace that rises, the long one is steady.
LONG_LOOK = 60.0
SHORT_LOOK = 10.0
#: Images that must have been stored in a look for it to tell a pace.
ENOUGH_STORED = 5
#: Images that must wait before a pause can help: a few that are nearly dead are copied first whatever comes after them.
ENOUGH_WAITING = 20
#: New submits stop above the first and go on below the second, so that a pace that wavers changes nothing.
PAUSE_ABOVE = 0.8
RESUME_BELOW = 0.5
#: Seconds before its link dies at which an image whose destination refuses is fetched all the same, and kept on disk.
SAVED_BEFORE = 900.0
#: Looks running that must say so: a burst that has just arrived is worked off before the next.
LOOKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits for one destination. `deaths`: (k, when the k-th link to die dies), k rising; of links alive now."""

    deaths: tuple[tuple[int, float], ...] = ()
    coming: int = 0  # images of provider tasks that run: they will want to be copied too
    stored_short: int = 0  # images stored there within SHORT_LOOK
    stored_long: int = 0  # and within LONG_LOOK

    @property
    def waiting(self) -> int:
        """Images whose links live."""
        return self.deaths[-1][0] if self.deaths else 0


def pace(backlog: Backlog, watched: float) -> float | None:
    """Images a second that are really stored; None while too little was seen. `watched`: seconds they wait already."""
    told = [
        count / seconds
        for count, seconds in ((backlog.stored_short, SHORT_LOOK), (backlog.stored_long, LONG_LOOK))
        if count >= ENOUGH_STORED
    ]
    if told:
        return max(told)
    return max(backlog.stored_long, 1) / LONG_LOOK if watched >= LONG_LOOK else None


def least_slack(backlog: Backlog, a_second: float, now: float) -> float | None:
    """Seconds that the tightest image has to spare when all before it are copied first; below 0: images die."""
    return min((dies - now - k / a_second for k, dies in backlog.deaths), default=None)


def load(backlog: Backlog, a_second: float, now: float) -> float:
    """The largest share of its remaining life that an image waits for its copy. Too few images count as none."""
    shares = (k / a_second / max(dies - now, 0.001) for k, dies in _with_coming(backlog) if k >= ENOUGH_WAITING)
    return max(shares, default=0.0)


def _with_coming(backlog: Backlog) -> Sequence[tuple[int, float]]:
    """What runs at the provider comes after all that waits, and its links die no sooner than the last of these."""
    if not (backlog.deaths and backlog.coming):
        return backlog.deaths
    k, last = backlog.deaths[-1]
    return (*backlog.deaths, (k + backlog.coming, last))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadroomState:
    """How a destination was judged so far."""

    paused: bool = False
    looks: int = 0  # running, that said something else than `paused`


def judge(before: HeadroomState, loaded: float | None) -> HeadroomState:
    """Whether new submits wait from now on. `loaded`: None while the pace is not known, which changes nothing."""
    if loaded is None:
        return before
    if before.paused:
        return before if loaded > RESUME_BELOW else HeadroomState()
    looks = before.looks + 1 if loaded > PAUSE_ABOVE else 0
    return HeadroomState(paused=looks >= LOOKS, looks=looks)
