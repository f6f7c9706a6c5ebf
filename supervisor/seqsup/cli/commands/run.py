"""`seqsup run -- CMD`: one command under the same supervision, as a prefix for any agent call."""

import os
import shutil
import stat
import sys
from pathlib import Path

import click
from msgspec.structs import replace

from seqsup.cli.arguments import command_options, log_options
from seqsup.cli.load_plan import COMMAND, PRESET, for_command
from seqsup.model.enums import Halt
from seqsup.model.plan import OWN_STDIN
from seqsup.model.run_view import RunView
from seqsup.plan.preset_files import presets_for
from seqsup.policy.passed_on import NOT_FOUND, NOT_STARTED, passed_on
from seqsup.profile.complaint import ProfileError
from seqsup.runner.readers import Display
from seqsup.runner.supervisor import supervise
from seqsup.state.output import unnamed
from seqsup.state.run_folder import straight


@click.command(
    short_help="Run one command, or one prompt, under the same supervision.",
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},  # what follows CMD is its own, also without --
)
@command_options
@click.option("--no-wait", is_flag=True, help="Exit with 125 instead of waiting if another run is active.")
@log_options
@click.argument("command", nargs=-1, metavar="-- CMD [ARG]...")
def run(
    preset: str | None, model: str | None, soft: str | None, hard: str | None, retries: int, timeout: str | None,
    name: str | None, no_wait: bool, log_level: str | None, log_format: str, command: tuple[str, ...],
) -> int:  # fmt: skip
    """Run one command under the same supervision, and in the same queue, as a profile's agents.

    With --preset the words after the options are a prompt for that CLI: seqsup run --preset claude "Fix the tests"

    Its output is shown here and kept for `seqsup logs`.

    \b
    Exit codes, as of env, timeout and docker run:
    the command's own   it exited, in its last attempt
    128+n               signal n ended it, or seqsup was stopped:
                        130 by Ctrl-C or stop, 143 by stop --now
    124                 stopped at a limit: memory, time, processes
    4                   it is an agent CLI without credit at its provider
    125                 seqsup did not run it: a wrong option, refused, --no-wait
    126, 127            the program could not be started, was not found

    \b
    Ctrl-C         stop the command now with its grace period of 10 s
    Ctrl-C twice   kill it
    """
    if model is not None and preset is None:
        raise click.UsageError("--model goes with --preset")
    if not command and preset is not None:
        raise click.UsageError(f'incomplete: seqsup run --preset {preset} "PROMPT"')
    if not command:
        raise click.UsageError("incomplete: seqsup run -- CMD")
    try:
        plan = for_command(
            command, preset=preset, model=model, name=name, soft=soft, hard=hard, retries=retries, timeout=timeout
        )
    except ProfileError as error:
        wrong = {complaint.key for complaint in error.complaints}
        program = _program(preset) if preset is not None else command[0]
        if program and (PRESET if preset is not None else COMMAND) in wrong:
            error.exit_code = NOT_STARTED if _exists(program) else NOT_FOUND
        raise
    if retries:
        _keep_stdin()
    plan = replace(plan, steps=tuple(replace(step, stdin_file=OWN_STDIN) for step in plan.steps))
    level = log_level and log_level.upper()
    display = Display(relay=True, log_level=level, log_json=log_format == "json")
    # After its one command, nothing is left that a stop after the agent would keep from starting
    return supervise(plan, display, wait=not no_wait, first=Halt.NOW, verdict=_verdict)


def _program(preset: str) -> str:
    """Return the program that gets a prompt, or nothing if the preset takes none or is unknown."""
    found = presets_for(straight(Path())).get(preset)
    return found.prompt.command[0] if found is not None and found.prompt is not None else ""


def _exists(program: str) -> bool:
    """Say whether there is such a file, also one that cannot be executed, or a folder."""
    return os.path.lexists(program) if "/" in program else shutil.which(program, os.F_OK) is not None


def _verdict(code: int, view: RunView) -> int:
    (agent,) = view.agents.values()
    return passed_on(code, agent)


def _keep_stdin() -> None:
    """Read a pipe to its end into an unnamed file in its place: every try reads all of it."""
    if sys.stdin is not None and stat.S_ISFIFO(os.fstat(0).st_mode):
        with unnamed() as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
            kept.flush()
            os.dup2(kept.fileno(), 0)
