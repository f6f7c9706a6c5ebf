"""A first profile, with the comments that a person needs at first. Pure text."""

import json
from collections.abc import Sequence

from seqsup.model.preset import start_commands
from seqsup.units import write_size

_MAY = """\
# Each may change files. What else it may do without a person to ask, such as running tests, is for its own options
# and settings to say: what would have to be asked is refused.

"""
_EXAMPLES = ("Review the last commit and write what you find to review.md", "Fix what review.md says")


def write(program: str | None, hard: int, prompts: Sequence[str] = ()) -> str:
    """The profile's text: one agent for each prompt. `program` is one of
    `start_commands`, or None for a profile that runs anywhere; `hard` is bytes."""
    agents = "\n".join(_agent(program, number, prompt) for number, prompt in enumerate(prompts or _EXAMPLES, 1))
    return f"""\
#:schema ./seqsup.schema.json
# Agents that run strictly one after another, each watched with all that it starts.
#
#     seqsup plan  FILE      what would be done; starts nothing
#     seqsup start FILE      does it; Ctrl-C stops after the running agent, --resume goes on
#
# Tables up here hold for every agent; the same table inside an agent overrides it key by key.

[run]
on_failure = "stop" # or "continue": an agent that gives up ends only those that need it

[memory] # of an agent's whole process tree: MCP servers, browsers and all
hard = {_quoted(write_size(hard))} # reached: killed at once. soft (3/4 of it): stopped, with time to tidy up

[timeouts]
wall = "1h" # for one try; stall would end one that is silent, as most of these are until they have done

[retry]
attempts = 2 # in all

{_MAY if program else ""}{agents}"""


def _agent(program: str | None, number: int, prompt: str) -> str:
    prompt = prompt.replace("{", "{{")  # no placeholder
    command = [*start_commands()[program], prompt] if program else ["echo", prompt]
    needs = f'needs = ["agent-{number - 1}"] # only if that one completed\n' if number > 1 else ""
    preset = f'preset = "{program}" # what is known of this CLI: its environment, limits and signs of failure\n'
    return f"""\
[[agents]]
name = "agent-{number}"
command = [{", ".join(map(_quoted, command))}]
{preset if program else ""}{needs}"""


def _quoted(text: str) -> str:
    """A basic string of TOML: what JSON writes is one, but for a character that only JSON takes bare."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
