"""The contact sheet: one self-contained page that escapes what it shows and says what to do about what it cannot."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from jobs.ledger.batches.values import Batch
from jobs.ledger.reports.values import Progress
from jobs.results import contact_sheet
from jobs.states import BatchState, JobState
from providers.types import Request
from tests.support.results_samples import A_FAILED, A_SKIPPED, a_missing_image, a_result, an_image


class Page(HTMLParser):
    """What a browser would load, and the text it would show."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.shown, self._hidden = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._hidden += tag in {"style", "script"}

    def handle_endtag(self, tag):
        self._hidden -= tag in {"style", "script"}

    def handle_data(self, data):
        if not self._hidden:
            self.shown.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.shown).split())


def progress(**changes):
    batch = Batch(
        id=1,
        name="catalog",
        dest="/data/out",
        path="",
        columns=(),
        source="catalog.csv",
        state=BatchState.ACTIVE,
        reason=None,
        budget=5_000_000,
        allow_partial=False,
        reserved=0,
        charged=1_230_000,
        agreed=0,
        sandbox=changes.pop("sandbox", False),
        weight=1.0,
        created_at=0.0,
    )
    numbers = dict.fromkeys(
        [
            "images_total",
            "images_stored",
            "images_generated",
            "images_in_flight",
            "images_unknown",
            "images_lost",
            "bytes_stored",
            "unknown_money",
            "lost_money",
            "remaining_money",
            "in_flight_money",
        ],
        0,
    )
    values = {"batch": batch, "jobs": {}, "errors": {}, "least_expiry": None, "next_at": None, **numbers, **changes}
    return Progress(**values)


def pages_of(results, *, size=None, unseen=contact_sheet.UNSEEN, **changes):
    head = contact_sheet.head_of(progress(**changes), {"maxapi.io": 1}, now=0.0)
    cards = list(contact_sheet.cards(results, lambda path: f"out/{path}", "catalog", unseen=unseen))
    pages = contact_sheet.pages(cards, "index.html", count=len(cards), size=size)
    return {page.links[page.number - 1]: "".join(contact_sheet.html(head, page)) for page in pages}


def page_of(*results, **changes):
    (text,) = pages_of(results, **changes).values()
    return Page(text)


def test_a_picture_is_shown_with_key_prompt_model_provider_pixels_price_and_flags():
    page = page_of(a_result(images=(an_image(flags=("wrong-pixels",)),)))

    (picture,) = page.of("img")
    assert (picture["src"], picture["width"], picture["height"]) == ("out/catalog/lamp/0.png", "1024", "1536")
    assert {"href": "out/catalog/lamp/0.png"}.items() <= page.of("a")[0].items()
    for shown in ("lamp", "A lamp", "gpt-image-2", "maxapi.io", "1024 × 1536", "$0.02", "wrong-pixels"):  # noqa: RUF001  as the sheet writes it
        assert shown in page.text


def test_the_commands_of_a_batch_of_the_stand_in_are_told_with_it():
    failed = a_result("x", state=JobState.FAILED, images=(), error_code="provider_failed")

    (card,) = contact_sheet.cards([failed], str, "my shop", sandbox=True)

    assert card.command.startswith("lightfast retry 'my shop' --sandbox --key ")


def test_nothing_is_loaded_from_elsewhere():
    page = page_of(a_result(), A_FAILED)

    assert not page.of("link")
    assert all("src" not in script for script in page.of("script"))
    assert all(not image["src"].startswith("http") for image in page.of("img"))


def test_what_comes_from_outside_is_escaped():
    attack = '"><script>alert(1)</script><img src=x onerror=y>'
    request = Request(prompt=attack, model=attack)

    page = page_of(a_result(attack, request=request, images=(an_image(path=f"{attack}.png"),)), A_FAILED)

    assert len(page.of("script")) == 1
    assert [image["src"] for image in page.of("img")] == [f"out/{attack}.png"]
    assert attack in page.text
    assert "no <faces>" in page.text


