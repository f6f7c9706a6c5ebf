"""Context of attempts, companions and hooks: what they act on, and their listeners."""

from collections.abc import Callable

from msgspec import Struct, field

from seqsup.containment.cgroup.group import Cgroups
from seqsup.containment.keeper import Keeper
from seqsup.containment.owner import TreeOwner
from seqsup.containment.reaper import Reaper
from seqsup.host.machine import Host
from seqsup.host.wake import Wake
from seqsup.model.conversation import Conversation
from seqsup.model.events import AnyEvent, Recorded
from seqsup.model.plan import Step
from seqsup.model.process import Observation, Sample
from seqsup.node.sockets import Sockets
from seqsup.runner.stop_request import StopRequest


class RunContext(Struct, frozen=True):
    reaper: Reaper
    host: Host
    wake: Wake
    stop_request: StopRequest
    emit: Callable[[AnyEvent], Recorded | None]  # None: it is not told to anyone
    groups: Cgroups | None = None  # where the kernel keeps trees together
    observe: Callable[[Observation], None] = lambda _: None  # hears of every sample, so it must be quick
    spares: Callable[[Step, Sample], bool] = lambda *_: False  # whether another agent is stopped for the floor first
    spent: Callable[[Step, Conversation], str] = lambda *_: ""  # which budget a running conversation reaches
    sockets: Sockets = field(default_factory=Sockets)
    keeper: Keeper | None = None  # of the tree at hand, where it runs next to others

    @property
    def owner(self) -> TreeOwner:
        """The owner of the tree at hand."""
        return self.keeper or self.reaper
