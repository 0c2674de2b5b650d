"""What a manifest would buy twice or again, what it takes out of its batch, and what is free: told before money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from jobs import formatting
from jobs.command_lines import repeated
from jobs.formatting import option_words
from jobs.manifest.cells import shown
from jobs.states import BatchState

if TYPE_CHECKING:
    from jobs.planning.overlap import OtherBatch
    from worker.registration.preflight import Preflight

Line = tuple[str, str]  # text, style

#: Other batches that are named; all count.
_FEW = 5
_WIDTH = 13
#: What another batch is bound to, so that a command for it must not say otherwise.
_BOUND = ("--batch", "--to", "--path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A command that gets the images, or keeps the rows, without paying again."""

    why: str
    command: str


def lines(preflight: Preflight) -> Iterator[Line]:
    """All that is to be said; nothing where nothing is bought again and no row goes."""
    for name, told in (
        ("taken out", _taken_out(preflight)),
        ("keys", _keys(preflight)),
        ("own prompts", _own_prompts(preflight)),
        ("reused", _reused(preflight)),
        ("again", _again(preflight)),
        ("same", _same(preflight)),
    ):
        yield from ((f"{'' if at else name:{_WIDTH}}  {text}", "bold yellow") for at, text in enumerate(told))
    for way in ways(preflight):
        yield f"{'':{_WIDTH}}  {way.why}:", "yellow"
        yield f"{'':{_WIDTH}}    {way.command}", "yellow"


def _taken_out(preflight: Preflight) -> Iterator[str]:
    again = preflight.seen.again
    if not (again.absent and preflight.seen.good) or preflight.options.append:
        return
    images = f", {again.absent_with_images:,} of them with images" if again.absent_with_images else ""
    yield (
        f"{formatting.count(again.absent, 'row')} on record {'is' if again.absent == 1 else 'are'} not in this manifest"
        f"{', or bad in it' if preflight.seen.bad else ''}{images}: "
        "they are listed no more, and not bought; images stay where they are, and count as done"
    )
    if preflight.seen.new and not (again.matched or preflight.seen.bad):
        yield "no row on record is in this manifest: all its keys are new"


def _keys(preflight: Preflight) -> Iterator[str]:
    """What the rows on record are known by, where the manifest has none of their keys."""
    keys = preflight.seen.earlier_keys
    if keys is None or (preflight.options.append and not keys.column):
        return  # rows to be added have other keys
    again = preflight.seen.again
    there = (
        "by their number" if 0 < again.absent == again.absent_numbered else f"by {keys.column}" if keys.column else "as"
    )
    here = f"by {keys.column_now}" if keys.column_now else "as" if preflight.seen.has_key else "by their number"
    yield f"this batch knows its rows {there} {_quoted(keys.on_record)}; here they are known {here} {_quoted(keys.now)}"
    if again.needs_buy_again and again.renumbered > again.rows:
        yield (
            "these look like the same keys, as a spreadsheet rewrites them: put the old ones back, and the rows are "
            "known again; --yes alone does not buy them, --buy-again does"
        )


def _quoted(keys: tuple[str, ...]) -> str:
    return ", ".join(map(shown, keys))


def _own_prompts(preflight: Preflight) -> Iterator[str]:
    """Where changed rows are left as they are nothing is overruled; where they are refused, the reason says it."""
    if preflight.seen.own_prompts and preflight.options.changed == "redo":
        rows, has = formatting.count(preflight.seen.changed, "row"), "has" if preflight.seen.changed == 1 else "have"
        yield f"{rows} {has} changed; {preflight.seen.overruled}"


def _reused(preflight: Preflight) -> Iterator[str]:
    again = preflight.seen.again
    if back := preflight.seen.given_back:
        asks = f"{formatting.count(back, 'changed row')} ask{'s' if back == 1 else ''}"
        yield f"{asks} for what was asked before: the images of then are copied, and nothing is paid"
    if again.reused:
        how = "named where they are" if preflight.options.reuse == "link" else "copied from where they are"
        images, rows = formatting.count(again.reused_images, "image"), formatting.count(again.reused, "row")
        yield f"{images} of {rows} {how}; up to {formatting.money(again.reused_money)} is not spent"
    elif preflight.options.reuse:
        yield "no row: no image of the same request, stored or being made, is on record"


