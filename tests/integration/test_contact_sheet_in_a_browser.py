"""The contact sheet as people use it: from files, in a browser, without a server."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image

from jobs.results import contact_sheet
from tests.support.browser import browser, tab  # noqa: F401  fixtures
from tests.support.results_samples import A_FAILED, a_result, an_image
from tests.unit.results.test_contact_sheet import progress

KEYS = ["lamp", "vase", 'it\'s "blue" & green', "--sofa", "rug"]


@pytest.fixture
def sheet(tmp_path):
    """Three pages; the first row was made anew."""
    results = [_result(position, key) for position, key in enumerate(KEYS)]
    cards = list(contact_sheet.cards([*results, dataclasses.replace(A_FAILED, position=9)], str, "my shop"))
    head = contact_sheet.head_of(progress(), {}, now=0.0)
    for page in contact_sheet.pages(cards, "index.html", count=len(cards), size=2):
        (tmp_path / page.links[page.number - 1]).write_text("".join(contact_sheet.html(head, page)))
        with (tmp_path / page.search).open("ab") as search:
            search.writelines(contact_sheet.search_lines(page))
    for name, colour in (("old", "red"), ("new", "blue")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    return tmp_path.as_uri()


def _result(position, key):
    replaced = (an_image(path="old.png"),) if key == "lamp" else ()
    return a_result(
        key, position=position, revision=2, images=(an_image(revision=2, path="new.png"),), replaced=replaced
    )


def test_ticked_rows_of_all_pages_give_the_command_that_makes_them_anew(sheet, tab):  # noqa: F811
    tab.goto(f"{sheet}/index.html")
    tab.get_by_label("Tick lamp for redo").check()
    tab.get_by_role("link", name="Next").first.click()
    tab.get_by_label(f"Tick {KEYS[2]} for redo").check()
    tab.get_by_label("Tick --sofa for redo").check()

    assert tab.inner_text("#ticked strong") == "3 rows ticked"
    assert tab.inner_text("#ticked code") == (
        """lightfast redo catalog --key lamp --key 'it'"'"'s "blue" & green' --key=--sofa"""
    )
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="Save keys file").click()
    assert saved.value.suggested_filename == "catalog-redo.txt"
    assert saved.value.path().read_text().splitlines() == ["lamp", KEYS[2], "--sofa"]

    tab.get_by_role("button", name="Clear").click()
    assert tab.locator("#ticked").is_hidden()


def test_a_search_finds_rows_of_other_pages_and_leads_to_them(sheet, tab):  # noqa: F811
    tab.goto(f"{sheet}/index.html")
    tab.get_by_label("Search keys and prompts").fill("rug")

    tab.get_by_role("link", name="rug page 3").click()

    tab.wait_for_url(f"{sheet}/index-3.html#row-4")
    assert tab.locator("article:target h2").inner_text() == "rug"


def test_the_picture_before_a_redo_is_shown_on_a_press_and_the_new_one_on_the_next(sheet, tab):  # noqa: F811
    tab.goto(f"{sheet}/index.html")
    button, image = tab.get_by_role("button", name="before"), tab.get_by_alt_text("lamp")

    seen = [image.get_attribute("src")]
    for _ in range(2):
        button.click()
        seen.append(image.evaluate("image => image.src").rpartition("/")[2])

    assert seen == ["new.png", "old.png", "new.png"]


def test_a_phone_shows_it_without_scrolling_sideways(sheet, tab):  # noqa: F811
    tab.set_viewport_size({"width": 360, "height": 740})
    for number in ("", "-2", "-3"):
        tab.goto(f"{sheet}/index{number}.html")
        tab.get_by_label("Tick").first.check()

        assert tab.evaluate("document.documentElement.scrollWidth") == 360


def test_a_phone_shows_the_whole_command_for_five_rows(sheet, tab):  # noqa: F811
    tab.set_viewport_size({"width": 360, "height": 740})
    for number, rows in (("", 2), ("-2", 2), ("-3", 1)):
        tab.goto(f"{sheet}/index{number}.html")
        for at in range(rows):
            tab.get_by_label("Tick").nth(at).check()

    assert tab.inner_text("#ticked code").endswith("--key rug")
    assert tab.evaluate("(box => box.scrollHeight - box.clientHeight)(document.querySelector('#ticked code'))") == 0


def test_a_picture_whose_small_copy_is_gone_is_shown_itself(sheet, tab, tmp_path):  # noqa: F811
    page = tmp_path / "index.html"
    page.write_text(page.read_text().replace('src="new.png"', 'src=".lightfast/thumbnails/gone.webp"'))

    tab.goto(f"{sheet}/index.html")

    tab.wait_for_function("[...document.images].slice(0, 2).every(image => image.naturalWidth === 30)")
