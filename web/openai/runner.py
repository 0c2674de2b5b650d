"""What becomes of batches of OpenAI's API: read and recorded, ended in time, and their files written.

Each step is on record before the next, and a batch is held by one process for a while only: where that one dies,
another goes on. A batch is attached in the transaction that records it, so it is never made twice.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

from jobs.errors import LightfastError
from jobs.ledger import Ledger, is_away
from jobs.ledger.openai.values import (
    FilePurpose,
    LineError,
    NewFile,
    NotWantedError,
    RemoteBatch,
    RemoteEnding,
    RemoteState,
)
from jobs.planning.problems import RowProblem
from jobs.results.completion import RunState
from jobs.results.stall import StallDetector
from jobs.settings.model import Settings
from jobs.states import BatchState, JobState
from web.kept_files import KeptFiles, part_of
from web.openai.batches import BATCH, BUDGET, OUTPUT, PROVIDER, TO, counts_of
from web.openai.lines import Line, line_of
from worker.registration.acceptance import NotAccepted, accept, planned_for
from worker.registration.manifest_sources import ManifestSource
from worker.registration.options import BatchOptions, as_fields
from worker.runtime.telemetry import emit, is_telling

#: Seconds between two looks, where nobody wakes it.
EVERY = 1.0
#: Seconds for which a batch is held, from the last sign of life. While it is recorded, in one transaction, there is
#: none: then it is held for as many seconds more as that takes where it goes slowly.
HELD, ROWS_A_SECOND = 60.0, 500
#: Batches worked on at once, and looked at in one look.
AT_ONCE, LOOKED_AT = 2, 50
#: Tries to record one where the destination or the ledger does not answer, and seconds between two at most.
TRIES, LONGEST_WAIT = 30, 120.0
#: Lines of one object of a results file.
LINES = 1_000
#: Rows between two signs of life while a file is read.
SIGN_EVERY = 10_000
#: Seconds between two looks whether batches wait in vain.
JUDGE_EVERY = 30.0
#: Seconds between two looks for files whose time is over, and how many go at once.
CLEAN_EVERY, CLEANED = 600.0, 100


class _NotOursError(Exception):
    """It was cancelled, or another process is at it."""


@dataclass(slots=True, kw_only=True)
class BatchRunner:
    """Works on batches of OpenAI's API in threads of its own, from `start` to `close`."""

    open: Callable[[], Ledger]
    files: KeptFiles
    settings: Settings
    wake_submits: Callable[[], object]
    max_stall: float | None = None  # seconds that a batch waits for a person; None: until its window is over
    _holder: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}")
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE, "openai-batch"))
    _loop: threading.Thread | None = None
    _at_work: dict[int, int] = field(default_factory=dict)  # batches, and whose token's each is
    _troubles: int = 0
    _cleaned_at: float = 0.0
    _judged_at: float = 0.0
    _has_looked: bool = False
    _stalls: dict[int, StallDetector] = field(default_factory=dict)

    def start(self) -> None:
        """Begins to look for work."""
        self._loop = threading.Thread(target=self._look_for_ever, name="openai-batches", daemon=True)
        self._loop.start()

    def wake(self) -> None:
        """There may be work."""
        self._woken.set()

    def close(self) -> None:
        """Ends; what is being read is left to the next process. Waits for the threads, as the ledger is closed next."""
        self._stopped.set()
        self._woken.set()
        if self._loop is not None:
            self._loop.join()
        self._threads.shutdown(cancel_futures=True)

    # -- looking -------------------------------------------------------------------------------------------------

    def _look_for_ever(self) -> None:
        while not self._stopped.is_set():
            self._woken.wait(EVERY)
            self._woken.clear()
            if self._stopped.is_set():
                return
            try:
                self._look()
                self._troubles = 0
            except Exception as trouble:  # noqa: BLE001  whatever the database does, it looks again
                self._troubles += 1
                if is_telling(self._troubles):
                    emit("openai_batches_not_seen", level="warning", problem=repr(trouble)[:300])

    def _look(self) -> None:
        ledger = self.open()
        if not self._has_looked:
            self._free_those_of_the_dead(ledger)
            self._has_looked = True
        now = self._now(ledger)
        for asked in ledger.openai_batches.due(now, LOOKED_AT, set(self._at_work.values())):
            if len(self._at_work) >= AT_ONCE:
                break
            if asked.id in self._at_work or asked.token_id in self._at_work.values():
                continue  # one of a token at a time: a large file keeps nobody else's waiting
            taken = ledger.openai_batches.take(asked.id, self._holder, now, now + HELD)
            if taken is not None:
                self._at_work[taken.id] = taken.token_id
                self._threads.submit(self._work, taken)
        if self.max_stall is not None and now >= self._judged_at + JUDGE_EVERY:
            self._judged_at = now
            self._expire_stalled(ledger, now)
        if now >= self._cleaned_at + CLEAN_EVERY:
            self._cleaned_at = now
            self._remove_expired(ledger, now)

    def _free_those_of_the_dead(self, ledger: Ledger) -> None:
        """A process of this machine that is not there any more does nothing for them."""
        for asked in ledger.openai_batches.taken():
            if asked.taken_by is not None and is_dead(asked.taken_by):
                ledger.openai_batches.leave(asked.id, asked.taken_by, 0.0)

    def _expire_stalled(self, ledger: Ledger, now: float) -> None:
        """Batches that have waited for a person for `max_stall` make nothing new any more."""
        open_ = {asked.id: asked for asked in ledger.openai_batches.in_progress()}
        self._stalls = {number: self._stalls.get(number, StallDetector(max_stall=self.max_stall)) for number in open_}
        for asked in open_.values():
            progress = ledger.reports.progress(asked.batch or "", now)
            standing = RunState(progress=progress, accounts=ledger.accounts.all(), now=now)
            reason = self._stalls[asked.id].judge(standing, time.monotonic())
            if reason is not None and ledger.openai_batches.take(asked.id, self._holder, now, now + HELD):
                ledger.batches.cancel(asked.batch or "", f"nobody helped it for too long ({reason})")
                ledger.openai_batches.end(asked.id, RemoteState.EXPIRED, now)
                self._leave(ledger, asked, 0.0)

    def _remove_expired(self, ledger: Ledger, now: float) -> None:
        for file in ledger.openai_files.expired(now, CLEANED):
            try:
                self.files.remove(ledger, file)
            except LightfastError as trouble:  # it is tried again
                emit("openai_batches_not_seen", level="warning", problem=str(trouble)[:300])
                continue
            ledger.openai_files.delete(file.name, now)

    def _now(self, ledger: Ledger) -> float:
        return time.time() + ledger.clock_offset()

    # -- working -------------------------------------------------------------------------------------------------

    def _work(self, asked: RemoteBatch) -> None:
        ledger = self.open()
        try:
            self._step(ledger, asked)
            self._leave(ledger, asked, 0.0)
        except (_NotOursError, NotWantedError):
            self._leave(ledger, asked, 0.0)
        except Exception as trouble:  # noqa: BLE001  one batch's trouble is not the others'
            if not is_away(trouble):
                emit("openai_batch_put_off", level="warning", batch=asked.name, problem=repr(trouble)[:300])
            self._try_later(ledger, asked, trouble)
        finally:
            self._at_work.pop(asked.id, None)
            self._woken.set()

    def _step(self, ledger: Ledger, asked: RemoteBatch) -> None:
        """Whatever is next for it."""
        if asked.state is RemoteState.VALIDATING:
            self._record(ledger, asked)
            return
        if asked.state is RemoteState.IN_PROGRESS:
            self._end(ledger, asked)
            asked = ledger.openai_batches.find(asked.name) or asked
        if asked.ends_as in (RemoteState.CANCELLED, RemoteState.EXPIRED):
            self._stop(ledger, asked)
        if not ledger.openai_batches.is_going_on(asked.id):
            self._write_files(ledger, asked)

    def _leave(self, ledger: Ledger, asked: RemoteBatch, seconds: float, *, failed: bool = False) -> None:
        try:
            ledger.openai_batches.leave(asked.id, self._holder, self._now(ledger) + seconds, failed=failed)
        except Exception as trouble:  # noqa: BLE001  it is free when its time is over
            emit("openai_batch_put_off", level="warning", batch=asked.name, problem=repr(trouble)[:300])

    def _try_later(self, ledger: Ledger, asked: RemoteBatch, trouble: Exception) -> None:
        if asked.state is RemoteState.VALIDATING and asked.tries >= TRIES:
            told = str(trouble) if isinstance(trouble, LightfastError) else f"a fault of ours: {type(trouble).__name__}"
            error = LineError(code="server_error", message=told)
            ledger.openai_batches.fail(asked.id, [error], self._now(ledger))
            return
        self._leave(ledger, asked, min(LONGEST_WAIT, 2.0 ** min(asked.tries, 10)), failed=True)

    # -- its file ------------------------------------------------------------------------------------------------

    def _record(self, ledger: Ledger, asked: RemoteBatch) -> None:
        try:
            self._read(ledger, asked)
        except NotAccepted as refused:
            errors = [_line_error(each) for each in refused.rows] or [
                LineError(code=refused.code, message=each) for each in refused.problems
            ]
            ledger.openai_batches.fail(asked.id, errors, self._now(ledger))
            return
        self.wake_submits()

    def _read(self, ledger: Ledger, asked: RemoteBatch) -> None:
        file = ledger.openai_files.find(asked.input_file)
        token = ledger.access.holder_of(asked.token_id)
        if asked.expires_at <= self._now(ledger):
            raise NotAccepted("batch_expired", "its completion window was over before its file was read")
        if file is None:
            raise NotAccepted("file_missing", f"the file {asked.input_file} is not there any more")
        if token is None:
            raise NotAccepted("token_revoked", "the token was revoked meanwhile")
        said = asked.metadata
        options = BatchOptions(
            manifest=file.filename,
            batch=said.get(BATCH, asked.name),
            to=said.get(TO, ""),
            budget=said.get(BUDGET),
            provider=said.get(PROVIDER, ""),
            buy_again=True,  # as of OpenAI: what was asked for in another batch is made anew in this one
        )
        try:
            opened = self.files.local(ledger, file)
            with opened as path:
                source = ManifestSource(path=path, name=file.filename, folder=None, state=None)
                planning = planned_for(
                    options,
                    self.settings,
                    ledger,
                    token,
                    uploaded=source,
                    endpoint=asked.endpoint,
                    rows_read=self._signs(ledger, asked),
                )
                with planning as preflight:
                    if preflight.batch is not None:
                        raise NotAccepted("batch_name_taken", f"there is a batch {preflight.name}: choose another name")
                    self._keep(ledger, asked, HELD + preflight.seen.rows / ROWS_A_SECOND)
                    accept(preflight, token, request_id=asked.id)
        except FileNotFoundError as gone:
            raise NotAccepted("file_missing", f"the bytes of {asked.input_file} are gone") from gone

    def _signs(self, ledger: Ledger, asked: RemoteBatch) -> Callable[[int], None]:
        told = 0

        def sign(rows: int) -> None:
            nonlocal told
            if rows - told >= SIGN_EVERY or rows < told:  # it is read more than once
                told = rows
                self._keep(ledger, asked, HELD)

        return sign

    def _keep(self, ledger: Ledger, asked: RemoteBatch, seconds: float) -> None:
        """A sign of life.

        Raises:
            _NotOursError: It is not this process's any more, or this one ends.
        """
        until = self._now(ledger) + seconds
        if self._stopped.is_set() or not ledger.openai_batches.keep(asked.id, self._holder, until):
            raise _NotOursError

    # -- its end -------------------------------------------------------------------------------------------------

    def _end(self, ledger: Ledger, asked: RemoteBatch) -> None:
        """From now on nothing new is sent for it; what is paid is stored all the same."""
        now, name = self._now(ledger), asked.batch or ""
        batch = ledger.batches.find(name)
        if batch is not None and batch.state is BatchState.CANCELLED:
            ledger.openai_batches.end(asked.id, RemoteState.CANCELLED, now)
        elif not ledger.openai_batches.is_going_on(asked.id):
            ledger.openai_batches.end(asked.id, RemoteState.COMPLETED, now)
        elif asked.expires_at <= now:
            ledger.batches.cancel(name, f"its completion window of {asked.window} is over")
            ledger.openai_batches.end(asked.id, RemoteState.EXPIRED, now)

    def _stop(self, ledger: Ledger, asked: RemoteBatch) -> None:
        """Nothing new is sent for it, also where whoever said so died before."""
        batch = ledger.batches.find(asked.batch or "")
        if batch is not None and batch.state is not BatchState.CANCELLED:
            ledger.batches.cancel(batch.name)

    def _write_files(self, ledger: Ledger, asked: RemoteBatch) -> None:
        name, ends_as = asked.batch or "", asked.ends_as or RemoteState.COMPLETED
        batch = ledger.batches.find(name)
        if batch is None:
            raise LightfastError(f"batch {name} is not on record")
        url_only = asked.metadata.get(OUTPUT) == "url"
        output, errors = _ResultsFile(asked, "output", self, ledger), _ResultsFile(asked, "errors", self, ledger)
        rows: dict[JobState, int] = {}
        for result in ledger.reports.results(name):
            rows[result.state] = rows.get(result.state, 0) + 1
            line = line_of(result, batch.dest, ends_as, url_only=url_only)
            (output if line.is_output else errors).add(line)
        now = self._now(ledger)
        ending = RemoteEnding(state=ends_as, counts=counts_of(rows), output=output.whole(now), errors=errors.whole(now))
        ledger.openai_batches.finish(asked.id, self._holder, ending, now)

    def put_part(self, ledger: Ledger, asked: RemoteBatch, place: str, content: bytes) -> None:
        """Writes an object of a results file."""
        self._keep(ledger, asked, HELD)
        self.files.put(ledger, place, content)


