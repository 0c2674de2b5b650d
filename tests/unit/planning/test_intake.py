from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import BadInput
from jobs.facts import ImageChecked, ImageStored, MadeImage, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.accounts.values import AccountLimits
from jobs.ledger.batches.values import NewBatch
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.intake import Intake, record, survey
from jobs.planning.paces import Limit, Pace
from jobs.planning.planner import PlanOptions
from jobs.states import JobState
from providers.catalog.models import Catalog
from providers.types import Link
from tests.support.ledger_files import new_ledger

NOW = 1_800_000_000.0
MAIN = AccountLimits(name="main", provider="maxapi.io", submits_per_second=5.0, max_in_flight=10)
STRICT = {"skip_bad": False, "budget": None, "partial": False, "changed": "error"}
LAMPS = ["key,prompt,n", "a,red lamp,1", "b,blue lamp,2", "c,green lamp,1"]


@pytest.fixture
def ledger(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as opened:
        opened.accounts.sync([MAIN])
        yield opened


@pytest.fixture
def take(tmp_path, ledger):
    """An intake of these lines; `changes` to Intake or PlanOptions."""

    def make(lines, *, changed="error", skip_bad=False, **options):
        path = tmp_path / "m.csv"
        path.write_text("\n".join(lines) + "\n")
        manifest = open_manifest(path, name="m.csv", options=ReadOptions())
        chosen = PlanOptions(**{"batch": "spring", "configured": frozenset({"maxapi.io"}), **options})
        return Intake(
            manifest=manifest, options=chosen, catalog=Catalog.load(), ledger=ledger, changed=changed, skip_bad=skip_bad
        )

    return make


def test_a_line_that_alone_has_more_cells_than_the_header_is_told_to_be_looked_at(take):
    lines = ["key,prompt,price,stock", *(f"k{number},lamp,9,1" for number in range(30))]

    told = look(take([*lines, "odd,vase,1,50,,", "k31,lamp,9,1"])).hints
    assert [hint for hint in told if "line 32 has more cells than the header, the rest of them empty, and is" in hint]
    everywhere = look(take(["key,prompt,price,stock", *(f"k{number},lamp,9,1,," for number in range(30))])).hints
    assert not [hint for hint in everywhere if "more cells" in hint]


def look(intake):
    return survey(intake, intake.ledger.batches.find("spring"), [MAIN])


def new_batch(seen):
    return NewBatch(name="spring", dest="/d", path="{batch}/{key}/{index}.{ext}", columns=seen.columns, source="m.csv")


def accept(intake):
    """Surveys and records, as `run` does."""
    seen = look(intake)
    if reasons := seen.refuse_reasons(**{**STRICT, "changed": intake.changed, "skip_bad": intake.skip_bad}):
        raise BadInput(reasons)
    return record(intake, seen, new_batch(seen), NOW)


def results(ledger):
    return {result.key: result for result in ledger.reports.results("spring")}


def submit(ledger, most=64):
    return ledger.claims.submits("main", NOW + 1000, lease=90, at_most=most, horizon=60).intents


def make_all(ledger):
    """Every image is made and stored."""
    for intent in submit(ledger):
        images = tuple(
            MadeImage(link=Link(url="https://c.example/x"), spool=None, expires_at=NOW + 9e5) for _ in intent.slots
        )
        ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=NOW, images=images, task_id="t")])
    copies, _ = ledger.claims.copies(NOW + 1000, holder="me", lease=90, at_most=64)
    for copy in copies:
        checked = ImageChecked(
            image_id=copy.image_id, object_path=f"{copy.key}/{copy.slot}.png", sha256="0" * 64, bytes=9, width=1,
            height=1, format="png",
        )  # fmt: skip
        ledger.facts.record([checked, ImageStored(image_id=copy.image_id, at=NOW)])


# -- counting ------------------------------------------------------------------------------------------------------


def test_a_new_manifest_is_counted_and_nothing_is_written(take, ledger):
    lines = [
        "key,prompt,ratio,resolution,Title",
        "a,x,1:1,2k,T",
        "b,y,16:9,4k,T",
        "c,z,1:1,2k,T",
        "d,w,1:1,2k,",
        "e,,,,T",
    ]

    seen = look(take(lines, skip_empty="Title"))

    assert (seen.rows, seen.new, seen.skipped, seen.bad, seen.good) == (5, 3, 1, 1, 3)
    assert [(line.label, line.images, line.pixels, line.price, line.money) for line in seen.routes] == [
        ("gpt-image-2 1:1", 2, (2048, 2048), 40_000, 80_000),
        ("gpt-image-2 16:9", 1, (3840, 2160), 60_000, 60_000),
    ]
    assert (seen.images, seen.money, seen.unpriced) == (3, 140_000, 0)
    assert [(sample.line, sample.key, sample.prompt) for sample in seen.samples] == [
        (2, "a", "x"),
        (3, "b", "y"),
        (4, "c", "z"),
    ]
    assert str(seen.problems[0]).startswith("line 6, key e, column prompt is empty:")
    assert seen.columns == ("key", "prompt", "ratio", "resolution", "Title")
    assert ledger.batches.all() == []


