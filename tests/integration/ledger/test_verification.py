"""Images that are stored can be looked at again, sent back, or taken on record from their objects."""

from __future__ import annotations

from jobs.facts import ImageChecked, ImageDelayed, ImageStored, TaskSucceeded
from jobs.ledger.batches.adopted_values import AdoptedImage, AdoptedRow
from jobs.ledger.batches.values import ImageFlags
from jobs.policy.verification import StoredCopy
from jobs.states import ImageState, JobState
from tests.support.ledger_sums import check_money
from tests.support.stocked_ledger import NOW, PRICE, made, new_batch, row, rows, stock


def stored(ledger, count=3):
    """A batch with every image stored."""
    stock(ledger, rows(count))
    intents = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record(
        [TaskSucceeded(attempt_id=each.attempt_id, at=NOW, images=(made(),), task_id=each.key) for each in intents]
    )
    due, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=64)
    for each in due:
        facts = {"sha256": "a" * 64, "bytes": 9, "width": 1, "height": 1, "format": "png"}
        path = f"spring/{each.key}/0.png"
        ledger.facts.record([ImageChecked(image_id=each.image_id, object_path=path, **facts)])
    ledger.facts.record([ImageStored(image_id=each.image_id, at=NOW) for each in due])
    return {each.key: each for each in ledger.images.stored("spring")}


def test_every_stored_image_is_listed_with_what_it_should_be(ledger):
    kept = stored(ledger)

    one = kept["k1"]
    assert set(kept) == {"k0", "k1", "k2"}
    assert isinstance(one, StoredCopy)
    assert (one.path, one.sha256, one.size, one.slot, one.revision) == ("spring/k1/0.png", "a" * 64, 9, 0, 1)
    assert (one.has_task, one.link_dies_at) == (True, NOW + 3600)


def test_an_image_that_is_sent_back_is_copied_again_and_costs_nothing(ledger):
    kept = stored(ledger)
    before = ledger.reports.progress("spring").batch

    assert ledger.images.copy_again({kept["k1"].image_id: "gone"}, NOW + 5) == 1
    assert ledger.images.copy_again({kept["k1"].image_id: "gone"}, NOW + 5) == 0, "it is not stored any more"

    counted = ledger.reports.progress("spring")
    assert (counted.jobs[JobState.WORKING], counted.jobs[JobState.DONE], counted.images_generated) == (1, 2, 1)
    assert (counted.batch.charged, counted.batch.reserved) == (before.charged, before.reserved)
    assert [event.name for event in ledger.reports.story("spring", "k1").events][-1] == "copied_again"
    ((due,), _) = ledger.claims.copies(NOW + 5, holder="me", lease=60, at_most=9)
    assert (due.key, due.recorded_sha256, due.url) == ("k1", "a" * 64, "https://cdn.example/0.png")
    ledger.facts.record([ImageStored(image_id=due.image_id, at=NOW + 6)])
    assert ledger.reports.progress("spring").jobs[JobState.DONE] == 3
    assert ledger.images.states([due.image_id]) == {ImageState.STORED: 1}


AMONG = {"blank", "near_duplicate"}


def flagged(kept, *flags, sha256="a" * 64):
    return ImageFlags(image_id=kept.image_id, sha256=sha256, flags=frozenset(flags))


def flags_of(ledger):
    return {each.key: each.images[0].flags for each in ledger.reports.results("spring") if each.images[0].flags}


def test_flags_are_set_among_those_that_were_looked_for_and_others_stay(ledger):
    stock(ledger, rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=NOW, images=(made(),), task_id="t")])
    ((due,), _) = ledger.claims.copies(NOW, holder="me", lease=60, at_most=9)
    facts = {"sha256": "a" * 64, "bytes": 9, "width": 1, "height": 1, "format": "png", "flags": ("wrong-pixels",)}
    ledger.facts.record([ImageChecked(image_id=due.image_id, object_path="spring/0.png", **facts)])
    ledger.facts.record([ImageStored(image_id=due.image_id, at=NOW)])
    (kept,) = ledger.images.stored("spring")
    before = ledger.reports.progress("spring")

    ledger.images.set_flags([flagged(kept, "near_duplicate")], AMONG)
    assert flags_of(ledger) == {"k0": ("wrong-pixels", "near_duplicate")}
    ledger.images.set_flags([flagged(kept, "blank")], AMONG)
    assert flags_of(ledger) == {"k0": ("wrong-pixels", "blank")}
    assert ledger.reports.progress("spring") == before, "it still counts as one with wrong pixels, and costs the same"
    ledger.images.set_flags([flagged(kept)], AMONG)
    assert flags_of(ledger) == {"k0": ("wrong-pixels",)}
    check_money(ledger)


