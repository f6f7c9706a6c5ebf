"""Usage limits, in the words of real CLIs: found, and when they reset."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.model.preset import preset_names, read_preset
from seqsup.model.reason import Reason
from seqsup.policy import usage_limit
from seqsup.policy.classify import with_preset

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
# fmt: off
FOUND: list[tuple[str, str, str | None]] = [  # preset, what it says, when that is (UTC); None: it does not say
    ("claude", "Claude AI usage limit reached|1795552000", "2026-11-24T20:26:40"),
    ("claude", "Claude usage limit reached. Your limit will reset at 1pm (Etc/GMT+5).", "2026-11-24T18:00:00"),
    ("claude", "You've hit your limit · resets 4:50am (Europe/Rome)", "2026-11-25T03:50:00"),
    ("claude", "You've hit your session limit · resets 2:55pm (Europe/Paris)", "2026-11-24T13:55:00"),  # just now
    ("claude", "Session limit reached ∙ resets 4pm", "2026-11-24T16:00:00"),
    ("claude", "5-hour limit reached ∙ resets 12am\n     /upgrade to increase your limit.", "2026-11-25T00:00:00"),
    ("claude", "You've hit your limit · resets Dec 20, 5pm (America/New_York)", "2026-12-20T22:00:00"),
    ("claude", "You've hit your limit · resets Jan 2 at 5pm", "2027-01-02T17:00:00"),
    ("claude", "You’ve hit your limit for Claude messages. Limits will reset at 9:30 AM.", "2026-11-25T09:30:00"),
    ("claude", "You've hit your limit · resets 99am (Nowhere/At all)", None),
    ("claude", "Weekly limit reached", None),
    ("codex", "■ You've hit your usage limit. Upgrade to Pro (https://openai.com/chatgpt/pricing) or try again in 5"
     " days 22 hours 11\nminutes.", "2026-11-30T12:11:00"),
    ("codex", "ERROR: You've hit your usage limit. Upgrade to Plus (https://chatgpt.com/explore/plus), or try again at"
     " Dec 11th, 2026 1:36 PM.", "2026-12-11T13:36:00"),
    ("codex", "You've hit your usage limit. Try again in 3 hours 2 minutes.", "2026-11-24T17:02:00"),
    ("codex", "You've hit your usage limit. Upgrade to Pro, or wait for limits to reset (every 5h).", None),
    ("gemini", "You have exhausted your capacity on this model. Your quota will reset after 8h44m7s.",
     "2026-11-24T22:44:07"),
    ("gemini", "You exceeded your current quota, check your plan.\\nPlease retry in 34s.", "2026-11-24T14:00:34"),
    ("gemini", "[API Error: You have exhausted your daily quota on this model.]", None),
    ("gemini", '"status": "RESOURCE_EXHAUSTED"', None),
    ("qwen", "Qwen API quota exceeded: Your Qwen API quota has been exhausted.", None),
    ("qwen", "429 Free allocated quota exceeded.", None),
    ("qwen", "Quota exhausted: please retry after the reset time", None),
    ("qwen", "Quota exhausted: no more. Your quota will reset after 1h0m0s.", "2026-11-24T15:00:00"),
    ("opencode", "Error: Monthly usage limit reached", None),
    ("node", "429 Too Many Requests", None),
]
# fmt: on


@pytest.mark.parametrize(("name", "said", "resets"), FOUND)
def test_a_limit_is_found_with_the_time_at_which_it_resets(name: str, said: str, resets: str | None) -> None:
    limit = usage_limit.find(read_preset(name).usage_limit, f"working\n{said}\n", NOW)
    assert limit is not None
    assert limit.said == " ".join(said.split("\n")[0].split())[:200]
    at = limit.resets_at and datetime.fromtimestamp(limit.resets_at, UTC).replace(tzinfo=None).isoformat()
    assert at == resets


@pytest.mark.parametrize("name", preset_names())
def test_work_on_limits_is_not_one(name: str) -> None:
    for said in ("I raised the limit to 5pm.", "the heap limit was reached", "all quotas are fine", ""):
        assert usage_limit.find(read_preset(name).usage_limit, said, NOW) is None


def test_relevant_part_of_a_long_line_is_shown() -> None:
    """As of `claude --output-format json`."""
    told = "You've hit your 5-hour limit · resets 10:08am (UTC)"
    line = '{"usage_limit":{' + '"tokens":0,' * 99 + f'"is_error":true,"result":"{told}","uuid":"{"6" * 99}"}}'
    limit = usage_limit.find(read_preset("claude").usage_limit, line, datetime(2026, 11, 24, 14, 0, tzinfo=UTC))
    assert limit is not None
    assert told in limit.said
    assert len(limit.said) <= 200
    assert limit.said.startswith("…")


def test_last_of_many_limits_counts() -> None:
    text = "quota will reset after 5s.\nexhausted your quota; reset after 10s\nexhausted your quota; reset after 1h\n"
    limit = usage_limit.find(read_preset("gemini").usage_limit, text, NOW)
    assert limit is not None
    assert limit.resets_at == NOW.timestamp() + 3600


@pytest.mark.parametrize("number", ["9" * 20, "1" + "0" * 400])
def test_impossible_reset_time_is_ignored(number: str) -> None:
    """A model may print anything: it ended the run, and one of inf the journal's reader too."""
    limit = usage_limit.find(read_preset("codex").usage_limit, f"hit your usage limit. try again in {number} days", NOW)
    assert limit is not None
    assert limit.resets_at is None


