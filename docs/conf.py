"""How Sphinx builds the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

import sftlib

sys.path.insert(0, str(Path(__file__).parent))  # for notebook_pages

project = "sftlib"
author = "the sftlib contributors"
project_copyright = "the sftlib contributors, Apache-2.0"
version = release = sftlib.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "notebook_pages"]
exclude_patterns = ["_build", "_static"]
default_role = "literal"  # docstrings write `name`, as Markdown does

html_theme = "furo"
html_title = f"sftlib {release}"
html_static_path = ["_static"]
html_css_files = ["house.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
