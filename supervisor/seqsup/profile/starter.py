"""A first profile, with the comments that a person needs at first. Pure text."""

from collections.abc import Sequence

from seqsup.profile import placeholders
from seqsup.profile.words import quoted
from seqsup.units import write_size

_MAY = """\
# Agents may change files. Any other action that would ask for permission, such as running tests, is denied. Allow more
# with the CLI's own options in `args`, or with its settings.

"""
_EXAMPLES = ("Review the last commit and write what you find to review.md", "Fix what review.md says")


def write(program: str, hard: int, prompts: Sequence[str] = ()) -> str:
    """Return the profile's text, with one agent for each prompt. `program` is one of `prompt_presets`, `hard` bytes."""
    agents = "\n".join(_agent(program, number, prompt) for number, prompt in enumerate(prompts or _EXAMPLES, 1))
    return f"""\
#:schema ./seqsup.schema.json
# Agents that run one after another. seqsup watches each with all processes that it starts.
#
#     seqsup plan  FILE      show what would run; starts nothing
#     seqsup start FILE      run it; Ctrl-C stops after the running agent, --resume continues
#
# Tables up here hold for every agent. The same table inside an agent overrides it key by key.

[run]
on_failure = "stop" # or "continue": a failed agent stops only the agents that need it

[memory] # of an agent's whole process tree: MCP servers, browsers and all
hard = {quoted(write_size(hard))} # killed at once above it; at three quarters (soft) it is stopped with a grace period

[timeouts]
wall = "1h" # longest time of an attempt

[retry]
attempts = 2 # the first one included

{_MAY}{agents}"""


def _agent(program: str, number: int, prompt: str) -> str:
    needs = f'needs = ["agent-{number - 1}"] # runs only if that one completed\n' if number > 1 else ""
    return f"""\
[[agents]]
name = "agent-{number}"
preset = "{program}" # the CLI that gets the prompt
prompt = {quoted(placeholders.quote(prompt))}
{needs}"""
