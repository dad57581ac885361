"""A hook of MkDocs: the site fetches nothing from elsewhere.

MathJax goes into it from its Python package; docs/worker.js stands for what would be fetched for
the search.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from mkdocs.structure.files import File

NAME = "tex-svg.js"
"""MathJax in one file, with its glyphs."""


def on_config(config: Any) -> Any:
    """Put our script in the place of the one that the plugin "offline" would fetch."""
    config.extra["polyfills"] = ["worker.js"]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add MathJax to the files of the site."""
    files.append(File.generated(config, NAME, abs_src_path=str(_path())))
    return files


def _path() -> Any:
    (found,) = (one for one in metadata.files("sphinx-mathjax-offline") or () if one.name == NAME)
    return found.locate()