def test_an_image_that_is_not_as_it_was_looked_at_any_more_gets_no_flag(ledger):
    kept = stored(ledger)
    ledger.images.copy_again({kept["k1"].image_id: "gone"}, NOW + 5)

    ledger.images.set_flags(
        [flagged(kept["k0"], "blank", sha256="b" * 64), flagged(kept["k1"], "blank"), flagged(kept["k2"], "blank")],
        AMONG,
    )

    assert flags_of(ledger) == {"k2": ("blank",)}


def waiting(ledger):
    """A batch of one row: paid, and its first copy met a page."""
    stock(ledger, rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=NOW, images=(made(),), task_id="t")])
    ((due,), _) = ledger.claims.copies(NOW, holder="me", lease=60, at_most=9)
    return due


def test_a_paid_image_that_cannot_be_had_is_lost_on_a_persons_word_and_can_be_paid_anew(ledger):
    due = waiting(ledger)
    told = ImageDelayed(image_id=due.image_id, at=NOW, next_copy_at=NOW + 9, code="not_an_image", message="a page")
    ledger.facts.record([told])

    (one,) = ledger.images.awaited("spring", ["k0"], NOW)
    assert (one.key, one.error_code, one.tries, one.is_being_copied) == ("k0", "not_an_image", 1, False)
    assert ledger.images.give_up([one.image_id], NOW + 5) == {one.image_id}
    assert ledger.images.give_up([one.image_id], NOW + 5) == set()

    counted = ledger.reports.progress("spring")
    assert (counted.jobs[JobState.LOST], counted.lost_money, counted.batch.charged) == (1, 20_000, 20_000)
    assert ledger.claims.copies(NOW + 99, holder="me", lease=60, at_most=9)[0] == []
    story = ledger.reports.story("spring", "k0")
    assert (story.result.error_code, story.events[-1].name) == ("given_up", "given_up")
    assert "a page" in story.result.message
    assert ledger.batches.retry("spring", NOW + 9) == 0, "it stays given up until somebody chooses it"
    assert ledger.batches.retry("spring", NOW + 9, keys=["k0"]) == 1
    assert ledger.reports.progress("spring").jobs[JobState.READY] == 1


def test_a_copy_of_an_image_given_up_is_not_taken_for_the_one_that_was_bought_instead(ledger):
    first = waiting(ledger)
    ledger.images.give_up([first.image_id], NOW + 61)  # its lease is over; its copy goes on all the same
    ledger.batches.retry("spring", NOW + 62, keys=["k0"])
    (again,) = ledger.claims.submits("main", NOW + 63, lease=90).intents
    anew = made("https://cdn.example/second.png")
    ledger.facts.record([TaskSucceeded(attempt_id=again.attempt_id, at=NOW + 64, images=(anew,), task_id="second")])

    told = {"sha256": "a" * 64, "bytes": 9, "width": 1, "height": 1, "format": "png"}
    ledger.facts.record([ImageChecked(image_id=first.image_id, object_path="spring/k0/0.png", **told)])
    ledger.facts.record([ImageStored(image_id=first.image_id, at=NOW + 65)])

    counted = ledger.reports.progress("spring")
    assert (counted.images_stored, counted.images_generated, counted.images_aside) == (0, 1, 1)
    ((due,), _) = ledger.claims.copies(NOW + 66, holder="me", lease=60, at_most=9)
    assert due.url == "https://cdn.example/second.png"
    assert (check_money(ledger).waiting, check_money(ledger).surplus) == (PRICE, PRICE)


def test_a_copy_under_way_is_not_given_up_and_one_that_comes_late_is_stored(ledger):
    due = waiting(ledger)
    assert ledger.images.give_up([due.image_id], NOW + 5) == set()
    assert ledger.images.give_up([due.image_id], NOW + 61) == {due.image_id}, "its lease is over"

    facts = {"sha256": "a" * 64, "bytes": 9, "width": 1, "height": 1, "format": "png"}
    ledger.facts.record([ImageChecked(image_id=due.image_id, object_path="spring/k0/0.png", **facts)])
    ledger.facts.record([ImageStored(image_id=due.image_id, at=NOW + 62)])

    counted = ledger.reports.progress("spring")
    assert (counted.jobs[JobState.DONE], counted.lost_money) == (1, 0)
    (row,) = ledger.reports.results("spring")
    assert (row.error_code, row.message) == (None, None)


