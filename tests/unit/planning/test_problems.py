"""The same thing wrong in many rows is told once, with its count and its first lines."""

from __future__ import annotations

from jobs.planning.problems import Problems, RowProblem
from tests.support.planned_rows import plan, table


def causes(tmp_path, content, **options):
    problems = Problems()
    for planned in plan(tmp_path, content, **options):
        problems.add(planned.problems)
    return problems.causes()


def test_a_key_column_that_is_empty_in_all_rows_is_one_line_that_says_what_helps(tmp_path):
    (cause,) = causes(tmp_path, table(*[{"key": "", "prompt": "a lamp"}] * 133))

    assert cause.rows == 133
    assert str(cause).startswith("line 2, key (none), column key is empty: a key is needed in every row")
    assert "--map key= numbers the rows" in str(cause)
    assert str(cause).endswith(" (and 132 more rows: line 3, line 4, line 5 …)")


def test_rows_that_differ_in_their_value_alone_are_one_line_with_some_of_the_values(tmp_path):
    (cause,) = causes(tmp_path, table(*[{"prompt": "a", "n": n} for n in ("two", "two", "three")]))

    assert 'column n: "two". a whole number from 1 to 10' in str(cause)
    assert str(cause).endswith(' (and 2 more rows: line 3, line 4 "three")')


def test_files_that_are_missing_are_one_line(tmp_path):
    names = ["photos/sofa.png", "photos/my lamp.png", "rug.png"]
    legal = "no such file: /home/me/{}. A link begins with https://"
    rows = [
        RowProblem(line=at, key="k", column="image_urls", value=name, legal=legal.format(name))
        for at, name in enumerate(names, 2)
    ]
    problems = Problems()

    for each in rows:
        problems.add([each])

    (cause,) = problems.causes()
    assert str(cause).endswith('(and 2 more rows: line 3 "photos/my lamp.png", line 4 "rug.png")')


def test_two_things_that_are_wrong_are_two_lines(tmp_path):
    rows = [{"prompt": "a", "n": "0"}, {"prompt": "", "n": "0"}, {"prompt": "", "n": "1"}]

    told = causes(tmp_path, table(*rows))

    assert [(cause.first.column, cause.rows) for cause in told] == [("n", 2), ("prompt", 2)]


def test_sizes_of_carpets_are_one_line_that_says_how_the_column_was_read_and_what_helps(tmp_path):
    sizes = ["160x230", "160 x 230 cm", "80x150", "200x300cm", "XL"]

    (cause,) = causes(tmp_path, table(*({"prompt": "a carpet", "size": size} for size in sizes)))

    assert cause.rows == 5
    assert (
        'column size: "160x230". size is read as pixels, such as 1536x1024. '
        "If this column is your own, --map size= only carries it (and 4 more rows: "
    ) in str(cause)
