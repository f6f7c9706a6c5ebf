"""Sizes and durations: what people write into bytes and seconds, and back; nothing else knows a unit."""

import re
import time

from seqsup.text import cut

MIB = 1024 * 1024
GIB = 1024 * MIB

BYTES = 1_000_000  # from here on a number without a unit is bytes; a smaller one is a slip: 4 and 4096 mean GiB and MiB
AGE = 3600  # below it a duration of days without a unit is a slip
SIZE_FORMS = 'a size such as "512M" or "1.5GiB" (K, M, G and T are binary)'
DURATION_FORMS = 'a duration such as "250ms", "30s", "1h30m", "7d" or a number of seconds'

# One grammar for the parsers here and the `pattern`s of the JSON Schema.
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,9})?"
SIZE_PATTERN = rf"^\s*(?:{_NUMBER}\s*(?:[kKmMgGtT](?:[iI]?[bB])?|[bB])|0|[1-9][0-9]{{6,17}})\s*$"
DURATION_PATTERN = (
    rf"^\s*(?=[0-9])(?:({_NUMBER})|(?:({_NUMBER})d)?\s*(?:({_NUMBER})h)?\s*(?:({_NUMBER})m(?!s))?"
    rf"\s*(?:({_NUMBER})s)?\s*(?:({_NUMBER})ms)?)\s*$"
)
_SIZE = re.compile(rf"\s*({_NUMBER})\s*([kKmMgGtT]?)((?:[iI]?[bB])?)\s*", re.ASCII)
_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = (1.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)  # one for each group of the pattern
_OF_DAY = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9]"
SHARE_PATTERN = r"^(?:100|[1-9]?[0-9](?:\.[0-9]+)?)%$"
WINDOW_PATTERN = rf"^(?:{_OF_DAY}-(?:{_OF_DAY}|24:00))?$"
_LARGEST = 2**60  # an exbibyte, or 36 billion years: beyond it is a slip of the pen


def parse_size(value: object) -> int:
    """Parse a size into bytes; ValueError lists the accepted forms, or says that the unit is missing."""
    size, bare = -1.0, True
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size, bare = float(match[1]) * 1024.0 ** _POWER[match[2].lower()], not (match[2] or match[3])
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size = value
    if bare and 0 < size < BYTES:
        number, units = _number(value), ("GiB", "MiB") if size < 256 else ("MiB", "KiB")
        raise ValueError(f"{number} has no unit\nwrite {' or '.join(number + unit for unit in units)}")
    if 0 <= size <= _LARGEST and not isinstance(value, float):
        return round(size)
    raise ValueError(f"expected {SIZE_FORMS}, not {show(value)}")


def parse_duration(value: object) -> float:
    """Parse a duration into seconds; ValueError lists the accepted forms, or says that it looks like milliseconds.

    Programs count in milliseconds by the thousand; people write seconds as minutes and hours: 1800, 86400.
    """
    seconds, bare = _seconds(value)
    if bare and seconds >= 1000 and seconds % 1000 == 0:
        meant, literal = write_duration(seconds / 1000), write_duration(seconds)
        raise ValueError(f'{_number(value)} looks like milliseconds\nwrite "{meant}", or "{literal}" if it is seconds')
    return seconds


def parse_age(value: object) -> float:
    """Parse a duration of days, as `parse_duration`; ValueError too for a few seconds without a unit: 7 means 7d."""
    seconds, bare = _seconds(value)
    if bare and 0 < seconds < AGE:
        raise ValueError(f'{_number(value)} has no unit\nwrite "{_number(value)}d"')
    return parse_duration(value)


def parse_share(value: object) -> float:
    """Parse a share such as "80%" into a number up to 1. ValueError names the accepted form."""
    if not (isinstance(value, str) and re.fullmatch(SHARE_PATTERN, value)):
        raise ValueError(f'expected a share such as "80%", not {show(value)}')
    return float(value.removesuffix("%")) / 100


def parse_window(value: object) -> tuple[int, int]:
    """Parse a time of each day, such as "22:00-07:00", into its first minute and the minute after its last.

    Minutes are counted from midnight. ValueError names the accepted form.
    """
    if not (isinstance(value, str) and re.fullmatch(WINDOW_PATTERN, value) and value):
        raise ValueError(f'expected two times of day such as "22:00-07:00", not {show(value)}')
    opens, closes = (60 * int(hour) + int(minute) for hour, minute in re.findall(r"(\d+):(\d+)", value))
    if opens == closes:
        raise ValueError(f'{show(value)} is empty\nwrite "" for any time of day')
    return opens, closes


