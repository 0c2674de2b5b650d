"""Which of a manifest's columns is which: its own, those that are known, and what was perhaps meant. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jobs.formatting import option
from jobs.manifest.cells import shown
from jobs.manifest.raw_rows import KNOWN_COLUMNS
from jobs.manifest.reader import Manifest
from jobs.manifest.templates import Template, parse

#: Known names that shops use for columns of their own.
CLASHING = frozenset({"model", "provider", "size", "n", "quality", "options"})
#: Fields of a batch file without which another picture would be bought: an edit without its picture.
_NEEDED = frozenset({"image_urls"})
#: Words from which on a column's name is rather a sentence.
_SENTENCE = 4
#: Strict enough that a shop's "Quantity" is not taken for `quality`.
_HINT_CUTOFF = 0.85


def own_columns(manifest: Manifest, mapping: Mapping[str, str]) -> dict[str, str]:
    """Known column -> the manifest's own column it is taken from."""
    is_batch = manifest.format == "openai-jsonl"  # the reader has named its fields already
    owns = {name: name for name in KNOWN_COLUMNS if is_batch or name in manifest.columns}
    if manifest.is_sparse and "key" not in owns and "custom_id" in manifest.columns:
        owns["key"] = "custom_id"
    owns.update(mapping)
    return {known: own for known, own in owns.items() if own}


def looks_like(own: str, known: Sequence[str]) -> list[str]:
    """The known column whose name it nearly has; two letters that changed places count for more than difflib gives."""
    swapped = {own[:at] + own[at + 1] + own[at] + own[at + 2 :] for at in range(len(own) - 1)}
    near = near_misses(own, known, _HINT_CUTOFF) or [name for name in known if name in swapped]
    return near[:1]


def mapping_problems(manifest: Manifest, mapping: Mapping[str, str]) -> Iterator[str]:
    """What cannot be meant by --map."""
    for known, own in mapping.items():
        if known not in KNOWN_COLUMNS:
            meant = "".join(
                f" Perhaps {option('--map', f'{each}={own}')}?" for each in near_misses(known, KNOWN_COLUMNS)
            )
            yield f"--map {known}={own}: {known!r} is no known column.{meant} Known: {' '.join(KNOWN_COLUMNS)}."
        elif manifest.format == "openai-jsonl" and known != "key" and (own or known in _NEEDED):
            leave_out = "" if known in _NEEDED else f", and --map {known}= leaves it out"
            yield (
                f"--map {known}={own}: a batch file's lines are read by the field names of OpenAI and xAI. "
                f"--map key=FIELD takes another field for the key{leave_out}."
            )
        elif known == "key" and (template := key_template(manifest, mapping)):
            yield from field_problems(manifest, "--map key", template, ())
        elif "{" in own and not manifest.has(own):
            hint = " For the prompt it is --prompt." if known == "prompt" else ""
            yield f"--map {known}={own}: only the key can be made of several columns.{hint}"
        elif own and not manifest.has(own):
            written = [each for each in manifest.columns if each.casefold() == own.casefold()]
            right = [f"{option('--map', f'{known}={each}')} reads it" for each in written if each != known]
            alone = [f'"{known}" is read by itself: leave this option out'] * bool(written)
            told = "".join(f" {each}." for each in (right or alone)[:1])
            yield f"--map {known}={own}: {_no_column(manifest, own)}{told}"


def key_template(manifest: Manifest, mapping: Mapping[str, str]) -> Template | None:
    """The template of `--map 'key={category}-{id}'`; None where the key is one column, or the row's number."""
    own = mapping.get("key", "")
    return parse(own, "--map key") if "{" in own and own not in manifest.columns else None


def prompt_problems(manifest: Manifest, owns: Mapping[str, str], prompt: Template | None) -> Iterator[str]:
    """Why no row would have a prompt."""
    if prompt is not None:
        yield from field_problems(manifest, "--prompt", prompt, ())
    elif "prompt" not in owns:
        near = [own for own in manifest.columns if looks_like(own, ["prompt"])]
        told = ". ".join(
            [
                f'{_header(manifest)}: no column "prompt". Columns: {_listed(manifest.columns)}',
                *_lower_header(manifest),
                *(f'Column "{own}" looks like "prompt": {option("--map", f"prompt={own}")} uses it' for own in near),
                'Name the column (--map prompt=COLUMN) or write a template (--prompt "Photo of {COLUMN}").',
            ]
        )
        yield f"{told}{_perhaps_text(manifest)}"


