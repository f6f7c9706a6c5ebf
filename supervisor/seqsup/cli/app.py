"""The command line: its commands, one voice for errors, the exit codes."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

import click

from seqsup import __version__
from seqsup.cli.help_page import HelpPage
from seqsup.view.terminal import discard, forced, guarded, speak_plainly, width

UNTOLD, REFUSED, FAULT, INTERRUPTED, PIPE_CLOSED = 2, 3, 70, 130, 141
NOT_RUN = 125  # as policy.passed_on has it, whose import `--version` must not pay for
COMPLETE = "_SEQSUP_COMPLETE"  # set by the script of `seqsup completion` when it asks us
ISSUES = "https://github.com/seqsup/seqsup/issues"

# Each is a click command of its own name in the module of its name, and may return its exit code.
COMMANDS = {
    "Run": {
        "start": "Run a profile's agents one at a time, and prove that memory is back after each.",
        "run": "Run one command under the same supervision, in the same queue.",
        "add": "Queue a profile, a command or a prompt.",
        "work": "Take jobs from the queue, and carry them out.",
        "pause": "Start no further agent of a run until resume.",
        "resume": "Continue a paused run.",
        "stop": "Stop a run after its running agent, or now.",
        "sweep": "Find and stop processes that a dead supervisor left behind.",
    },
    "Look": {
        "plan": "Show what start would do, without starting anything.",
        "status": "Show the active run, or the last one.",
        "runs": "List the runs.",
        "queue": "Show the queue; drop, move and retry its jobs.",
        "workers": "List the machines of a fleet, or drain one.",
        "logs": "Show what an agent printed.",
        "events": "Print a run's events as JSON lines.",
        "mem": "Show memory use of the active run or of any process; request a GC.",
        "report": "Write an HTML page of a run: memory over time, and what was stopped and why.",
        "artifacts": "Files and summaries that agents pass to later agents.",
        "bench": "Measure agents at once, one after another and under seqsup.",
        "doctor": "Check this machine and suggest fixes.",
    },
    "Write": {
        "init": "Write a first profile, an example or a systemd unit.",
        "tune": "Suggest limits from past runs.",
        "notify": "Send a test message to where a profile's notifications go.",
        "presets": "List the presets, or show or check one.",
        "schema": "Print the JSON Schema of profiles, for editors.",
        "grafana": "Write Grafana dashboards and Prometheus alerts.",
        "completion": "Print the shell completion script.",
    },
}

# What other tools call a command. None of these names runs one: `kill` and `down` do other things there.
ELSEWHERE = {
    "ps": "status", "ls": "runs", "list": "runs", "watch": "status --watch", "up": "start", "down": "stop",
    "kill": "stop --now",
}  # fmt: skip


def _debug(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        context.meta["debug"] = True


_DEBUG_HELP = "Show where in seqsup an error came from."
_DEBUG_TOO = click.Option(["--debug"], is_flag=True, hidden=True, expose_value=False, callback=_debug)

click.Context.formatter_class = HelpPage  # of all commands


class Group(click.Group):
    """Tells of a command that it has not."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            raise click.UsageError(f'unknown command "{args[0]}"{self.hint(args[0], known)}', ctx)
        return super().resolve_command(ctx, args)

    def hint(self, word: str, known: list[str]) -> str:
        """Say which command may be meant."""
        from seqsup.text import nearest  # slips are rare

        return nearest(word, known)


class _Commands(Group):
    """Imports a command's module when it is asked for: `--version` and `status` must not pay for asyncio."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `help start` as `start --help`."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def hint(self, word: str, known: list[str]) -> str:
        return f"; did you mean: seqsup {ELSEWHERE[word]}" if word in ELSEWHERE else super().hint(word, known)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"seqsup.cli.commands.{cmd_name}"), cmd_name)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # by __main__, until all is loaded
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if _DEBUG_TOO not in command.params:
            command.params.append(_DEBUG_TOO)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl(list(commands.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all completed · 1 an agent failed · 2 mistake in command line or profile · 3 refused to start"
    " · 4 stopped by policy · 70 internal error · 75 stopped at a usage limit · 128+n stopped by signal n."
    " `run` passes on the code of its command.",
)
@click.option("--debug", is_flag=True, expose_value=False, callback=_debug, help=_DEBUG_HELP)
@click.version_option(__version__, "-V", "--version", message="seqsup %(version)s")
def seqsup() -> None:
    """Runs AI agents strictly one at a time, each in a contained process tree, and proves that memory is back
    before the next."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        return _answer(argv)
    except OSError:  # there is no room on stderr to say what is wrong
        discard(2)
        return UNTOLD