def test_a_time_of_day_is_of_its_own_zone_also_over_a_change_of_clocks() -> None:
    night = datetime(2026, 10, 24, 23, 0, tzinfo=ZoneInfo("Europe/Berlin"))  # at 3:00 they are put back
    limit = usage_limit.find(read_preset("claude").usage_limit, "limit reached, resets 5am (Europe/Berlin)", night)
    assert limit is not None
    assert limit.resets_at == night.timestamp() + 7 * 3600


@given(st.sampled_from(preset_names()), st.sampled_from([row[1] for row in FOUND]), st.text(), st.integers(0, 60))
def test_any_output_gets_an_answer(name: str, said: str, noise: str, cut: int) -> None:
    preset = read_preset(name)
    for text in (noise, said[:cut] + noise + said[cut:], noise + said + noise):
        limit = usage_limit.find(preset.usage_limit, text, NOW)
        assert limit is None or limit.resets_at is None or limit.resets_at > 0
        with_preset(preset, (Reason.FAILED, "exit 1"), [text, ""], NOW)


# Taken with how the agent ended

GEMINI, LIMIT = read_preset("gemini"), "[API Error: You have exhausted your daily quota on this model.]\n"


def told(reason: Reason, *printed: str) -> Reason:
    return with_preset(GEMINI, (reason, "why"), printed, NOW)[0]


def test_a_failure_that_exits_well_is_a_failure() -> None:
    reason, why, _ = with_preset(GEMINI, (Reason.COMPLETED, ""), ["fine\n", "[API Error: 500]\n"], NOW)
    assert (reason, why) == (Reason.FAILED, "it exited with a success code, but printed: [API Error: 500]")
    assert told(Reason.COMPLETED, "[API Error: 500]\n" + "and more\n" * 10) is Reason.COMPLETED  # it continued
    assert told(Reason.COMPLETED, "fine\n", "") is Reason.COMPLETED


def test_a_limit_is_the_reason_only_of_a_failure_and_only_if_it_was_met_lately() -> None:
    assert told(Reason.COMPLETED, "", LIMIT) is Reason.USAGE_LIMIT
    assert told(Reason.FAILED, "", LIMIT) is Reason.USAGE_LIMIT
    assert told(Reason.NO_RESULT, LIMIT, "") is Reason.USAGE_LIMIT
    assert told(Reason.CRASHED, LIMIT, "") is Reason.CRASHED
    assert told(Reason.HEAP_OOM, LIMIT, "") is Reason.HEAP_OOM
    assert told(Reason.FAILED, LIMIT + "x" * 20_000) is Reason.FAILED


# -- bounds

AT, AFTER = r"resets (?P<at>[^(]*)(\((?P<zone>.*)\))?$", r"wait (?P<after>.*)$"


def resets(pattern: str, said: str, now: datetime = NOW) -> str | None:
    """When it resets, in the zone of `now`; NOW is Tuesday, 2026-11-24 14:00."""
    limit = usage_limit.find([pattern], said, now)
    assert limit is not None
    at = limit.resets_at
    return None if at is None else datetime.fromtimestamp(at, now.tzinfo).replace(tzinfo=None).isoformat(" ")


