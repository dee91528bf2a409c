"""`smolpilot schema FILE` for editors of YAML files, and `smolpilot completion SHELL` for the Tab key of shells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smolpilot.common.text import json_text

from .parsing.completion import Shell, completion_script
from .parsing.verbs import Verb


@dataclass(frozen=True, kw_only=True)
class SchemaOptions:
    """Print the JSON schema of a YAML file: options of `train`, stages, a robot profile or a setup.

    Editors with a YAML language server complete and check by it: put the line
    `# yaml-language-server: $schema=FILE` at the top of the YAML file.
    """

    file: Annotated[tyro.conf.Positional[Literal["train", "stages", "profile", "setup"]], tyro.conf.arg(metavar="FILE")]
    """Which file: `train` (--config of train), `stages` (--stages of train), `profile` (a robot profile) or `setup` (a
    robot setup)."""
    out: Path | None = None
    """Write it into this new file. Default: standard output."""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Print the script that completes smolpilot's verbs, options and values with the Tab key.

    In bash once: `smolpilot completion bash > ~/.local/share/bash-completion/completions/smolpilot`. In zsh: put
    `source <(smolpilot completion zsh)` into ~/.zshrc.
    """

    shell: Annotated[tyro.conf.Positional[Shell], tyro.conf.arg(metavar="SHELL")]
    """The shell: `bash` or `zsh`."""


def print_schema(options: SchemaOptions) -> None:
    """Print or write the schema."""
    from smolpilot.common.atomic import refuse_existing, write_text_atomic

    from .parsing.schemas import schema_of

    text = json_text(schema_of(options.file))
    if options.out is None:
        print(text)
        return
    refuse_existing(options.out, "files")
    write_text_atomic(options.out, text + "\n")
    print(f"{options.out}: put `# yaml-language-server: $schema={options.out}` at the top of your YAML file")


def print_completion(options: CompletionOptions) -> None:
    """Print the script."""
    print(completion_script(options.shell))


SCHEMA = Verb(SchemaOptions, print_schema)
COMPLETION = Verb(CompletionOptions, print_completion)