def _seconds(value: object) -> tuple[float, bool]:
    """Return the seconds, and whether the value has no unit."""
    seconds, bare = -1.0, True
    if isinstance(value, str) and (match := _DURATION.match(value)):
        pairs = zip(match.groups(), _SECONDS, strict=True)
        seconds, bare = sum(float(number) * unit for number, unit in pairs if number), match[1] is not None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    if 0 <= seconds <= _LARGEST:  # false for nan and inf as well
        return float(seconds), bare
    raise ValueError(f"expected {DURATION_FORMS}, not {show(value)}")


def _number(value: object) -> str:
    """A number as people write it: 1000, not 1000.0 or 1e3."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def show(value: object) -> str:
    """A value for a message, about as TOML spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**60:  # of some thousand digits Python makes no text
        return "a number of more than 60 digits"
    text = repr(value) if isinstance(value, str) else str(value)
    return cut(text, 60)


def write_size(size: int) -> str:
    """Exactly, as a profile spells it."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return f"{size}B" if size else "0"


def write_share(share: float) -> str:
    """Exactly, as a profile spells it."""
    return f"{share * 100:g}%"


def write_duration(seconds: float) -> str:
    """Exactly, as a profile spells it."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def format_size(size: int) -> str:
    """Short, for people: 374 MiB, 1 GiB, 1031 MiB, 1.2 GiB."""
    if size < 0:
        return "-" + format_size(-size)
    mib = size / 1024**2
    if mib >= 1024 * 1024:
        return f"{_tenths(mib / 1024**2)} TiB"
    if mib >= 1100 or round(mib) == 1024:  # between them whole MiB say more than tenths of a GiB
        return f"{_tenths(mib / 1024)} GiB"
    if mib >= 10:
        return f"{mib:.0f} MiB"
    if mib >= 1:
        return f"{_tenths(mib)} MiB"
    return f"{size / 1024:.0f} KiB" if size >= 1024 else f"{size} B"


def told_apart(less: int, more: int) -> tuple[str, str]:
    """Two sizes for people, with as many digits as show that they differ."""
    for say in (format_size, _whole_mib, _whole_kib):
        if say(less) != say(more):
            return say(less), say(more)
    return f"{less} B", f"{more} B"


def format_duration(seconds: float) -> str:
    """Short, for people: 40 ms, 0.4 s, 12 s, 7 min 25 s, 1 h 5 min."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if 0 < seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{_tenths(seconds)} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    if round(seconds) < 3600:
        large, small, units = *divmod(round(seconds), 60), ("min", "s")
    else:
        large, small, units = *divmod(round(seconds / 60), 60), ("h", "min")
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")


def clock(at: float, now: float) -> str:
    """A moment of the epoch for people, by the machine's zone: 14:05, or with its date."""
    moment, today = time.localtime(at), time.localtime(now)
    same_day = (moment.tm_year, moment.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", moment)


def format_share(share: float) -> str:
    """Format a share for people: 42 %."""
    return f"{share * 100:.0f} %"


def format_count(count: int) -> str:
    """Format a number of tokens for people: 950, 9.5k, 412k, 1.2M."""
    if count < 1000:
        return str(count)
    number, unit = (count / 1000, "k") if count < 999_500 else (count / 1_000_000, "M")
    return f"{_tenths(number) if number < 10 else f'{number:.0f}'}{unit}"


def format_usd(usd: float, *, partial: bool = False) -> str:
    """Format a cost for people: $1.83, ≥ $0.42 where a part was never reported."""
    told = f"${usd:.4f}" if 0 < usd < 0.01 else f"${usd:.2f}"
    return f"≥ {told}" if partial else told


def format_age(seconds: float) -> str:
    """Roughly, for people: 7 days, 36 hours, else as a duration."""
    for length, noun in ((86400, "day"), (3600, "hour")):
        if seconds >= 2 * length or seconds == length:
            return f"{seconds / length:.0f} {noun}" + ("" if seconds == length else "s")
    return format_duration(seconds)


def _whole_mib(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB"


def _whole_kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"


def _tenths(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
