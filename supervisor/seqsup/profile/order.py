"""The order of agents: as written, but never before what they need."""

import heapq
from collections.abc import Sequence
from graphlib import TopologicalSorter

from seqsup.model.profile import AgentTable


def in_order(agents: Sequence[AgentTable]) -> list[AgentTable]:
    """graphlib.CycleError when `needs` go in a circle; unknown names are left to the checks."""
    place = {agent.name: n for n, agent in enumerate(agents)}
    sorter = TopologicalSorter(
        {place[agent.name]: [place[need] for need in agent.needs if need in place] for agent in agents}
    )
    sorter.prepare()
    ready: list[int] = []
    ordered = []
    while sorter.is_active():
        for freed in sorter.get_ready():
            heapq.heappush(ready, freed)
        place_of_next = heapq.heappop(ready)
        ordered.append(agents[place_of_next])
        sorter.done(place_of_next)
    return ordered
