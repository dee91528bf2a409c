"""`smolpilot completion bash|zsh`: the script by which a shell completes verbs, options and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from .parsing.completion import Shell, completion_script
from .parsing.verbs import Verb


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Print the script that completes smolpilot's verbs, options and values with the Tab key.

    In bash once: `smolpilot completion bash > ~/.local/share/bash-completion/completions/smolpilot`. In zsh: put
    `source <(smolpilot completion zsh)` into ~/.zshrc.
    """

    shell: Annotated[tyro.conf.Positional[Shell], tyro.conf.arg(metavar="SHELL")]
    """The shell: `bash` or `zsh`."""


def run(options: CompletionOptions) -> None:
    """Print the script."""
    print(completion_script(options.shell))


VERB = Verb(CompletionOptions, run)
