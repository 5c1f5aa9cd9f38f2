"""Sphinx settings of the site (``make docs``). Pages are Markdown, because code hosts show it too."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from repository_files import source_line  # noqa: E402 (it is beside this file)

from dsm.version import __version__  # noqa: E402

project = "dsm"
author = "The dsm authors"
version = release = __version__
html_title = f"dsm {version}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinx_copybutton",
    "docstrings",
    "repository_files",
]

# Pages that show a file from another folder of the repository.
repository_pages = {
    "README.md": "index",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "examples/README.md": "examples",
}

# A reference that leads nowhere fails the build; names of other libraries are not looked up.
nitpicky = True
_ELSEWHERE = r"(torch|nn|numpy|np|npt|sklearn|tyro|pathlib|io|collections|argparse|rich|lightning\w*|av)\..*"
_SHORTENED = r"Path|Packet|VideoStream|Tensor|Module|NDArray.*|InputContainer|Lightning\w*"
_ALIASES = (
    r"Indices|Part|Times|Precision|Pooling|Head|HeadKind|NegativeLook|Decoder|Named|Seed|(typing\.)?Literal\[.*|"
    r"([\w.]+\.)?Annotated\[.*|dict\[\w+|Input|ListFile|RootFolder|Videos|Weights|FeaturesFile|GroupsTable|"
    r"RunFolder|TrainedFolder|NAME or .*"
)
_INSIDE = (
    r".*\._\w+|dsm\.(train\.start\.Config|terminal\.(Clock|Reporter)|video\.(kept_open\.OpenVideo|keyframes\.Untrusted)|"
    r"evaluate\.(extract_to_file\.Extracted|faiss_index\.Parts)|"
    r"models\.bare\.Found|settings\.(Config|Returned)|data\.classes\.Named|untrusted\.Kind|"
    r"verbs\.(settings\.)?\w+\.\w+(Config|Result))"
)
nitpick_ignore_regex = [("py:.*", "|".join((_ELSEWHERE, _SHORTENED, _ALIASES, _INSIDE)))]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
default_role = "code"  # `name` in a docstring, which the command line prints unchanged
linkcode_resolve = source_line

copybutton_prompt_text = "$ "  # copies the commands of a console block, not their output
copybutton_line_continuation_character = "\\"
copybutton_exclude = ".linenos, .gp"

html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["tables.css"]
