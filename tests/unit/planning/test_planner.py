"""A manifest's row becomes a request, a route and a path, or says what is wrong with it."""

from __future__ import annotations

from itertools import product

import orjson
import pytest

from jobs.planning.duplicates import DuplicateRows, RepeatedHashes, hash64
from jobs.states import JobState
from providers.catalog.models import Catalog
from tests.support.planned_rows import plan, refused, table

# -- good rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "mapping", "says"),
    [
        ("size", {"size": "Size"}, '"size" is read by itself: leave this option out.'),
        ("sku", {"key": "SKU"}, "--map key=sku reads it."),
        ("size", {"Size": "size"}, "Perhaps --map size=size?"),
    ],
)
def test_a_name_that_differs_by_case_alone_is_told_with_what_is_right(tmp_path, head, mapping, says):
    assert says in refused(tmp_path, f"prompt,{head}\na,1024x1024\n", mapping=mapping)


def test_a_value_of_a_column_that_was_mapped_says_how_it_is_only_carried(tmp_path):
    (planned,) = plan(tmp_path, "prompt,Size\na,XL\n", mapping={"size": "Size"})

    assert "If this column is your own, leaving out --map size=Size only carries it" in planned.problems[0].legal


def test_a_plain_row_gets_defaults_the_cheapest_route_and_its_path(tmp_path):
    (planned,) = plan(tmp_path, "prompt,Price\na lamp,9\n")

    row = planned.row
    assert (row.state, row.position, row.line, row.key) == (JobState.READY, 0, 2, "1")
    assert (row.request.model, row.request.ratio, row.request.resolution, row.request.n) == (
        "gpt-image-2", "1:1", "1k", 1,
    )  # fmt: skip
    assert (row.provider, row.mode, row.pixels) == ("maxapi.dev", "official-cheap", (1024, 1024))
    assert row.price == planned.route.price + 3  # with what the six letters of its prompt cost at most
    assert row.path == "b/1/{index}.{ext}"
    assert orjson.loads(row.carried) == {"prompt": "a lamp", "Price": "9"}
    assert row.request_hash == row.request.hash()


def test_cells_win_over_options_and_options_over_defaults(tmp_path):
    rows = plan(
        tmp_path,
        table(
            {"prompt": "a", "ratio": "16:9", "n": "2.0", "size": "", "resolution": "4K"},
            {"prompt": "b", "ratio": "", "n": "", "size": "1024 x 1536", "resolution": ""},
            {"prompt": "c", "ratio": "", "n": "", "size": "", "resolution": ""},
        ),
        ratio="3:2",
        resolution="2k",
        n=3,
    )

    asked = [(p.row.request.ratio, p.row.request.resolution, p.row.request.size, p.row.request.n) for p in rows]
    assert asked == [("16:9", "4k", None, 2), (None, None, (1024, 1536), 3), ("3:2", "2k", None, 3)]


def test_carried_columns_route_and_price_are_no_part_of_the_request(tmp_path):
    (one,) = plan(tmp_path, "key,prompt,Price\na,x,1\n")
    (two,) = plan(tmp_path, "key,prompt,Price\na,x,2\n", configured={"apimaster"})

    assert one.row.request_hash == two.row.request_hash
    assert one.row.provider != two.row.provider


def test_the_chosen_order_of_providers_wins_over_the_price(tmp_path):
    (planned,) = plan(tmp_path, "prompt\na\n", providers=("apimaster", "maxapi.io"))

    assert (planned.row.provider, planned.row.price) == ("apimaster", None)


@pytest.mark.parametrize(
    "cell", ['["https://a.example/1.png", "http://b.example/2"]', "https://a.example/1.png | http://b.example/2"]
)
def test_references_are_a_list_or_separated_by_bars_and_leave_the_ratio_to_the_first(tmp_path, cell):
    (planned,) = plan(tmp_path, table({"prompt": "a", "image_urls": cell}))

    assert planned.row.request.references == ("https://a.example/1.png", "http://b.example/2")
    assert planned.row.request.ratio is None


def test_templates_take_any_column_defaults_and_braces(tmp_path):
    (planned,) = plan(
        tmp_path,
        table({"Handle": "h{1}", "Title": "Lamp", "Color": " ", "Shelf": "A 1"}),
        prompt="Photo of {Title}, {Color|grey} {{on white}}",
        mapping={"key": "Handle"},
        path="{Shelf}/{batch}-{key}/{Color|none}{index}.{ext}",
    )

    assert planned.row.request.prompt == "Photo of Lamp, grey {on white}"
    assert planned.row.path.format(index=0, ext="png") == "A 1/b-h{1}/none0.png"


