"""Money, times, durations and sizes as they are written everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from jobs.formatting import (
    count,
    day_and_minute,
    day_and_time,
    dollars,
    duration,
    in_words,
    listed,
    money,
    money_column,
    size,
    time_of_day,
    unit_price,
    usd,
    utc,
    weekday_and_minute,
)
from jobs.results.rows import Type
from jobs.results.writers import as_text

AMOUNTS = st.integers(min_value=-(10**15), max_value=10**15)
THAT_DAY = datetime(2026, 5, 14, 2, 14, 7, tzinfo=UTC).timestamp()


def micros_of(text):
    return int(Decimal(text.replace("$", "").replace(",", "")) * 1_000_000)


@given(AMOUNTS)
def test_an_amount_reads_back_as_what_is_on_record_wherever_it_stands(micros):
    assert micros_of(money(micros)) == micros
    assert micros_of(dollars(micros)) == micros
    assert micros_of(unit_price(micros)) == micros
    assert round(usd(micros) * 1_000_000) == micros


@given(AMOUNTS)
def test_people_read_one_figure_in_one_way_with_two_four_or_six_digits(micros):
    text = money(micros)

    assert len(text.partition(".")[2]) in (2, 4, 6)
    assert text.lstrip("-").startswith("$")
    assert money_column([micros]) == [text.replace("$", "")]
    assert as_text(Type.MONEY, micros) == dollars(micros)


@given(st.lists(AMOUNTS | st.none(), min_size=1))
def test_a_column_of_money_has_one_precision_and_adds_up(amounts):
    column = money_column(amounts)

    assert len({len(text.partition(".")[2]) for text in column if text != "not known"}) <= 1
    known = [text for text in column if text != "not known"]
    assert sum(map(micros_of, known)) == sum(micros for micros in amounts if micros is not None)
    assert len(known) == sum(micros is not None for micros in amounts)


def test_money_for_people():
    amounts = [0, 1_200, 44_000, 1_230_000, 1_234_600, 1_234_567, 480_040_000, 1_234_567_890_000, -5_000_000]
    assert [money(micros) for micros in amounts] == [
        "$0.00", "$0.0012", "$0.0440", "$1.23", "$1.2346", "$1.234567", "$480.04", "$1,234,567.89", "-$5.00",
    ]  # fmt: skip
    assert money_column([482_000_000, 30_500, None]) == ["482.0000", "0.0305", "not known"]
    assert [unit_price(micros) for micros in (40_000, 6_723, None)] == ["0.0400", "0.006723", "not known"]
    assert [dollars(micros) for micros in (40_000, 1_234_500, 12_000_000)] == ["0.04", "1.2345", "12.00"]
    assert usd(None) is None


@given(st.floats(min_value=-(10**18), max_value=10**18))
def test_a_time_is_written_whatever_a_wrong_clock_has_put_on_record(at):
    known = min(max(at, 0.0), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())

    assert datetime.fromisoformat(utc(at)).timestamp() == int(known)
    assert day_and_time(at) == utc(at).replace("T", " ")
    assert day_and_minute(at) == f"{day_and_time(at)[:-4]}Z"
    assert time_of_day(at) == day_and_time(at).partition(" ")[2]
    assert weekday_and_minute(at).endswith(day_and_minute(at))


def test_times_for_people():
    assert utc(THAT_DAY) == "2026-05-14T02:14:07Z"
    assert weekday_and_minute(THAT_DAY) == "Thu 2026-05-14 02:14Z"


@given(st.floats(min_value=-10, max_value=10**9), st.floats(min_value=0, max_value=10**6))
def test_a_longer_duration_is_never_written_as_a_shorter_one(seconds, more):
    assert in_seconds(duration(seconds)) <= in_seconds(duration(seconds + more))
    assert abs(in_seconds(duration(seconds)) - max(0, seconds)) <= max(0.5, seconds / 10)


def in_seconds(text):
    units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    words = text.split()
    return sum(int(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))


def test_durations_sizes_and_counts_for_people():
    assert [duration(seconds) for seconds in (12, 2_400, 76_320, 594_000)] == [
        "12 s", "40 min", "21 h 12 min", "6 d 21 h",
    ]  # fmt: skip
    assert [size(number) for number in (900, 850_000, 1_400_000, 31_400_000_000, 2_000_000_000_000_000)] == [
        "900 B", "850 kB", "1.4 MB", "31.4 GB", "2,000.0 TB",
    ]  # fmt: skip
    assert [count(number, "image") for number in (1, 2, 11_951)] == ["1 image", "2 images", "11,951 images"]
    assert listed({"moderation": 31, "reference_unreachable": 5, "lost": 0}) == "31 moderation, 5 reference_unreachable"


class ServerDisconnectedError(Exception):
    """As a library names one."""


def test_errors_are_told_without_names_of_classes_unless_nothing_else_is_there():
    missing = FileNotFoundError(2, "No such file or directory", "keys.txt")

    assert in_words(ServerDisconnectedError()) == "server disconnected"
    assert in_words(ServerDisconnectedError("the server\nhung up")) == "the server hung up"
    assert in_words(missing) == "No such file or directory: keys.txt"
    assert in_words(KeyError("width")) == "key: 'width'"
