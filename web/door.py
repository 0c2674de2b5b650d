"""What the routes of one app share: the ledger, who asks, and how workers are woken."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request

from jobs.ledger import Ledger
from jobs.ledger.access.values import NewLogEntry, Token
from jobs.ledger.batches.values import Batch
from jobs.policy.access import Role
from jobs.settings.model import Settings
from web.events import BatchEvents
from web.figures import SharedFigures
from web.kept_files import KeptFiles
from web.pictures import StoredPictures
from web.planners import Planners
from web.shared import SharedAnswer
from web.streams import LongAnswers
from web.tokens import TokenCheck
from web.uploads import Uploads

#: What routes answer where they cannot do what was asked.
NOT_THERE, NOT_NOW, UNREADABLE = 404, 409, 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Kept as `app.state.door`."""

    open: Callable[[], Ledger]  # opened once
    tokens: TokenCheck
    wake: Callable[[str], object]  # wakes a lane
    settings: Settings
    figures: SharedFigures
    events: BatchEvents
    accounts: SharedAnswer[dict[str, Any]]  # how they stand, for programs
    answers: LongAnswers
    pictures: StoredPictures
    files: KeptFiles
    uploads: Uploads
    planners: Planners
    wake_runner: Callable[[], object]  # there is something to do for a batch of OpenAI's API

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.open()

    @property
    def now(self) -> float:
        """The ledger's clock, seconds since 1970."""
        return time.time() + self.ledger.clock_offset()

    def batch_of(self, name: str, token: Token) -> Batch:
        """The batch of that name, as far as it is there for the token: a producer has its own alone.

        Raises:
            HTTPException: It is not.
        """
        found = self.ledger.batches.find(name) if "\0" not in name else None  # which no database takes in a text
        if found is None or (token.role is Role.PRODUCER and found.token_id != token.id):
            raise HTTPException(NOT_THERE, f"there is no batch {name}")
        return found

    def note(
        self, token: Token, action: str, subject: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Puts on record what was done."""
        entry = NewLogEntry(who=token.name, token_id=token.id, action=action, subject=subject, detail=detail)
        self.ledger.access.note(entry, self.now)

    def wake_submits(self) -> None:
        """Workers look for rows that may be sent."""
        wake_submits(self.ledger, self.wake)


def wake_submits(ledger: Ledger, wake: Callable[[str], object]) -> None:
    """Workers look for rows that may be sent. `wake`: wakes a lane."""
    for account in ledger.accounts.all():
        wake(f"submit:{account.name}")


def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


def _asker(*roles: Role) -> Callable[[Request], Awaitable[Token]]:
    async def asker(request: Request) -> Token:
        return await _door(request).tokens.holder(request, *roles)

    return asker


#: What a route takes: the door, and whoever asks, as far as such may.
TheDoor = Annotated[Door, Depends(_door)]
WhoSees = Annotated[Token, Depends(_asker(Role.VIEWER, Role.PRODUCER, Role.OPERATOR))]
WhoMakes = Annotated[Token, Depends(_asker(Role.PRODUCER, Role.OPERATOR))]
WhoSeesAll = Annotated[Token, Depends(_asker(Role.VIEWER, Role.OPERATOR))]
WhoOperates = Annotated[Token, Depends(_asker(Role.OPERATOR))]
