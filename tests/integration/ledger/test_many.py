"""Many rows are changed with one statement as if one after the other."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, func, insert, select, update

from jobs.ledger.database.many import update_many
from jobs.ledger.database.schema import events

_CHANGE = (
    update(events)
    .where(events.c.id == bindparam("of_event"), events.c.name != "kept")
    .values(
        at=events.c.at + bindparam("more"),
        detail=func.coalesce(bindparam("said"), events.c.detail),
        attempt_id=bindparam("whose"),
    )
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))  # PostgreSQL keeps no NUL
CHANGES = st.lists(
    st.fixed_dictionaries(
        {
            "of_event": st.integers(1, 4),
            "more": st.integers(0, 9).map(float),
            "said": st.none() | st.sampled_from(["", "x", "NULL", "{1,2}", 'a "b", \\c', "\u00fc"]) | TEXTS,
            "whose": st.none() | st.integers(1, 2**40),
        }
    ),
    max_size=8,
)


@given(changes=CHANGES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_changed_as_if_one_after_the_other_one_that_comes_twice_too(ledger, changes):
    rows = {number: [0.0, f"d{number}", None] for number in range(1, 5)}
    with ledger._database.writing() as tx:
        tx.execute(events.delete())
        fresh = [{"id": n, "at": 0.0, "name": "kept" if n == 4 else "e", "detail": f"d{n}"} for n in rows]
        tx.execute(insert(events), fresh)
        update_many(tx, _CHANGE, changes)
        found = {row.id: [row.at, row.detail, row.attempt_id] for row in tx.execute(select(events))}

    for change in changes:
        if change["of_event"] != 4:
            at, detail, _ = rows[change["of_event"]]
            said = detail if change["said"] is None else change["said"]
            rows[change["of_event"]] = [at + change["more"], said, change["whose"]]
    assert found == rows
