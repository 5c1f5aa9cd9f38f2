"""The ``dsm`` command: parse the settings of a verb, call its function, print its result.

A verb's module is imported only after its settings are checked, so that help and errors appear at once.
"""

from __future__ import annotations

import io
import sys

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dsm.commands import GROUPS, VERBS
from dsm.errors import USER_ERROR, UserError, did_you_mean, sentence
from dsm.inputs import check_inputs
from dsm.signals import Interrupted, leave_by_exception
from dsm.terminal import SafeConsole, console, reader_left, show_progress
from dsm.version import __version__


def print_overview(group: str = "") -> None:
    """Print all verbs, or those of a group, such as ``data``."""
    console = SafeConsole(highlight=False)
    console.print(f"[bold]dsm {__version__}[/]: motion-aware video encoders from unlabelled video\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, verb in VERBS.items():
        if not group or name.startswith(f"{group} "):
            table.add_row(f"dsm {name}", verb.summary)
    console.print(table)
    console.print("\n`dsm VERB --help` shows a verb's settings. Start with: dsm demo --out runs/demo")


def find_verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb that the command line begins with, and the remaining words.

    Raises:
        UserError: there is no such verb.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return name, words[length:]
    given = " ".join(words[:2] if words[0] in GROUPS else words[:1])
    raise UserError(f"unknown command 'dsm {given}'{did_you_mean(given, VERBS)}")


def print_rest(name: str, settings: type) -> None:
    """Print the settings that the short help leaves out."""
    from dsm.cli.help import ALL, groups

    console = SafeConsole(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for flags, about in groups(settings):
        table.add_row(flags, escape(about))
    console.print(f"`dsm {name} {ALL}` shows all settings{':' if table.row_count else '.'}")
    if table.row_count:
        console.print(table)


def run(words: list[str]) -> None:
    """Run one command line, without ``dsm``.

    Raises:
        Interrupted: it was stopped and saved; the message says how to continue it.
    """
    import tyro

    from dsm.cli.help import ALL, shortened

    name, rest = find_verb(words)
    verb = VERBS[name]
    examples = "\n".join(f"  {line}" for line in verb.examples)
    settings = verb.find_config()
    short = bool(verb.first) and not {"-h", "--help"}.isdisjoint(rest)
    try:
        config = tyro.cli(
            shortened(settings, verb.first) if short else settings,
            prog=f"dsm {name}",
            args=["--help" if word == ALL else word for word in rest],
            description=f"{verb.summary[0].upper()}{verb.summary[1:]}.\n\nExamples:\n{examples}",
        )
    except SystemExit as end:
        if short and not end.code:
            print_rest(name, settings)
        raise
    check_inputs(config)
    show_progress()
    function = verb.find_function()
    try:
        result = function(config)
    except Interrupted as stopped:
        how = ""
        if hasattr(config, "resume") and not getattr(config, "fractions", ()):
            how = "with --resume in place of --overwrite " if config.overwrite else "with --resume "
        raise Interrupted(f"{stopped}; the same command {how}continues.", stopped.signal) from None
    if result is not None:
        for table in result.tables:
            SafeConsole(highlight=False).print(table, soft_wrap=isinstance(table, Text), crop=False)
        for line in result.lines:
            console.print(line)
        if result.exit_code:
            sys.exit(result.exit_code)


def main() -> None:
    """The entry point: an error that the user can fix ends with one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name or sign that its encoding lacks must not end dsm
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:]
    errors = SafeConsole(stderr=True, highlight=False, soft_wrap=True)
    if (
        not words
        or words[0] in ("-h", "--help", "help")
        or (words[0] in GROUPS and words[1:] in ([], ["-h"], ["--help"]))
    ):
        print_overview(words[0] if words and words[0] in GROUPS else "")
        return
    if words[0] == "--version":
        print(__version__)
        return
    leave_by_exception()
    try:
        run(words)
    except KeyboardInterrupt:
        errors.print("[bold]dsm:[/] stopped.")
        sys.exit(130)
    except Interrupted as stopped:
        errors.print(f"[bold]dsm:[/] {stopped}")
        sys.exit(stopped.exit_code)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_left(sys.stdout):
            console.on_broken_pipe()
        message = sentence(error)
        if message is None:
            raise
        try:
            errors.print(f"[bold red]dsm:[/] {escape(message)}")
        except MemoryError:  # rich imports more to print it
            sys.stderr.write(f"dsm: {message}\n")
        sys.exit(USER_ERROR)
    if "torch.distributed" in sys.modules:
        from dsm.distributed import begun_from_outside
        from dsm.launch import leave

        if begun_from_outside():
            sys.stdout.flush()
            # Torch's own threads are still running, and sometimes abort the interpreter at exit.
            leave(0)
