"""The ledger's verbs that claim work, and those on hints from callbacks. Each is one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.ledger.accounts.verbs import AccountVerbs
from jobs.ledger.claims import copy_stops, hints, polls_and_copies, submits
from jobs.ledger.claims.values import Claim, DueCopy, DueHint, DuePoll, Failing
from jobs.ledger.database.engine import Database
from jobs.ledger.database.send_journal import SendJournal
from jobs.policy import rate


class ClaimVerbs:
    """`ledger.claims`: what may be sent, asked about or copied now, taken for one process."""

    def __init__(self, database: Database, accounts: AccountVerbs, journal: SendJournal) -> None:
        self._database = database
        self._accounts = accounts
        self._journal = journal

    def submits(  # noqa: PLR0913  when, how long, how many, for whom, by whom
        self,
        account: str,
        now: float,
        *,
        lease: float,
        at_most: int = 64,
        horizon: float = rate.HORIZON,
        only: str | None = None,
        of_schedule: int | None = None,
        holder: str | None = None,
    ) -> Claim:
        """Claims what may be sent within `horizon` seconds, with its intent on record.

        `only`: for that batch. `of_schedule`: for batches of that schedule.
        """
        if holder:
            self._journal.begin(holder)
        at = self._accounts.providers.get(account)
        terms = submits.Terms(
            lease=lease, at_most=at_most, horizon=horizon, only=only, of_schedule=of_schedule,
            holder=holder, provider=at, may_have_moved=self._database.tells_origin,
        )  # fmt: skip
        return self._database.write(submits.claim_submits, account, now, terms)

    def polls(
        self,
        account: str,
        now: float,
        *,
        lease: float,
        at_most: int = 64,
        together: int = 1,
        alone: frozenset[int] = frozenset(),
    ) -> tuple[list[DuePoll], float | None]:
        """Claims provider tasks to be asked about in `at_most` requests of `together` tasks each, but for `alone`.

        Also tells when to ask again (None: when a wakeup comes).
        """
        at = self._accounts.providers.get(account)
        terms = polls_and_copies.PollTerms(lease=lease, at_most=at_most, together=together, alone=alone, provider=at)
        return self._database.planned_once.write(polls_and_copies.claim_polls, account, now, terms)

    def copies(
        self,
        now: float,
        *,
        holder: str,
        lease: float,
        at_most: int,
        barred: Sequence[str] = (),
        only: str | None = None,
    ) -> tuple[list[DueCopy], float | None]:
        """Claims images to be copied, those whose links die first first; also when to ask again.

        It orders what is due when it is asked. Of what one process has claimed and not yet begun (32 images), none
        makes room for an image that became due since and dies sooner.

        `barred`: destinations that take no writes. `only`: of that batch.
        """
        return self._database.planned_once.write(
            polls_and_copies.claim_copies, now, holder=holder, lease=lease, at_most=at_most, barred=barred, only=only
        )

    def failing(self, now: float) -> tuple[Failing, ...]:
        """For what nothing more is bought, since images that it makes fail one after the other to be stored."""
        return self._database.read(copy_stops.everywhere, now)


class HintVerbs:
    """`ledger.hints`: what callbacks say of provider tasks, and the tokens by which they are believed."""

    def __init__(self, database: Database, secret: str) -> None:
        self._database = database
        self._secret = secret

    def token(self, attempt_id: int) -> str:
        """What the attempt's callback address ends with."""
        return hints.token(self._secret, attempt_id)

    def is_token(self, token: str) -> bool:
        """Whether we made this token."""
        return hints.attempt_of(self._secret, token) is not None

    def hear(self, token: str, task_id: str, now: float) -> str | None:
        """A callback said that the token's attempt has this provider task; the lane to wake, or None."""
        return next(iter(self.hear_all([(token, task_id)], now)), None)

    def hear_all(self, heard: Sequence[tuple[str, str]], now: float) -> set[str]:
        """The same of many (token, task id), in one transaction; the lanes to wake."""
        numbered = [(hints.attempt_of(self._secret, token), task_id) for token, task_id in heard]
        ours = [(number, task_id) for number, task_id in numbered if number is not None]
        return self._database.write(hints.hear_all, ours, now)

    def claim(self, account: str, now: float, *, lease: float, at_most: int = 16) -> list[DueHint]:
        """Provider tasks named by callbacks, to be asked about now."""
        return self._database.write(hints.claim, account, now, lease=lease, at_most=at_most)

    def drop(self, settled: Sequence[tuple[int, str]]) -> None:
        """Hints that came true, (attempt, task id) each, are forgotten."""
        self._database.write(hints.drop, settled)

    def refute(self, settled: Sequence[tuple[int, str]]) -> None:
        """Hints that turned out wrong are kept aside, so that nobody has them looked into again."""
        self._database.write(hints.refute, settled)

    def waiting(self) -> int:
        """Hints that nobody has looked into yet."""
        return self._database.read(hints.waiting)

    def called_back(self, since: float) -> set[str]:
        """Accounts whose callbacks came through since then, give or take a minute."""
        return self._database.read(hints.called_back, since)
