"""Real agent CLIs from npm, pointed to a model's server on this machine's loopback."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit

from helpers import npm
from seqsup.model.preset import PromptForm, put, read_preset

_PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "qwen": "@qwen-code/qwen-code",
    "opencode": "opencode-ai",
    "copilot": "@github/copilot",
}
CLIS = tuple(_PACKAGES)
# A command that prints "sixteen", and does not hold it. qwen may lose the output of one that ends at once.
SIXTEEN = "sh -c 'printf six%s teen; sleep 0.3'"
_NODE = 24  # qwen needs 22; codex's launcher replaces itself from 24 on
_MAY = {  # use any tool without asking
    "claude": ["--dangerously-skip-permissions"],
    "codex": ["--dangerously-bypass-approvals-and-sandbox"],
    "gemini": ["--yolo"],
    "qwen": ["--yolo"],
    "opencode": [],
    "copilot": ["--allow-all"],
}


def version(cli: str) -> str:
    return npm.VERSIONS[_PACKAGES[cli]]


def binary(cli: str) -> Path:
    """Return the CLI's command, or skip the test if npm's registry lacks its package."""
    return npm.bin_folder(_PACKAGES[cli]) / cli


def environment(
    cli: str, url: str, home: Path, servers: "Servers | None" = None, subscriber: bool = False
) -> dict[str, str]:
    """Write the CLI's settings below `home`; return the variables that point the CLI to the model at `url`.

    `servers`: commands of MCP servers by name. `subscriber`: claude with a login instead of an API key; only a login
    has usage limits.
    """
    path = f"{binary(cli).parent}:{npm.node_binary(_NODE).parent}:/usr/local/bin:/usr/bin:/bin"
    home.mkdir(parents=True, exist_ok=True)
    file, settings, own = _SETTINGS[cli](url, servers or {})
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text(tomlkit.dumps(settings) if file.endswith(".toml") else json.dumps(settings))
    if subscriber and cli == "claude":
        del own["ANTHROPIC_API_KEY"]
        own["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-fake"
    shared = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_DATA_HOME": str(home / ".data")}
    return {**shared, "PATH": path, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **own}


def options(cli: str, may: bool = True) -> list[str]:
    """Return the options with which the CLI uses the model of its settings; `may`: and any tool without asking."""
    return [*(_MAY[cli] if may else ()), *_OPTIONS.get(cli, ())]


def form(cli: str) -> PromptForm:
    found = read_preset(cli).prompt
    assert found is not None
    return found


def command(cli: str, prompt: str, *more: str, may: bool = True, resume: str = "") -> list[str]:
    """Return the command line that the preset makes of a prompt; `resume`: the id of a session to resume."""
    session = put(form(cli).resume, "id", resume) if resume else ()
    return list(form(cli).words(prompt, (*form(cli).stream, *options(cli, may), *more), session))


# -- of each CLI: its file of settings, what is in it, and its variables

Servers = Mapping[str, list[str]]
Settings = tuple[str, dict[str, Any], dict[str, str]]


def _listed(servers: Servers, **more: Any) -> dict[str, Any]:
    return {name: {"command": program, "args": args, **more} for name, (program, *args) in servers.items()}


def _claude(url: str, servers: Servers) -> Settings:
    quick = {"CLAUDE_CODE_MAX_RETRIES": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    own = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-ant-fake", "IS_SANDBOX": "1", **quick}
    return ".claude.json", {"mcpServers": _listed(servers)}, own


def _codex(url: str, servers: Servers) -> Settings:
    fake = {"name": "fake", "base_url": f"{url}/v1", "wire_api": "responses", "env_key": "OPENAI_API_KEY"}
    chosen = {"model": "gpt-5.1-codex", "model_provider": "fake", "model_providers": {"fake": fake}}
    return ".codex/config.toml", {**chosen, "mcp_servers": _listed(servers)}, {"OPENAI_API_KEY": "sk-fake"}


def _gemini(url: str, servers: Servers) -> Settings:
    own = {"GEMINI_API_KEY": "fake", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}, "mcpServers": _listed(servers)}
    return ".gemini/settings.json", settings, own


def _qwen(url: str, servers: Servers) -> Settings:
    own = {"OPENAI_API_KEY": "sk-fake", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "fake"}
    return ".qwen/settings.json", {"mcpServers": _listed(servers)}, own


def _opencode(url: str, servers: Servers) -> Settings:
    fake = {"limit": {"context": 200_000, "output": 8_000}, "cost": {"input": 1, "output": 2}}
    own = {"baseURL": f"{url}/v1", "apiKey": "sk-fake"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": own, "models": {"fake": fake}}
    settings = {"autoupdate": False, "model": "fake/fake", "small_model": "fake/fake", "provider": {"fake": provider}}
    listed = {name: {"type": "local", "command": words} for name, words in servers.items()}
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    return ".config/opencode/opencode.json", {**settings, "mcp": listed}, quiet


def _copilot(url: str, servers: Servers) -> Settings:
    own = {"BASE_URL": f"{url}/v1", "TYPE": "openai", "API_KEY": "sk-fake-long"}  # it hides its key wherever it occurs
    provider = {f"COPILOT_PROVIDER_{name}": value for name, value in own.items()}
    settings = {"mcpServers": _listed(servers, type="local", tools=["*"])}
    return ".copilot/mcp-config.json", settings, {**provider, "COPILOT_MODEL": "fake", "COPILOT_OFFLINE": "true"}


_SETTINGS: dict[str, Callable[[str, Servers], Settings]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "qwen": _qwen,
    "opencode": _opencode,
    "copilot": _copilot,
}
_OPTIONS = {
    "codex": ["--skip-git-repo-check"],
    "gemini": ["-m", "gemini-2.5-flash"],
    "qwen": ["--auth-type", "openai"],
}
