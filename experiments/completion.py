"""Tab completion for bash and zsh: a text that `eval "$(layernorm completion bash)"` gives the shell.

Options and their choices, experiments, scales and claims, as they are now. Hydra's own completion asks Python at each
Tab, which takes a second, and knows no choices but those of groups.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import data
import models
from experiments.__main__ import commands
from experiments.records.one_line import Arguments
from experiments.sweeps.options import known_experiments, known_scales
from experiments.training.schema import Config
from experiments.verdicts.claims_file import load_claims

NOT_SET = ("name", "experiment", "scale", "arm", "arms", "sizes", "deviations", "model", "data")
BASH = """\
_layernorm() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" words= IFS=$' \\n'
  local word="${{line##* }}" before="${{line% *}}"
  case "${{before##* }} ${{before#* }}" in
    "--claim "*) words="{claims}" ;;
    "--experiment "*) words="{experiments}" ;;
    "--scale "*) words="{scales}" ;;
    *layernorm" "*layernorm) words="{commands}" ;;
    *" run"* | *" reproduce"* | *" status"*) words="{settings} {flags}" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
  [[ $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${{COMPREPLY[@]#"${{word%"${{word##*=}}"}}"}}")
}}
complete -o default -F _layernorm layernorm"""
ZSH = """\
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}
_layernorm() {{
  local -a found
  case "$words[CURRENT-1] ${{words[2,CURRENT-1]}}" in
    "--claim "*) found=({claims}) ;;
    "--experiment "*) found=({experiments}) ;;
    "--scale "*) found=({scales}) ;;
    *layernorm" ") found=({commands}) ;;
    *" run"* | *" reproduce"* | *" status"*) found=({settings} {flags}) ;;
  esac
  (( $#found )) || {{ _files; return; }}
  compadd -S "" -- ${{(M)found:#*=}}
  compadd -- ${{found:#*=}}
}}
compdef _layernorm layernorm"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}


def settings(node: Any, before: str = "") -> Iterator[str]:
    """`key=` of every option of a configuration, or `key=choice` where there is a fixed set."""
    for option in dataclasses.fields(node):
        value, key = getattr(node, option.name), f"{before}{option.name}"
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{key}.")
        elif option.name not in NOT_SET:
            choices = ("true", "false") if isinstance(value, bool) else option.metadata.get("choices", ("",))
            yield from (f"{key}={choice}" for choice in choices)


def main() -> None:
    parser = Arguments(prog="layernorm completion", description=__doc__)
    parser.add_argument("shell", nargs="?", choices=[*SCRIPTS], default="bash")
    shell = parser.parse_args().shell
    registry, groups = load_claims(), {"model": models.available(), "data": data.available()}
    words = {"commands": [*commands()], "experiments": known_experiments(), "scales": known_scales()}
    words["claims"] = [word for claim in registry.claims for word in (*claim.names(), *claim.sources())]
    words["flags"] = ["--claim", "--claims", "--config-dir", "--scale", "--all", "--list", "--experiment", "--watch"]
    words["flags"] += ["--help"]
    words["settings"] = [*settings(Config()), *(f"experiment={name}" for name in known_experiments())]
    words["settings"] += [f"scale={name}" for name in known_scales()]
    for group, nodes in groups.items():
        for name, node in nodes.items():
            words["settings"] += [f"{group}={name}", *settings(node(), f"{group}.")]
    print(SCRIPTS[shell].format(**{name: " ".join(sorted({*found})) for name, found in words.items()}))


if __name__ == "__main__":
    main()
