"""What the site adds to docs/: its links lead to its own pages, every document has its place, nothing is fetched."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import smolpilot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "scripts" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("index.md", "[a](docs/training.md#the-frame-cache)", "[a](training.md#the-frame-cache)"),
        ("index.md", "[中文](README.zh-CN.md), [c](CHANGELOG.md)", "[中文](index.zh-CN.md), [c](changelog.md)"),
        ("training.md", "[`eval`](../README.md#start)", "[`eval`](index.md#start)"),
        ("training.md", "[b](stages.md) [c](#below) [d](https://example.org/x)", None),
        ("own-policy.md", "[examples/x.py](../examples/own_policy.py)", "[examples/x.py](examples/own_policy.py.md)"),
        ("index.md", "[examples/](examples)", "[examples/](examples/index.md)"),
        ("index.md", "[tests](tests/oracle), [`a`](src/smolpilot)", "tests (`tests/oracle`), `a`"),
        ("index.md", "```\n[a](docs/training.md)\n```\nand `[b](docs/training.md)`", None),
        ("index.md", "![picture](docs/images/loss-curve.png)", None),
        ("lerobot-plugin.md", "[a](../../docs/inference.md)", "[a](inference.md)"),
    ],
)
def test_links_lead_to_pages(hooks: ModuleType, page: str, text: str, wanted: str | None) -> None:
    shown = hooks.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=page), meta={}))
    assert shown == (text if wanted is None else wanted)


def test_every_document_has_its_place_in_the_navigation(hooks: ModuleType) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    placed = set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
    documents = {path.name for path in (ROOT / "docs").glob("*.md")} | set(hooks.DOCUMENTS.values())
    assert placed == documents | {"examples/index.md", "api/index.md"}
    assert [name for name in hooks.DOCUMENTS if not (ROOT / name).is_file()] == []
    assert not {path.name for path in (ROOT / "docs").glob("*.md")} & set(hooks.DOCUMENTS.values())


def test_every_public_package_has_a_page(hooks: ModuleType) -> None:
    config = {"nav": [{"Home": "index.md"}, {"Examples": "-"}, {"API": "-"}]}
    api = hooks.on_config(config)["nav"][2]["API"]
    assert {"Overview", "smolpilot", "contracts", "robots", "datasets", "training", "errors"} <= {
        next(iter(page)) for page in api
    }
    assert "cli" not in {next(iter(page)) for page in api}, "its verbs are used by their names, not imported"
    text = hooks._reference_page("datasets")
    assert text.startswith("# smolpilot.datasets\n\n::: smolpilot.datasets\n")
    assert "\n## smolpilot.datasets.edit\n\n::: smolpilot.datasets.edit\n    options:\n      heading_level: 3\n" in text
    assert set(smolpilot.__all__) >= {"load_policy", "open_dataset"}


def test_what_a_browser_would_fetch_is_found(hooks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text('<a href="https://example.org">x</a><script src="assets/a.js"></script>')
    assert hooks.fetched(tmp_path) == []
    (tmp_path / "bad.html").write_text(
        '<link rel="stylesheet" href="https://fonts.example.org/a.css"><img alt="" src=\'//example.org/a.png\'>'
    )
    assert len(hooks.fetched(tmp_path)) == 2
