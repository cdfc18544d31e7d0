"""`globuswrap completion`: the shell scripts that call `globuswrap __complete` (see completing.py)."""

from __future__ import annotations

from typing import Annotated

import typer

from globuswrap.cli.options import Commands, command
from globuswrap.cli.output import Report
from globuswrap.errors import UsageProblem

app = Commands()

BASH = r"""# globuswrap completion for bash: source this file, or put it into /etc/bash_completion.d
_globuswrap() {
  local answer how strip item line=${COMP_LINE:0:COMP_POINT}
  COMPREPLY=()
  mapfile -t answer < <("${COMP_WORDS[0]}" __complete line "$line" 2>/dev/null)
  how=${answer[0]-}
  strip=${answer[1]-0}
  [[ $COMP_WORDBREAKS == *:* ]] || strip=0
  for item in "${answer[@]:2}"; do
    item=${item:strip}
    [[ $how == *quoted* ]] || printf -v item '%q' "$item"
    COMPREPLY+=("$item")
  done
  [[ $how != *nospace* ]] || compopt -o nospace
  [[ $how != *files* ]] || compopt -o default
}
complete -F _globuswrap globuswrap
"""

ZSH = r"""#compdef globuswrap
# globuswrap completion for zsh: put this file into a directory of $fpath as _globuswrap, or source it after compinit
_globuswrap() {
  local -a answer
  answer=("${(@f)$("${words[1]}" __complete words "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
  local how=$answer[1]
  shift 2 answer
  case $how in
    *nospace*) compadd -S '' -a answer ;;
    *) compadd -a answer ;;
  esac
  [[ $how != *files* ]] || _files
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
  _globuswrap "$@"
else
  compdef _globuswrap globuswrap
fi
"""


@command(app)
def completion(
    shell: Annotated[str, typer.Argument(help="Print the script for bash or zsh.", metavar="bash|zsh")],
) -> Report:
    """Print the completion script for bash or zsh: source <(globuswrap completion bash)."""
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise UsageProblem("unknown-shell", f"completion is not available for {shell!r}", "bash or zsh")
    return Report({"shell": shell, "script": scripts[shell]}, scripts[shell].rstrip("\n").split("\n"))