@pytest.mark.parametrize(
    ("result", "help_text"),
    [
        (a_result("a b", state=JobState.HELD, images=(a_missing_image(),)), "lightfast unknown catalog --key 'a b'"),
        (
            a_result("x", state=JobState.FAILED, images=(), error_code="provider_failed"),
            "lightfast retry catalog --key x",
        ),
        (
            a_result("x", state=JobState.LOST, images=(a_missing_image(state="lost"),)),
            "lightfast retry catalog --key x",
        ),
        (A_FAILED, "change it in line 2"),
        (a_result("x", state=JobState.INVALID, request=None, images=(), error_code="bad_row"), "Fix line 2"),
    ],
)
def test_a_row_without_its_image_says_what_helps(result, help_text):
    page = page_of(result)

    assert help_text in page.text
    assert not page.of("img")


def test_a_part_of_a_row_that_is_missing_is_one_card_beside_its_pictures():
    row = a_result(
        state=JobState.PARTIAL, images=(an_image(0), a_missing_image(1), a_missing_image(2)), error_code="moderation"
    )

    page = page_of(row)

    assert [card["data-status"] for card in page.of("article")] == ["done", "failed"]
    assert "1 of 3" in page.text
    assert "2 of 3 images" in page.text


def test_skipped_rows_are_counted_and_not_shown_unless_asked_for():
    assert not page_of(A_SKIPPED, jobs={JobState.SKIPPED: 8405}).of("article")
    assert "8,405 rows skipped" in page_of(A_SKIPPED, jobs={JobState.SKIPPED: 8405}).text
    assert len(page_of(A_SKIPPED, unseen=frozenset()).of("article")) == 1


def test_the_header_tells_rows_images_money_and_trouble():
    text = page_of(
        jobs={JobState.DONE: 11_951, JobState.FAILED: 38, JobState.HELD: 11},
        images_total=12_000,
        images_stored=11_951,
        bytes_stored=31_400_000_000,
        unknown_money=440_000,
        errors={"provider_failed": 2, "moderation": 36},
    ).text

    for shown in ("12,000", "11,951 done", "31.4 GB", "$1.23", "$5.00", "36 moderation, 2 provider_failed", "$0.44"):
        assert shown in text


@pytest.mark.parametrize("sandbox", [True, False])
def test_a_sandbox_says_so(sandbox):
    assert ("SANDBOX" in page_of(sandbox=sandbox).text) is sandbox


def test_a_long_batch_becomes_pages_that_lead_to_each_other_from_their_top_and_end():
    pages = pages_of([a_result(f"k{number}") for number in range(5)], size=2)

    assert list(pages) == ["index.html", "index-2.html", "index-3.html"]
    links = [[a["href"] for a in Page(text).of("a") if a["href"].endswith(".html")] for text in pages.values()]
    first, second, third = pages
    assert links == [[second, third, second] * 2, [first, first, third, third] * 2, [second, first, second] * 2]
    assert [len(Page(text).of("article")) for text in pages.values()] == [2, 2, 1]


def test_of_many_pages_the_first_the_last_and_those_around_are_linked():
    links = tuple(f"{number}.html" for number in range(1, 41))

    def near(number):
        return contact_sheet.Page(number=number, cards=[], links=links).near

    assert near(1) == [1, 2, 3, 0, 40]
    assert near(20) == [1, 0, 18, 19, 20, 21, 22, 0, 40]
    assert near(40) == [1, 0, 38, 39, 40]


def test_rows_that_have_come_since_they_were_counted_are_on_the_last_page():
    cards = list(contact_sheet.cards([a_result(f"k{number}") for number in range(5)], str, "catalog"))

    assert [len(page.cards) for page in contact_sheet.pages(cards, "index.html", count=3, size=2)] == [2, 3]
    assert [len(page.cards) for page in contact_sheet.pages(cards[:1], "index.html", count=3, size=2)] == [1, 0]


def test_a_picture_that_was_made_anew_has_the_one_before_beside_it():
    newer, older = an_image(revision=2, path="catalog/lamp/0.r2.png"), an_image(path="catalog/lamp/0.png")

    page = page_of(a_result(revision=2, images=(newer,), replaced=(older,)))

    assert [image["src"] for image in page.of("img")] == ["out/catalog/lamp/0.r2.png"]
    (compare,) = [button for button in page.of("button") if button.get("class") == "compare"]
    assert compare["data-picture"] == "out/catalog/lamp/0.png"
    assert "the picture before" in page.text
