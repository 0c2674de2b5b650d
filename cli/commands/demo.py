"""`lightfast demo`: runs examples/catalog.csv with the stand-in, into ./demo-output."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cli.flow.options import Json, Quiet, RunOptions
from cli.flow.session import note
from cli.flow.settings import read_settings
from jobs.command_lines import called, command
from jobs.errors import LightfastError

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.settings.model import Settings

CATALOG = Path(__file__).parents[2] / "examples" / "catalog.csv"
OUTPUT = Path("demo-output")
#: Says that the folder is the demo's, which may throw it away.
MADE_BY_US = ".made-by-lightfast-demo"
#: What the demo leaves in it. The ledger and the stand-in's memory have more files beside them while they are open.
_MADE = frozenset({MADE_BY_US, CATALOG.name, CATALOG.stem, "results.csv", "index.html"})
_MADE_TOO = (".lightfast", "lightfast-sandbox.", "lightfast-rescue-", "lightfast-spool")
#: Stands in the catalogue for the address of the stand-in, which has the reference pictures.
PLACEHOLDER = "{sandbox}"


def demo(*, json: Json = False, quiet: Quiet = False) -> int:
    """Makes every row of the example catalogue; starts afresh each time."""
    from cli.commands.run import run_with
    from cli.flow.environment import standin

    output = _fresh_output()
    with standin(output) as url:
        settings = read_settings(None, sandbox_url=url).with_database(output / "lightfast-sandbox.db")
        manifest = _manifest(output, url)
        options = RunOptions(manifest=str(manifest), to=str(output), sandbox=True, yes=True, quiet=quiet, json=json)
        code = run_with(settings, options, then=f"open {(output / 'index.html').as_uri()}")
        _write_results(settings, output, "catalog")
    if not (quiet or json):
        _say_where(output)
    return code


def _fresh_output() -> Path:
    """An empty ./demo-output; a folder of that name with other things in it is left alone."""
    output = OUTPUT.absolute()
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise LightfastError(f"{output} is no folder of the demo's; run the demo somewhere else.")
    if output.is_dir() and (names := sorted(path.name for path in output.iterdir())):
        strange = [name for name in names if name not in _MADE and not name.startswith(_MADE_TOO)]
        if strange or MADE_BY_US not in names:
            raise LightfastError(
                f"{output} holds things the demo has not made{f' ({strange[0]})' if strange else ''}; "
                "run the demo somewhere else."
            )
        shutil.rmtree(output)
    output.mkdir(exist_ok=True)
    (output / MADE_BY_US).touch()
    return output


def _manifest(output: Path, url: str) -> Path:
    """The example catalogue, with the stand-in's address for the reference pictures."""
    manifest = output / CATALOG.name
    manifest.write_text(CATALOG.read_text(encoding="utf-8").replace(PLACEHOLDER, url), encoding="utf-8")
    return manifest


def _write_results(settings: Settings, output: Path, name: str) -> None:
    from cli.commands.results import write_results
    from cli.flow.outputs import OutputOptions
    from cli.flow.session import find_batch, session_of

    with session_of(settings) as session:
        batch: Batch = find_batch(session.ledger, name)
        for format_, file in (("csv", "results.csv"), ("html", "index.html")):
            write_results(session, batch, OutputOptions(format=format_, output=str(output / file)))


def _say_where(output: Path) -> None:
    note(f"results     {output / 'results.csv'}, one line a row")
    note(f"history     cd {output.name} && {called(output)} why catalog heron-lamp-brass --sandbox")
    note(f"your own    {command('plan', 'products.csv', '--to', 's3://bucket/prefix')}")