@pytest.mark.parametrize(
    ("said", "when"),
    [
        ("1:50pm", "2026-11-24 13:50:00"),  # ten minutes ago
        ("1:49pm", "2026-11-25 13:49:00"),  # more: the next day's
        ("2pm", "2026-11-24 14:00:00"),
        ("14:30", "2026-11-24 14:30:00"),
        ("23", "2026-11-24 23:00:00"),
        ("0:05", "2026-11-25 00:05:00"),
        ("12am", "2026-11-25 00:00:00"),
        ("12:30 PM", "2026-11-25 12:30:00"),
        ("1am", "2026-11-25 01:00:00"),
        ("11 pm", "2026-11-24 23:00:00"),
        ("0pm", None),
        ("13pm", None),
        ("24:00", None),
        ("1:60pm", None),
        ("soon", None),
        ("Nov 25, 9am", "2026-11-25 09:00:00"),
        ("Nov 17, 2pm", "2026-11-17 14:00:00"),  # a week ago
        ("Nov 17, 1:59pm", "2027-11-17 13:59:00"),  # more: the next year's
        ("november 30th at 9am", "2026-11-30 09:00:00"),
        ("DEC 1st, 2026, 9am", "2026-12-01 09:00:00"),
        ("Feb 28 2027 9am", "2027-02-28 09:00:00"),
        ("Nov 1 2026 9am", "2026-11-01 09:00:00"),  # its year is given
        ("Feb 30, 9am", None),
        ("Foo 3, 9am", None),
    ],
)
def test_time_of_day_is_the_next_one_but_for_one_just_over(said: str, when: str | None) -> None:
    assert resets(AT, f"resets {said}") == when


@pytest.mark.parametrize("number", range(1, 13))
def test_month_is_known_by_its_name(number: int) -> None:
    day = datetime(2026, number, 20, 15, 0, tzinfo=UTC)
    assert resets(AT, f"resets {day:%b} 21, 3pm", day) == f"2026-{number:02}-21 15:00:00"


def test_time_of_day_is_in_the_given_zone_or_that_of_this_machine() -> None:
    assert resets(AT, "resets 5pm (America/New_York)") == "2026-11-24 22:00:00"
    assert resets(AT, "resets 5pm (Nowhere/At all)") == "2026-11-24 17:00:00"
    assert resets(AT, "resets 5pm (../etc)") == "2026-11-24 17:00:00"
    assert resets(AT, "resets 5pm", NOW.astimezone(ZoneInfo("Asia/Tokyo"))) == "2026-11-25 17:00:00"  # it is 23:00


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1d", 86400), ("1h", 3600), ("1m", 60), ("1s", 1), ("1d2h3m4s", 93784), ("1.5h", 5400), ("2 H", 7200),
        ("3 days 1 hour", 262800), ("1m500ms", 60), ("500ms", None), ("a while", None),
    ],
)  # fmt: skip
def test_span_is_added_to_the_present(said: str, seconds: int | None) -> None:
    limit = usage_limit.find([AFTER], f"wait {said}", NOW)
    assert limit is not None
    assert limit.resets_at == (None if seconds is None else NOW.timestamp() + seconds)


@pytest.mark.parametrize(("days", "known"), [(366, True), (367, False)])
def test_reset_in_more_than_a_year_is_nonsense(days: int, known: bool) -> None:
    limit = usage_limit.find([AFTER], f"wait {days}d", NOW)
    assert limit is not None
    assert (limit.resets_at is not None) is known
    limit = usage_limit.find([r"until (?P<epoch>\d+)"], f"until {NOW.timestamp() + days * 86400:.0f}", NOW)
    assert limit is not None
    assert (limit.resets_at is not None) is known


def test_first_pattern_that_finds_a_limit_counts_and_of_its_lines_the_last() -> None:
    text = "a\nLimit 1\nQuota 2\nlimit 3\nquota 4\n"
    found = usage_limit.find(["nothing", "^limit", "quota"], text, NOW)
    assert found == usage_limit.Limit("limit 3", None)
    assert usage_limit.find(["nothing"], text, NOW) is None


def test_first_line_is_that_of_the_first_pattern_that_finds_one() -> None:
    text = "a\n  quota   1 \nLimit 2\nlimit 3\n"
    assert usage_limit.first_line(["nothing", "^limit", "quota"], text) == "Limit 2"
    assert usage_limit.first_line(["quota"], text) == "quota 1"
    assert usage_limit.first_line(["^quota"], "quota") == "quota"
    assert usage_limit.first_line(["nothing"], text) == ""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("x" * 190 + " the limit", "x" * 190 + " the limit"),
        ("the limit " + "x" * 300, "the limit " + "x" * 190),
        ("x" * 191 + " the limit", "…" + "x" * 99),
    ],
    ids=["of 200 characters", "told at its begin", "told beyond it"],
)
def test_long_line_is_cut_where_it_tells_nothing(line: str, told: str) -> None:
    found = usage_limit.find(["the limit"], f"first\n{line}\nlast", NOW)
    assert found is not None
    assert len(found.said) <= 200
    assert "the limit" in found.said
    assert found.said.startswith(told[:100])


@given(before=st.integers(0, 600), after=st.integers(0, 600))
def test_shown_part_of_a_line_contains_the_relevant_words(before: int, after: int) -> None:
    found = usage_limit.find(["the limit"], f"\n{'x' * before}the limit{'y' * after}\n", NOW)
    assert found is not None
    assert "the limit" in found.said
    assert len(found.said) == min(before + 9 + after, 200)
