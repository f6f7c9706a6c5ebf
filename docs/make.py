"""Writes the documents that follow from the code: `python docs/make.py`. A test holds them to it."""

import importlib
import inspect
import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "supervisor"))

import click  # noqa: E402

from seqsup import __version__, artifacts, memory, running  # noqa: E402
from seqsup.cli.app import COMMANDS, seqsup  # noqa: E402
from seqsup.metrics.catalogue import METRICS, OF_QUEUE, Metric, full_name  # noqa: E402
from seqsup.model import process  # noqa: E402
from seqsup.model.events import AnyEvent  # noqa: E402
from seqsup.model.preset import Preset, preset_names, read_preset  # noqa: E402
from seqsup.model.profile import SHARED  # noqa: E402
from seqsup.profile.schema import preset_schema, schema  # noqa: E402
from seqsup.view.ndjson import SCHEMA, keys  # noqa: E402

Block = tuple[str, str]  # what it is (text | code), and its lines
MADE = "made by docs/make.py"
_WIDTH = 120


def main() -> None:
    for path, text in documents().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text)


def documents() -> dict[str, str]:
    """Path -> text."""
    return {
        "docs/reference/cli.md": "\n".join(_cli()) + "\n",
        "docs/reference/profile.md": "\n".join(_profile()) + "\n",
        "docs/reference/events.md": "\n".join(_events()) + "\n",
        "docs/reference/metrics.md": "\n".join(_metrics()) + "\n",
        "docs/reference/environment.md": "\n".join(_environment()) + "\n",
        "docs/reference/python-api.md": "\n".join(_python_api()) + "\n",
        "docs/reference/presets.md": _presets((ROOT / "docs/reference/presets.md").read_text()),
        "man/seqsup.1": "\n".join(_man()) + "\n",
        "profiles/seqsup.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
    }


# -- what click knows


def _commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    for section in COMMANDS.values():
        for name in section:
            command: click.Command = getattr(importlib.import_module(f"seqsup.cli.commands.{name}"), name)
            yield from _with_those_below(name, command)


