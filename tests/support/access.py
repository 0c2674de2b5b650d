"""Tokens for tests."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.ledger import Ledger
from jobs.ledger.access.values import NewToken, Token
from jobs.policy.access import Role, make_token


@dataclass(frozen=True)
class Asker:
    """Somebody with a token."""

    text: str
    token: Token

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}"}


def make(
    ledger: Ledger,
    name: str,
    role: Role,
    *,
    budget: int = 1_000_000,
    at: float = 1.0,
    to: str = "s3://bucket/catalog",
    reads: tuple[str, ...] = (),
) -> Asker:
    """Puts a token on record."""
    made = make_token()
    limits = {"daily_budget": budget, "writes_to": to, "reads": reads} if role is Role.PRODUCER else {}
    assert ledger.access.add(NewToken(name=name, role=role, prefix=made.prefix, digest=made.digest, **limits), at)
    text = made.secret.get_secret_value()
    token = ledger.access.holder(text)
    assert token is not None
    return Asker(text, token)
