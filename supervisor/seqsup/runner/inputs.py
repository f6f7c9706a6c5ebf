"""Input of an attempt: its folder, its marks, and results of earlier agents."""

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from seqsup.host.users import open_way
from seqsup.model.plan import Step
from seqsup.model.run_view import RunView
from seqsup.profile.placeholders import SECRET, finish
from seqsup.runner.place import AttemptPaths
from seqsup.runner.side_process import Site
from seqsup.state.artifacts import Summaries, summary
from seqsup.state.run_folder import ARTIFACTS, SUMMARIES, private


class Inputs:
    def __init__(
        self, site: Site, companions: Mapping[str, str], secrets: Mapping[str, str], view: Callable[[], RunView]
    ) -> None:  # fmt: skip
        """`companions` are variables by which agents find them."""
        self._site, self._folder = site, site.folder
        self._companions, self._secrets, self._view = companions, secrets, view
        self._summaries = Summaries(self._folder / SUMMARIES)
        self.standing: dict[str, Path] = {}  # in an artifact-only run: folders that represent agents, from earlier runs

    def paths(self, step: Step, name: str, lane: int = 1) -> AttemptPaths:
        """Return where an attempt works. `name` is its number, or that of a folder in its place."""
        label = f"{step.name}/{name}"
        marked = {**self._site.marks(label), **self._companions}
        paths = AttemptPaths(
            self._folder, self._folder / label, label, self._site.ledger, marked, self._summaries.file, lane
        )
        if step.account is not None:
            open_way(private(paths.folder), self._folder.parent.parent)
        return paths

    def filled_in(self, step: Step, paths: AttemptPaths) -> Step:
        """Fill in facts that only the run knows: the folder of this attempt, and results of earlier agents."""
        if step.account is not None:
            self._summaries.hand_to(step.account.uid, step.account.gid)

        def value(name: str, agent: str | None) -> str:
            if name == SECRET:
                return self._secrets[agent or ""]
            if name == "summary":
                return summary(self._last_folder(agent or step.name))
            return str(self._last_folder(agent) / ARTIFACTS if agent else paths.artifacts)

        prompt = step.prompt
        if prompt is not None:
            options = tuple(finish(word, value) for word in prompt.options)
            prompt = replace(prompt, text=finish(prompt.text, value), options=options)
        return replace(
            step,
            prompt=prompt,
            command=tuple(finish(word, value) for word in step.command),
            env={key: finish(text, value) for key, text in step.env.items()},
            stdin=finish(step.stdin, value) if step.stdin is not None else None,
        )

    def hand_on(self, agent: str, *, ok: bool) -> None:
        """Let later agents read the results of this one."""
        how = "" if ok else str(self._view().agents[agent].reason or "")
        self._summaries.add(agent, how, summary(self._last_folder(agent)))

    def so_far(self) -> str:
        """Return the summaries of the agents before, in Markdown."""
        return self._summaries.file.read_text()

    def _last_folder(self, agent: str) -> Path:
        """Return where an agent's last attempt left its output and files."""
        return self.standing.get(agent) or self._folder / (self._view().agents[agent].folder or agent)

    def close(self) -> None:
        self._summaries.close()
