"""The verb completion."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print the script that makes a shell complete verbs, options, files and experiments.

    To have it in every new shell, add one line to its start-up file:

    \b
    bash, in ~/.bashrc:  eval "$(pigen completion bash)"
    zsh, in ~/.zshrc:    eval "$(pigen completion zsh)"
    fish, in ~/.config/fish/completions/pigen.fish:
                         pigen completion fish | source

    \b
    Example:
        pigen completion bash > ~/.local/share/bash-completion/completions/pigen
    """
    from click.shell_completion import get_completion_class

    from pigen.cli import main

    script_of = get_completion_class(shell)
    assert script_of is not None, f"click knows no {shell}"
    click.echo(script_of(main, {}, "pigen", "_PIGEN_COMPLETE").source())