def test_custom_id_is_the_key_of_jsonl(tmp_path):
    (planned,) = plan(tmp_path, '{"custom_id": "x-1", "prompt": "a", "n": 2}\n', name="m.jsonl")

    assert (planned.row.key, planned.row.request.n) == ("x-1", 2)
    assert orjson.loads(planned.row.carried) == {"custom_id": "x-1", "prompt": "a", "n": 2}


def test_a_line_of_openais_batch_is_planned_by_its_body(tmp_path):
    body = {"model": "gpt-image-2", "prompt": "a lamp", "size": "1536x1024", "quality": "high", "user": "u"}
    line = orjson.dumps({"custom_id": "r", "method": "POST", "url": "/v1/images/generations", "body": body}).decode()

    (planned,) = plan(tmp_path, line, name="m.jsonl")

    assert (planned.row.key, planned.row.request.size, planned.row.request.quality) == ("r", (1536, 1024), "high")


def test_a_known_column_can_be_taken_from_another_or_switched_off(tmp_path):
    (planned,) = plan(tmp_path, table({"Text": "a", "size": "XL"}), mapping={"prompt": "Text", "size": ""})

    assert planned.row.request.prompt == "a"
    assert orjson.loads(planned.row.carried) == {"Text": "a", "size": "XL"}


def test_rows_left_out_on_the_users_word_need_nothing_else(tmp_path):
    (planned,) = plan(tmp_path, table({"key": "", "prompt": "", "Title": " ", "Price": "9"}), skip_empty="Title")

    assert (planned.row.state, planned.row.error_code, planned.row.request) == (JobState.SKIPPED, "empty_column", None)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("b;;3,", "the file ends in the middle of this line: 3 cells where the header has 4"),
        ("b", "the file ends in the middle of this line: 1 cell where the header has 4"),
        ("b;;3,\n", "3 cells where the header has 4"),
        ("b;;3;50;x\n", "5 cells where the header has 4; a cell that holds the delimiter must stand in quotes"),
        ('b;;"3;x\n', "is never closed"),
        ("b;;3,90;x", None),
        ("b;;3,90;x;;\n", None),
        ("60 products\n", None),
        ("Lamps;;\n", None),
    ],
    ids=[
        "the file ends in it",
        "the file ends in its first cell",
        "too short",
        "too long",
        "an open quote",
        "whole",
        "empty cells beyond the header",
        "a footer",
        "a title",
    ],
)
def test_a_line_that_cannot_be_read_is_a_bad_row_though_it_would_be_left_out(tmp_path, end, why):
    planned = plan(tmp_path, f"key;prompt;Price;Tag\na;lamp;1,50;x\n{end}", skip_empty="prompt")

    last = planned[1].row
    if why is None:
        assert (last.state, last.error_code) == (JobState.SKIPPED, "empty_column")
    else:
        assert (last.state, last.error_code) == (JobState.INVALID, "unreadable_row")
        assert why in str(planned[1].problems[0])


# -- bad rows ------------------------------------------------------------------------------------------------------

CATALOG = Catalog.load()
IO_ONLY = {"configured": frozenset({"maxapi.io"})}


