"""The ``pigen`` command: a click group that imports a verb's module only when the verb is used."""

from __future__ import annotations

import contextlib
import difflib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pigen import __version__
from pigen.cli.verbs import SECTIONS, VERBS, Verb
from pigen.runtime.errors import PigenError
from pigen.runtime.progress import QUIET

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["SECTIONS", "VERBS", "Verb", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""
RESUME_HINT = "; the same command with --resume goes on"
BROKEN_PIPE = 141
"""Exit code when the reader of our output went away: 128 + SIGPIPE, as for any other tool."""


class LazyGroup(click.Group):
    """A group that knows its verbs by name and imports each on first use.

    Every verb takes ``--quiet``. Every failure a user can cause ends as one line on stderr and an
    exit code: 1 the work failed, 2 bad usage, 130 interrupted.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command behind a verb, imported now; None for an unknown verb."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        module, attribute = verb.target.split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return _completed(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown verb is answered with what was perhaps meant."""
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {name!r}{_meant(name)}", ctx)
        return super().resolve_command(ctx, args)

    def _resumes(self, args: Sequence[str]) -> bool:
        """Whether the verb that these arguments begin with has ``--resume``."""
        ctx = click.Context(self)
        command: click.Command | None = self
        for arg in args:
            if not isinstance(command, click.Group) or arg.startswith("-"):
                break
            command = command.get_command(ctx, arg)
        return command is not None and any(one.name == "resume" for one in command.params)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs from the table, importing none of them, and the options."""
        from click.shell_completion import CompletionItem

        named = ((name, verb) for name, verb in VERBS.items() if name.startswith(incomplete))
        verbs = [CompletionItem(name, help=verb.summary) for name, verb in named]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, importing none of them."""
        longest = max(map(len, VERBS))
        for heading, verbs in SECTIONS.items():
            with formatter.section(heading):
                rows = [(f"{name:<{longest}}", verb.summary) for name, verb in verbs.items()]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; Ctrl-C and a closed pipe end it here, before click adds to the output."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                click.echo(err=True)  # the terminal has echoed ^C
            raise click.Abort from None
        except BrokenPipeError:
            # Python flushes stdout again at exit: give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(BROKEN_PIPE)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, print any expected failure as one line, and exit with its code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            result = super().main(
                args, prog_name or "pigen", complete_var, standalone_mode=False, **extra
            )
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code, getattr(error, "ctx", None))
        except PigenError as error:
            _fail(str(error), error.exit_code)
        except click.Abort:
            goes_on = self._resumes(sys.argv[1:] if args is None else args)
            _fail(f"interrupted{RESUME_HINT if goes_on else ''}", INTERRUPTED)
        except OSError as error:  # a full disk, a missing permission: not a bug, no traceback
            where = f": {error.filename}" if error.filename else ""
            _fail(f"{error.strerror or error}{where}", PigenError.exit_code)
        sys.exit(result if isinstance(result, int) else 0)


def _completed(command: click.Command) -> click.Command:
    """The verb, or the verbs of a group, with ``--quiet`` and with numbers shown as N or X."""
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _completed(verb)
    elif not any(option.name == "quiet" for option in command.params):
        command.params.append(
            click.Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_quiet,
                help="No progress on stderr: only results and errors.",
            )
        )
        for option in command.params:  # click would say INTEGER RANGE and FLOAT RANGE
            if isinstance(option.type, click.types.IntParamType):
                option.metavar = option.metavar or "N"
            elif isinstance(option.type, click.types.FloatParamType):
                option.metavar = option.metavar or "X"
    return command


def _quiet(ctx: click.Context, option: click.Parameter, quiet: bool) -> None:
    """Silence stderr until the verb ends; progress bars see that it is no terminal."""
    if quiet and not ctx.resilient_parsing:
        ctx.find_root().with_resource(_no_stderr())  # left before an error is printed


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    before = os.environ.get(QUIET)
    os.environ[QUIET] = "1"
    try:
        with open(os.devnull, "w", encoding="utf-8") as void, contextlib.redirect_stderr(void):
            yield
    finally:
        if before is None:
            del os.environ[QUIET]
        else:
            os.environ[QUIET] = before


def _meant(name: str) -> str:
    """What to type in place of an unknown verb, as the end of a message."""
    from pigen.runtime import resources

    if name.endswith(".toml") or (resources.EXPERIMENTS / f"{name}.toml").is_file():
        return f"; to run an experiment: pigen run {name}"
    near = difflib.get_close_matches(name, VERBS, n=1)
    return f"; did you mean 'pigen {near[0]}'?" if near else ""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What job schedulers send before they kill ends a verb as Ctrl-C does: with its work saved."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started with nohup or &
        signal.default_int_handler(number, frame)
    signal.raise_signal(signal.SIGINT)


def _fail(message: str, code: int, ctx: click.Context | None = None) -> NoReturn:
    hint = f" (see '{ctx.command_path} --help')" if ctx else ""
    # A message may quote a stranger's file: nothing in it may command the terminal.
    said = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(message.split()))
    click.echo(f"pigen: error: {said.rstrip('.')}{hint}", err=True)
    sys.exit(code)


def _print_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from pigen.runtime import resources

        click.echo(f"pigen, version {__version__}")
        for name, digest in resources.versions().items():
            click.echo(f"  {name:<22} sha256 {digest}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, and hashes of model and tables.",
)
def main() -> None:
    """Generate crystal structures beyond known motifs and tell which are worth a calculation.

    \b
    The way of the work, each step writing what the next one reads:
        experiment → train → sample → filter → energy → csp-seed → report

    \b
    Examples:
        pigen run pigen_mled_c --set sample.n=200 --out runs/first
        pigen filter structures.csv --spp 0.362 --c 0.55:0.85 -o good.h5
    """