def test_only_the_first_hundred_problems_are_kept_and_all_are_counted(take):
    seen = look(take(["prompt,n", *["x,0"] * 250]))

    assert (seen.bad, len(seen.problems)) == (250, 100)


def test_a_limit_takes_the_first_rows(take):
    assert look(take(LAMPS, limit=2)).rows == 2


def test_rows_with_the_same_key_or_path_are_bad_and_named(take):
    by_key = look(take(["key,prompt", "a,x", "b,x", "a,y", "a,z"]))
    by_path = look(take(["key,prompt,T", "a,x,same", "b,x,other", "c,x,same"], path="{T}/{index}.{ext}"))

    assert (by_key.new, by_key.bad) == (2, 2)
    assert [str(p).partition(";")[0] for p in by_key.problems] == [
        'line 4, key a, column key: "a". line 2 has the same key',
        'line 5, key a, column key: "a". line 2 has the same key',
    ]
    assert 'line 4, key c, column path: "same/{index}.{ext}". line 2 has the same path' in str(by_path.problems[0])


def test_keys_that_a_spreadsheet_rounded_to_one_are_told_as_that(take):
    seen = look(take(["key,prompt", "1.02E+12,x", "1.02E+12,y", "1.02E+12,z"]))

    (cause,) = seen.causes
    assert "line 2 has the same key; this looks like a long number that a spreadsheet has rounded" in str(cause)
    assert (cause.rows, [doubt.first.line for doubt in seen.doubts]) == (2, [2])


def test_a_row_left_out_may_repeat_a_key(take, ledger):
    lines = ["Handle,Title", "lamp,Lamp", "lamp,", "lamp,", "rug,Rug"]
    intake = take(lines, mapping={"key": "Handle"}, prompt="{Title}", skip_empty="Title")

    accept(intake)

    assert [(r.key, r.state) for r in ledger.reports.results("spring")] == [
        ("lamp", JobState.READY), ("lamp", JobState.SKIPPED), ("lamp", JobState.SKIPPED), ("rug", JobState.READY),
    ]  # fmt: skip


# -- the same row --------------------------------------------------------------------------------------------------


def test_the_same_manifest_pays_nothing_and_added_rows_pay_for_themselves(take, ledger):
    accept(take(LAMPS))
    make_all(ledger)

    again = look(take(LAMPS))
    more = look(take([*LAMPS, "d,grey lamp,3"]))

    assert (again.done, again.new, again.images, again.money) == (3, 0, 0, 0)
    assert (more.done, more.new, more.images) == (3, 1, 3)
    assert again.samples == ()
    assert [sample.key for sample in more.samples] == ["d"]


def test_an_unfinished_manifest_pays_for_what_is_free(take, ledger):
    accept(take(LAMPS))
    submit(ledger, most=1)

    seen = look(take(LAMPS))

    assert (seen.open, seen.new, seen.images) == (3, 0, 3)


def test_a_changed_row_that_nothing_was_paid_for_changes_freely(take, ledger):
    accept(take(LAMPS))

    seen = look(take([LAMPS[0], "a,pink lamp,1", *LAMPS[2:]]))
    accept(take([LAMPS[0], "a,pink lamp,1", *LAMPS[2:]]))

    assert (seen.changed, seen.disputed, seen.open, seen.images) == (1, 0, 2, 4)
    assert results(ledger)["a"].request.prompt == "pink lamp"


def test_a_changed_row_with_images_stops_with_its_line_and_the_cost_of_redoing(take, ledger):
    accept(take(LAMPS))
    make_all(ledger)
    changed = [LAMPS[0], LAMPS[1], "b,violet lamp,3", LAMPS[3]]

    with pytest.raises(BadInput) as caught:
        accept(take(changed))

    message = str(caught.value)
    assert "1 row has changed" in message
    assert "line 3, key b" in message
    assert "--changed redo makes 3 images anew for $0.06" in message
    assert results(ledger)["b"].request.prompt == "blue lamp"


@pytest.mark.parametrize(("changed", "images", "prompt"), [("keep", 0, "blue lamp"), ("redo", 3, "violet lamp")])
def test_changed_rows_are_kept_or_made_anew_as_asked(take, ledger, changed, images, prompt):
    accept(take(LAMPS))
    make_all(ledger)
    intake = take([LAMPS[0], LAMPS[1], "b,violet lamp,3", LAMPS[3]], changed=changed)

    seen = look(intake)
    accept(intake)

    assert (seen.changed, seen.disputed, seen.images) == (1, 1, images)
    assert results(ledger)["b"].request.prompt == prompt


