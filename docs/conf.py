"""Sphinx configuration of these pages: `make docs` builds them."""

project = "chainrule"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "chainrule"
root_doc = "index"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
exclude_patterns = ["_build", "README.md"]
suppress_warnings = ["myst.header", "ref.python"]  # several classes have a method of one name
