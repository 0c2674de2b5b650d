"""Nothing is bought again without a word, and adding rows takes none out: what is told, asked, and counted."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from cli.flow import consent
from cli.main import app
from jobs.errors import BadInput
from jobs.ledger import open_ledger
from jobs.ledger.database.schema import batches
from jobs.policy.reuse import Reuse
from jobs.states import JobState
from tests.support import stocked_ledger as shelf
from tests.support.manifest_world import MAIN, NOW, World, finish, rows
from worker.registration import register

BEFORE = ["000000001012,heron", "000000001013,lamp", "102.50,vase", "1-2,chair", "MAR-1,bench"]
AFTER = ["1012,heron", "1013,lamp", "102.5,vase", "01-Feb,chair", "01-Mar,bench"]


@pytest.fixture
def world(tmp_path, ledger):
    ledger.accounts.sync([MAIN])
    return World(tmp_path, ledger)


# -- what is found -------------------------------------------------------------------------------------------------


def test_keys_that_a_spreadsheet_rewrote_are_seen_to_be_bought_again(world):
    world.made(BEFORE)

    again = world.look(AFTER).again

    assert (again.rows, again.here, again.to_pay, again.matched) == (5, 5, 5, 0)
    assert (again.absent, again.absent_with_images, again.places) == (5, 5, ())
    assert again.money == 5 * 20_000


def test_the_column_that_the_keys_came_from_is_seen_in_the_rows_on_record(world):
    world.made(["a,lamp,lamp", "b,vase,vase"], head="SKU,Handle,prompt", mapping={"key": "Handle"})
    world.made(rows(3), "others")

    keys = world.look(["a,lamp,lamp", "b,vase,vase"], head="SKU,Handle,prompt", mapping={"key": "SKU"}).earlier_keys

    assert (keys.column, keys.on_record, keys.column_now, keys.now) == ("Handle", ("lamp", "vase"), "SKU", ("a", "b"))
    assert keys.helps
    assert world.look(["lamp,lamp"]).earlier_keys is None  # one of them is there


def test_the_same_rows_under_another_name_are_seen_with_the_batch_that_has_them(world):
    world.made(rows(30))
    world.made(rows(4), "winter")

    again = world.look([*rows(30), *rows(10, prompt="chair", key="c")], "summer").again

    spring = world.ledger.batches.find("spring").id
    assert (again.rows, again.images, again.here, again.to_pay) == (30, 30, 0, 40)
    assert [(place.rows, place.same_keys) for place in again.places] == [(30, 30), (4, 4)]
    assert again.places[0].batch_id == spring
    assert again.needs_buy_again


def test_each_row_on_record_answers_for_one_new_row(world):
    world.made(["a,lamp", "b,lamp"])

    again = world.look([f"k{number},lamp" for number in range(50)], "summer").again

    assert (again.rows, again.to_pay) == (2, 50)
    assert not again.needs_buy_again


@pytest.mark.parametrize(("repeats", "new", "many"), [(9, 0, False), (10, 9, True), (10, 10, False), (11, 10, True)])
def test_many_are_ten_and_over_half_of_what_would_be_paid(world, repeats, new, many):
    world.made(rows(repeats))

    assert world.look([*rows(repeats), *rows(new, prompt="x", key="x")], "summer").again.needs_buy_again is many


def test_few_are_enough_where_all_keys_of_the_batch_are_others_now(world):
    before, after = rows(5, key="old"), rows(5, key="new")
    world.made(before)

    assert world.look(after).again.needs_buy_again
    assert not world.look([*after[:4], before[4]]).again.needs_buy_again  # one row still has its key
    assert not world.look([*after, *rows(5, prompt="chair")]).again.needs_buy_again  # as many rows are really new
    assert world.look(after, append=True).again.needs_buy_again
    assert world.look(after[:2], append=True).again.needs_buy_again
    assert not world.look(after[:1], append=True).again.needs_buy_again  # a product may be called as another
    assert not world.look(after, "summer").again.needs_buy_again  # another batch


def test_the_batch_that_takes_a_cancelled_ones_rows_is_the_one_that_has_taken_some_before(world):
    world.take(["a,lamp"])
    world.ledger.batches.cancel("spring")
    assert world.ledger.batches.other_name("spring") == "spring-2"

    world.take(["a,lamp"], "spring-2")
    assert world.ledger.batches.other_name("spring") == "spring-2"
    world.ledger.batches.cancel("spring-2")
    assert world.ledger.batches.other_name("spring") == "spring-3"


def test_a_single_row_is_enough_whose_key_is_the_old_one_rewritten_or_from_another_column(world):
    head = {"head": "handle,prompt,sku", "mapping": {"key": "handle"}}
    world.made(["h1,lamp,007", "h2,vase,008", "h3,desk,009"], **head)
    world.made(["001,cup", "002,bowl", "003,dish"], "zeros")

    assert world.look(["h2,vase,008"], append=True, **{**head, "mapping": {"key": "sku"}}).again.needs_buy_again
    assert world.look(["2,bowl"], "zeros", append=True).again.needs_buy_again
    assert not world.look(["h9,vase,011"], append=True, **head).again.needs_buy_again
    assert not world.look(["2,bowl", "9,chair"], "zeros", append=True).again.needs_buy_again


def test_a_few_are_enough_whose_keys_look_rewritten_whatever_else_is_in_the_file(world):
    world.made([*rows(15, key="00"), *rows(15, prompt="desk", key="D")])
    kept, new = rows(15, prompt="desk", key="D"), rows(20, prompt="chair", key="C")

    again = world.look([*rows(3, key=""), *kept, *new]).again
    assert (again.needs_buy_again, again.rewritten, again.example) == (True, 3, ("000", "0"))
    assert world.look([*rows(3, key=""), *kept, *new], append=True).again.needs_buy_again

    for others in (
        rows(2, key=""),  # two may be a coincidence
        rows(3, key="k"),  # other keys
        rows(3, first=20, key=""),  # other requests
        ["5,lamp 1", "6,lamp 2", "7,lamp 3"],  # other numbers
        [*rows(15, key="00"), *rows(3, key="")],  # the rows on record are in the file too
    ):
        assert not world.look([*others, *kept, *new]).again.needs_buy_again, others


def test_keys_that_all_look_rewritten_are_seen_whatever_their_rows_ask_for(world):
    world.made(rows(8, key="000"))
    other = {"prompt": "studio lamp", "key": ""}

    again = world.look(rows(8, **other)).again
    assert (again.rows, again.renumbered, again.needs_buy_again, again.example) == (0, 8, True, ("0000", "0"))
    assert not world.look(rows(2, **other)).again.needs_buy_again  # two may be a coincidence
    assert not world.look([*rows(8, **other), "0000,lamp 0"]).again.needs_buy_again  # a key is as it was
    assert not world.look(rows(8, first=20, **other)).again.needs_buy_again  # other numbers
    taken = world.look([*rows(8, key=""), "90,a new one"], reuse=Reuse.COPY).again
    assert (taken.reused, taken.renumbered, taken.needs_buy_again) == (8, 0, False)


def test_keys_that_look_rewritten_are_seen_beside_another_batch_that_has_made_the_same(world):
    world.made(rows(5, key="k"), "winter")
    world.made([*rows(5, key="00"), "D,a desk"])

    again = world.look([*rows(5, key=""), "D,a desk", *rows(20, prompt="chair", key="C")]).again

    assert (again.rewritten, again.here, again.rows, again.needs_buy_again) == (5, 5, 5, True)


def test_rows_under_rewritten_keys_that_take_the_images_are_not_bought(world):
    world.made([*rows(5, key="00"), "D,a desk"])

    again = world.look([*rows(5, key=""), "D,a desk"], reuse=Reuse.COPY).again

    assert (again.reused, again.rewritten, again.needs_buy_again) == (5, 0, False)


def test_rows_that_the_batch_has_under_their_keys_are_no_repeats(world):
    world.made(rows(30), "winter")
    world.take(rows(30))

    again = world.look(rows(30)).again

    assert (again.rows, again.to_pay, again.matched) == (0, 30, 30)


def test_what_was_never_paid_for_and_what_the_stand_in_made_is_no_purchase(world):
    world.take(rows(30), "winter")
    world.made(rows(30), "rehearsal", sandbox=True)

    assert world.look(rows(30)).again.rows == 0
    assert world.look(rows(30), "second", sandbox=True).again.rows == 30


def test_repeats_are_found_across_chunks_and_a_key_that_comes_later_is_in_the_manifest(world):
    world.made(rows(2_500))

    renamed = [*rows(1_200, key="new"), *rows(1_300, first=1_200)]
    again = world.look(renamed).again

    assert (again.rows, again.here, again.absent, again.matched) == (1_200, 1_200, 1_200, 1_300)


# -- adding and taking out -----------------------------------------------------------------------------------------


def progress(world):
    return world.ledger.reports.progress("spring")


def test_appended_rows_come_after_those_on_record_which_all_stay(world):
    world.made(rows(320))
    world.take(rows(20, first=320), append=True)

    listed = [result.key for result in world.ledger.reports.results("spring")]
    assert listed == [f"k{number}" for number in range(340)]
    assert progress(world).jobs == {JobState.DONE: 320, JobState.READY: 20}
    assert (progress(world).images_stored, progress(world).images_total) == (320, 340)
    assert (progress(world).rows_out, progress(world).images_aside) == (0, 0)


def test_appending_the_same_rows_twice_adds_them_once_and_a_mended_row_is_good(world):
    world.made(rows(3))
    twice = [*rows(2, first=3), "k9,"]
    world.take(twice, append=True, skip_bad=True)
    world.take(twice, append=True, skip_bad=True)
    world.take(["k1,lamp 1", "k9,mended"], append=True)

    assert [result.key for result in world.ledger.reports.results("spring")] == ["k0", "k1", "k2", "k3", "k4", "k9"]
    assert JobState.INVALID not in progress(world).jobs


@pytest.mark.parametrize(
    ("appended", "lines"),
    [
        (["d,vase,d1"], ["a1", "a2", "a3", "b1", "b2", "d1"]),
        (["a,lamp,a1", "d,vase,d1"], ["a1", "a2", "a3", "b1", "b2", "d1"]),
        (["b,desk,b1", "b,,b2", "b,,b9"], ["a1", "a2", "a3", "b1", "b2", "b9"]),
        (["b,,b7"], ["a1", "a2", "a3", "b1", "b2", "b7"]),
        (["a,lamp,a1", "a,,a2 new", "a,,a3"], ["a1", "a2 new", "a3", "b1", "b2"]),
        (["a,lamp,a0", "a,,a3"], ["a0", "a2", "a3", "b1", "b2"]),
    ],
    ids=[
        "another product",
        "a product again",
        "with its lines",
        "only a further line",
        "with changed lines",
        "some of its lines",
    ],
)
def test_further_lines_of_products_stay_where_products_are_appended(world, appended, lines):
    head = {"head": "key,prompt,picture", "skip_empty": "prompt"}
    world.made(["a,lamp,a1", "a,,a2", "a,,a3", "b,desk,b1", "b,,b2"], **head)

    for _ in range(2):
        world.take(appended, append=True, **head)
        told = [result.carried["picture"] for result in world.ledger.reports.results("spring")]
        # A product that comes again has its newest columns, at its place; what is new stands behind.
        assert sorted(told) == lines


CATALOG_HEAD = "key,prompt,sku,colour,price,picture"
CATALOG = ["a,lamp,L1,white,10,a1", "a,,L2,black,10,a2", "a,,L3,green,12,a3", "b,desk,D1,oak,90,b1"]


@pytest.mark.parametrize(
    ("appended", "after"),
    [
        (["a,lamp,L1,10", "a,,L3,9", "a,,L2,8"], ["L1 white 10", "L2 black 8", "L3 green 9"]),
        (["a,lamp,L1,10", "a,,L3,57"], ["L1 white 10", "L2 black 10", "L3 green 57"]),
        (["a,lamp,L1,10", "a,,L2,11", "a,,L9,12"], ["L1 white 10", "L2 black 11", "L3 green 12", "L9 None 12"]),
    ],
    ids=["in another order", "some of them", "one changed and one new"],
)
def test_lines_of_a_file_with_fewer_columns_are_known_by_their_numbers(world, appended, after):
    world.made([*CATALOG, "b,,D2,ash,95,b2", "b,,D3,elm,95,b3"], head=CATALOG_HEAD, skip_empty="prompt")

    for _ in range(2):
        world.take(appended, append=True, head="key,prompt,sku,price", skip_empty="prompt")
        lines = [each.carried for each in results(world) if each.key == "a"]
        assert [f"{each['sku']} {each.get('colour')} {each['price']}" for each in lines] == after
        assert [each.get("picture") for each in lines][:3] == ["a1", "a2", "a3"]


def test_a_new_line_takes_no_other_lines_place_however_many_come(world):
    head = {"head": CATALOG_HEAD, "skip_empty": "prompt"}
    world.made(["a,lamp,L1,white,10,a1", "a,,L2,black,10,a2", *CATALOG[3:]], **head)

    for _ in range(2):
        world.take(["a,lamp,L1,white,10,a1", "a,,L9,red,12,a9"], append=True, **head)
        assert [each.carried["sku"] for each in results(world)] == ["L1", "L2", "D1", "L9"]


@pytest.mark.parametrize(
    ("appended", "after"),
    [
        (["a,lamp,L1,white,10,a1", "a,,L3,green,13,a3"], ["L1 10", "L2 10", "L3 13", "D1 90"]),
        (["a,lamp,L1,white,11,a1", "a,,L2,black,12,a2"], ["L1 11", "L2 12", "L3 12", "D1 90"]),
        (["a,lamp,L1,white,10,a1", "a,,L9,red,12,a9"], ["L1 10", "L2 10", "L3 12", "D1 90", "L9 12"]),
        (["a,,L1,white,10,a1"], ["L1 10", "L2 10", "L3 12", "D1 90"]),
        (["a,,L3,green,13,a3"], ["L1 10", "L2 10", "L3 13", "D1 90"]),
        (["b,,D1,oak,95,b1"], ["L1 10", "L2 10", "L3 12", "D1 90"]),
        (["b,,D2,ash,90,b2"], ["L1 10", "L2 10", "L3 12", "D1 90", "D2 90"]),
    ],
    ids=[
        "one of its lines, changed",
        "one that has another's price now",
        "a new line",
        "the product without its prompt",
        "one of its lines alone",
        "a product of one line without its prompt",
        "a first further line",
    ],
)
def test_a_changed_line_of_a_product_takes_its_own_place_and_a_new_one_stands_behind(world, appended, after):
    head = {"head": CATALOG_HEAD, "skip_empty": "prompt"}
    world.made(CATALOG, **head)

    for _ in range(2):
        world.take([*appended, "z,bowl,Z1,blue,5,z1"], append=True, **head)
        told = [f"{each.carried['sku']} {each.carried['price']}" for each in results(world)]
        assert [each for each in told if each != "Z1 5"] == after


def told_lines(world):
    return [(each.key, each.carried["picture"], len(each.images)) for each in world.ledger.reports.results("spring")]


@pytest.mark.parametrize("append", [True, False])
def test_a_bad_row_of_a_product_with_an_image_leaves_it_as_it_was(world, append):
    head = {"head": "key,prompt,picture", "skip_bad": True}
    before = ["a,lamp,a1", "b,desk,b1", "c,vase,c1"]
    world.made(before, **head)

    world.take(["a,lamp,a1", "b,desk,x,b1", "c,vase,c2", "d,,d1"], append=append, **head)

    assert told_lines(world)[:3] == [("a", "a1", 1), ("b", "b1", 1), ("c", "c2", 1)]
    assert [each.kept for each in world.ledger.reports.results("spring")][:3] == [False, True, False]
    assert [each.key for each in world.ledger.reports.results("spring")][3:] == ["d"], (
        "it has none, and is listed as bad"
    )

    world.take(before, **head)
    assert told_lines(world) == [("a", "a1", 1), ("b", "b1", 1), ("c", "c1", 1)]
    assert not any(each.kept for each in world.ledger.reports.results("spring"))


@pytest.mark.parametrize("append", [True, False])
def test_a_product_that_comes_as_a_bad_row_is_not_told_as_taken_out(world, append):
    world.made(["a,lamp", "b,desk", "c,vase"])

    again = world.look(["b,desk,x"], append=append).again

    assert (again.absent, again.absent_with_images) == (2, 2)


def test_an_appended_file_with_fewer_columns_leaves_the_others_as_they_are(world):
    head = {"head": "key,prompt,picture,price", "skip_empty": "prompt", "skip_bad": True}
    world.made(["a,lamp,a1,10", "a,,a2,11", "b,desk,b1,20", "b,,b2,21", "c,,c1,30", "d,,d1"], **head)

    for _ in range(2):
        world.take(
            ["a,lamp,5", "a,,6", "c,vase,7", "d,bowl,8"], head="key,prompt,price", skip_empty="prompt", append=True
        )

    told = [(each.key, each.carried["price"], each.carried.get("picture")) for each in results(world)]
    assert told == [
        ("a", "5", "a1"),
        ("a", "6", "a2"),
        ("b", "20", "b1"),
        ("b", "21", "b2"),
        ("c", "7", "c1"),
        ("d", "8", None),  # what stood where in its line was not known
    ]


def test_further_lines_alone_are_appended_and_are_no_manifest_by_themselves(world):
    head = {"head": "key,prompt,sku,price", "skip_empty": "prompt"}
    world.made(["a,lamp,L1,10", "a,,L2,11", "b,desk,D1,90", "b,,D2,91"], **head)

    def why(**options):
        seen = world.look(["a,,L2,12"], **head, **options)
        return seen.refuse_reasons(skip_bad=False, budget=None, partial=False, changed="error")

    assert why()[0].endswith("no row to make: 1 skipped, 0 bad, of 1.")
    assert why(append=True) == []
    world.take(["a,,L2,12"], append=True, **head)
    assert [f"{each.carried['sku']} {each.carried['price']}" for each in results(world)] == [
        "L1 10",
        "L2 12",
        "D1 90",
        "D2 91",
    ]


@pytest.mark.parametrize(
    ("head", "delta"),
    [
        ("key,prompt,sku,price", ["a,,A3,3.75", "a,lamp,A1,1.75", "a,,A2,2.75"]),
        ("key,prompt,colour,price", ["a,,red,3.75", "a,lamp,white,1.75", "a,,black,2.75"]),
        ("key,prompt,sku,colour,price,stock", ["a,,A3,red,3.75,30", "a,lamp,A1,white,1.75,10", "a,,A2,black,2.75,20"]),
    ],
)
def test_lines_whose_prices_have_all_changed_are_known_though_no_two_prices_are_the_same(world, head, delta):
    lines = ["a,lamp,A1,white,1.50,1", "a,,A2,black,2.50,2", "a,,A3,red,3.50,3"]
    others = ["b,desk,B1,oak,4.50,4", "b,,B2,ash,5.50,5", "b,,B3,elm,6.50,6"]
    world.made([*lines, *others], head="key,prompt,sku,colour,price,stock", skip_empty="prompt")

    world.take(delta, append=True, head=head, skip_empty="prompt")

    told = [f"{each.carried['sku']} {each.carried['colour']} {each.carried['price']}" for each in results(world)]
    assert told[:3] == ["A1 white 1.75", "A2 black 2.75", "A3 red 3.75"]
    assert told[3:] == ["B1 oak 4.50", "B2 ash 5.50", "B3 elm 6.50"]


def results(world):
    return world.ledger.reports.results("spring")


def test_a_bad_row_that_repeats_a_products_key_takes_nothing_from_it(world):
    head = {"head": "key,prompt,picture", "skip_bad": True}
    world.made(["a,lamp,a1", "b,desk,b1"], **head)

    world.take(["a,lamp,a1", "b,desk,b2", "b,desk,b3"], **head)

    assert told_lines(world) == [("a", "a1", 1), ("b", "b2", 1), ("b", "b3", 0)]


def test_a_product_that_was_left_out_for_want_of_a_title_is_made_when_it_has_one(world):
    head = {"head": "key,prompt,picture", "skip_empty": "prompt"}
    world.made(["a,lamp,a1", "b,,b1", "b,,b2"], **head)

    world.take(["b,desk,b1"], append=True, **head)

    assert [(each.key, each.carried["picture"]) for each in world.ledger.reports.results("spring")] == [
        ("a", "a1"),
        ("b", "b1"),
        ("b", "b2"),
    ]


@pytest.mark.parametrize("price", ["10", "11"])
def test_a_line_that_becomes_its_products_own_takes_no_place_of_one_that_comes_too(world, price):
    head = {"head": "key,prompt,sku,colour,price", "skip_empty": "prompt"}
    world.made(["a,lamp,L1,white,10", "b,,D1,oak,10", "b,,D2,ash,20"], **head)

    world.take(["b,desk,D2,ash,20", f"b,,D1,oak,{price}"], append=True, **head)

    told = sorted(f"{each.carried['sku']} {each.carried['price']}" for each in results(world))
    assert told == [f"D1 {price}", "D2 20", "L1 10"]


def test_only_the_new_rows_take_the_others_out_which_stay_counted_as_done(world):
    world.made(rows(320))
    world.take(rows(20, first=320))
    seen = progress(world)

    assert seen.jobs == {JobState.DONE: 320, JobState.READY: 20}
    assert (seen.images_stored, seen.images_total, seen.images_aside) == (320, 340, 0)
    assert (seen.rows_out, seen.images_out, seen.bytes_stored) == (320, 320, 320 * 9)
    assert [result.key for result in world.ledger.reports.results("spring")] == [
        f"k{number}" for number in range(320, 340)
    ]

    finish(world.ledger, "spring")
    assert progress(world).jobs == {JobState.DONE: 340}


def test_rows_taken_out_without_images_are_nobodys_and_come_back_with_their_manifest(world):
    world.take(rows(10))
    finish(world.ledger, "spring", most=4)
    world.take(rows(1, first=9))

    assert progress(world).jobs == {JobState.DONE: 4, JobState.READY: 1}
    assert progress(world).images_total == 5

    world.take(rows(10))
    assert progress(world).jobs == {JobState.DONE: 4, JobState.READY: 6}
    assert (progress(world).rows_out, progress(world).images_total) == (0, 10)


# -- at the terminal -----------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with a ledger of its own: spring has thirty rows, all made; `m.csv` is to be written."""
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key")
    with_ledger = open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")
    with_ledger.accounts.sync([MAIN])
    World(tmp_path, with_ledger).made(rows(30))
    with_ledger.close()
    return tmp_path


