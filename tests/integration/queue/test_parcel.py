"""What travels with a job to another machine, and what is laid out there."""

import os
from pathlib import Path

import pytest
import tomlkit
from msgspec.structs import replace

from helpers.profiles import agent
from seqsup.cli.load_plan import load
from seqsup.cli.read_profile import read
from seqsup.errors import SeqsupError
from seqsup.host.machine import machine_id
from seqsup.plan.items import find_items
from seqsup.plan.preset_files import user_folder
from seqsup.profile.complaint import Complaint, ProfileError
from seqsup.queue.jobs import NewJob, Order
from seqsup.queue.parcel import LARGEST, MOST, choice_of, order_of, pack, unpack
from seqsup.queue.spread import spread

PRESET = 'title = "Mine"\n[prompt]\ncommand = ["true", "{options}", "{prompt}"]\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of the profile."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def written(folder: Path, *agents: dict[str, object], text: str = "") -> Path:
    file = folder / "night.toml"
    file.write_text(text + tomlkit.dumps({"agents": list(agents)}))
    return file


def packed(file: Path, **asked: str) -> Order:
    profile = read(str(file))
    return pack(order_of(profile, **asked), profile)  # type: ignore[arg-type]


def refusal(file: Path, **asked: str) -> Complaint:
    with pytest.raises(ProfileError) as caught:
        packed(file, **asked)
    [complaint] = caught.value.complaints
    assert complaint.file == str(file)
    return complaint


def file_of(folder: Path, name: str, text: str = "x") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_only_the_text_goes_into_an_order(home: Path) -> None:
    file_of(home, "in.txt")
    file = written(home, agent("a", ["cat"], stdin_file="in.txt"))
    order = order_of(read(str(file)), task="x", only=("a",))
    assert order == Order(
        folder=str(home), profile=file.read_text(), path=str(file), task="x", only=("a",), origin=machine_id()
    )


def test_files_that_seqsup_reads_travel_and_are_laid_out_elsewhere(home: Path, tmp_path: Path) -> None:
    file_of(home, "list.txt", "one\ntwo\n")
    for item in ("one", "two"):
        file_of(home, f"in/{item}.txt", f"text of {item}")
    file_of(home, "presets/beside.toml", PRESET)
    file_of(user_folder(), "own.toml", PRESET)
    file_of(user_folder(), "other.toml", PRESET)
    file = written(
        home,
        agent("a", ["cat"], for_each={"lines": "list.txt"}, stdin_file="./in/{item}.txt"),
        {"name": "b", "preset": "own", "prompt": "x"},
        agent("c", ["cat"], needs=["b"], stdin_file="made-by-b.txt"),
    )
    order = packed(file)
    wanted = {"list.txt", "in/one.txt", "in/two.txt", "presets/beside.toml", "presets/own.toml"}
    assert {*order.files} == wanted
    (user_folder() / "own.toml").unlink()  # as on another machine
    profile = unpack(order, tmp_path / "jobs" / "7")
    assert profile == tmp_path / "jobs" / "7" / "night.toml"
    assert [entry.name for entry in profile.parent.parent.iterdir()] == ["7"]
    for path in profile.parent.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
    plan = load(str(profile), choice_of(order))
    assert [step.name for step in plan.steps] == ["a.1", "a.2", "b", "c"]
    assert Path(plan.steps[1].stdin_file or "").read_text() == "text of two"


def test_job_of_a_spread_profile_carries_its_own_files_only(home: Path, tmp_path: Path) -> None:
    file_of(home, "list.txt", "one\ntwo\n")
    for item in ("one", "two"):
        file_of(home, f"{item}.c", item)
    file = written(
        home,
        agent("a", ["cat"], for_each={"glob": "*.c"}, stdin_file="{item}"),
        agent("b", ["true"], for_each={"lines": "list.txt"}, needs=["a"]),
        agent("c", ["true"], needs=["b"]),
    )
    profile = read(str(file))
    made = spread(profile, find_items(profile, str(home)), NewJob(name="", order=order_of(profile)))
    orders = [pack(job.order, profile) for job in made.jobs]
    assert [(order.only, {*order.files}) for order in orders] == [
        (("a.1",), {"one.c"}), (("a.2",), {"two.c"}), (("b.1",), set()), (("b.2",), set()), (("c",), set()),
    ]  # fmt: skip
    for n, order in enumerate(orders):
        plan = load(str(unpack(order, tmp_path / f"job-{n}")), choice_of(order))
        assert tuple(step.name for step in plan.steps) == order.only


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("/etc/passwd", "its path is absolute"),
        ("~/x.txt", "it is in a home folder"),
        ("../x.txt", "it is outside of the folder of the profile"),
        ("a/../../x.txt", "it is outside of the folder of the profile"),
        ("{task}", "its path is absolute"),
    ],
)
def test_file_outside_of_the_folder_is_refused(home: Path, named: str, told: str) -> None:
    complaint = refusal(written(home, agent("a", ["cat"], stdin_file=named)), task="/etc/passwd")
    assert told in complaint.message
    assert "move it into the folder of the profile" in complaint.hint
    assert (complaint.line, complaint.key) == (4, "agents[0].stdin_file")


