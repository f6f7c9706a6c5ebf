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
from seqsup.units import clock

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


def test_of_a_long_line_what_tells_is_said() -> None:
    """As of `claude --output-format json`."""
    told = "You've hit your 5-hour limit · resets 10:08am (UTC)"
    line = '{"usage_limit":{' + '"tokens":0,' * 99 + f'"is_error":true,"result":"{told}","uuid":"{"6" * 99}"}}'
    limit = usage_limit.find(read_preset("claude").usage_limit, line, datetime(2026, 11, 24, 14, 0, tzinfo=UTC))
    assert limit is not None
    assert told in limit.said
    assert len(limit.said) <= 200
    assert limit.said.startswith("…")


def test_of_many_the_last_one_counts() -> None:
    text = "quota will reset after 5s.\nexhausted your quota; reset after 10s\nexhausted your quota; reset after 1h\n"
    limit = usage_limit.find(read_preset("gemini").usage_limit, text, NOW)
    assert limit is not None
    assert limit.resets_at == NOW.timestamp() + 3600


@pytest.mark.parametrize("number", ["9" * 20, "1" + "0" * 400])
def test_a_reset_that_no_calendar_has_is_not_told(number: str) -> None:
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
def test_whatever_is_said_there_is_an_answer(name: str, said: str, noise: str, cut: int) -> None:
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
    assert (reason, why) == (Reason.FAILED, "it exited well, but said: [API Error: 500]")
    assert told(Reason.COMPLETED, "[API Error: 500]\n" + "and more\n" * 10) is Reason.COMPLETED  # it went on
    assert told(Reason.COMPLETED, "fine\n", "") is Reason.COMPLETED


def test_a_limit_is_the_reason_only_of_a_failure_and_only_if_it_was_met_lately() -> None:
    assert told(Reason.COMPLETED, "", LIMIT) is Reason.USAGE_LIMIT
    assert told(Reason.FAILED, "", LIMIT) is Reason.USAGE_LIMIT
    assert told(Reason.NO_RESULT, LIMIT, "") is Reason.USAGE_LIMIT
    assert told(Reason.CRASHED, LIMIT, "") is Reason.CRASHED
    assert told(Reason.HEAP_OOM, LIMIT, "") is Reason.HEAP_OOM
    assert told(Reason.FAILED, LIMIT + "x" * 20_000) is Reason.FAILED


def test_a_moment_for_people_has_its_date_only_if_it_is_another_day() -> None:
    now = datetime(2026, 11, 24, 14, 0).timestamp()  # the machine's zone
    assert clock(now + 300, now) == "14:05"
    assert clock(now + 86400, now) == "2026-11-25 14:00"