def _again(preflight: Preflight) -> Iterator[str]:
    again = preflight.seen.again
    if not again.rows:
        return
    cost = f" (up to {formatting.money(again.money)})" if again.money else ""
    yield (
        f"{again.rows:,} of {formatting.count(again.to_pay, 'row')} to be paid{cost} "
        f"{'has' if again.rows == 1 else 'have'} a request that was made already:"
    )
    if again.here:
        yield f"  {again.here:,} in this batch, under keys that are not in this manifest{_rewritten(preflight)}"
    for place in again.places[:_FEW]:
        yield f"  {min(place.rows, again.rows):,} in batch {_named(preflight, place)}{_rewritten_there(place)}"
    if len(again.places) > _FEW:
        yield f"  … in {len(again.places):,} batches in all"
    if again.not_takeable:
        rows = formatting.count(again.not_takeable, "row")
        yield f"  for {rows} there is nothing to reuse: made anew since with another prompt, or some images are missing"
        yield "--yes alone does not buy what was to be reused, --buy-again does"
    elif again.needs_buy_again:
        most = "This is most of what would be paid for: " if again.are_most else ""
        yield f"{most}--yes alone does not buy it, --buy-again does"


def _same(preflight: Preflight) -> Iterator[str]:
    """Rows under different keys that come to one request."""
    same = preflight.seen.same
    if not same.rows:
        return
    cost = f" (up to {formatting.money(same.money)})" if same.money else ""
    more = " …" if same.most > len(same.lines) else ""
    lines = f"{preflight.seen.unit}s {', '.join(f'{line:,}' for line in same.lines)}{more}"
    yield (
        f"{same.rows:,} of {formatting.count(preflight.seen.again.to_pay, 'row')} to be paid{cost} "
        f"{'asks' if same.rows == 1 else 'ask'} for exactly what another row asks for; "
        f'{same.most:,} say "{formatting.shorten(same.prompt, 100)}": {lines}'
    )
    yield "  If the pictures should differ, --prompt needs a column that does; for several of one request there is n"


def _rewritten(preflight: Preflight) -> str:
    """Spreadsheets do that: leading zeros go, and what looks like a date becomes one."""
    again = preflight.seen.again
    if not again.example and (again.matched or preflight.seen.bad or not again.absent):
        return ""
    if preflight.seen.earlier_keys and preflight.seen.earlier_keys.column:
        return f". They were recorded by {preflight.seen.earlier_keys.column}, under which they cost nothing"
    if preflight.seen.has_key and again.were_numbered:
        return ". They were recorded by their number, from a file that was read without a key column"
    pair = '"{}" on record is "{}" in this file. '.format(*again.example) if again.example else ""
    return f". Has a spreadsheet rewritten them? {pair}Under the old keys they cost nothing"


def _rewritten_there(place: OtherBatch) -> str:
    if place.rewritten is None or 2 * place.same_keys > place.rows:
        return ""
    there, here = place.rewritten
    return f'. Has a spreadsheet rewritten the keys? "{there}" there is "{here}" in this file'


def _named(preflight: Preflight, place: OtherBatch) -> str:
    name, dest = _batch(preflight, place)
    return f"{name} -> {dest}"


def _takes_rows(preflight: Preflight, place: OtherBatch) -> bool:
    """Whether the batch is not cancelled. Of one that is, `--reuse` copies the images into another."""
    known = preflight.ledger.batches.all() if preflight.ledger else []
    return all(each.state is not BatchState.CANCELLED for each in known if each.id == place.batch_id)


def _batch(preflight: Preflight, place: OtherBatch) -> tuple[str, str]:
    known = preflight.ledger.batches.all() if preflight.ledger else []
    return next(((each.name, each.dest) for each in known if each.id == place.batch_id), ("", ""))


# -- what costs nothing --------------------------------------------------------------------------------------------


def ways(preflight: Preflight) -> list[Way]:
    """Commands that can be pasted as they stand; none where bad rows, or a cancelled batch, would end each of them."""
    if preflight.is_cancelled or (preflight.seen.bad and not preflight.options.skip_bad):
        return []
    here, there = [*_by_the_old_column(preflight), *_by_number(preflight)], _in_the_other_batch(preflight)
    return [*here, *([] if here else _keep(preflight)), *there, *_taken_over(preflight), *_with_the_old_keys(preflight)]