def test_without_a_key_a_row_in_the_middle_says_why_so_many_changed(take, ledger):
    accept(take(["prompt", "one", "two", "three"]))
    make_all(ledger)

    with pytest.raises(BadInput, match=r"known by their number\. If rows were put in, .* other products now") as caught:
        accept(take(["prompt", "one", "new", "two", "three"]))

    assert "2 rows have changed" in str(caught.value)
    assert look(take(["prompt", "one", "two", "three", "four"])).new == 1


def test_changed_rows_that_were_decoded_wrongly_are_told_before_what_makes_them_anew(take, ledger):
    accept(take(["key,prompt", "a,Café chair", "b,A lamp"]))
    make_all(ledger)

    changed = look(take(["key,prompt", "a,CafÃ© chair", "b,A lamp"]))
    (reason,) = changed.refuse_reasons(**STRICT)

    doubt, remedy = (
        reason.index("the text was decoded wrongly, here (--encoding)"),
        reason.index("--changed redo makes"),
    )
    assert doubt < remedy
    kept = look(take(["key,prompt", "a,CafÃ© chair", "b,A lamp"], changed="keep"))
    assert kept.doubts == (), "nothing is made of it"


@settings(max_examples=12, deadline=None)
@given(
    prompts=st.lists(st.sampled_from(["red", "blue", "green lamp"]), min_size=1, max_size=6),
    cut=st.integers(min_value=0, max_value=6),
)
def test_resuming_after_any_prefix_comes_to_the_same_plan(tmp_path_factory, prompts, cut):
    folder = tmp_path_factory.mktemp("resume")
    lines = [f"k{number},{prompt}" for number, prompt in enumerate(prompts)]

    def intake(ledger, upto):
        path = folder / "m.csv"
        path.write_text("\n".join(["key,prompt", *lines[:upto]]) + "\n")
        manifest = open_manifest(path, name="m.csv", options=ReadOptions())
        options = PlanOptions(batch="spring", configured=frozenset({"maxapi.io"}))
        return Intake(manifest=manifest, options=options, catalog=Catalog.load(), ledger=ledger)

    def end(ledger, *steps):
        for upto in steps:
            accept(intake(ledger, upto))
        return [(r.position, r.line, r.key, r.request, r.provider, r.carried) for r in ledger.reports.results("spring")]

    with (
        contextlib.closing(open_ledger(new_ledger(folder / "whole.db"))) as whole,
        contextlib.closing(open_ledger(new_ledger(folder / "parts.db"))) as parts,
    ):
        assert end(parts, max(1, min(cut, len(lines))), len(lines)) == end(whole, len(lines))


# -- recording -----------------------------------------------------------------------------------------------------


def test_what_was_surveyed_is_recorded_bad_rows_included_when_they_may_be(take, ledger):
    intake = take(["key,prompt,n", "a,x,1", "b,x,two", "a,y,1"], skip_bad=True)

    batch = accept(intake)

    found = [(r.line, r.key, r.state, r.error_code) for r in ledger.reports.results("spring")]
    assert batch.columns == ("key", "prompt", "n")
    assert found == [
        (2, "a", JobState.READY, None), (3, "b", JobState.INVALID, "bad_row"), (4, "a", JobState.INVALID, "bad_row"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "later", ["key,prompt,n\na,red lamp,1\nb,other,2\nc,green lamp,1\n", "key,prompt,n\na,red lamp,1\n"]
)
def test_a_manifest_that_changes_between_the_passes_is_not_recorded(take, ledger, later):
    intake = take(LAMPS)
    seen = look(intake)
    intake.manifest.path.write_text(later)

    with pytest.raises(BadInput, match="changed while it was read"):
        record(intake, seen, new_batch(seen), NOW)

    assert ledger.batches.all() == []


def test_a_known_column_that_json_names_late_counts_in_the_plan_as_in_the_record(tmp_path, ledger):
    lines = [f'{{"key": "k{number}", "prompt": "a lamp"}}' for number in range(1_100)]
    lines[-1] = lines[-1].replace("}", ', "n": 2}')
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(lines))
    manifest = open_manifest(path, name="m.jsonl", options=ReadOptions())
    options = PlanOptions(batch="spring", configured=frozenset({"maxapi.io"}))
    intake = Intake(manifest=manifest, options=options, catalog=Catalog.load(), ledger=ledger)

    seen = look(intake)
    record(intake, seen, new_batch(seen), NOW)

    wanted = [result.request.n for result in ledger.reports.results("spring")]
    assert (seen.images, wanted[0], wanted[-1]) == (1_101, 1, 2)


