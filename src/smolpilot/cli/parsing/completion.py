"""Completion in the shell: a script that knows every verb, its options and their values, and starts no Python."""

from __future__ import annotations

from typing import Literal

from .arguments import Field, fields_of
from .verbs import GROUPS, PURPOSES, VERBS, load

Shell = Literal["bash", "zsh"]

# bashcompinit needs zsh's own completion, which a new .zshrc does not start.
_ZSH = """\
(( $+functions[compdef] )) || { autoload -U +X compinit && compinit }
autoload -U +X bashcompinit && bashcompinit
"""
# What follows a verb is completed as a path where it is no option and has no list of values: the shell's own way.
_SCRIPT = """\
_smolpilot() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" verb="" words="" word i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="$verb${{verb:+ }}${{COMP_WORDS[i]}}"
        case "$word" in
            {known}) verb="$word" ;;
            *) break ;;
        esac
    done
    if [[ "$cur" == -* ]]; then prev=""; fi
    case "$verb:$prev" in
{values}
        *)
            case "$verb" in
{options}
            esac
            if [[ "$words" == --* && "$cur" != -* ]]; then words=""; fi ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o bashdefault -o default -F _smolpilot smolpilot
"""


def completion_script(shell: Shell) -> str:
    """The script for a shell; zsh runs the same one by its own `bashcompinit`."""
    known = {" ".join(name.split()[:count]) for name in PURPOSES for count in range(1, len(name.split()) + 1)}
    below = {
        group: sorted({name.split()[len(group.split())] for name in PURPOSES if name.startswith(f"{group} ".lstrip())})
        for group in ("", *GROUPS, *(name for name in known if name not in PURPOSES))
    }
    values, options = [], []
    for name in VERBS:
        verb = load(name)
        fields = fields_of(verb.options)
        for field in fields.values():
            if choices := _choices(name, field):
                place = field.option if not field.positional else name.split()[-1]
                values.append(_case(8, f"{name}:{place}", choices))
        typed = [word for field in fields.values() if not field.positional for word in field.spellings]
        more = ["--config"] if verb.config else []
        options.append(_case(16, name, ["--help", "--help-all", *more, *typed]))
    options += [_case(16, group, verbs) for group, verbs in below.items()]
    script = _SCRIPT.format(
        known="|".join(f'"{name}"' for name in sorted(known)), values="\n".join(values), options="\n".join(options)
    )
    return script if shell == "bash" else f"{_ZSH}{script}"


def _case(indent: int, pattern: str, words: list[str]) -> str:
    return f'{"":<{indent}}"{pattern}") words="{" ".join(words)}" ;;'


def _choices(verb: str, field: Field) -> list[str]:
    """The values that a field can have, where they can be listed: also the names of robot profiles and setups."""
    from smolpilot.robots import list_profiles
    from smolpilot.robots.yaml_kinds import shipped_setups

    if field.choices:
        return list(field.choices)
    if (verb, field.name) in (("robot show", "name"), ("robot emulate", "name")):
        return sorted([*list_profiles(), *shipped_setups()])
    if field.name in ("robot", "profile"):
        return list_profiles()
    return shipped_setups() if verb.startswith("robot ") and field.name == "setup" else []
