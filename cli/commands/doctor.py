"""`lightfast doctor`: looks at everything a run needs, prints every problem and a verdict. Spends nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Sandbox
from cli.flow.session import show, show_json
from cli.output import wording
from jobs import formatting
from jobs.command_lines import command
from jobs.errors import MOVED, BadInput, LightfastError

if TYPE_CHECKING:
    from jobs.settings.model import AccountSettings, Settings
    from providers.types import Dialect, PollOutcome
    from worker.http.client import Http

Dest = Annotated[str, typer.Option("--to", metavar="DEST", help="Also write, read, delete a probe object there.")]

#: Seconds a provider or Redis may take to answer.
PATIENCE = 10.0
#: A task id no provider has given out: asking for it shows whether the key is taken, and costs nothing.
NO_SUCH_TASK = "00000000-0000-4000-8000-000000000000"
#: Two companies whose names differ in their last letters only, and whose keys are easily taken for each other.
ALIKE = {
    "maxapi.io": "maxapi.dev is another company, with keys of its own",
    "maxapi.dev": "maxapi.io is another company, with keys of its own",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One thing that was checked, and the verdict."""

    what: str
    verdict: str  # "ok", "note", "problem"
    text: str


def doctor(*, to: Dest = "", json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """Checks settings, database, Redis, keys and bucket."""
    from cli.flow.environment import settings_for

    try:
        with settings_for(config, sandbox=sandbox) as settings:
            findings = list(_look(settings, to))
    except BadInput as wrong:
        findings = [Diagnosis(what="settings", verdict="problem", text=problem) for problem in wrong.problems]
        _tell(findings, json=json, sandbox=sandbox)
        return BadInput.exit_code
    _tell(findings, json=json, sandbox=settings.is_sandbox)
    return 1 if any(finding.verdict == "problem" for finding in findings) else 0


def _look(settings: Settings, to: str) -> Iterator[Diagnosis]:
    yield Diagnosis(what="settings", verdict="ok", text=str(settings.source or "no lightfast.toml: environment alone"))
    yield _tried("database", lambda: _database(settings))
    yield from _stop(settings)
    if settings.database_path is None:
        yield from durability(settings)
        yield _tried("redis", lambda: _redis(settings))
        yield _tried("workers", lambda: _workers(settings))
        yield from _budgets(settings)
    yield from _accounts(settings)
    yield from _untold(settings)
    yield _bucket(settings, to)


def _tried(what: str, look: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return look()
    except LightfastError as trouble:
        return Diagnosis(what=what, verdict="problem", text=" ".join(str(trouble).split()))  # it stands in a table


def _database(settings: Settings) -> Diagnosis:
    from jobs.ledger import open_ledger
    from jobs.ledger.accounts.configured import told
    from worker.registration.preflight import unmakeable
    from worker.runtime.limits import limits_of

    path = settings.database_path
    if path is not None and not path.exists():
        if not path.parent.is_dir():
            return Diagnosis(what="database", verdict="problem", text=f"{path}: there is no folder {path.parent}")
        if why := unmakeable(settings):
            return Diagnosis(what="database", verdict="problem", text=why)
        return Diagnosis(what="database", verdict="ok", text=f"{path} (new: the first run makes it)")
    ledger = open_ledger(settings.database_url)
    try:
        if why := ledger.unwritable():
            return Diagnosis(what="database", verdict="problem", text=f"{ledger.address} {why}; nothing new is sent")
        images, money = ledger.reports.at_risk()
        risk = f"; at risk now: {formatting.count(images, 'image')}, {formatting.money(money)}" if images else ""
        if missing := ledger.accounts.stranded(limits_of(settings)):
            return Diagnosis(what="database", verdict="problem", text="; ".join(map(told, missing)))
        offset = ledger.clock_offset()
        clock = f"; its clock is {offset:+.1f} s from ours" if abs(offset) > 1 else ""
        whose = ", of the sandbox" if settings.is_sandbox else ""
        return Diagnosis(what="database", verdict="ok", text=f"{ledger.address}{whose}, newest schema{clock}{risk}")
    finally:
        ledger.close()


def _stop(settings: Settings) -> Iterator[Diagnosis]:
    from jobs.ledger import open_ledger
    from jobs.results import emergency_stop

    path = settings.database_path
    if path is not None and not path.exists():
        return
    try:
        ledger = open_ledger(settings.database_url)
    except LightfastError:
        return  # told as the database's problem
    with contextlib.closing(ledger):
        if stop := ledger.emergency_stop.current():
            text = emergency_stop.told(stop, sandbox=settings.is_sandbox)
            yield Diagnosis(what="stop", verdict="problem", text=text)


def durability(settings: Settings) -> Iterator[Diagnosis]:
    """What the database server's settings mean for the money on record."""
    from jobs.ledger import open_ledger
    from jobs.ledger.database.durability import remarks

    try:
        ledger = open_ledger(settings.database_url)
    except LightfastError:
        return  # told as the database's problem
    try:
        for verdict, text in remarks(ledger.durability(), sandbox=settings.is_sandbox):
            yield Diagnosis(what="durability", verdict=verdict, text=text)
        if ledger.has_moved():
            yield Diagnosis(what="durability", verdict="problem", text=MOVED)
        if tasks := ledger.tasks_of_nobody():
            text = f"{formatting.count(len(tasks), 'provider task')} paid for by rows that a restore has forgotten"
            yield Diagnosis(what="durability", verdict="note", text=f"{text}: {', '.join(tasks[:5])}")
    finally:
        ledger.close()


def _redis(settings: Settings) -> Diagnosis:
    from jobs.settings.redis_address import read_redis_url
    from worker import broker

    address = read_redis_url(settings.redis_url)
    if why := broker.unreachable(address, seconds=PATIENCE):
        text = f"{address} does not answer ({why}); what is accepted goes on without it, only slower"
        return Diagnosis(what="redis", verdict="problem", text=text)
    if why := broker.unusable(address, seconds=PATIENCE):
        return Diagnosis(what="redis", verdict="problem", text=why)
    return Diagnosis(what="redis", verdict="ok", text=f"{address}, answers")


def _workers(settings: Settings) -> Diagnosis:
    import time

    from jobs.ledger import open_ledger

    ledger = open_ledger(settings.database_url)
    try:
        seen = len(ledger.workers.seen(time.time() + ledger.clock_offset(), 60.0))
    finally:
        ledger.close()
    return Diagnosis(what="workers", verdict="ok" if seen else "note", text=f"{seen} seen in the last 60 s")


def _budgets(settings: Settings) -> Iterator[Diagnosis]:
    import time

    from cli.flow import budgets
    from jobs.ledger import open_ledger

    try:
        ledger = open_ledger(settings.database_url)
    except LightfastError:
        return  # told as the database's problem
    with contextlib.closing(ledger):
        for text in budgets.unkept(settings, ledger, time.time() + ledger.clock_offset()):
            yield Diagnosis(what="budgets", verdict="problem", text=text)


def _untold(settings: Settings) -> Iterator[Diagnosis]:
    """Whom the settings tell, and what could not be told."""
    import time

    from jobs.ledger import open_ledger
    from worker.notifications.channels import channels_of

    channels = [channel.name for channel in channels_of(settings)]
    path = settings.database_path
    untold = []
    if path is None or path.exists():
        try:
            ledger = open_ledger(settings.database_url)
        except LightfastError:
            return  # told as the database's problem
        with contextlib.closing(ledger):
            untold = ledger.outbox.untold(time.time() + ledger.clock_offset())
    for one in untold:
        told = ", ".join(
            [f"{formatting.count(one.waiting, 'message')} not sent yet"] * bool(one.waiting)
            + [f"{formatting.count(one.given_up, 'message')} given up"] * bool(one.given_up)
        )
        why = one.problem if one.channel in channels else "no channel of these settings has this name"
        since = formatting.day_and_minute(one.since)
        text = f"{told}, the first of {since}; {why or 'nobody has tried'}. Try it:  {command('notify', 'test')}"
        verdict = "note" if one.works_again and not one.waiting else "problem"
        yield Diagnosis(what=f"notify {one.channel}", verdict=verdict, text=text)
    if fine := [name for name in channels if name not in {one.channel for one in untold}]:
        yield Diagnosis(what="notify", verdict="ok", text=f"{', '.join(fine)}: nothing is left to be told")


# -- keys ----------------------------------------------------------------------------------------------------------


def _accounts(settings: Settings) -> Iterator[Diagnosis]:
    if not settings.accounts:
        from providers.registry import PROVIDERS, key_variable

        text = f"none: set {' or '.join(map(key_variable, PROVIDERS))}, or try --sandbox"
        yield Diagnosis(what="accounts", verdict="problem", text=text)
        return
    outcomes = asyncio.run(_ask_all(settings))
    yield from _proxies(settings, outcomes)
    for name, account in settings.accounts.items():
        yield _key(name, account, outcomes[name])


def _proxies(settings: Settings, outcomes: Mapping[str, PollOutcome | str]) -> Iterator[Diagnosis]:
    """Each proxy that leads to a provider, and whether an answer came through it: what was asked costs nothing."""
    used = {name: settings.proxies.of(account.base_url) for name, account in settings.accounts.items()}
    for proxy in dict.fromkeys(filter(None, used.values())):
        names = [name for name, through in used.items() if through == proxy]
        whose = f"{proxy} ({proxy.named}) leads to {', '.join(settings.accounts[name].provider for name in names)}"
        if any(not isinstance(outcomes[name], str) for name in names):
            yield Diagnosis(what="proxy", verdict="ok", text=f"{whose}, and answers come through it")
        else:
            yield Diagnosis(what="proxy", verdict="problem", text=f"{whose}; nothing comes through it")
    if settings.proxies.ignores_all_proxy:
        yield Diagnosis(what="proxy", verdict="note", text="ALL_PROXY is not read: set HTTPS_PROXY where one is needed")
    if any(used.values()) and settings.proxies.direct:
        direct = ", ".join(settings.proxies.direct)
        yield Diagnosis(what="proxy", verdict="ok", text=f"not used for {direct} (NO_PROXY), nor for this machine")


async def _ask_all(settings: Settings) -> dict[str, PollOutcome | str]:
    from providers.registry import DIALECTS
    from worker.http.client import Http

    http = Http(
        allow_private_hosts=settings.allow_private_hosts,
        trusted_hosts=[account.base_url for account in settings.accounts.values()],
        user_agent=settings.user_agent,
        proxies=settings.proxies,
    )
    try:
        asked = [_ask(http, account, DIALECTS[account.provider]) for account in settings.accounts.values()]
        return dict(zip(settings.accounts, await asyncio.gather(*asked), strict=True))
    finally:
        await http.close()


async def _ask(http: Http, account: AccountSettings, dialect: Dialect) -> PollOutcome | str:
    """Asks a provider for a task that does not exist. Returns a text if there was no answer at all."""
    from providers.types import Route

    route = Route(provider=account.provider, model="", provider_model="", pixels=None, max_n=1, price=None)
    call = dialect.poll(NO_SUCH_TASK, route, None)
    exchange = await http.get(
        call, base_url=account.base_url, key=account.api_key, key_header=account.key_header, timeout=PATIENCE
    )
    if exchange.response is None:
        return exchange.problem or "no answer"
    return dialect.read_poll(exchange.response)


def _key(name: str, account: AccountSettings, outcome: PollOutcome | str) -> Diagnosis:
    from providers.types import Kind, Unreadable

    what, where = f"account {name}", f"{account.provider} at {account.base_url}"
    if isinstance(outcome, str):
        return Diagnosis(what=what, verdict="problem", text=f"{where}: {outcome}")
    if isinstance(outcome, Unreadable) and outcome.kind is Kind.ACCOUNT:
        hint = f". {ALIKE[account.provider]}" if account.provider in ALIKE else ""
        text = f"{where} refuses the key: {outcome.message}{hint}"
        return Diagnosis(what=what, verdict="problem", text=text)
    if isinstance(outcome, Unreadable):
        text = f"{where} answers, but not clearly whether it takes the key: {outcome.message}"
        return Diagnosis(what=what, verdict="note", text=text)
    return Diagnosis(what=what, verdict="ok", text=f"{where} takes the key")


# -- the bucket, and the page --------------------------------------------------------------------------------------


def _bucket(settings: Settings, to: str) -> Diagnosis:
    from worker.registration.destination import probe, trackless
    from worker.registration.preflight import normal_dest

    dest = normal_dest(to or settings.storage.to)
    if not dest:
        return Diagnosis(what="bucket", verdict="note", text="not looked at: give --to DEST or [storage] to")
    with trackless(dest):
        try:
            _, probed = probe(dest)
        except LightfastError as refused:
            return Diagnosis(what="bucket", verdict="problem", text=str(refused))
    text = ". ".join([f"{dest}: {probed.words}", *probed.warnings])
    return Diagnosis(what="bucket", verdict="note" if probed.warnings else "ok", text=text)


_STYLES = {"ok": "green", "note": "yellow", "problem": "red"}


def _tell(findings: list[Diagnosis], *, json: bool, sandbox: bool) -> None:
    problems = sum(finding.verdict == "problem" for finding in findings)
    if json:
        listed = [{"what": each.what, "verdict": each.verdict, "text": each.text} for each in findings]
        show_json({"command": "doctor", "healthy": not problems, "findings": listed})
        return
    lines = wording.aligned([(each.what, each.verdict, each.text) for each in findings])
    verdict = f"{formatting.count(problems, 'problem')} to fix." if problems else "Ready: nothing stands in the way."
    styled = [(line, _STYLES[each.verdict]) for line, each in zip(lines, findings, strict=True)]
    show([*styled, (verdict, "bold")], sandbox=sandbox)