def _keep(preflight: Preflight) -> Iterator[Way]:
    """For rows to be added. Where keys were rewritten, keeping the old ones would not make the new ones free."""
    again = preflight.seen.again
    wanted = preflight.seen.good and preflight.seen.has_key and not preflight.options.append
    if again.absent and not again.here and wanted:
        left = f", and leave {_changed(preflight)} as they are" if _keeping(preflight) else ""
        yield Way(
            why=f"to add these rows and keep the others{left}", command=repeated("--append", *_keeping(preflight))
        )


def _by_the_old_column(preflight: Preflight) -> Iterator[Way]:
    """Where the batch's keys came from another column of the manifest."""
    keys = preflight.seen.earlier_keys
    if keys and keys.helps:
        command = _free(*option_words("--map", f"key={keys.column}"), without=("--map key",))
        yield Way(why=f"to know the rows by {keys.column}, as this batch does", command=command)


def _by_number(preflight: Preflight) -> Iterator[Way]:
    """Where the batch was recorded without a key column, which the manifest has now."""
    if preflight.seen.has_key and preflight.seen.again.were_numbered:
        yield Way(why="to know the rows by their number, as this batch does", command=_free("--map", "key="))


def _in_the_other_batch(preflight: Preflight) -> Iterator[Way]:
    """Where one batch has them all under the same keys, the manifest belongs there."""
    again = preflight.seen.again
    whole = [place for place in again.places if again.rows and place.same_keys >= again.rows]
    for place in [each for each in whole if _takes_rows(preflight, each)][:1]:
        name, _ = _batch(preflight, place)
        # Of rows with other requests nobody knows here whether that batch has their keys: those would look changed.
        keep = ("--changed", "keep") if again.to_pay > again.rows and preflight.options.changed == "error" else ()
        why = f"batch {name} has them under the same keys; there they cost nothing"
        there = partial(_free, "--batch", name, without=(*_BOUND, "--append"))
        more = _rows_besides(preflight, place) if preflight.seen.has_key else 0
        others = f"{why}; its other {'row' if more == 1 else f'{more:,} rows'}"
        if more <= place.same_keys:  # most of that batch is in the file: it may be the newest of the same
            yield Way(why=f"{others}: listed no more if not in this file" if more else why, command=there(*keep))
        if more:
            yield Way(why=f"{others} stay" if more > 1 else f"{others} stays", command=there("--append", *keep))


def _with_the_old_keys(preflight: Preflight) -> Iterator[Way]:
    again = preflight.seen.again
    rewritten = [place for place in again.places if again.rows and _rewritten_there(place)]
    for place in [each for each in rewritten if _takes_rows(preflight, each)][:1]:
        name, _ = _batch(preflight, place)
        why = f"with the keys of batch {name} put back into the file, this pays for none of its rows"
        yield Way(why=why, command=_free("--batch", name, without=(*_BOUND, "--append")))


def _taken_over(preflight: Preflight) -> Iterator[Way]:
    again = preflight.seen.again
    stays = preflight.options.append and again.here == again.rows  # what is appended takes no image from its own batch
    if again.copyable and not preflight.options.reuse and not stays:
        why = f"to have images copied from where they are, of up to {formatting.count(again.copyable, 'row')}"
        to = () if preflight.dest else ("--to", "DEST")
        yield Way(why=why, command=_free("--reuse", *to, *_keeping(preflight)))


def _free(*more: str, without: tuple[str, ...] = ()) -> str:
    """A command that pays for none of these rows: it needs no word that they may be bought again."""
    return repeated(*more, without=(*without, "--buy-again"))


def _keeping(preflight: Preflight) -> tuple[str, ...]:
    """What lets a command pass that is about other rows than the changed ones."""
    return ("--changed", "keep") if preflight.seen.disputed and preflight.options.changed == "error" else ()


def _changed(preflight: Preflight) -> str:
    return formatting.count(preflight.seen.disputed, "changed row")


def _rows_besides(preflight: Preflight, place: OtherBatch) -> int:
    """Rows of the other batch that are not among those that were made there."""
    return preflight.ledger.batches.count_rows(place.batch_id) - place.same_keys if preflight.ledger else 0


# -- for programs --------------------------------------------------------------------------------------------------
