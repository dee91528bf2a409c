"""What mkdocs builds beside docs/: the files of the root, a page for each example, a reference for each public package.

Links between documents are those of the repository. Here they lead to the page that stands for the file; a link to a
file that has no page becomes its words alone.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "smolpilot"
# Documents outside docs/ -> their pages.
DOCUMENTS = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "plugins/lerobot_policy_smolpilot/README.md": "lerobot-plugin.md",
}
SOURCES = {page: document for document, page in DOCUMENTS.items()}
# A code block, a link (its words may hold code), a code span: the first that begins wins.
LINK = re.compile(
    r"^```.*?^```|(?<!!)\[(?P<words>(?:`[^`]*`|[^\]`])*)\]\((?P<link>[^)\s]+)\)|`[^`\n]+`", re.MULTILINE | re.DOTALL
)
# What a browser fetches by itself, from elsewhere.
FETCHED = re.compile(r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
# A module that is public although its package has no names of its own.
ERRORS = "smolpilot.common.errors"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash"}


def on_config(config: Any) -> Any:
    """Add the entries of the API and of the examples to the navigation."""
    for entry in config["nav"]:
        if "API" in entry:
            entry["API"] = [{"Overview": "api/index.md"}, *({name: page} for name, page in _references().items())]
        if "Examples" in entry:
            entry["Examples"] = [{"Overview": "examples/index.md"}, *(
                {path.name: f"examples/{path.name}.md"} for path in _examples()
            )]  # fmt: skip
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from other files."""
    from mkdocs.structure.files import File

    pages = {page: (ROOT / document).read_text(encoding="utf-8") for document, page in DOCUMENTS.items()}
    pages |= {f"examples/{path.name}.md": _example_page(path) for path in _examples()}
    pages["examples/index.md"] = _examples_page()
    pages |= {page: _reference_page(name) for name, page in _references().items()}
    pages["api/index.md"] = _api_page()
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead each relative link to the page of the file that it names."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation"]  # there is one page in this tab
    if here.startswith(("api/", "examples/")):
        return markdown
    source = SOURCES.get(here, f"docs/{here}")
    return LINK.sub(lambda found: _link(found[0], found["words"], found["link"], source, here), markdown)


def on_post_build(config: Any) -> None:
    """A page that loads anything from elsewhere fails the build: the site is read without a network."""
    found = fetched(Path(config["site_dir"]))
    if found:
        from mkdocs.exceptions import PluginError

        raise PluginError("Pages load from elsewhere: " + "; ".join(found))


def fetched(site: Path) -> list[str]:
    """`page: element` of everything that a browser would fetch from elsewhere to show a page."""
    pages = sorted(site.rglob("*.html"))
    return [f"{page.relative_to(site)}: {tag}" for page in pages for tag in FETCHED.findall(page.read_text("utf-8"))]


def _link(whole: str, text: str | None, link: str | None, source: str, here: str) -> str:
    if text is None or link is None or link.startswith("#") or re.match(r"[a-z]+:", link):
        return whole
    target, _, heading = link.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    page = _page_of(file)
    if page is None:
        return text if "`" in text else f"`{file}`" if text == file else f"{text} (`{file}`)"
    place = posixpath.relpath(page, posixpath.dirname(here) or ".")
    return f"[{text}]({place}{'#' + heading if heading else ''})"


def _page_of(file: str) -> str | None:
    """The page that stands for a file or folder of the repository."""
    if file in DOCUMENTS:
        return DOCUMENTS[file]
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    if file == "examples":
        return "examples/index.md"
    if file.startswith("examples/"):
        return f"{file}.md"
    return None


def _examples() -> list[Path]:
    return sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in LANGUAGES)


def _purpose(path: Path) -> str:
    """The first line of a file's docstring, or of the comment at its top."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
    return text.splitlines()[0].lstrip("# ")


def _example_page(path: Path) -> str:
    return f"# {path.name}\n\n```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n"


def _examples_page() -> str:
    # The command in a purpose is code: its brackets are no links.
    purposes = {path: re.sub(r"python \S+\.py.*", r"`\g<0>`", _purpose(path)) for path in _examples()}
    lines = "\n".join(f"- [{path.name}]({path.name}.md): {text}" for path, text in purposes.items())
    return f"# Examples\n\nShort files to copy and change. The tests run each of them.\n\n{lines}\n"


def _packages(folder: Path) -> Iterator[str]:
    """Names of the packages at and below a folder that say what is public, without private ones and their insides."""
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    if any(isinstance(target, ast.Name) and target.id == "__all__" for target in assigned):
        yield ".".join(folder.relative_to(PACKAGE.parent).parts)
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").is_file() and not path.name.startswith("_"):
            yield from _packages(path)


def _references() -> dict[str, str]:
    """`smolpilot`, its packages that have public names, and `errors` -> their pages."""
    names = ["smolpilot", *(name.split(".")[1] for name in _packages(PACKAGE) if "." in name), "errors"]
    return {name: f"api/{name}.md" for name in dict.fromkeys(names)}


def _modules(reference: str) -> list[str]:
    """What a page of the reference lists: a package, then the public packages within it."""
    if reference in ("smolpilot", "errors"):
        return [{"errors": ERRORS}.get(reference, reference)]
    return [*_packages(PACKAGE / reference)]


def _reference_page(reference: str) -> str:
    first, *others = [f"# {name}\n\n::: {name}\n" for name in _modules(reference)]
    deeper = "    options:\n      heading_level: 3\n"
    return "\n".join([first, *(f"#{text}{deeper}" for text in others)])


def _api_page() -> str:
    lines = []
    for page in _references().values():
        name = _modules(Path(page).stem)[0]
        path = PACKAGE.parent.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        lines.append(f"- [`{name}`]({Path(page).name}): {_purpose(file)}")
    shapes = "B batch, C cameras, T tokens, H chunk, S state, A action, D width"
    return (
        "# API reference\n\nThe public names of each package, from their docstrings. "
        f"Shapes are written with these letters: {shapes}.\n\n" + "\n".join(lines) + "\n"
    )