@pytest.mark.parametrize(
    ("row", "options", "column", "value", "legal"),
    [
        ({"prompt": " "}, {}, "prompt", " ", "a prompt is needed"),
        ({"prompt": "a\0b"}, {}, "prompt", "a\0b", "no NUL"),
        ({"Title": ""}, {"prompt": "Photo of {Title}"}, "Title", "", "{Title|…}"),
        ({"prompt": "a", "key": ""}, {}, "key", "", "needed in every row"),
        ({"prompt": "a", "key": ".."}, {}, "key", "..", '".."'),
        ({"prompt": "a", "key": "a\0b"}, {}, "key", "a\0b", "no control characters"),
        ({"prompt": "a", "key": "a\nb"}, {}, "key", "a\nb", "no control characters"),
        ({"prompt": "a", "key": "ü" * 600}, {}, "key", "ü" * 600, "1,024 bytes"),
        ({"prompt": "a", "key": "k" * 300}, {}, "key", "k" * 300, "a disk takes 255"),
        ({"prompt": "a", "key": "k" * 200}, {"prefix": "p" * 850}, "key", "k" * 200, "S3 takes 1,024"),
        ({"prompt": "a", "key": ".lightfast"}, {"path": "{key}/{index}.{ext}"}, "key", ".lightfast", "Lightfast's own"),
        ({"prompt": "a", "T": "a\nb"}, {"path": "{T}/{index}.{ext}"}, "T", "a\nb", "no control character"),
        ({"prompt": "a", "T": ""}, {"path": "{T}/{index}.{ext}"}, "T", "", "--path needs it"),
        ({"prompt": "a", "model": "dalle-9"}, {}, "model", "dalle-9", "gpt-image-2 grok-imagine-lite"),
        ({"prompt": "a", "model": "XL 300"}, {}, "model", "XL 300", "--map model="),
        ({"prompt": "a", "provider": "acme"}, {}, "provider", "acme", "maxapi.io"),
        ({"prompt": "a", "ratio": "1:1", "resolution": "4k"}, IO_ONLY, "ratio", "1:1", "16:9 9:16 2:1 1:2 21:9 9:21"),
        ({"prompt": "a", "ratio": "1:1", "resolution": "4k"}, IO_ONLY, "ratio", "1:1", "set APIMASTER_API_KEY"),
        ({"prompt": "a", "ratio": "7:5"}, {}, "ratio", "7:5", "1:1 3:2 2:3"),
        ({"prompt": "a", "ratio": "3:1"}, {"providers": ("maxapi.io",)}, "ratio", "3:1", "leaves apimaster out"),
        (
            {"prompt": "a", "model": "grok-imagine-pro"},
            {"providers": ("apimaster",)},
            "model",
            "grok-imagine-pro",
            "apimaster does not make grok-imagine-pro; it makes gpt-image-2: --model gpt-image-2",
        ),
        ({"prompt": "a", "provider": "apimaster"}, IO_ONLY, "provider", "apimaster", "set APIMASTER_API_KEY"),
        ({"prompt": "a", "model": "grok-imagine-lite", "ratio": "1:1"}, {}, "ratio", "1:1", "takes no ratio"),
        ({"prompt": "a", "n": "0"}, {}, "n", "0", "whole number from 1 to 10"),
        ({"prompt": "a", "n": "11"}, {}, "n", "11", "whole number from 1 to 10"),
        ({"prompt": "a", "n": "two"}, {}, "n", "two", "whole number from 1 to 10"),
        ({"prompt": "a", "n": "2.5"}, {}, "n", "2.5", "whole number from 1 to 10"),
        ({"prompt": "a", "n": "-1"}, {}, "n", "-1", "whole number from 1 to 10"),
        ({"prompt": "a", "n": "2"}, {"path": "{key}.{ext}"}, "n", "2", "{index}"),
        ({"prompt": "a", "size": "XL"}, {}, "size", "XL", "--map size= only carries it"),
        ({"prompt": "a", "size": "1001x1001"}, {}, "size", "1001x1001", "multiples of 16"),
        ({"prompt": "a", "size": "1024x1024", "ratio": "16:9"}, {}, "size", "1024x1024", "either size, or ratio"),
        ({"prompt": "a", "options": "[1]"}, {}, "options", "[1]", "JSON object"),
        ({"prompt": "a", "options": '{"seed": 1}'}, {}, "options", "seed: 1", "apimaster takes official_fallback"),
        ({"prompt": "a", "quality": "best"}, {}, "quality", "best", "low medium high"),
        (
            {"prompt": "a", "image_urls": "|".join(f"https://a.example/{i}" for i in range(17))},
            {}, "image_urls", "17 references", "at most 16",
        ),
        ({"prompt": "a", "image_urls": "ftp://a.example/x"}, {}, "image_urls", "ftp://a.example/x", "http:// or https://"),
        ({"prompt": "a", "image_urls": "photo.png"}, {}, "image_urls", "photo.png", "http:// or https://"),
        ({"prompt": "a", "image_urls": "https:///x"}, {}, "image_urls", "https:///x", "http:// or https://"),
        ({"prompt": "a", "image_urls": '["https://a.b/x"'}, {}, "image_urls", '["https://a.b/x"', "JSON list"),
        ({"prompt": "a", "image_urls": "[1]"}, {}, "image_urls", "[1]", "each of them is text"),
    ],
)  # fmt: skip
def test_a_bad_row_names_line_column_value_and_what_is_legal(tmp_path, row, options, column, value, legal):
    _, planned = plan(
        tmp_path, table(dict.fromkeys(row, "") | {"prompt": "good", "key": "good"}, {"key": "k", **row}), **options
    )

    problem = next(each for each in planned.problems if each.column == column)
    assert (planned.row.state, planned.row.error_code) == (JobState.INVALID, "bad_row")
    assert (problem.line, problem.value) == (3, value)
    assert legal in problem.legal, problem.legal
    assert f"column {column}{': ' if value else ' is empty: '}" in planned.row.message
    assert "\0" not in planned.row.message + planned.row.key


