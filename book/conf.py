"""Sphinx's settings for the book. book/build.py lays the pages out and calls Sphinx with them."""

from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes

import s2dc_core
from book.pages import alt_texts

project = "S2DC: a course and a lab"
author = "the S2DC course"
version = release = s2dc_core.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax beside the pages, not from a server
]

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

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def skip_aliases(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a NamedTuple's fields, "Alias for field number 0": its docstring lists them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def give_alt_texts(app: Any, doctree: Any) -> None:
    """Pictures of a notebook's outputs get their alternative text, which MyST-NB does not take from the outputs."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        texts = alt_texts(nbformat.read(path, as_version=nbformat.NO_CONVERT))
        for image in doctree.findall(nodes.image):
            if text := texts.get(Path(image["uri"]).stem):
                image["alt"] = text


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("doctree-read", give_alt_texts)
    app.connect("autodoc-skip-member", skip_aliases)
