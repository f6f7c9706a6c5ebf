"""Claude Code's conversations, without a model: the words of the first prompt say what the turns do, one after another.

eat: start a tool that takes 150 MiB. wait: until there is a file `go`. crash, fail, limit, done: end so.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def say(**line: object) -> None:
    print(json.dumps({**line, "session_id": session}), flush=True)


def result(text: str, *, is_error: bool, **more: object) -> None:
    costs = {"model_usage_since_last_result": {"none": {"costUSD": 0.1}}, "total_cost_usd": 0.1 * len(prompts)}
    say(type="result", is_error=is_error, num_turns=1, result=text, **costs, **more)


session, resumed = option("--resume") or option("--session-id"), "--resume" in sys.argv
conversation = Path.home() / "conversations" / session
conversation.parent.mkdir(exist_ok=True)
if resumed and not conversation.exists():
    lost = f"No conversation found with session ID: {session}"
    say(type="result", subtype="error_during_execution", is_error=True, num_turns=0, errors=[lost])
    sys.exit(lost)
if not resumed and conversation.exists():
    sys.exit(f"Error: Session ID {session} is already in use.")
with conversation.open("a") as file:
    file.write(sys.argv[-1] + "\n")
say(type="system", subtype="init", model="none")
prompts = conversation.read_text().splitlines()
match prompts[0].split()[len(prompts) - 1]:
    case "eat":
        subprocess.run([sys.executable, "-c", "held = b'x' * (150 << 20); input()"], stdin=sys.stdin, check=False)
        time.sleep(60)
    case "wait":
        while not Path("go").exists():
            time.sleep(0.02)
        result("waited", is_error=False, terminal_reason="completed")
    case "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    case "fail":
        result("no", is_error=True, terminal_reason="api_error")
        sys.exit(1)
    case "limit":
        say(type="rate_limit_event", rate_limit_info={"status": "rejected", "resetsAt": int(time.time())})
        result("You've hit your 5-hour limit", is_error=True, api_error="usage_limit_reached")
        sys.exit(1)
    case "done":
        result("done", is_error=False, terminal_reason="completed")
