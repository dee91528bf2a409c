"""Check the documents: every relative link leads somewhere, every `smolpilot ...` command they name exists."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
GLOBAL_OPTIONS = {"--help", "-h", "--version", "-V"}


def documents(root: Path = ROOT) -> list[Path]:
    """README in both languages, CONTRIBUTING, CHANGELOG, SECURITY and docs/."""
    names = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
    return [path for path in (*(root / name for name in names), *sorted(root.glob("docs/**/*.md"))) if path.is_file()]


def broken_links(path: Path) -> list[str]:
    """Relative links of a document whose file, or whose heading in a Markdown file, does not exist."""
    problems = []
    for match in LINK.finditer(CODE_BLOCK.sub("", path.read_text(encoding="utf-8"))):
        link = match.group(1) or match.group(2)
        if re.match(r"[a-z]+:", link):
            continue
        target, _, heading = link.partition("#")
        file = (path.parent / target) if target else path
        if not file.exists():
            problems.append(f"{path.name}: link to {link}: no such file")
        elif heading and file.suffix == ".md" and heading not in _headings(file):
            problems.append(f"{path.name}: link to {link}: no such heading")
    return problems


def _headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub spells them."""
    lines = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def commands(text: str) -> list[str]:
    """Every `smolpilot ...` command in the code blocks and code spans of a document."""
    blocks = [block.replace("\\\n", " ") for block in CODE_BLOCK.findall(text)]
    candidates = [line for block in blocks for line in block.splitlines()]
    candidates += CODE_SPAN.findall(CODE_BLOCK.sub("", text))
    found = []
    for line in candidates:
        match = re.match(
            r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:uv run (?:--[a-z-]+(?: [a-z0-9]+)? )*)?smolpilot((?: .*)?)$", line
        )
        if match:
            # A comment, and where the shell writes it, are no part of the command.
            found.append(re.split(r" #| > ", match.group(1))[0].strip())
    return found


def command_problem(command: str, *, old: bool = False) -> str | None:
    """What is wrong with a command (`train --dataset X`): an unknown verb or option, or None.

    old: it may be spelled as an earlier version had it.
    """
    from smolpilot.cli.parsing import verbs
    from smolpilot.cli.parsing.arguments import fields_of, is_known
    from smolpilot.common.errors import UsageError
    from smolpilot.common.renamed import quiet, renamed_verb, renamed_words

    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    if not words or words[0] in GLOBAL_OPTIONS or words[0] in ("VERB", "...", "…"):
        return None
    try:
        name, rest = verbs.find(renamed_verb(words, say=quiet) if old else words)
    except UsageError as error:
        # A group with a placeholder for its verb.
        in_group = words[0] in verbs.GROUPS and (len(words) == 1 or not re.fullmatch(r"[a-z]+", words[1]))
        return None if in_group else f"smolpilot {command}: {error.found}".replace("Unknown verb", "no verb")
    if name in verbs.GROUPS:
        return None
    verb = verbs.load(name)
    rest = renamed_words(name, rest, say=quiet) if old else rest
    fields = fields_of(verb.options)
    options = [word.strip("[]").split("=")[0] for word in rest if re.match(r"\[?--?[A-Za-z]", word)]
    known = ["-h", *(["--config"] if verb.config else [])]
    unknown = [option for option in options if option not in known and not is_known(option[2:], fields)]
    return f"smolpilot {command}: no option {', '.join(unknown)}" if unknown else None


def main() -> int:
    problems = []
    number = 0
    for path in documents():
        problems += broken_links(path)
        for command in commands(path.read_text(encoding="utf-8")):
            number += 1
            problem = command_problem(command, old=path.name == "CHANGELOG.md")
            problems += [f"{path.name}: {problem}"] if problem else []
    print(
        "\n".join(dict.fromkeys(problems))
        or f"{len(documents())} documents, {number} commands: all links and commands exist"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
