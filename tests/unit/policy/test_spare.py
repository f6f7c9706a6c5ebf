"""Which process of a tree is ended to spare its agent CLI."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.enums import ProcessKind
from seqsup.model.process import ProcessMemory, TreeProcess
from seqsup.policy.spare import VICTIMS, notice, of_tools, victim
from seqsup.units import GIB, MIB

AGENT, SHELL, OTHER = ProcessKind.AGENT, ProcessKind.SHELL, ProcessKind.OTHER
MCP_SERVER, BROWSER = ProcessKind.MCP_SERVER, ProcessKind.BROWSER
LEADER = 10


def process(pid: int, parent: int, kind: ProcessKind, mib: int = 1, command: str = "node build.js") -> TreeProcess:
    memory = ProcessMemory(pid=pid, name=command.split()[0], command=command, bytes=mib * MIB, kind=kind)
    return TreeProcess(pid=pid, parent=parent, memory=memory)


CLI = process(LEADER, 1, AGENT, 300, "claude -p hello")
WRAPPER = process(LEADER, 1, AGENT, 300, "./run-it.sh")
TOOL = [process(20, LEADER, SHELL), process(21, 20, OTHER, 500)]
UNKNOWN = TreeProcess(pid=20, parent=LEADER, memory=None)

# Tree, bytes over the limit, pid that is ended
CHOICES: dict[str, tuple[list[TreeProcess], int, int | None]] = {
    "leaf below a shell": ([CLI, *TOOL], 100, 21),
    "command that the shell became": ([CLI, process(20, LEADER, OTHER, 500)], 100, 20),
    "largest leaf": ([CLI, *TOOL, process(22, 20, OTHER, 600)], 100, 22),
    "lower pid of equals": ([CLI, process(22, 20, OTHER, 500), *TOOL], 100, 21),
    "leaf, although its parent is larger": ([CLI, *TOOL, process(22, 21, OTHER, 200)], 100, 22),
    "browser of a tool": ([CLI, TOOL[0], process(21, 20, BROWSER, 500)], 100, 21),
    "orphan of a tool": ([CLI, process(30, 1, OTHER, 500)], 100, 30),
    "tool of an agent in a tool": ([CLI, TOOL[0], process(21, 20, AGENT), process(22, 21, OTHER, 500)], 100, 22),
    "tool below a wrapped CLI": ([WRAPPER, process(11, LEADER, AGENT), process(12, 11, OTHER, 500)], 100, 12),
    "shell": ([CLI, process(20, LEADER, SHELL, 500)], 100, None),
    "MCP server": ([CLI, process(20, LEADER, MCP_SERVER, 500)], 100, None),
    "MCP server behind a shell": ([CLI, TOOL[0], process(21, 20, MCP_SERVER, 500)], 100, None),
    "process of an MCP server": ([CLI, process(20, LEADER, MCP_SERVER), process(21, 20, BROWSER, 500)], 100, None),
    "process below an unknown one": ([CLI, UNKNOWN, process(21, 20, OTHER, 500)], 100, None),
    "unknown process": ([CLI, UNKNOWN], 0, None),
    "CLI that leaks itself": ([CLI, *TOOL], 600, None),
    "CLI that is not known by its name": ([WRAPPER, process(11, LEADER, OTHER, 500)], 100, None),
    "CLI alone": ([CLI], 0, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_victim(name: str) -> None:
    tree, mib, pid = CHOICES[name]
    chosen = victim(tree, LEADER, mib * MIB)
    assert (chosen and chosen.pid) == pid


def test_several_leaves_together_may_help() -> None:
    many = [process(20 + n, LEADER, OTHER, 100) for n in range(2 * VICTIMS)]
    assert victim([CLI, *many], LEADER, VICTIMS * 100 * MIB) is not None
    assert victim([CLI, *many], LEADER, VICTIMS * 100 * MIB + 1) is None


def test_kernel_prefers_tools_with_their_shells_and_not_what_leads_to_an_mcp_server() -> None:
    server = [process(30, LEADER, SHELL), process(31, 30, MCP_SERVER), process(32, 31, OTHER)]
    assert list(of_tools([CLI, *TOOL, *server], LEADER)) == [20, 21]


@st.composite
def trees(draw: st.DrawFn) -> list[TreeProcess]:
    """Any tree below the leader, with orphans, unknown processes, and parents as they come."""
    some = [CLI]
    for pid in range(LEADER + 1, LEADER + 1 + draw(st.integers(0, 12))):
        parent = draw(st.sampled_from([1, *(each.pid for each in some)]))
        known = process(pid, parent, draw(st.sampled_from(ProcessKind)), draw(st.integers(0, 4)))
        some.append(known if draw(st.integers(0, 5)) else TreeProcess(pid=pid, parent=parent, memory=None))
    return draw(st.permutations(some))


@given(trees(), st.integers(0, 8 * MIB))
def test_victim_is_largest_leaf_and_neither_cli_nor_mcp_server(tree: list[TreeProcess], excess: int) -> None:
    chosen = victim(tree, LEADER, excess)
    assert chosen == victim(sorted(tree, key=lambda each: each.pid), LEADER, excess)
    if chosen is None:
        return
    by_pid = {each.pid: each for each in tree}
    assert chosen.kind in (OTHER, BROWSER)
    assert chosen.pid != LEADER
    assert all(each.parent != chosen.pid for each in tree)
    place, above = by_pid[chosen.pid], list[TreeProcess]()
    while (parent := by_pid.get(place.parent)) is not None:
        place = parent
        above.append(place)
    assert all(each.memory is not None and each.memory.kind is not MCP_SERVER for each in above)
    beside = [each.memory for each in tree if each.parent == LEADER and each.pid not in {one.parent for one in tree}]
    assert all(each.bytes <= chosen.bytes for each in beside if each is not None and each.kind in (OTHER, BROWSER))


def test_notice_names_process_and_limit() -> None:
    eater = ProcessMemory(pid=7, name="node", command="node jest.js", bytes=3 * GIB)
    assert notice(eater, 4 * GIB, "hard", 4 * GIB) == (
        "seqsup ended node jest.js (pid 7, 3 GiB), because the process tree reached 4 GiB (memory.hard 4 GiB)."
        " Do not run it again as it was: it needs less memory."
    )
