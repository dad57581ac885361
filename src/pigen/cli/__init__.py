"""The ``pigen`` command: a click group that imports a verb's module only when the verb is used."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from pigen import __version__
from pigen.errors import PigenError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""
BROKEN_PIPE = 141
"""Exit code when the reader of our output went away: 128 + SIGPIPE, as for any other tool."""


@dataclass(frozen=True)
class Verb:
    """Where a verb lives (``module:attribute``) and its one line in ``pigen --help``."""

    target: str
    summary: str


VERBS: dict[str, Verb] = {
    "run": Verb("pigen.cli.run:run", "Run an experiment end to end: sample, filter, table."),
    "train": Verb("pigen.cli.model:train", "Train a model on labelled structures."),
    "sample": Verb("pigen.cli.model:sample", "Draw new crystals from a trained model."),
    "label": Verb("pigen.cli.label:label", "Compute descriptor columns for structures."),
    "filter": Verb("pigen.cli.filter:filter", "Keep the structures that pass the criteria."),
    "energy": Verb("pigen.cli.energy:energy", "Relax structures and give their energies."),
    "prototypes": Verb(
        "pigen.cli.prototypes:prototypes", "Match structures to known frameworks; find duplicates."
    ),
    "spp-fit": Verb("pigen.cli.label:spp_fit", "Fit a table of statistical pair potentials."),
    "known": Verb("pigen.cli.label:known", "List the compositions of structures, for filters."),
    "compare": Verb("pigen.cli.compare:compare", "Compare generated structures with real ones."),
    "import": Verb("pigen.cli.data:import_", "Read structure files into a bundle."),
    "export": Verb("pigen.cli.data:export", "Write a bundle as CIF, extxyz, CSV or POSCAR."),
    "show": Verb("pigen.cli.data:show", "Summarise a bundle."),
    "csp-seed": Verb(
        "pigen.cli.csp:csp_seed", "Write search folders for crystal structure prediction."
    ),
    "csp-run": Verb("pigen.cli.csp:csp_run", "Search for crystal structures by basin hopping."),
    "csp-collect": Verb("pigen.cli.csp:csp_collect", "Read what the searches reached."),
    "hull": Verb("pigen.cli.hull:hull", "References of compounds, and energies above their hull."),
    "dft-export": Verb("pigen.cli.dft:dft_export", "Write VASP single points of candidates."),
    "dft-collect": Verb("pigen.cli.dft:dft_collect", "Read finished VASP single points."),
    "report": Verb("pigen.cli.report:report", "Write an HTML page of a run or a bundle."),
    "reproduce": Verb("pigen.cli.reproduce:reproduce", "Make every table and figure of the paper."),
    "table": Verb("pigen.cli.run:table", "Print a table of the paper from finished runs."),
}


class LazyGroup(click.Group):
    """A group that knows its verbs by name and imports each on first use.

    Every failure a user can cause ends as one line on stderr and an exit code: 1 the work failed,
    2 bad usage, 130 interrupted.
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
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; Ctrl-C and a closed pipe end it here, before click adds to the output."""
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
            _fail("interrupted", INTERRUPTED)
        except OSError as error:  # a full disk, a missing permission: not a bug, no traceback
            where = f": {error.filename}" if error.filename else ""
            _fail(f"{error.strerror or error}{where}", PigenError.exit_code)
        sys.exit(result if isinstance(result, int) else 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What job schedulers send before they kill ends a verb as Ctrl-C does: with its work saved."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started with nohup or &
        signal.default_int_handler(number, frame)
    signal.raise_signal(signal.SIGINT)


def _fail(message: str, code: int, ctx: click.Context | None = None) -> NoReturn:
    hint = f" (see '{ctx.command_path} --help')" if ctx else ""
    click.echo(f"pigen: error: {' '.join(message.split()).rstrip('.')}{hint}", err=True)
    sys.exit(code)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pigen")
def main() -> None:
    """Generate crystal structures beyond known motifs and tell which are worth a calculation.

    Start with: pigen run pigen_mled_c --out runs/first
    """
