"""How Sphinx builds these pages."""

import pathlib
import sys
from importlib.metadata import version as version_of

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import conformance  # noqa: E402
import diagrams  # noqa: E402

project = "dwcloud"
author = "The dwcloud authors"
copyright = f"2026, {author}"
release = version = version_of("dwcloud")

exclude_patterns = ["_build", "_generated"]
pygments_style = "sphinx"
highlight_language = "none"

html_theme = "alabaster"
html_theme_options = {
    "description": "Reach a machine behind a NAT, through a cloud of your own",
    "fixed_sidebar": True,
    "page_width": "1080px",
    "sidebar_width": "240px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_copy_source = False

diagrams.generate(HERE / "_generated")
conformance.generate(HERE / "_generated")