def _answer(argv: Sequence[str] | None) -> int:
    try:
        _open_streams()
    except OSError as error:
        _say(f"{os.devnull} cannot be opened ({error.strerror}): mknod -m 666 {os.devnull} c 1 3")
        return REFUSED
    args = list(sys.argv[1:] if argv is None else argv)
    context = None
    try:
        # click's own main prints "Aborted!" and exits 1 at a Ctrl-C, and exits 1 at a closed pipe
        if asked := os.environ.get(COMPLETE):
            from click.shell_completion import shell_complete

            return shell_complete(seqsup, {}, "seqsup", COMPLETE, asked)
        with seqsup.make_context("seqsup", args or ["--help"], color=forced() or None) as context:
            code = seqsup.invoke(context)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not at the interpreter's end
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        return _own(_usage(error, context), context)
    except KeyboardInterrupt:
        return INTERRUPTED
    except click.Abort:  # the same, or a Ctrl-D, where something was asked
        click.echo(err=True)
        return INTERRUPTED
    except BrokenPipeError:
        discard(1)
        return PIPE_CLOSED
    except Exception as error:
        return _own(_fail(error, debug=context is not None and "debug" in context.meta), context)
    return code if isinstance(code, int) else 0


def _own(code: int, context: click.Context | None) -> int:
    """Make a refusal of ours differ from what `run` passes on."""
    of_run = context is not None and context.invoked_subcommand == "run"
    return NOT_RUN if of_run and code in (UNTOLD, REFUSED) else code


def _open_streams() -> None:
    """Make sure that there are standard streams, and that they take any text."""
    # Where `>&-` closed one, the journal would get its number, and output would be written into the journal
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            speak_plainly(stream)


def _usage(error: click.ClickException, context: click.Context | None) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    from seqsup.cli.mistakes import told  # here, because `--version` has no use for it

    _say(told(error))
    at = getattr(error, "ctx", None)
    if at is not None:
        _say(f"try: {at.command_path} -h")
    elif context is not None and context.invoked_subcommand:  # click's parser of options names no context
        _say(f"try: {context.command_path} {context.invoked_subcommand} -h")
    return error.exit_code


def _fail(error: Exception, debug: bool) -> int:
    if debug:
        _trace(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("seqsup"):
        _say(f"{error.name} is missing from {sys.executable}: install seqsup again")
        return 2
    from seqsup.errors import SeqsupError, denial  # here, because `--version` has no use for it

    if isinstance(error, SeqsupError):
        _say("\n".join(error.lines(_columns())))
        return error.exit_code
    if sys.platform == "linux" and isinstance(error, FileNotFoundError) and (lack := _proc_lack()) is not None:
        _say(str(lack))
        return REFUSED
    if isinstance(error, OSError) and (told := denial(error)) is not None:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else "output: "
        _say(f"{where}{told}")
        discard(1)
        return SeqsupError.exit_code
    if not debug:
        _trace(error)
    _say(f"internal error: {type(error).__name__}: {error}")
    click.echo(f"Please report it with the lines above and what you did: {ISSUES}", err=True)
    return FAULT


def _proc_lack() -> object | None:
    from seqsup.containment.needs import proc_lack  # here, because `--version` has no use for it

    return proc_lack()


def _trace(error: Exception) -> None:
    import traceback

    traceback.print_exception(error)


def _columns() -> int | None:
    """Return how wide the text of a message may be; None if nothing is known of it."""
    known = width(sys.stderr)
    return known and known - len("seqsup: ")


def _say(message: str) -> None:
    """Print a message that may quote a profile, a path or an argument: none of it may move the cursor."""
    from seqsup.text import wrap

    for line in message.split("\n"):
        click.echo("\n".join(wrap(_voiced(line), width(sys.stderr))), err=True, color=forced() or None)


def _voiced(line: str) -> str:
    """Return a line of a message with its first word marked. One that begins with blanks continues the line above."""
    from seqsup.text import message, styled

    line = message(line)
    said = line.lstrip()
    margin = line[: len(line) - len(said)]
    word = next((word for word in ("hint:", "try:") if said.startswith(word)), "")
    if line.endswith("^") and set(said) <= {"|", " ", "^"}:  # below the place of a mistake
        return line.rstrip("^") + styled("red", "^" * line.count("^"))
    if word:
        return margin + styled("bold", word) + said.removeprefix(word)
    return line if margin else f"{styled('red', 'seqsup:')} {line}"
