"""What a database server's settings mean for the money on record. Pure: settings in, words out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Remark(NamedTuple):
    """One thing about the server that money depends on. `verdict`: "ok", "note" or "problem"."""

    verdict: str
    text: str


def remarks(server: Mapping[str, str], *, sandbox: bool = False) -> Iterator[Remark]:
    """What `Ledger.durability` read, as a person should know it. Nothing read (SQLite): nothing to say.

    `sandbox`: nothing was paid, so no setting is a problem.
    """
    if not server:
        return
    for remark in (*_standby(server), *_crash(server), _failover(server)):
        if sandbox and remark.verdict == "problem":
            yield Remark("note", f"no matter in a sandbox's ledger: {remark.text}")
        else:
            yield remark


def _standby(server: Mapping[str, str]) -> Iterator[Remark]:
    if server["in_recovery"] == "on":
        text = "this server is a standby (in recovery): nothing can be recorded here. Point database_url at the primary"
        yield Remark("problem", text)


def _crash(server: Mapping[str, str]) -> Iterator[Remark]:
    if server["fsync"] != "on":
        text = "fsync = off: when the machine crashes, what was paid may be forgotten and paid again. Set fsync = on"
        yield Remark("problem", text)
    if server["synchronous_commit"] == "off":
        text = (
            "synchronous_commit = off, though Lightfast asks for on in each transaction: a crash forgets the last "
            "moments, and what was sent in them is paid again. Set it to on for this role or database"
        )
        yield Remark("problem", text)
    if server["full_page_writes"] != "on":
        text = "full_page_writes = off: a crash may leave torn pages, unless the file system rules that out"
        yield Remark("note", text)


def _failover(server: Mapping[str, str]) -> Remark:
    names, commit = server["synchronous_standby_names"], server["synchronous_commit"]
    standbys = int(server["standbys"])
    if names and commit in ("local", "off"):
        text = f"synchronous_standby_names = {names}, but synchronous_commit = {commit} does not wait for them"
        return Remark("problem", f"{text}: a failover forgets the last moments, and they are paid again")
    if names and commit == "remote_write":
        return Remark("note", "standbys confirm before they flush: losing both machines forgets the last moments")
    if names:
        return Remark("ok", f"durable: every intent is on {names} before anything is sent; a failover forgets nothing")
    if standbys:
        text = (
            f"{standbys} standby{'' if standbys == 1 else 's'} and no synchronous_standby_names: a failover may forget "
            "the last moments. Submits then wait for  lightfast resume --after-restore"
        )
        return Remark("note", text)
    told = "" if server["origin"] else "; this server does not say when it was restored or failed over"
    return Remark("note" if told else "ok", f"durable on one server; after a restore submits wait for a word{told}")