def is_dead(holder: str) -> bool:
    """Whether a process of this machine is not there any more; of other machines nobody knows."""
    host, _, rest = holder.partition(":")
    number = rest.partition(":")[0]
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class _ResultsFile:
    """A results file while it is written, object by object; a process that goes on writes over what there is."""

    def __init__(self, asked: RemoteBatch, what: str, runner: BatchRunner, ledger: Ledger) -> None:
        self._asked, self._what, self._runner, self._ledger = asked, what, runner, ledger
        self._name = f"file-{sha256(f'{asked.name} {what}'.encode()).hexdigest()[:24]}"
        self._lines: list[bytes] = []
        self._bytes = self._parts = 0

    def add(self, line: Line) -> None:
        """Adds a line."""
        self._lines.append(line.kept)
        self._bytes += line.bytes
        if len(self._lines) >= LINES:
            self._put()

    def whole(self, now: float) -> NewFile | None:
        """The file, all of it written; None: it has no line."""
        if self._lines:
            self._put()
        if not self._parts:
            return None
        return NewFile(
            name=self._name,
            token_id=self._asked.token_id,
            purpose=FilePurpose.BATCH_OUTPUT,
            filename=f"{self._asked.name}_{self._what}.jsonl",
            bytes=self._bytes,
            place=self._name,
            parts=self._parts,
            expires_at=now + self._asked.output_seconds,
        )

    def _put(self) -> None:
        self._runner.put_part(self._ledger, self._asked, part_of(self._name, self._parts), b"".join(self._lines))
        self._parts += 1
        self._lines.clear()


def _line_error(problem: RowProblem) -> LineError:
    """A bad row in OpenAI's words."""
    code = "invalid_json_line" if problem.legal.startswith("broken JSON") else "invalid_request"
    if problem.is_repeat and problem.column == "key":
        code = "duplicate_custom_id"
    return LineError(code=code, message=as_fields(problem.what), line=problem.line, param=problem.column)
