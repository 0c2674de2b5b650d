"""How the site of these pages is built: `make docs`. Nothing is fetched, at build time or by a reader's browser."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Lightfast"
author = "the Lightfast authors"
copyright = f"2026, {author}"  # noqa: A001  Sphinx's name
release = version = installed("lightfast")

extensions = ["myst_parser"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = f"Lightfast {release}"
html_show_sphinx = False
html_copy_source = False
smartquotes = False


def setup(app: Sphinx) -> None:
    """Diagrams stay readable text: drawing them needs a script from elsewhere. Forges draw them on their own pages."""
    app.add_lexer("mermaid", TextLexer)
