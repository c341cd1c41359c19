"""Sphinx's settings for the book. book/build.py lays the pages out and calls Sphinx with them."""

import os
from typing import Any

import s2dc_core

project = "S2DC: a course and a lab"
author = "the S2DC course"
version = release = s2dc_core.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax beside the pages, not from a server
    "sphinx_copybutton",
    "sphinx_design",  # the gallery's grid
    "sphinxext.opengraph",  # what a link to a page looks like where it is shared
    "book.extension",
]
exclude_patterns = ["downloads"]

# The notebooks arrive executed. Widgets live in JupyterLab alone: their state and scripts stay out.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}
nb_output_stderr = "remove"  # progress bars
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables and mathematics
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
maximum_signature_line_length = 90
napoleon_custom_sections = [("Attributes", "params_style")]
smartquotes = False  # --option is not a dash
add_module_names = False
python_use_unqualified_type_names = True

copybutton_selector = ":not(.output) > div.highlight pre"  # what can be run, not what came of it

# A card for who gets a link needs the site's address, which only those who put it on a server know.
ogp_site_url = os.environ.get("BOOK_URL", "")
ogp_social_cards = {"enable": bool(ogp_site_url), "line_color": "#4c72b0"}
ogp_description_length = 160

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