def stored_in(folder, shop):
    """The batch's destination is a folder that is there."""
    folder.mkdir(exist_ok=True)
    ledger = open_ledger(f"sqlite:///{shop / 'lightfast.db'}")
    with contextlib.closing(ledger), ledger._database.writing() as tx:
        tx.execute(update(batches).values(dest=str(folder)))


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["lightfast", *words])
    done = CliRunner().invoke(app, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def write(folder, lines, name="m.csv", head="key,prompt"):
    (folder / name).write_text("\n".join([head, *lines]) + "\n")


def test_a_renamed_export_may_take_the_place_of_the_one_before_or_be_added_to_it(shop, monkeypatch):
    write(shop, [*rows(28), *rows(3, prompt="chair", key="c")])

    page = call(monkeypatch, "plan", "m.csv", "--to", "out").stdout
    told = json.loads(call(monkeypatch, "plan", "m.csv", "--to", "out", "--json").stdout)["again"]["instead"]

    assert "there they cost nothing; its other 2 rows: listed no more if not in this file:" in page
    assert "there they cost nothing; its other 2 rows stay:" in page
    newest, added = (shlex.split(each) for each in told[:2])
    assert newest == ["lightfast", "run", "m.csv", "--json", "--batch", "spring", "--changed", "keep"]
    assert added == ["lightfast", "run", "m.csv", "--json", "--batch", "spring", "--append", "--changed", "keep"]


def test_plan_tells_where_the_images_are_and_a_command_that_costs_nothing(shop, monkeypatch):
    write(shop, [*rows(12), *rows(3, prompt="chair", key="c")])

    page = call(monkeypatch, "plan", "m.csv", "--to", "out").stdout
    told = json.loads(call(monkeypatch, "plan", "m.csv", "--to", "out", "--json").stdout)["again"]

    assert "12 of 15 rows to be paid (up to $0.24) have a request that was made already" in page
    assert "12 in batch spring -> /d/spring" in page
    assert "--yes alone does not buy it, --buy-again does" in page
    assert told["elsewhere"] == [{"batch": "spring", "dest": "/d/spring", "rows": 12, "same_keys": 12}]
    assert (told["rows"], told["usd"], told["needs_buy_again"]) == (12, 0.24, True)
    assert shlex.split(told["instead"][1])[-2:] == ["--json", "--reuse"]
    instead = shlex.split(told["instead"][0])
    assert instead == ["lightfast", "run", "m.csv", "--json", "--batch", "spring", "--append", "--changed", "keep"]

    free = json.loads(call(monkeypatch, "plan", *instead[2:]).stdout)
    assert (free["rows"]["new"], free["images"], free["taken_out"]["rows"]) == (3, 3, 0)


def test_plan_sends_no_rows_into_a_batch_that_is_cancelled_and_has_its_images_copied(shop, monkeypatch):
    write(shop, [*rows(12), *rows(3, prompt="chair", key="c")])
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        ledger.batches.cancel("spring")

    told = json.loads(call(monkeypatch, "plan", "m.csv", "--to", "out", "--json").stdout)["again"]

    assert [shlex.split(each) for each in told["instead"]] == [
        ["lightfast", "run", "m.csv", "--to", "out", "--json", "--reuse"]
    ]


@pytest.mark.parametrize("words", [["--reuse", "m.csv"], ["m.csv", "--reuse", "link"], ["m.csv", "--reuse=copy"]])
def test_reuse_stands_alone_or_says_how(shop, monkeypatch, words):
    write(shop, [*rows(12), *rows(3, prompt="chair", key="c")])

    told = json.loads(call(monkeypatch, "plan", *words, "--to", "out", "--json").stdout)

    assert told["reused"] == {"rows": 12, "images": 12, "usd_not_spent": 0.24, "rows_given_back": 0}
    assert (told["images"], told["again"]["rows"], told["again"]["needs_buy_again"]) == (3, 0, False)
    page = call(monkeypatch, "plan", *words, "--to", "out").stdout
    assert f"12 images of 12 rows {'named' if 'link' in words else 'copied from'}" in page
    assert "up to $0.24 is not spent" in page


def test_reuse_has_two_ways(shop, monkeypatch):
    write(shop, rows(1))

    with pytest.raises(BadInput, match="expected nothing after it, copy or link"):
        call(monkeypatch, "plan", "m.csv", "--reuse=move")


def test_a_key_column_that_was_not_read_as_one_before_is_told_with_the_option_that_keeps_the_old_reading(
    shop, monkeypatch
):
    """Version 0.2.0 took a header "key " with a blank behind it for a column of the user's own."""
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        World(shop, ledger).made(["lamp", "vase", "desk"], "m", head="prompt")
    stored_in(shop / "out", shop)
    write(shop, ["a,lamp", "b,vase", "c,desk"], head="key ,prompt")

    page = " ".join(call(monkeypatch, "plan", "m.csv").stdout.split())
    (by_number, _) = json.loads(call(monkeypatch, "plan", "m.csv", "--json").stdout)["again"]["instead"]
    with pytest.raises(BadInput, match="3 of 3 rows to be paid were made already"):
        call(monkeypatch, "run", "m.csv", "--yes")

    assert "They were recorded by their number, from a file that was read without a key column" in page
    assert by_number == "lightfast run m.csv --json --map key="
    free = json.loads(call(monkeypatch, "plan", *shlex.split(by_number)[2:]).stdout)
    assert (free["rows"]["new"], free["rows"]["done"], free["images"]) == (0, 3, 0)


def test_yes_alone_does_not_buy_what_was_made_already(shop, monkeypatch):
    write(shop, rows(30))

    with pytest.raises(BadInput, match="--yes alone does not buy that: add --buy-again") as refused:
        call(monkeypatch, "run", "m.csv", "--to", "out", "--yes")

    assert "30 of 30 rows to be paid were made already" in str(refused.value)
    assert not (shop / "out").exists()


@pytest.mark.parametrize("quiet", ["--quiet", "--json"])
def test_the_warning_is_heard_where_the_plan_is_not_shown(shop, quiet):
    write(shop, rows(30))

    done = CliRunner().invoke(app, ["run", "m.csv", "--to", "out", "--yes", quiet])

    assert isinstance(done.exception, BadInput)
    assert "30 of 30 rows to be paid (up to $0.60) have a request that was made already" in done.stderr
    assert done.stdout == ""


def test_a_run_says_that_all_keys_are_new_before_it_asks(shop):
    stored_in(shop / "out", shop)
    write(shop, [f"0{row}" for row in rows(5)], "spring.csv")

    done = CliRunner().invoke(app, ["run", "spring.csv"])

    assert "5 of 5 rows to be paid were made already. --yes alone does not buy that" in str(done.exception)
    assert "30 rows on record are not in this manifest" in done.stderr
    assert "no row on record is in this manifest: all its keys are new" in done.stderr
    assert "5 in this batch, under keys that are not in this manifest. Has a spreadsheet rewritten them?" in done.stderr


def test_yes_alone_does_not_buy_the_half_whose_keys_a_spreadsheet_rewrote(shop, monkeypatch):
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        World(shop, ledger).made([*rows(15, key="001"), *rows(15, first=15, key="X")], "half")
    stored_in(shop / "out", shop)
    write(shop, [*rows(15, key="1"), *rows(15, first=15, key="X"), *rows(20, prompt="chair", key="C")], "half.csv")

    page = call(monkeypatch, "plan", "half.csv").stdout
    with pytest.raises(BadInput, match="15 of 35 rows to be paid were made already"):
        call(monkeypatch, "run", "half.csv", "--yes")

    told = " ".join(page.split())
    assert (
        '15 in this batch, under keys that are not in this manifest. Has a spreadsheet rewritten them? "0010" on'
        in told
    )
    assert 'record is "10" in this file' in told
    assert "--yes alone does not buy it, --buy-again does" in told
    assert "most of what would be paid" not in told


def test_a_file_of_the_new_rows_alone_is_told_what_it_takes_out(shop, monkeypatch):
    write(shop, rows(2, first=30), "spring.csv")

    page = call(monkeypatch, "plan", "spring.csv").stdout
    told = json.loads(call(monkeypatch, "plan", "spring.csv", "--json").stdout)
    kept = json.loads(call(monkeypatch, "plan", "spring.csv", "--append", "--json").stdout)

    assert "30 rows on record are not in this manifest, 30 of them with images" in page
    assert "lightfast run spring.csv --append" in page
    assert told["taken_out"] == {"rows": 30, "with_images": 30}
    assert (kept["taken_out"]["rows"], kept["not_in_manifest"], kept["again"]["instead"]) == (0, 30, [])


def test_append_needs_keys(shop, monkeypatch):
    write(shop, ["a lamp"], "spring.csv", head="prompt")

    done = CliRunner().invoke(app, ["plan", "spring.csv", "--append"])

    assert done.exit_code == 2
    assert "--append needs a key column" in done.stderr


def test_status_and_why_tell_of_rows_that_were_taken_out(shop, monkeypatch):
    with_ledger = open_ledger(f"sqlite:///{shop / 'lightfast.db'}")
    World(shop, with_ledger).take(rows(2, first=30))
    with_ledger.close()

    assert "30 of these rows are no longer in the manifest" in call(monkeypatch, "status", "spring").stdout
    document = json.loads(call(monkeypatch, "status", "spring", "--json").stdout)
    assert (document["rows"]["done"], document["images"]["aside"]) == (30, 0)
    assert document["taken_out"] == {"rows": 30, "images": 30}
    assert "k3: done  (no longer in the manifest" in call(monkeypatch, "why", "spring", "k3").stdout
    assert "30 of these rows are no longer in the manifest" in call(monkeypatch, "results", "spring").stderr


def test_keys_that_a_spreadsheet_rewrote_in_another_file_are_shown_with_what_costs_nothing(shop, monkeypatch):
    write(shop, [f"{at:05d},a cup {at}" for at in range(1, 13)], "zeros.csv")
    with contextlib.closing(open_ledger(f"sqlite:///{shop / 'lightfast.db'}")) as ledger:
        looked = World(shop, ledger)
        looked.made([f"{at:05d},a cup {at}" for at in range(1, 13)], "zeros")
    write(shop, [f"{at},a cup {at}" for at in range(1, 13)], "opened.csv")

    page = call(monkeypatch, "plan", "opened.csv", "--to", "out").stdout

    assert 'Has a spreadsheet rewritten the keys? "0000' in page
    assert "with the keys of batch zeros put back into the file" in page
    assert "lightfast run opened.csv --batch zeros" in page


def test_where_all_rows_are_bad_none_is_said_to_be_taken_out(shop, monkeypatch):
    write(shop, ["x,", "y,"], "spring.csv")

    page = call(monkeypatch, "plan", "spring.csv").stdout

    assert "2 bad" in page
    assert "taken out" not in page
    assert "--append" not in page

    write(shop, ["x,", "new,a good one"], "spring.csv")
    assert "30 rows on record are not in this manifest, or bad in it" in call(monkeypatch, "plan", "spring.csv").stdout


def test_changed_rows_that_are_kept_are_not_said_to_be_unchanged(shop, monkeypatch):
    write(shop, [f"{row} now" for row in rows(30)], "spring.csv")

    page = call(monkeypatch, "plan", "spring.csv", "--changed", "keep").stdout

    assert "30 changed" in page
    assert "changed rows are left as they are" in page
    assert "new or changed" not in page


# -- the question --------------------------------------------------------------------------------------------------


def ask(monkeypatch, answer, **changes):
    monkeypatch.setattr(consent, "is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{answer}\n"))
    asked = io.StringIO()
    monkeypatch.setattr(sys, "stderr", asked)
    values = {"yes": False, "sandbox": False, "command": "run", "again": "30 of 30 rows to be paid were made already"}
    consent.agree(600_000, **{**values, **changes})
    return asked.getvalue()


