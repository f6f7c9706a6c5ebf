"""Values of {secret:NAME} come from the environment or a private file, and are written nowhere."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import seqsup as api
from helpers.command_line import Result
from helpers.past import state_dir
from helpers.profiles import of, parsed, shell, write
from seqsup.errors import SeqsupError
from seqsup.plan.secrets import look_up, secrets_file

Cli = Callable[..., Result]
VALUE = "hunter2-in-the-rye"
HASH = "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_secrets(text: str, mode: int = 0o600) -> Path:
    file = secrets_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def holders(*folders: Path) -> list[Path]:
    """Files that contain the value."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if VALUE.encode() in path.read_bytes()]


def profile(folder: Path, **keys: object) -> Path:
    hashed = f'printf %s "$AUTH" | {sys.executable} -c "{HASH}"'
    return write(
        folder,
        shell("a", hashed, env={"AUTH": "Bearer {secret:TOKEN}"}, **keys),
        shell("b", 'echo "[$AUTH] [$TOKEN]"'),
        companions=[
            {
                "name": "mcp",
                "command": ["sh", "-c", f'{hashed}; echo "$TEXT"; echo ready; exec sleep 1000'],
                "ready": {"log": "ready"},
                "env": {"AUTH": "mcp {secret:TOKEN}", "TEXT": "{task} {{secret:X} ${secret:Y}"},
            }
        ],
        hooks={"after_agent": ['sh -c "cat >> hooked.txt; env >> hooked.txt"']},
    )  # fmt: skip


@pytest.mark.parametrize("by_file", [False, True])
def test_secret_reaches_what_names_it_and_is_written_nowhere(seqsup: Cli, tmp_path: Path, by_file: bool) -> None:
    made = profile(tmp_path, success={"command": ["sh", "-c", f'test "$AUTH" = "Bearer $(cat {tmp_path}/value)"']})
    (tmp_path / "value").write_text(VALUE)
    env = {} if by_file else {"TOKEN": VALUE}
    if by_file:
        write_secrets(f'# mine\nTOKEN = "{VALUE}"\n')
    ran = seqsup("start", made, "--json", env=env)
    assert ran.code == 0, ran.stderr
    assert seqsup("logs", "a").stdout.split()[-1] == digest(f"Bearer {VALUE}")
    assert "[] []" in seqsup("logs", "b").stdout, "only what names a secret gets it"
    [companion] = (state_dir() / "runs/r1/@companions").rglob("stdout.log")
    assert companion.read_text().splitlines()[:2] == [digest(f"mcp {VALUE}"), "{task} {secret:X} ${secret:Y}"]
    told = [ran.stdout + ran.stderr]
    shown = (["plan", made, "--json"], ["plan", made, "-v"], ["status", "--json"], ["events"], ["report", "-o", "-"])
    told += [result.stdout + result.stderr for result in (seqsup(*words, env=env) for words in shown)]
    assert [each for each in told if VALUE in each] == []
    assert holders(state_dir()) == []
    assert VALUE not in (tmp_path / "hooked.txt").read_text()


def test_rotated_secret_is_no_reason_to_run_an_agent_again(seqsup: Cli, tmp_path: Path) -> None:
    made = write(tmp_path, shell("a", "true", env={"AUTH": "{secret:TOKEN}"}), shell("b", "test -e go"))
    assert seqsup("start", made, env={"TOKEN": "one"}).code == 1
    (tmp_path / "go").touch()
    resumed = parsed(seqsup("start", made, "--resume", "--json", env={"TOKEN": "two"}).stdout)
    assert [each["agent"] for each in of(resumed, "attempt_started")] == ["b"]


def test_missing_secret_is_named_before_anything_starts(seqsup: Cli, tmp_path: Path) -> None:
    made = profile(tmp_path)
    refused = seqsup("start", made)
    assert refused.code == 2
    assert f"{made}:" in refused.stderr
    assert "agent a: env.AUTH: secret TOKEN is not set" in refused.stderr
    assert f'hint: export it, or write TOKEN = "…" into {secrets_file()}' in " ".join(refused.stderr.split())
    assert refused.stderr.count("TOKEN is not set") == 1
    assert not (state_dir() / "runs").exists()
    planned = seqsup("plan", made)
    assert planned.code == 2
    assert "start would refuse: secret TOKEN is not set" in planned.stdout
    assert json.loads(seqsup("plan", made, "--json").stdout)["missing"] != []
    assert seqsup("start", made, env={"TOKEN": ""}).code == 2, "an empty variable is none"


def test_secret_of_an_agent_that_is_left_out_may_be_missing(seqsup: Cli, tmp_path: Path) -> None:
    made = write(tmp_path, shell("a", "true", env={"AUTH": "{secret:TOKEN}"}), shell("b", "true"))
    assert seqsup("start", made, "--only", "b").code == 0


def test_run_from_python_has_the_secret_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path, shell("a", 'test "$AUTH" = "x y"', env={"AUTH": "x {secret:TOKEN}"}))
    with pytest.raises(SeqsupError, match="secret TOKEN is not set"):
        api.run(made)
    monkeypatch.setenv("TOKEN", "y")
    assert api.run(made).result().exit_code == 0
    assert os.environ["TOKEN"] == "y"


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ('TOKEN = "x"', 0o640, "other users may open it (mode 0640)\nchmod 600 "),
        ('TOKEN = "x"', 0o604, "other users may open it (mode 0604)"),
        (f'A = "b"\nTOKEN = {VALUE}', 0o600, "line 2 is not TOML"),
        (f"TOKEN = '{VALUE}", 0o600, "is not TOML"),
        ("TOKEN = 5", 0o600, "TOKEN is no text"),
        ('[TOKEN]\nx = "y"', 0o600, "TOKEN is no text"),
        ('TOKEN = "a\\u0000b"', 0o600, "TOKEN holds a NUL character"),
        ("# x\n" * 300_000, 0o600, "larger than 1 MiB"),
    ],
)
def test_file_of_secrets_that_cannot_be_used_is_named_with_the_remedy(text: str, mode: int, told: str) -> None:
    file = write_secrets(text, mode)
    found = look_up(["TOKEN"], {})
    assert not found.values
    assert str(file) in found.missing["TOKEN"]
    assert told in found.missing["TOKEN"]
    assert VALUE not in found.missing["TOKEN"]
    assert look_up(["TOKEN"], {"TOKEN": "y"}).values == {"TOKEN": "y"}, "the file is not needed"


def test_file_of_secrets_may_be_a_link_to_a_private_file_and_no_pipe() -> None:
    file = write_secrets('TOKEN = "x"')
    other = file.rename(file.with_name("other.toml"))
    file.symlink_to(other)
    assert look_up(["TOKEN"], {}).values == {"TOKEN": "x"}
    file.unlink()
    os.mkfifo(file, 0o600)
    assert "not a regular file" in look_up(["TOKEN"], {}).missing["TOKEN"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_secrets_that_another_user_owns_is_refused() -> None:
    file = write_secrets('TOKEN = "x"')
    os.chown(file, 12345, -1)
    assert "it belongs to user 12345\nchown root " in look_up(["TOKEN"], {}).missing["TOKEN"]
