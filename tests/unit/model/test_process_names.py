"""Kinds of processes by the command lines in /proc of real agents' trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.enums import ProcessKind
from seqsup.model.process import ProcessMemory
from seqsup.model.process_names import classify, processes, script_name

AGENT, MCP, SHELL, BROWSER, OTHER = (
    ProcessKind.AGENT,
    ProcessKind.MCP_SERVER,
    ProcessKind.SHELL,
    ProcessKind.BROWSER,
    ProcessKind.OTHER,
)
NPX = "/root/.npm/_npx/15b07286cbcc3329/node_modules"
UV = "/root/.cache/uv/archive-v0/Q2xhdWRl/bin"
CHROME = "/root/.cache/ms-playwright/chromium-1194/chrome-linux/chrome"

# the kernel's name for it; its arguments, in one text where it wrote over them itself
REAL: list[tuple[str, list[str], ProcessKind]] = [
    # MCP servers, and what starts them
    ("npm exec @model", ["npm exec @modelcontextprotocol/server-filesystem /tmp"], MCP),
    ("node", ["node", "/usr/local/bin/npx", "-y", "@modelcontextprotocol/server-everything@2026.8.31"], MCP),
    ("npx", ["npx", "-y", "@playwright/mcp@latest", "--headless"], MCP),
    ("MainThread", ["node", f"{NPX}/.bin/mcp-server-filesystem", "/tmp"], MCP),
    ("node", ["node", f"{NPX}/@modelcontextprotocol/server-github/dist/index.js"], MCP),
    ("node", ["/usr/bin/node", "--max-old-space-size=100", "/src/github-mcp-server/dist/index.js", "stdio"], MCP),
    ("node", ["node", "/usr/lib/node_modules/.pnpm/x@1/node_modules/@acme/mcp-tools/cli.js"], MCP),
    ("node", ["node", "/usr/lib/node_modules/@playwright/mcp/cli.js", "--browser", "chromium"], MCP),
    ("uvx", ["uvx", "mcp-server-git", "--repository", "/src/app"], MCP),
    ("uv", ["uv", "tool", "uvx", "mcp-server-time"], MCP),
    ("uvx", ["uvx", "--from", "git+https://example.org/serena", "serena-mcp-server"], MCP),
    ("mcp-server-time", [f"{UV}/python", f"{UV}/mcp-server-time"], MCP),
    ("bun", ["bun", "/src/mcp-server-x/index.ts"], MCP),
    ("bun.exe", [f"{NPX}/bun/bin/bun.exe", "run", f"{NPX}/@modelcontextprotocol/server-memory/dist/index.js"], MCP),
    ("bun", ["bun", "x", "@modelcontextprotocol/server-everything"], MCP),
    ("deno", ["deno", "run", "-A", "npm:@modelcontextprotocol/server-filesystem", "/tmp"], MCP),
    ("python3.12", ["/usr/bin/python3.12", "-u", "-m", "mcp_server_fetch"], MCP),
    ("github-mcp-serv", ["/usr/local/bin/github-mcp-server", "stdio"], MCP),
    ("docker", ["docker", "run", "-i", "--rm", "-e", "TOKEN", "ghcr.io/github/github-mcp-server"], MCP),
    ("docker", ["docker", "run", "-i", "--rm", "mcp/sqlite"], MCP),
    ("codex", ["codex", "mcp-server"], MCP),
    ("claude", ["/root/.local/bin/claude", "mcp", "serve"], MCP),
    ("node", ["node", "/usr/lib/node_modules/@acme/mcp", "--port", "1"], MCP),
    # shells, npm's own between included
    ("sh", ["sh", "-c", "mcp-server-filesystem /tmp"], SHELL),
    ("bash", ["/bin/bash", "-lc", "npx -y @modelcontextprotocol/server-everything@2026.8.31"], SHELL),
    ("bash", ["-bash"], SHELL),
    ("zsh", ["/usr/bin/zsh", "-c", "-l", "source /root/.claude/shell-snapshots/a.sh && eval 'npm test'"], SHELL),
    # browsers
    ("chrome", [CHROME, "--headless", "--remote-debugging-pipe"], BROWSER),
    ("chrome", [f"{CHROME} --type=renderer --crashpad-handler-pid=77 --lang=en-US"], BROWSER),
    ("chrome", ["/opt/google/chrome/chrome", "--type=zygote"], BROWSER),
    ("chromium", ["/usr/lib/chromium/chromium", "--type=gpu-process"], BROWSER),
    ("headless_shell", ["/srv/chromium_headless_shell-1194/chrome-linux/headless_shell", "--type=utility"], BROWSER),
    ("chrome_crashpad", ["/opt/google/chrome/chrome_crashpad_handler", "--monitor-self"], BROWSER),
    ("firefox-esr", ["/usr/lib/firefox-esr/firefox-esr", "-contentproc"], BROWSER),
    ("WPEWebProcess", ["/srv/webkit/libexec/WPEWebProcess", "12", "20"], BROWSER),
    # agents' programs under another leader
    ("claude", ["claude", "-p", "say what mcp is", "--mcp-config", "mcp.json"], AGENT),
    ("claude.exe", [f"{NPX}/@anthropic-ai/claude-code/bin/claude.exe", "-p", "hi"], AGENT),
    ("node", ["node", "/usr/bin/gemini", "-p", "mcp"], AGENT),
    ("MainThread", ["node", "--max-old-space-size=4000", "/usr/lib/node_modules/@qwen-code/qwen-code/cli.js"], AGENT),
    ("node", ["node", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js", "--allowedTools", "mcp__x"], AGENT),
    ("codex", ["/usr/bin/codex", "exec", "review"], AGENT),
    # all else
    ("node", ["node", "server.js"], OTHER),
    ("bun", ["bun", "run"], OTHER),
    ("node", ["node", "-e", "require('@modelcontextprotocol/sdk')"], OTHER),
    ("npm exec tsc", ["npm exec tsc --noEmit"], OTHER),
    ("rg", ["rg", "mcp", "src"], OTHER),
    ("git", ["git", "clone", "https://example.org/mcp-server.git"], OTHER),
    ("python3", ["python3", "-m", "pytest", "tests/test_mcp.py"], OTHER),
    ("node", ["node", "/home/me/mcp/app/node_modules/typescript/lib/tsserver.js"], OTHER),
    ("kworker", [], OTHER),
    ("", [""], OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("name", "command", "kind"), REAL, ids=[" ".join(command)[-60:] for _, command, _ in REAL])
def test_the_kind_of_a_real_command_line(name: str, command: list[str], kind: ProcessKind) -> None:
    assert classify(name, command, leader=False) is kind


words = st.text(max_size=12) | st.sampled_from([word for _, command, _ in REAL for word in command])


@given(words, st.lists(words, max_size=6))
def test_whatever_a_process_calls_itself_it_has_a_kind_and_the_leader_is_the_agent(
    name: str, command: list[str]
) -> None:
    assert isinstance(classify(name, command, leader=False), ProcessKind)
    assert classify(name, command, leader=True) is AGENT


@pytest.mark.parametrize(("script", "said"), [
    ("agents/embed.js", "embed.js"),
    ("server.js", "server.js"),
    (f"{NPX}/@modelcontextprotocol/server-github/dist/index.js", "server-github/index.js"),
    ("/src/app/index.js", "app/index.js"),
    ("../index.js", "index.js"),
    ("/index.js", "index.js"),
    ("http.server", "http.server"),
    ("-e", "-e"),
])  # fmt: skip
def test_script_called_like_many_others_is_named_with_its_package(script: str, said: str) -> None:
    assert script_name(script) == said


def test_the_reader_sees_what_each_was_for() -> None:
    held = [
        ProcessMemory(pid=n, name=name, command=" ".join(command), bytes=size << 20,
                      kind=classify(name, command, leader=n == 0))
        for n, (name, command, size) in enumerate([
            ("node", ["node", "run.js"], 600),
            ("node", ["node", f"{NPX}/@modelcontextprotocol/server-github/dist/index.js"], 200),
            ("chrome", [CHROME, "--type=renderer"], 70),
            ("chrome", [CHROME, "--type=zygote"], 30),
            ("bash", ["bash", "-lc", "make"], 3),
        ])
    ]  # fmt: skip
    assert processes(held) == (
        "node run.js (agent) 600 MiB · node server-github/index.js (MCP server) 200 MiB"
        " · 2 × chrome (browser) 100 MiB · bash -lc 3 MiB"
    )


def test_process_without_a_name_of_its_own_is_listed_last() -> None:
    held = [
        ProcessMemory(pid=pid, name=name, command=name, bytes=size << 20, count=count)
        for pid, name, size, count in [
            (1, "make", 10, 1), (2, "sleep", 3, 20), (0, "other", 90, 7), (0, "shared memory and tmpfs", 40, 1),
        ]
    ]  # fmt: skip
    assert processes(held, named=2) == "shared memory and tmpfs 40 MiB · make 10 MiB · other 93 MiB"
    assert processes(held) == "shared memory and tmpfs 40 MiB · make 10 MiB · 20 × sleep 3 MiB · other 90 MiB"