def test_at_a_terminal_the_question_says_that_it_is_bought_again(monkeypatch):
    asked = ask(monkeypatch, "y")

    assert asked == "30 of 30 rows to be paid were made already (--buy-again). Spend at most $0.60? [y/N] "
    with pytest.raises(BadInput, match="You did not agree"):
        ask(monkeypatch, "")
    with pytest.raises(BadInput, match="--buy-again"):
        ask(monkeypatch, "y", yes=True)


def test_the_rehearsal_asks_about_what_is_bought_again_as_the_run_will(monkeypatch):
    with pytest.raises(BadInput, match="--buy-again"):
        ask(monkeypatch, "y", yes=True, sandbox=True)
    assert "[y/N]" not in ask(monkeypatch, "", again="", sandbox=True)


def test_a_row_added_to_a_batch_brings_its_columns_and_its_file(shop, monkeypatch):
    write(shop, ["k30,lamp 30,red"], "more.csv", head="key,prompt,Colour")
    monkeypatch.setattr(register, "claim_destination", lambda *_, **__: None)
    stored_in(shop / "out", shop)
    words = ["submit", "more.csv", "--batch", "spring", "--append", "--yes"]
    monkeypatch.setattr("cli.commands.submit._demand_workers", lambda *_, **__: None)
    monkeypatch.setattr("cli.flow.going_on.wake", lambda *_: None)

    call(monkeypatch, *words)

    lines = call(monkeypatch, "results", "spring", "--columns", "key,prompt,Colour").stdout.splitlines()
    assert lines[0] == "key,prompt,Colour"
    assert (lines[1], lines[-1]) == ("k0,lamp 0,", "k30,lamp 30,red")
    assert "m.csv + more.csv" in call(monkeypatch, "status", "spring").stdout


def test_added_rows_are_asked_for_although_the_batchs_own_still_wait_with_money_agreed_to(shop, monkeypatch):
    with_ledger = open_ledger(f"sqlite:///{shop / 'lightfast.db'}")
    asked = [shelf.row(place) for place in range(30)]
    with_ledger.batches.record_manifest(
        shelf.new_batch("waits", dest=str(shop / "out"), agreed=600_000), asked, now=NOW
    )
    with_ledger.close()
    write(shop, rows(5, first=30), "more.csv")
    words = ["run", "more.csv", "--batch", "waits", "--append"]

    refused = CliRunner().invoke(app, words)

    assert "would spend at most $0.10, and there is no terminal" in str(refused.exception)
