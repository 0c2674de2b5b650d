"""Whom trouble strikes: each rule and each word of a prompt, as often as it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from sandbox.troubles.scenario import Rule, Scenario
from sandbox.troubles.words import NONE, Subject, Trouble, in_prompt


class Troubles:
    """Counts who was struck, and says who is next."""

    def __init__(self, scenario: Scenario, seed: int, now: float) -> None:
        self._seed = seed
        self._began = now
        self._rules = [(rule, rule.parsed()) for rule in scenario.rules]
        self._verbs = {trouble.verb for _, trouble in self._rules}
        self._struck: dict[tuple[object, ...], int] = {}

    def strike(
        self, verb: str, subject: Subject, now: float, *, only: frozenset[str] | None = None, but: frozenset[str] = NONE
    ) -> Trouble | None:
        """The one trouble that befalls this request; counted as used. `only`, `but`: of these kinds, of the others."""
        return next(self.all_that_strike(verb, subject, now, only=only, but=but), None)

    def all_that_strike(
        self, verb: str, subject: Subject, now: float, *, only: frozenset[str] | None = None, but: frozenset[str] = NONE
    ) -> Iterator[Trouble]:
        """Each trouble of the verb that applies; counted when taken."""
        prompt = subject.prompt
        for place, trouble in enumerate(in_prompt(prompt) if prompt else ()):
            if _is_meant(trouble, verb, only, but) and self._first_times(trouble, place, prompt):
                yield trouble
        if verb in self._verbs:
            yield from self._by_rule(verb, subject, now, only, but)

    def needs_no_body(self, verb: str, subject: Subject, now: float) -> Trouble | None:
        """A reset by a rule that asks for neither model nor prompt: it strikes before the body is read."""
        return next(self._by_rule(verb, subject, now), None) if verb in self._verbs else None

    def _by_rule(
        self,
        verb: str,
        subject: Subject,
        now: float,
        only: frozenset[str] | None = None,
        but: frozenset[str] = NONE,
    ) -> Iterator[Trouble]:
        for place, (rule, trouble) in enumerate(self._rules):
            if not _is_meant(trouble, verb, only, but):
                continue
            early = trouble.kind == "reset" and verb == "submit" and rule.model is None and rule.prompt is None
            if early != (subject.prompt is None) or not self._fits(rule, subject, now):
                continue
            if self._is_drawn(rule, place, subject) and self._first_times(trouble, -1 - place, subject.prompt):
                yield trouble

    def _fits(self, rule: Rule, subject: Subject, now: float) -> bool:
        age = now - self._began
        return (
            rule.provider in (None, subject.provider)
            and rule.model in (None, subject.model)
            and rule.key in (None, subject.key)
            and (rule.prompt is None or rule.prompt in (subject.prompt or ""))
            and rule.since <= age
            and (rule.until is None or age < rule.until)
        )

    def _is_drawn(self, rule: Rule, place: int, subject: Subject) -> bool:
        if self._count("seen", place) <= rule.after or not self._chance(rule, place, subject):
            return False
        return rule.times is None or self._count("done", place) <= rule.times

    def _chance(self, rule: Rule, place: int, subject: Subject) -> bool:
        if rule.chance >= 1:
            return True
        nth = self._count("chance", place, subject.about)
        text = f"{self._seed}/{place}/{subject.about}/{nth}"
        drawn = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        return drawn < rule.chance * 2**64

    def _first_times(self, trouble: Trouble, place: int, prompt: str | None) -> bool:
        return trouble.times is None or self._count("prompt", trouble.verb, place, prompt) <= trouble.times

    def _count(self, *what: object) -> int:
        self._struck[what] = self._struck.get(what, 0) + 1
        return self._struck[what]


def _is_meant(trouble: Trouble, verb: str, only: frozenset[str] | None, but: frozenset[str]) -> bool:
    return trouble.verb == verb and trouble.kind not in but and (only is None or trouble.kind in only)