def test_a_row_that_turns_bad_between_the_passes_stops_the_recording(take, ledger):
    intake = take(LAMPS)
    seen = look(intake)
    intake.manifest.path.write_text("key,prompt,n\na,red lamp,1\nb,,2\n")

    with pytest.raises(BadInput, match="line 3, key b, column prompt"):
        record(intake, seen, new_batch(seen), NOW)

    assert ledger.batches.all() == []


# -- refusing ------------------------------------------------------------------------------------------------------


def test_all_reasons_come_at_once(take):
    seen = look(take(["prompt,n,ratio", "x,10,1:1", "y,0,1:1"]))

    (bad, budget) = seen.refuse_reasons(**{**STRICT, "budget": 100_000})

    assert "1 row is bad, of 2" in bad
    assert "line 3" in bad
    assert "--skip-bad makes the other 1" in bad
    assert "--budget needs to be at least $0.20, and $0.10 is below the estimate: $0.20 for 10 images" in budget
    assert seen.refuse_reasons(**{**STRICT, "skip_bad": True, "budget": 100_000, "partial": True}) == []


def test_a_budget_counts_what_the_batch_has_spent(take, ledger):
    batch = accept(take(LAMPS))
    seen = look(take(LAMPS))

    spent = replace(batch, charged=30_000)

    assert seen.money == 80_000
    assert seen.refuse_reasons(**{**STRICT, "budget": 109_000, "batch": spent}) != []
    assert seen.refuse_reasons(**{**STRICT, "budget": 110_000, "batch": spent}) == []


@pytest.mark.parametrize("partial", [True, False])
def test_a_budget_cannot_be_kept_on_a_route_without_a_price(take, partial):
    seen = look(take(["prompt", "x"], configured=frozenset({"apimaster"})))

    (reason,) = seen.refuse_reasons(**{**STRICT, "budget": 10**9, "partial": partial})

    assert (seen.unpriced, seen.money) == (1, 0)
    assert "apimaster gpt-image-2 1:1" in reason
    assert "[accounts.NAME.prices]" in reason


@pytest.mark.parametrize("lines", [["prompt"], ["prompt,T", "x,"], ["prompt,n", "x,0"]])
def test_a_manifest_without_a_row_to_make_is_refused(take, lines):
    intake = take(lines, skip_empty="T" if "T" in lines[0] else None)

    assert len(look(intake).refuse_reasons(**{**STRICT, "skip_bad": True})) == 1


# -- money and time ------------------------------------------------------------------------------------------------


def test_the_time_is_bound_by_the_rate_or_by_what_may_be_in_flight():
    pace = Pace(submits_per_second=Limit(5.0), in_flight=Limit(10.0))

    assert (pace.seconds(1000, 1000 * 20.0), pace.bound_by(1000, 1000 * 20.0)) == (2000.0, "max_in_flight 10")
    assert (pace.seconds(1000, 1000 * 1.0), pace.bound_by(1000, 1000 * 1.0)) == (200.0, "submits_per_second 5")
    assert pace.seconds(1, 20.0) == 20.0


def test_an_account_without_limits_is_planned_with_cautious_ones(take):
    intake = take(["prompt", *["x"] * 40])

    seen = survey(intake, None, [AccountLimits(name="main", provider="maxapi.io")])

    assert seen.routes[0].bound_by == "max_in_flight 4, to begin with"
    assert (seen.may_be_less, look(intake).may_be_less) == (True, False)
    assert seen.seconds == seen.routes[0].seconds > look(intake).seconds


def test_tasks_are_what_a_route_needs_for_n(take):
    seen = look(take(["prompt,model,n", "x,grok-imagine-lite,10", "y,grok-imagine-lite,1"]))

    assert (seen.routes[0].images, seen.routes[0].tasks) == (11, 4)


def test_an_option_no_row_can_be_made_with_is_said_once(take):
    seen = look(take(LAMPS, ratio="7:5"))

    (reason,) = seen.refuse_reasons(**STRICT)

    assert reason.count("--ratio") == 1
    assert "3 rows are bad, of 3" in reason
    assert "Fix it." in reason


def test_a_cancelled_batch_takes_no_new_row_and_still_fetches_what_is_paid(take, ledger):
    accept(take(LAMPS))
    submit(ledger, most=1)
    ledger.batches.cancel("spring")

    assert look(take(LAMPS)).refuse_reasons(**STRICT, batch=ledger.batches.find("spring")) == []
    (reason,) = look(take([*LAMPS, "d,new lamp,1"])).refuse_reasons(**STRICT, batch=ledger.batches.find("spring"))

    assert "batch spring is cancelled for good" in reason
