"""What is everybody's, by the API: accounts, schedules, the emergency stop, workers and destinations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path

from jobs.formatting import utc
from jobs.ledger.access.values import Token
from jobs.ledger.schedules.values import Schedule
from jobs.policy.copy_headroom import pace
from jobs.policy.liveness import LISTED_FOR, SEEN_WITHIN
from jobs.results.account_report import accounts_document, read_accounts
from jobs.results.documents import failing_document, stop_document, trouble_document
from web.api.problems import ApiRoute, problems
from web.door import NOT_NOW, NOT_THERE, Door, TheDoor, WhoOperates, WhoSeesAll
from worker.runtime.on_the_wire import settled
from worker.scheduling.documents import listed, whole_document

routes = APIRouter(prefix="/api/v1", tags=["operations"], responses=problems(), route_class=ApiRoute)

Document = dict[str, Any]
#: Seconds that the first count of accounts is waited for, and for which the last one is told while the next is made.
PATIENCE, OLD = 5.0, 60.0
BUSY = 503
Name = Annotated[str, Path(description="The schedule's name.")]


# -- accounts ------------------------------------------------------------------------------------------------------


@routes.get("/accounts")
async def list_accounts(door: TheDoor, _token: WhoSeesAll) -> Document:
    """Limits, use and pauses of each account, as `lightfast accounts --json` tells them; counted every few seconds."""
    try:
        return await door.accounts.answer(PATIENCE, old=OLD)
    except TimeoutError as slow:
        raise HTTPException(BUSY, "the accounts are being counted", headers={"Retry-After": "5"}) from slow


@routes.post("/accounts/{name}/probe")
def probe_account(door: TheDoor, token: WhoOperates, name: str) -> Document:
    """Wakes a paused account: its next submit is the probe. If that is refused, it pauses again."""
    if name not in [account.name for account in door.ledger.accounts.all()]:
        raise HTTPException(NOT_THERE, f"there is no account {name}")
    door.ledger.accounts.wake(name, door.now)
    door.note(token, "account probe", name)
    door.wake(f"submit:{name}")
    return accounts_document(read_accounts(door.ledger, door.settings, door.now), door.settings)


# -- schedules -----------------------------------------------------------------------------------------------------


@routes.get("/schedules")
def list_schedules(door: TheDoor, _token: WhoSeesAll) -> Document:
    """All schedules: when they come next, and how their last time went."""
    return {"schedules": listed(door.ledger, door.now, sandbox=door.settings.is_sandbox)}


@routes.get("/schedules/{name}")
def get_schedule(door: TheDoor, _token: WhoSeesAll, name: Name) -> Document:
    """One schedule with its next times and its history; what the next would pay, `lightfast schedule show` tells."""
    return _told(door, _schedule(door, name))


@routes.post("/schedules/{name}/pause")
def pause_schedule(door: TheDoor, token: WhoOperates, name: Name) -> Document:
    """No time of it fires until it is resumed, and none that waits; what is recorded goes on."""
    found = _schedule(door, name)
    door.ledger.schedules.pause(name, door.now)
    return _done(door, found, token, "schedule pause")


@routes.post("/schedules/{name}/resume")
def resume_schedule(door: TheDoor, token: WhoOperates, name: Name) -> Document:
    """Its times fire again; those that passed meanwhile do not."""
    found = _schedule(door, name)
    door.ledger.schedules.resume(name, door.now)
    return _done(door, found, token, "schedule resume")


@routes.post("/schedules/{name}/run-now")
def run_schedule_now(door: TheDoor, token: WhoOperates, name: Name) -> Document:
    """Fires it now, within its budgets, where somebody works by the clock."""
    found, ledger = _schedule(door, name), door.ledger
    if stop := ledger.emergency_stop.current():
        raise HTTPException(NOT_NOW, f"all submits are stopped since {utc(stop.since)}, by {stop.by}")
    if ledger.is_sqlite and not ledger.is_served():
        raise HTTPException(NOT_NOW, "nobody works by the clock here: lightfast schedule serve does")
    if in_the_way := ledger.schedules.fire_by_hand(name, door.now):
        raise HTTPException(NOT_NOW, f"{name}: {in_the_way.why}")
    return _done(door, found, token, "schedule run-now")


def _schedule(door: Door, name: str) -> Schedule:
    found = door.ledger.schedules.find(name) if "\0" not in name else None
    if found is None:
        raise HTTPException(NOT_THERE, f"there is no schedule {name}")
    return found


def _done(door: Door, schedule: Schedule, token: Token, action: str) -> Document:
    door.note(token, action, schedule.name)
    door.wake("sweep")
    return _told(door, _schedule(door, schedule.name))


def _told(door: Door, schedule: Schedule) -> Document:
    return whole_document(door.ledger, schedule, door.now, sandbox=door.settings.is_sandbox)


# -- the emergency stop --------------------------------------------------------------------------------------------


@routes.get("/stop")
def get_stop(door: TheDoor, _token: WhoSeesAll) -> Document:
    """The emergency stop, while there is one."""
    stop = door.ledger.emergency_stop.current()
    return {"stopped": stop and stop_document(stop)}


@routes.post("/stop")
def stop_all(door: TheDoor, token: WhoOperates) -> Document:
    """As `lightfast pause --all`: nobody claims a submit any more; what is paid is polled, copied, stored.

    Answers within seconds, when it is known which claimed submits were sent. `on_the_wire`: those not answered.
    """
    ledger = door.ledger
    stopped = ledger.emergency_stop.begin(door.now, token.name)
    door.note(token, "emergency stop")
    fates = settled(ledger, stopped.claimed)
    return {
        "stopped": stop_document(stopped.stop),
        "was_stopped": not stopped.anew,
        "on_the_wire": fates.open,
        "given_back": fates.given_back,
    }


@routes.delete("/stop")
def lift_stop(door: TheDoor, token: WhoOperates) -> Document:
    """As `lightfast resume --all`: submits go on, except of batches that were paused one by one."""
    ledger = door.ledger
    ledger.schedules.fall_due(door.now)  # while it stands: these are skipped
    stood = ledger.emergency_stop.lift()
    door.note(token, "emergency stop lifted")
    door.wake_submits()
    return {"stopped": None, "was_stopped": stood and stop_document(stood)}


# -- workers and destinations --------------------------------------------------------------------------------------


@routes.get("/workers")
def list_workers(door: TheDoor, _token: WhoSeesAll) -> Document:
    """Worker processes that have given a sign of life of late; of a SQLite ledger, whether somebody is at work."""
    ledger, now = door.ledger, door.now
    seen = ledger.workers.seen(now, LISTED_FOR)
    return {
        "is_worked_on": ledger.is_held() if ledger.is_sqlite else any(now - one.seen_at <= SEEN_WITHIN for one in seen),
        "works_by_the_clock": ledger.is_served() if ledger.is_sqlite else bool(seen),
        "workers": [
            {
                "name": one.name,
                "seen_at": utc(one.seen_at),
                "looked_at": None if one.looked_at is None else utc(one.looked_at),
            }
            for one in seen
        ],
    }


@routes.get("/destinations")
def list_destinations(door: TheDoor, _token: WhoSeesAll) -> Document:
    """What waits to be copied to each destination, and what is wrong with them."""
    ledger, now = door.ledger, door.now
    backlogs = ledger.destinations.backlogs(now)
    return {
        "destinations": [
            {
                "dest": dest,
                "waiting": backlog.waiting,
                "coming": backlog.coming,
                "first_link_dies_at": utc(backlog.deaths[0][1]) if backlog.deaths else None,
                "copies_a_second": pace(backlog, 0.0),
            }
            for dest, backlog in sorted(backlogs.items())
        ],
        "submits_wait": [trouble_document(each) for each in ledger.destinations.troubles(now)],
        "nothing_stored": [failing_document(each) for each in ledger.claims.failing(now)],
    }