def test_what_many_images_are_is_recorded_with_one_statement(ledger):
    stock(ledger, rows(2))
    intents = ledger.claims.submits("main", NOW, lease=90).intents
    facts = [TaskSucceeded(attempt_id=each.attempt_id, at=NOW, images=(made(),), task_id=each.key) for each in intents]
    ledger.facts.record(facts)
    due, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=9)

    same = {"object_path": "x", "sha256": "a" * 64, "bytes": 9, "width": 1, "height": 1, "format": "png"}
    ledger.facts.record([ImageChecked(image_id=each.image_id, **same) for each in due])

    ledger.facts.record([ImageStored(image_id=each.image_id, at=NOW) for each in due])
    assert [each.sha256[0] for each in ledger.images.stored("spring")] == ["a", "a"]


def object_of(slot=0, revision=1, *, surplus=False):
    facts = {"sha256": "b" * 64, "bytes": 9, "width": 4, "height": 4, "format": "png", "stored_at": NOW}
    return AdoptedImage(slot=slot, revision=revision, surplus=surplus, path=f"spring/x/{slot}.png", **facts)


def adopted(request_hash, *images, key="k0", revision=1):
    path = "spring/x/{index}.{ext}"
    return AdoptedRow(key=key, request_hash=request_hash, revision=revision, path=path, images=images)


def test_an_adopted_row_is_done_and_the_manifest_completes_it_with_what_is_lacking(ledger):
    asked = row(0, n=3)
    ledger.batches.adopt(new_batch(), [adopted(asked.request_hash, object_of(0), object_of(2))], NOW)
    counted = ledger.reports.progress("spring")
    assert (counted.jobs[JobState.DONE], counted.images_stored, counted.batch.charged) == (1, 2, 0)
    (known,) = ledger.batches.known(counted.batch.id, ["k0"]).values()
    assert (known.adopted, known.fits(asked.request_hash), known.lacking(3)) == (True, True, 1)

    stock(ledger, [asked])

    counted = ledger.reports.progress("spring")
    assert (counted.jobs[JobState.READY], counted.images_ready, counted.remaining_money) == (1, 1, asked.price)
    (result,) = ledger.reports.results("spring")
    assert [(image.slot, image.state) for image in result.images] == [(0, "stored"), (1, "missing"), (2, "stored")]
    assert result.request == asked.request
    (known,) = ledger.batches.known(counted.batch.id, ["k0"]).values()
    assert (known.adopted, known.lacking(3)) == (False, 1)


def test_an_adopted_row_that_nothing_tells_of_is_taken_at_its_key_once(ledger):
    ledger.batches.adopt(new_batch(), [adopted(None, object_of())], NOW)

    stock(ledger, [row(0)])

    assert ledger.reports.progress("spring").jobs[JobState.DONE] == 1
    other = row(0, prompt="something else")
    (known,) = ledger.batches.known(ledger.batches.find("spring").id, ["k0"]).values()
    assert not known.fits(other.request_hash)


def test_an_adopted_row_of_another_request_is_changed_and_made_beside_it_on_the_users_word(ledger):
    ledger.batches.adopt(new_batch(), [adopted("0" * 32, object_of(), object_of(0, surplus=True))], NOW)
    (known,) = ledger.batches.known(ledger.batches.find("spring").id, ["k0"]).values()
    assert (known.fits(row(0).request_hash), known.touched) == (False, True)

    ledger.batches.record_manifest(new_batch(), [row(0)], redo_changed=True, now=NOW)

    (result,) = ledger.reports.results("spring")
    assert (result.revision, result.state) == (2, JobState.READY)


def test_what_is_on_record_already_is_left_alone(ledger):
    stored(ledger)

    rows_taken = ledger.batches.adopt(
        new_batch(), [adopted("0" * 32, object_of()), adopted(None, object_of(), key="new")], NOW
    )

    assert rows_taken == 1
    assert {each.key: each.sha256[0] for each in ledger.images.stored("spring")} == {
        "k0": "a", "k1": "a", "k2": "a", "new": "b",
    }  # fmt: skip