def test_lines_outside_of_the_folder_are_refused(home: Path) -> None:
    complaint = refusal(written(home, agent("a", ["cat"], for_each={"lines": "../x.txt"})))
    assert "outside of the folder" in complaint.message
    assert (complaint.line, complaint.key) == (6, "agents[0].for_each.lines")


def test_link_is_followed_inside_the_folder_alone(home: Path) -> None:
    inside, outside = file_of(home, "in.txt"), file_of(home.parent, "secret.txt")
    link = home / "link.txt"
    file = written(home, agent("a", ["cat"], stdin_file="link.txt"))
    link.symlink_to(inside)
    assert packed(file).files == {"link.txt": b"x"}
    link.unlink()
    link.symlink_to(outside)
    assert f"a link to {outside}" in refusal(file).message
    link.unlink()
    link.symlink_to("/proc/self/environ")
    assert "outside of the folder" in refusal(file).message


def test_preset_beside_the_profile_is_no_link_to_elsewhere(home: Path) -> None:
    other = file_of(home.parent, "other.toml", PRESET)
    (home / "presets").mkdir()
    (home / "presets/mine.toml").symlink_to(other)
    assert "a link to" in refusal(written(home, agent("a", ["cat"]))).message


def test_file_may_have_a_mebibyte_and_no_more(home: Path) -> None:
    file = written(home, agent("a", ["cat"], stdin_file="big.txt"))
    (home / "big.txt").write_bytes(bytes(LARGEST))
    assert len(packed(file).files["big.txt"]) == LARGEST
    (home / "big.txt").write_bytes(bytes(LARGEST + 1))
    complaint = refusal(file)
    assert "a file that travels with a job may have 1 MiB" in complaint.message
    assert (complaint.line, complaint.key) == (4, "agents[0].stdin_file")
    assert "--workspace" in complaint.hint


def test_files_of_a_job_have_a_bound_together(home: Path) -> None:
    items = [f"{n}.bin" for n in range(MOST // LARGEST + 1)]
    for item in items:
        (home / item).write_bytes(bytes(LARGEST))
    file = written(home, agent("a", ["cat"], for_each=items, stdin_file="{item}"))
    assert "--spread" in refusal(file).hint


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.mkdir(), lambda _: None])
def test_file_that_is_none_is_refused(home: Path, make: object) -> None:
    make(home / "x")  # type: ignore[operator]
    complaint = refusal(written(home, agent("a", ["cat"], stdin_file="x")))
    assert any(why in complaint.message for why in ("not a regular file", "Is a directory", "does not exist"))


def test_glob_is_refused_where_no_files_are(home: Path) -> None:
    file_of(home, "a.c")
    file = written(home, agent("a", ["cat"], for_each={"glob": "*.c"}))
    assert refusal(file).hint == "use --spread, which lists them now"


# On the worker


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a/../b", "", ".", "~/x", "a//b", "a\0b", ".."])
def test_order_that_names_a_path_outside_writes_nothing(tmp_path: Path, path: str) -> None:
    order = Order(folder="/", profile="x", path="/p/night.toml", files={path: b"x"})
    with pytest.raises(SeqsupError, match="not inside its folder"):
        unpack(order, tmp_path / "jobs" / "1")
    with pytest.raises(SeqsupError, match="not inside its folder"):
        unpack(replace(order, path="/p/..", files={}), tmp_path / "jobs" / "1")
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("files", [{"a": b"x", "a/b": b"x"}, {"night.toml/x": b"x"}, {"n" * 300: b"x"}])
def test_order_that_cannot_be_laid_out_leaves_nothing(tmp_path: Path, files: dict[str, bytes]) -> None:
    order = Order(folder="/", profile="x", path="/p/night.toml", files=files)
    with pytest.raises(SeqsupError, match="cannot be written"):
        unpack(order, tmp_path / "jobs" / "1")
    assert list((tmp_path / "jobs").iterdir()) == []


def test_folder_of_a_job_that_runs_again_stays_as_it_is(tmp_path: Path) -> None:
    order = Order(folder="/", profile="x", path="/p/night.toml", files={"in.txt": b"x"})
    folder = tmp_path / "jobs" / "1"
    (tmp_path / "jobs" / ".1.new").mkdir(parents=True)
    (tmp_path / "jobs" / ".1.new" / "in.txt").write_text("half")  # a worker was killed
    profile = unpack(order, folder)
    (folder / "in.txt").write_text("worked on")
    assert unpack(order, folder) == profile
    assert (folder / "in.txt").read_text() == "worked on"
    assert [each.name for each in (tmp_path / "jobs").iterdir()] == ["1"]