def _with_those_below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield name, command, click.Context(command, info_name=f"seqsup {name}")
    for below, each in getattr(command, "commands", {}).items():
        yield from _with_those_below(f"{name} {below}", each)


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _options(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    records = [parameter.get_help_record(context) for parameter in command.params]
    return [record for record in records if record is not None and record[1]]


def _blocks(text: str | None) -> Iterator[Block]:
    """The paragraphs of a help text; those behind \\b stay as they are."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        kept = paragraph.startswith("\b")
        yield ("code", paragraph.removeprefix("\b\n")) if kept else ("text", " ".join(paragraph.split()))


# -- Markdown


def _cli() -> Iterator[str]:
    yield f"<!-- {MADE} -->\n# The command line\n"
    yield "```sh\nseqsup COMMAND -h\n```\n"
    yield _filled("""Every command accepts `-h`, and `--debug`, which shows where in seqsup an error came from. Data
        goes to stdout, messages go to stderr. With `--json`, sizes are bytes and times are seconds.""")
    yield "See also [exit codes](exit-codes.md) and [reasons](reasons.md)."
    for section, names in COMMANDS.items():
        yield f"\n| {section.lower()} | |\n| --- | --- |"
        yield from (f"| [`seqsup {name}`](#seqsup-{name}) | {_cell(about)} |" for name, about in names.items())
    for name, command, context in _commands():
        yield f"\n## seqsup {name}\n\n```\n{_usage(command, context)}\n```\n"
        yield "\n\n".join(
            f"```\n{text}\n```" if kind == "code" else _filled(text) for kind, text in _blocks(command.help)
        )
        if options := _options(command, context):
            yield "\n| option | |\n| --- | --- |"
            yield from (f"| {_cell(f'`{option}`')} | {_cell(about)} |" for option, about in options)


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _metrics() -> Iterator[str]:
    yield f"<!-- {MADE} -->\n# The metrics\n"
    yield "```sh\ncurl http://127.0.0.1:9472/metrics     # while a run is running\n```\n"
    yield (
        _filled("""[Watch a run with Prometheus and Grafana](../how-to/prometheus-and-grafana.md) says how to connect.
        All metrics of a run have the label `profile`. Sizes are bytes, times are seconds, timestamps are
        seconds since the epoch. A reason is one of the [reasons](reasons.md), or `leftover`.
        Metrics of the running agent disappear when it exits. The supervisor's own `process_*`
        metrics are served too.""")
        + "\n"
    )
    yield from _listed(METRICS)
    yield "\n## Queue and worker\n"
    yield "```sh\nseqsup work --listen 127.0.0.1:9473\ncurl http://127.0.0.1:9473/metrics\n```\n"
    yield (
        _filled("""All of them have the label `queue`: the address of the queue, or the name of the machine if it has
        the queue of its own. All workers of a queue serve the same figures of the queue, so take their maximum, not
        their sum.""")
        + "\n"
    )
    yield from _listed(OF_QUEUE)


def _listed(metrics: Iterable[Metric]) -> Iterator[str]:
    yield "| metric | type | labels | meaning |\n| --- | --- | --- | --- |"
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{full_name(metric)}` | {metric.kind} | {labels} | {_cell(metric.help)} |"


def _events() -> Iterator[str]:
    yield f"<!-- {MADE} -->\n# Events\n"
    yield "```sh\nseqsup events r42                  # all events of a run"
    yield "seqsup events -f | jq .event       # of the running one, as they happen"
    yield "seqsup start agents.toml --json    # run, and print nothing else\n```\n"
    yield (
        _filled(f"""Each line is one JSON object. [Hooks](../how-to/hooks.md) get the same line on stdin. Sizes are
        bytes, times are seconds. Every line has `schema` (`{SCHEMA}`), `ts` (UTC), `run`,
        `event`, and the event's own keys. All but `agent_progress` have `seq`, their number in the journal:""")
        + "\n"
    )
    yield "| event | when | keys |\n| --- | --- | --- |"
    for event in get_args(AnyEvent):
        names = ", ".join(f"`{key}`" for key in keys(event))
        yield f"| `{event.__struct_config__.tag}` | {_cell(inspect.getdoc(event) or '')} | {names} |"
    yield "\n" + _filled("""The GC of a companion has `companion_` before its name, with `companion` and `number`
        instead of `agent` and `attempt`. `gc_requested` prints
        its limit as `soft`, `warn` or `hard`, instead of `limit` and `key`. Below the limit it is null.""")


def _variables() -> dict[str, dict[str, str]]:
    return tomllib.loads((ROOT / "docs/variables.toml").read_text())


def _environment() -> Iterator[str]:
    yield f"<!-- {MADE} -->\n\n# Environment variables\n"
    yield "```sh\nSEQSUP_STATE_DIR=/srv/agents seqsup start agents.toml\n```"
    asks = """```toml
[[agents]]
name = "a"
command = ["sh", "-c", "echo $SEQSUP_AGENT $SEQSUP_ATTEMPT"]
```"""
    headings = {
        "read": ("Which variables does seqsup read?", ""),
        "agent": ("Which variables does an agent get?", asks),
        "hook": ("Which variables does a hook get?", '```toml\n[hooks]\nafter_agent = ["hooks/after.sh"]\n```'),
    }
    for kind, (heading, example) in headings.items():
        yield f"\n## {heading}\n"
        yield from ([example, ""] if example else [])
        yield "| variable | meaning |\n| --- | --- |"
        yield from (f"| `{name}` | {_cell(about)} |" for name, about in _variables()[kind].items())
        if kind == "agent":
            yield "\nIt also gets your own environment, what its preset sets, and the profile's `env`. seqsup puts"
            yield "a folder with its own `node` at the beginning of PATH, and one with the command `seqsup` at the end."
    yield "\nA hook also gets the companions' variables. See [hooks](../how-to/hooks.md)."