def test_all_that_is_wrong_with_a_row_is_told_at_once(tmp_path):
    (planned,) = plan(tmp_path, table({"key": "..", "prompt": "", "n": "two", "size": "XL", "image_urls": "x"}))

    assert {problem.column for problem in planned.problems} == {"key", "prompt", "n", "size", "image_urls"}


def test_one_rows_text_decides_nothing_for_the_next(tmp_path):
    rows = plan(
        tmp_path,
        table(
            {"prompt": "x" * 40_000, "image_urls": "https://a.example/1"},
            {"prompt": "", "image_urls": "nonsense"},
            {"prompt": "good", "image_urls": "https://a.example/1"},
        ),
        configured={"maxapi.dev"},
    )

    assert [planned.row.state for planned in rows] == [JobState.INVALID, JobState.INVALID, JobState.READY]
    assert "32,000 characters" in rows[0].problems[0].legal


def test_a_ragged_row_is_bad(tmp_path):
    _, planned = plan(tmp_path, "prompt,a\nx,1\ny,1,2\n")

    assert (planned.row.state, planned.problems[0].line) == (JobState.INVALID, 3)
    assert "3 cells where the header has 2" in str(planned.problems[0])


# -- options that cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("Promt,a\nx,1\n", {}, ['no column "prompt"', 'Column "Promt" looks like "prompt"', "--map prompt=Promt"]),
        ("Title\nx\n", {"prompt": "{Titel}"}, ["--prompt {Titel}", 'Perhaps "Title"?']),
        ("Title\nx\n", {"prompt": "{Title"}, ["--prompt", "character 1", "no partner"]),
        ("prompt\nx\n", {"path": "{Shelf}/{index}.{ext}"}, ["--path {Shelf}", "Columns: prompt"]),
        ("prompt\nx\n", {"path": "/abs/{index}.{ext}"}, ["--path", "begins with a slash"]),
        ("prompt\nx\n", {"mapping": {"colour": "x"}}, ["--map colour=x", "no known column"]),
        ("prompt\nx\n", {"mapping": {"key": "Handel"}}, ["--map key=Handel", "no column"]),
        ("prompt\nx\n", {"skip_empty": "Titel"}, ["--skip-empty Titel"]),
        ("prompt\nx\n", {"providers": ("acme",)}, ["--provider acme: not known. Legal: maxapi.io"]),
        ("prompt\nx\n", {"providers": ("maxapi",)}, ["--provider maxapi: not known. Did you mean maxapi.io?"]),
        ("prompt\nx\n", {**IO_ONLY, "providers": ("api-master",)}, ["--provider api-master: not known. Legal:"]),
        ("prompt\nx\n", {**IO_ONLY, "providers": ("apimaster",)}, ["--provider apimaster", "APIMASTER_API_KEY"]),
        ("prompt\nx\n", {"configured": frozenset()}, ["No provider has an account", "MAXAPI_IO_API_KEY"]),
        ("prompt\nx\n", {"n": 11}, ["--n 11", "1 to 10"]),
    ],
)  # fmt: skip
def test_options_that_fit_no_row_are_refused(tmp_path, content, options, says):
    message = refused(tmp_path, content, **options)

    assert [part for part in says if part not in message] == [], message


def test_a_sparse_field_of_jsonl_needs_a_default_only(tmp_path):
    (planned,) = plan(tmp_path, '{"Title": "Lamp"}\n', name="m.jsonl", prompt="{Title} in {Color|grey}")

    assert planned.row.request.prompt == "Lamp in grey"


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("Handle,prompt\n,x\n", {"mapping": {"key": "Handle"}}, "column Handle is empty: a key is needed"),
        ("prompt\nx\n", {"ratio": "7:5"}, '--ratio: "7:5". '),
        ("prompt\nx\n", {"resolution": "4k", "providers": ("maxapi.io",)}, '--resolution 4k: "1:1". '),
        ("prompt,ratio\nx,7:5\n", {"resolution": "4k"}, 'line 2, key 1, column ratio: "7:5". '),
    ],
)
def test_a_bad_value_is_told_where_the_user_wrote_it(tmp_path, content, options, says):
    (planned,) = plan(tmp_path, content, **options)

    assert says in str(planned.problems[0])


