"""Configuration of the documentation."""

from __future__ import annotations

import re
from typing import Any

import calcarine

project = "calcarine"
author = "The calcarine developers"
copyright = "2026, " + author
release = calcarine.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "calcarine"
html_static_path = ["_static"]
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "colon_fence"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_use_ivar = True  # attributes are documented once, by the docstring


def keep_bars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Let |x| in a docstring be a size, not a substitution of reStructuredText."""
    for index, line in enumerate(lines):
        parts = re.split("(``.*?``)", line)
        kept = (p if p.startswith("``") else p.replace("|", r"\|") for p in parts)
        lines[index] = line if line.lstrip().startswith(">>>") else "".join(kept)


def setup(app: Any) -> None:
    """Connect what conf.py adds."""
    app.connect("autodoc-process-docstring", keep_bars, priority=900)