def _python_api() -> Iterator[str]:
    yield f"<!-- {MADE} -->\n\n# Python API\n"
    yield """```python
import seqsup
from seqsup.memory import cleanup_between_agents, is_memory_high

result = seqsup.run("agents.toml").result()  # waits for its end
print(result.exit_code, [agent.name for agent in result.agents if agent.exit_code])
if is_memory_high("6GiB"):
    print(cleanup_between_agents().bytes)
```

A size is bytes, or text such as `"6GiB"`; a time is seconds, or text such as `"30s"`. Results are in bytes and seconds.
[From Python](../how-to/from-python.md) shows whole programs.

| you need | it is |
| --- | --- |
| the events of a run | classes of `seqsup.model.events`, such as `AgentEnded`; [events](events.md) has their fields |
| a `reason` | `seqsup.model.reason.Reason`; [reasons](reasons.md) explains each. `reason == "hard"` works |
| the `state` of an agent or a run | `seqsup.model.run_view.AgentState` and `RunState`. `state == "failed"` works |"""
    parts = {
        running: ("run", "ActiveRun", "RunResult", "AgentResult"),
        memory: memory.__all__,
        process: ("ProcessMemory", "NodeProcess", "Heap", "Collection"),
        artifacts: artifacts.__all__,
    }
    for module, names in parts.items():
        yield f"\n## {module.__name__}"
        for name in names:
            yield from _public(module, name)
    yield """
## Which run is meant?

```python
memory_usage(run="r42")  # a run of the user's state folder
memory_usage(run="/srv/agents/state/runs/r42")  # the folder of any run
```

Without `run` it is the run of the agent or hook that the program belongs to, or else the active one. Without any run,
0 bytes are in use and `why` says so. That is no error. `seqsup.artifacts` reads from the last run.

## Which errors are raised?

| error | means |
| --- | --- |
| `seqsup.errors.SeqsupError` | an error that a user can fix; the errors below but the last two are kinds of it |
| `seqsup.errors.Refused` | no run was started: another run is active, or the program is inside an agent |
| `seqsup.errors.NoSuchRun` | `run` names no run |
| `seqsup.profile.complaint.ProfileError` | the profile has mistakes |
| `seqsup.artifacts.ArtifactError` | a file cannot be stored or read |
| `ValueError` | a value is impossible, or can only be a slip |
| `TypeError` | an argument has another type; the message names it |"""


def _public(module: ModuleType, name: str) -> Iterator[str]:
    """Describe a function, an error or a struct."""
    found = getattr(module, name)
    if inspect.isfunction(found):
        signature = re.sub(r"str \| os\.PathLike\[str\]", "str | PathLike", str(inspect.signature(found)))
        # Python 3.13 has pathlib's classes in a module inside it, others do not.
        signature = re.sub(r"\b(collections|typing|pathlib|seqsup)(\.\w+)*\.", "", signature)
        yield f"\n### {name}\n\n```python\n{name}{signature}\n```\n\n{inspect.getdoc(found)}"
        return
    yield f"\n### {name}\n\n{inspect.getdoc(found)}"
    if fields := list(_fields(found)):
        yield "\n| field | type | meaning |\n| --- | --- | --- |"
        yield from (f"| `{field}` | {_cell(kind)} | {_cell(about)} |" for field, kind, about in fields)
    for method, body in vars(found).items():
        text = inspect.getdoc(body)
        if text and not method.startswith("_"):
            called = "" if isinstance(body, property) else re.sub(r"\(self(, )?", "(", str(inspect.signature(body)))
            called = re.sub(r"seqsup(\.\w+)*\.", "", called)
            yield f"\n`{method}{called}`: {text}"