def test_the_usual_model_that_the_named_provider_does_not_make_is_told_once_with_the_option_to_give(
    tmp_path, monkeypatch
):
    without = [offer for offer in CATALOG.offers() if (offer.provider, offer.model) != ("maxapi.io", "gpt-image-2")]
    monkeypatch.setattr(Catalog, "_of_model", lambda _, name: [offer for offer in without if offer.model == name])

    (planned,) = plan(tmp_path, "prompt\na\n", providers=("maxapi.io",))

    assert str(planned.problems[0]).startswith('--model: "gpt-image-2". maxapi.io does not make gpt-image-2;')


# -- rows with the same key or path ----------------------------------------------------------------------------


def test_buckets_find_exactly_what_came_twice():
    repeats = RepeatedHashes()
    texts = [f"{a}{b}" for a, b in product("abcdef", range(500))]

    for text in [*texts, "a7", "f0", "a7"]:
        repeats.add(text)

    assert repeats.found() == {hash64("a7"), hash64("f0")}


def test_a_shared_hash_alone_makes_no_twin(tmp_path):
    one, two, again = plan(tmp_path, "key,prompt\na,x\nb,y\na,z\n")
    duplicates = DuplicateRows(keys=frozenset({hash64("a"), hash64("b")}))

    judged = [duplicates.judge(planned, "line") for planned in (one, two, again)]

    assert [planned.row.state for planned in judged] == [JobState.READY, JobState.READY, JobState.INVALID]
    (problem,) = judged[2].problems
    assert str(problem).startswith('line 4, key a, column key: "a". line 2 has the same key; each row needs its own; ')
    assert "--map 'key={COLUMN}-{COLUMN}'" in problem.legal


# -- columns that nobody can name ----------------------------------------------------------------------------------


def test_columns_that_share_a_name_matter_only_where_they_are_used(tmp_path):
    text = "key,prompt,Tag,Tag,size,size\na,A lamp,x,y,XL,L\n"

    (planned,) = plan(tmp_path, text, mapping={"size": ""})

    assert orjson.loads(planned.row.carried) == {
        "key": "a", "prompt": "A lamp", "Tag": "x", "Tag_2": "y", "size": "XL", "size_2": "L",
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{}, {"mapping": {"size": "Tag"}}, {"mapping": {"size": ""}, "path": "{Tag}/{index}.{ext}"},
     {"mapping": {"size": ""}, "prompt": "Photo of {Tag}"}, {"mapping": {"size": ""}, "skip_empty": "Tag"}],
)  # fmt: skip
def test_a_column_that_is_used_has_a_name_of_its_own(tmp_path, options):
    text = "key,prompt,Tag,Tag,size,size\na,A lamp,x,y,1x1,2x2\n"

    told = refused(tmp_path, text, **options)

    name = "Tag" if options.get("mapping", {"size": ""}).get("size", "") == "Tag" or len(options) > 1 else "size"
    assert f'line 1: 2 columns are named "{name}"' in told
    assert f'"{name}_2" here' in told


def test_the_second_column_of_a_name_can_be_taken(tmp_path):
    (planned,) = plan(tmp_path, "key,Tag,Tag\na,x,A lamp\n", mapping={"prompt": "Tag_2"})

    assert planned.row.request.prompt == "A lamp"


def test_what_nobody_sees_of_a_name_does_not_matter_in_a_template(tmp_path):
    (planned,) = plan(
        tmp_path, "key,Image\u00a0Alt\na,oak\n", prompt="Photo of { Image Alt }", path="{key }/{index}.{ext}"
    )

    assert planned.row.request.prompt == "Photo of oak"


def test_a_title_above_the_header_is_told_with_the_line_of_the_header(tmp_path):
    text = "PRICE LIST;;;\n;;;\nCODE;NAME;SIZE;PRICE\n1;oak;XL;9\n"

    assert "Line 3 looks more like a header than line 1: --header-row 3" in refused(tmp_path, text)
    assert "--header-row 3" in refused(tmp_path, text, mapping={"key": "Code"}, prompt="{Name}")