def header_hints(manifest: Manifest, owns: Mapping[str, str]) -> Iterator[str]:
    """A first line that is used as the name of the prompts, and may be the first of them."""
    own = owns.get("prompt", "")
    if manifest.format == "csv" and len(own.split()) >= _SENTENCE:
        yield (
            f'{_header(manifest)} is taken for the header, so no picture is made of "{own}". '
            "If it is a prompt like the others: --text, without --map"
        )


def _perhaps_text(manifest: Manifest) -> str:
    """Of a file that may have no header: its first line is a prompt that nobody would miss until too late."""
    is_text = manifest.name.lower().removesuffix(".gz").endswith(".txt") or len(manifest.columns) == 1
    return (
        " Or is each line a prompt, the first one too? Then --text reads it so."
        if manifest.format == "csv" and is_text
        else ""
    )


def field_problems(manifest: Manifest, option: str, template: Template, more: tuple[str, ...]) -> Iterator[str]:
    """Fields of a template that are no column, nor any of `more`."""
    if manifest.format == "openai-jsonl":
        return
    for each in template.fields:
        sparse = manifest.is_sparse and each.default is not None  # may come in a later row
        if each.name not in more and not sparse and not manifest.has(each.name):
            yield f"{option} {{{each.name}}}: {_no_column(manifest, each.name)}"


def skip_problems(manifest: Manifest, column: str | None) -> Iterator[str]:
    """A --skip-empty that names no column."""
    if column is not None and manifest.format != "openai-jsonl" and not manifest.has(column):
        yield f"--skip-empty {column}: {_no_column(manifest, column)}"


def repeated_problems(manifest: Manifest, used: Iterable[str]) -> Iterator[str]:
    """Names of several columns, where one of them is used."""
    for name in dict.fromkeys(used):
        if others := manifest.repeated.get(name):
            first, *more = others
            also = ", ".join(shown(each) for each in more)
            yield (
                f"{_header(manifest)}: {len(others)} columns are named {shown(first)}, so nobody knows which is meant. "
                f"Rename all but one, or take another of them: {also} here."
            )


def _no_column(manifest: Manifest, name: str) -> str:
    near = near_misses(name, (*manifest.columns, *manifest.dotted_names()))
    meant = f" Perhaps {' or '.join(shown(each) for each in near)}?" if near else ""
    lower = "".join(f" {each}." for each in _lower_header(manifest))
    return f"the manifest has no column {shown(name)}.{meant} Columns: {_listed(manifest.columns)}.{lower}"


def _header(manifest: Manifest) -> str:
    has_header = manifest.format in {"csv", "xlsx"}
    return (
        f"{manifest.name}, {manifest.unit} {manifest.header_line}"
        if has_header
        else f"{manifest.name} ({manifest.looks})"
    )


def _lower_header(manifest: Manifest) -> list[str]:
    """Where the first row holds so little that it may be a title."""
    lower, line, unit = manifest.lower_header, manifest.header_line, manifest.unit
    return (
        [f"{unit.title()} {lower} looks more like a header than {unit} {line}: --header-row {lower}"] if lower else []
    )


def _listed(columns: Iterable[str]) -> str:
    names = list(columns)
    return ", ".join(names[:30]) + (f" … ({len(names)})" if len(names) > 30 else "")  # noqa: PLR2004  a line or two


def near_misses(name: str, legal: Iterable[str], cutoff: float = 0.8) -> list[str]:
    """The legal names that `name` may have been meant to be, best first. `cutoff`: 1 is the same name."""
    by_folded = {_folded(each): each for each in legal}
    return [by_folded[each] for each in difflib.get_close_matches(_folded(name), by_folded, n=2, cutoff=cutoff)]


def _folded(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")