def _fields(found: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and comment of each field of a struct."""
    for field in getattr(found, "__struct_fields__", ()):
        line = re.search(
            rf"^    {field}: ([^=#]+?)(?: = [^#]+?)?(?:  # (.+))?$", inspect.getsource(found), re.MULTILINE
        )
        assert line is not None, field
        yield field, f"`{line[1]}`", (line[2] or "").strip()


def _presets(page: str) -> str:
    """Replace the table of the page; the rest of it is written by hand."""
    rows = ["| preset | for | variables | keys | known of it |", "| --- | --- | --- | --- | --- |"]
    rows += [f"| {' | '.join(map(_cell, _preset_cells(read_preset(name))))} |" for name in preset_names()]
    described = preset_schema()["properties"]
    del described["keys"]["properties"]  # the profile's
    known = list(_table(described))
    for marker, table in ((f"{MADE} -->", rows), (f"{MADE}, too -->", known)):
        before, found, after = page.partition(f"{marker}\n\n")
        page = "".join((before, found, "\n".join(table), "\n\n", after.partition("\n\n")[2]))
    return page


def _preset_cells(preset: Preset) -> tuple[str, ...]:
    resets = any(re.compile(pattern).groupindex for pattern in preset.usage_limit)
    limit = "usage limit" + (" with its reset" if resets else "") if preset.usage_limit else ""
    known = ("failures" if preset.failure else "", limit, "no credit" if preset.no_credit else "")
    return (
        preset.name,
        preset.title,
        ", ".join(f"{name}={value}" for name, value in preset.env.items()),
        ", ".join(f"{table}.{key} {value}" for table, keys in preset.keys.items() for key, value in keys.items()),
        ", ".join(filter(None, known)),
    )


def _profile() -> Iterator[str]:
    top = schema()["properties"]
    yield f"<!-- {MADE} -->\n# The keys of a profile\n"
    yield "```toml"
    yield "[memory]                      # a table at the top level holds for every agent"
    yield 'hard = "2GiB"\n\n[[agents]]\nname = "build"\ncommand = ["npm", "run", "build"]'
    yield 'memory = { hard = "6GiB" }    # the same table inside an agent overrides it key by key\n```\n'
    yield "| value | how to write it |\n| --- | --- |"
    size = '`"1.5GiB"`, `"512M"` (K, M, G and T are binary), or bytes from 1000000 on; `4` and `4096` are refused'
    yield f"| size | {size} |"
    yield '| duration | `"30s"`, `"1h30m"`, `"7d"`, or seconds; `90000` (milliseconds?) and `keep = 7` are refused |'
    yield '| no limit | `"none"` |'
    names = "`{task}`, `{item}`, `{summary:AGENT}`, `{artifacts:AGENT}`, `{artifacts}`"
    yield f"| placeholder in `command`, `env` and `stdin` | {names} |"
    yield "| placeholder in `env` alone, also of companions | `{secret:NAME}` |\n"
    yield _filled("""`seqsup schema` prints the JSON Schema, by which editors complete and check. A mistake is reported
        with its line and a hint. All mistakes are reported at once, and nothing is started.""")
    yield "\n```\nseqsup: agents.toml:7:10: agent build: memory: expected a table, not '6GiB'"
    yield '  7 | memory = "6GiB"\n    |          ^^^^^^\n```\n'
    yield "### Which braces are placeholders?\n"
    yield '```toml\n[[agents]]\nname = "review"\nfor_each = { glob = "src/*.ts" }'
    yield """command = ["sh", "-c", "cd ${HOME}/app && claude -p \\"Review $0\\" | tee review.md", "{item}"]"""
    yield "```\n"
    yield _filled("""Only the placeholders above are replaced. All other braces reach the command unchanged: JSON, the
        shell's `${HOME}`, templates of Go and GitHub such as `{{.Names}}` and `${{ github.sha }}`, and JavaScript such
        as `{task: 1}` and `{summary: "S"}`.""")
    yield "\n| you write | the command gets |\n| --- | --- |"
    yield "| `{task}` | the task |\n| `{{task}` | the text `{task}`: before a placeholder, `{{` is one brace |"
    yield "| `{taks}`, `{ task }`, `{{task}}` | nothing: this is refused, with the remedy |"
    yield "\n### Where does a secret come from?\n"
    yield '```toml\n[[agents]]\nname = "release"\ncommand = ["npm", "publish"]'
    yield 'env = { NPM_TOKEN = "{secret:NPM_TOKEN}" }\n```\n'
    yield _filled("""seqsup reads the value where the agent runs: from its environment variable NPM_TOKEN, or from
        `~/.config/seqsup/secrets.toml`. It is in no plan, journal, event or log. `{secret:NAME}` is allowed in `env` of
        agents and companions; elsewhere it is refused. See [keep secrets out of a profile](../how-to/secrets.md).""")
    examples = _examples()
    yield "\n## (top)\n"
    yield from _table({"name": top["name"]})
    for name, table in top.items():
        own = table.get("items", table)
        if "properties" not in own:
            continue
        many = table.get("type") == "array"
        keys = {key: value for key, value in own["properties"].items() if not (name == "agents" and key in SHARED)}
        yield f"\n## {f'[[{name}]]' if many else f'[{name}]'}\n"
        yield (own.get("description") or table.get("description", "")) + "\n"
        yield f"```toml\n{examples[name]}\n```\n"
        yield from _table(keys)
    yield "\nAn agent also takes the tables " + ", ".join(f"`{name}`" for name in SHARED) + ", for itself alone."


def _examples() -> dict[str, str]:
    """Return the example of each table, by its name."""
    found: dict[str, str] = {}
    for part in re.split(r"\n\n(?=\[)", (ROOT / "docs/tables.toml").read_text())[1:]:
        name = part.strip("[").partition("]")[0]
        found[name] = "\n\n".join(filter(None, (found.get(name), part.strip())))
    return found


def _table(keys: dict[str, Any], prefix: str = "") -> Iterator[str]:
    if not prefix:
        yield "| key | meaning | takes | default |\n| --- | --- | --- | --- |"
    for name, value in keys.items():
        default = "" if value.get("default") in (None, "", [], {}) else f"`{_toml(value['default'])}`"
        cells = map(_cell, (f"`{prefix}{name}`", value.get("description", ""), _takes(value), default))
        yield f"| {' | '.join(cells)} |"
        for inner in (value, *value.get("anyOf", ())):
            if "properties" in inner:
                yield from _table(inner["properties"], f"{prefix}{name}.")


def _takes(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        kinds = [_takes(each) for each in value["anyOf"]]
        if "size" in kinds or "duration" in kinds:  # a number means bytes or seconds: said once, above
            kinds = [kind for kind in kinds if kind not in ("number", "whole number")]
        return ", ".join(dict.fromkeys(kinds))
    if "const" in value:
        return f"`{_toml(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{_toml(each)}`" for each in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"list of {_takes(value.get('items', {})) or 'values'}"
    if kind == "string" and "pattern" in value:
        return "size" if "kKmMgG" in value["pattern"] else "duration" if "ms" in value["pattern"] else "text"
    names = {"string": "text", "boolean": "true, false", "integer": "whole number", "object": "table"}
    return names.get(str(kind), str(kind or ""))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _cell(text: str) -> str:
    """Escape what Markdown takes for its own: | everywhere in a table, the others outside of `code`."""
    text = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"`[^`]*`|[*<]", lambda found: {"*": "\\*", "<": "&lt;"}.get(found[0], found[0]), text)


# -- roff


def _man() -> Iterator[str]:
    yield f'.\\" {MADE}\n.TH SEQSUP 1 "" "seqsup {__version__}" "User Commands"\n.SH NAME'
    yield "seqsup \\- " + _roff("runs AI agents strictly one at a time, and proves that memory is back before the next")
    yield ".SH SYNOPSIS\n.B seqsup\n.I COMMAND\n[\\fIOPTION\\fR]...\n.SH DESCRIPTION"
    yield _roff(inspect.cleandoc(seqsup.help or "").replace("\n", " "))
    for section, names in COMMANDS.items():
        yield f".SH {section.upper()}"
        for name, command, context in _commands():
            if name.split()[0] in names:
                yield f".SS {_roff(_usage(command, context))}"
                for kind, text in _blocks(command.help):
                    yield f".PP\n.nf\n{_roff(text)}\n.fi" if kind == "code" else f".PP\n{_roff(text)}"
                for option, about in _options(command, context):
                    yield f".TP\n.B {_roff(option)}\n{_roff(about)}"
    yield ".SH EXIT STATUS\n" + _roff(re.sub(r"^Exit codes: ", "", seqsup.epilog or ""))
    yield ".SH ENVIRONMENT"
    for name, about in _variables()["read"].items():
        about = re.sub(r"\[([^]]+)\]\([^)]+\)|`([^`]+)`", lambda found: found[1] or found[2], about)
        yield f".TP\n.B {name}\n{_roff(about)}"
    yield ".SH FILES\n.TP\n.I NAME.toml\n" + _roff("A profile: `seqsup schema` describes it.")


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in text.splitlines())


if __name__ == "__main__":
    main()
