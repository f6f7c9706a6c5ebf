"""Real agent CLIs from npm, pointed to a model's server on this machine's loopback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
_NODE = 24  # qwen needs 22; codex's launcher replaces itself from 24 on
_MAY = {  # use any tool without asking
    "claude": ["--dangerously-skip-permissions"],
    "codex": ["--dangerously-bypass-approvals-and-sandbox"],
    "gemini": ["--yolo"],
    "qwen": ["--yolo"],
    "opencode": [],
    "copilot": ["--allow-all-tools"],
}


def version(cli: str) -> str:
    return npm.VERSIONS[_PACKAGES[cli]]


def binary(cli: str) -> Path:
    """Return the CLI's command, or skip the test if npm's registry lacks its package."""
    return npm.bin_folder(_PACKAGES[cli]) / cli


def environment(cli: str, url: str, home: Path, subscriber: bool = False) -> dict[str, str]:
    """Write the CLI's settings below `home`; return the variables that point the CLI to the model at `url`.

    `subscriber`: claude with a login instead of an API key; only a login has usage limits.
    """
    path = f"{binary(cli).parent}:{npm.node_binary(_NODE).parent}:/usr/local/bin:/usr/bin:/bin"
    home.mkdir(parents=True, exist_ok=True)
    own = _ENVIRONMENTS[cli](url, home)
    if subscriber:
        del own["ANTHROPIC_API_KEY"]
        own["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-fake"
    shared = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_DATA_HOME": str(home / ".data")}
    return {**shared, "PATH": path, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **own}


def options(cli: str, url: str, may: bool = True) -> list[str]:
    """Return the options with which the CLI uses the model at `url`; `may`: and any tool without asking."""
    return [*(_MAY[cli] if may else ()), *(_OPTIONS[cli](url) if cli in _OPTIONS else ())]


def form(cli: str) -> PromptForm:
    found = read_preset(cli).prompt
    assert found is not None
    return found


def command(cli: str, url: str, prompt: str, *more: str, may: bool = True, resume: str = "") -> list[str]:
    """Return the command line that the preset makes of a prompt; `resume`: the id of a session to resume."""
    session = put(form(cli).resume, "id", resume) if resume else ()
    return list(form(cli).words(prompt, (*form(cli).stream, *options(cli, url, may), *more), session))


# -- one of each per CLI


def _claude(url: str, home: Path) -> dict[str, str]:
    quick = {"CLAUDE_CODE_MAX_RETRIES": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-ant-fake", "IS_SANDBOX": "1", **quick}


def _codex(url: str, home: Path) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-fake"}


def _gemini(url: str, home: Path) -> dict[str, str]:
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    _write(home / ".gemini" / "settings.json", settings)
    own = {"GEMINI_API_KEY": "fake", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    return {**own, "GEMINI_CLI_NO_RELAUNCH": "true"}


def _qwen(url: str, home: Path) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-fake", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "fake"}


def _opencode(url: str, home: Path) -> dict[str, str]:
    fake = {"limit": {"context": 200_000, "output": 8_000}, "cost": {"input": 1, "output": 2}}
    options = {"baseURL": f"{url}/v1", "apiKey": "sk-fake"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"fake": fake}}
    settings = {"autoupdate": False, "model": "fake/fake", "small_model": "fake/fake", "provider": {"fake": provider}}
    _write(home / ".config" / "opencode" / "opencode.json", settings)
    return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}


def _copilot(url: str, home: Path) -> dict[str, str]:
    own = {"BASE_URL": f"{url}/v1", "TYPE": "openai", "API_KEY": "sk-fake-long"}  # it hides its key wherever it occurs
    provider = {f"COPILOT_PROVIDER_{name}": value for name, value in own.items()}
    return {**provider, "COPILOT_MODEL": "fake", "COPILOT_OFFLINE": "true"}


def _codex_options(url: str) -> list[str]:
    provider = f'{{name="fake",base_url="{url}/v1",wire_api="responses",env_key="OPENAI_API_KEY"}}'
    chosen = ["-c", 'model_provider="fake"', "-c", f"model_providers.fake={provider}", "-m", "gpt-5.1-codex"]
    return ["--skip-git-repo-check", *chosen]


_ENVIRONMENTS: dict[str, Callable[[str, Path], dict[str, str]]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "qwen": _qwen,
    "opencode": _opencode,
    "copilot": _copilot,
}
_OPTIONS: dict[str, Callable[[str], list[str]]] = {
    "codex": _codex_options,
    "gemini": lambda url: ["-m", "gemini-2.5-flash"],
    "qwen": lambda url: ["--auth-type", "openai"],
    "opencode": lambda url: ["-m", "fake/fake"],
}


def _write(path: Path, settings: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))
