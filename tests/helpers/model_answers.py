"""Answers and refusals of a model in the words of four APIs: Anthropic, OpenAI Responses, OpenAI Chat and Gemini."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Fields = dict[str, Any]
Call = tuple[str, Fields]  # a tool's name and its input
Refusal = tuple[int, dict[str, str], Fields]  # status, headers, body


@dataclass
class Answer:
    """An answer at once, or as events of a stream. `usage` is input tokens and output tokens."""

    model: str
    text: str
    calls: list[Call]
    usage: tuple[int, int]

    @property
    def pieces(self) -> list[str]:
        size = 24 if len(self.text) < 4096 else 4096
        return [self.text[n : n + size] for n in range(0, len(self.text), size)]

    def whole(self) -> Fields:
        raise NotImplementedError

    def events(self) -> Iterator[str]:
        raise NotImplementedError


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:24]}"


def _data(data: Fields) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _event(kind: str, **data: Any) -> str:
    return f"event: {kind}\n" + _data({"type": kind, **data})


class Anthropic(Answer):
    def _message(self, content: list[Fields], stop: str | None, out: int) -> Fields:
        cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        usage = {"input_tokens": self.usage[0], "output_tokens": out, **cache}
        message = {"id": _id("msg"), "type": "message", "role": "assistant", "model": self.model, "content": content}
        return {**message, "stop_reason": stop, "stop_sequence": None, "usage": usage}

    @property
    def _stop(self) -> str:
        return "tool_use" if self.calls else "end_turn"

    def whole(self) -> Fields:
        content: list[Fields] = [{"type": "text", "text": self.text}] if self.text else []
        content += [{"type": "tool_use", "id": _id("toolu"), "name": name, "input": i} for name, i in self.calls]
        return self._message(content, self._stop, self.usage[1])

    def events(self) -> Iterator[str]:
        yield _event("message_start", message=self._message([], None, 1))
        said = [{"type": "text_delta", "text": piece} for piece in self.pieces]
        blocks: list[tuple[Fields, list[dict[str, str]]]] = [({"type": "text", "text": ""}, said)] if said else []
        for name, arguments in self.calls:
            use = {"type": "tool_use", "id": _id("toolu"), "name": name, "input": {}}
            blocks.append((use, [{"type": "input_json_delta", "partial_json": json.dumps(arguments)}]))
        for n, (block, deltas) in enumerate(blocks):
            yield _event("content_block_start", index=n, content_block=block)
            for delta in deltas:
                yield _event("content_block_delta", index=n, delta=delta)
            yield _event("content_block_stop", index=n)
        end = {"stop_reason": self._stop, "stop_sequence": None}
        yield _event("message_delta", delta=end, usage={"output_tokens": self.usage[1]})
        yield _event("message_stop")


class Responses(Answer):
    def _items(self) -> Iterator[Fields]:
        if self.text:
            content = [{"type": "output_text", "text": self.text, "annotations": []}]
            yield {"type": "message", "id": _id("msg"), "role": "assistant", "status": "completed", "content": content}
        for name, arguments in self.calls:
            call = {"type": "function_call", "id": _id("fc"), "call_id": _id("call"), "name": name}
            yield {**call, "arguments": json.dumps(arguments), "status": "completed"}

    def _response(self, items: list[Fields]) -> Fields:
        read, wrote = self.usage
        usage: Fields = {"input_tokens": read, "output_tokens": wrote, "total_tokens": read + wrote}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        response = {"id": _id("resp"), "object": "response", "created_at": int(time.time()), "model": self.model}
        return {**response, "status": "completed" if items else "in_progress", "output": items, "usage": usage}

    def whole(self) -> Fields:
        return self._response(list(self._items()))

    def events(self) -> Iterator[str]:
        yield _event("response.created", response=self._response([]))
        items = list(self._items())
        for n, item in enumerate(items):
            begun = {**item, "status": "in_progress"} | ({"content": []} if "content" in item else {})
            yield _event("response.output_item.added", output_index=n, item=begun)
            for piece in self.pieces if "content" in item else ():
                place = {"item_id": item["id"], "output_index": n, "content_index": 0}
                yield _event("response.output_text.delta", **place, delta=piece)
            yield _event("response.output_item.done", output_index=n, item=item)
        yield _event("response.completed", response=self._response(items))


class Chat(Answer):
    @property
    def _usage(self) -> Fields:
        read, wrote = self.usage
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

    @property
    def _tool_calls(self) -> list[Fields]:
        called = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in self.calls]
        return [{"index": n, "id": _id("call"), "type": "function", "function": f} for n, f in enumerate(called)]

    @property
    def _finish(self) -> str:
        return "tool_calls" if self.calls else "stop"

    def _chunk(self, *choices: Fields, kind: str = "chat.completion.chunk", **more: Any) -> Fields:
        indexed = [{"index": 0, **choice} for choice in choices]
        return {"id": "x", "object": kind, "created": 1, "model": self.model, "choices": indexed, **more}

    def whole(self) -> Fields:
        message = {"role": "assistant", "content": self.text, "tool_calls": self._tool_calls or None}
        choice = {"message": message, "finish_reason": self._finish}
        return self._chunk(choice, kind="chat.completion", usage=self._usage)

    def events(self) -> Iterator[str]:
        deltas: list[Fields] = [{"content": piece} for piece in self.pieces]
        deltas += [{"tool_calls": [call]} for call in self._tool_calls]
        for delta in deltas:
            yield _data(self._chunk({"delta": {"role": "assistant", **delta}, "finish_reason": None}))
        yield _data(self._chunk({"delta": {}, "finish_reason": self._finish}))
        yield _data(self._chunk(usage=self._usage))
        yield "data: [DONE]\n\n"


class Gemini(Answer):
    def _content(self, parts: list[Fields], last: bool) -> Fields:
        read, wrote = self.usage
        candidate: Fields = {"content": {"role": "model", "parts": parts}, "index": 0}
        candidate |= {"finishReason": "STOP"} if last else {}
        usage = {"promptTokenCount": read, "candidatesTokenCount": wrote, "totalTokenCount": read + wrote}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": self.model}

    @property
    def _parts(self) -> list[Fields]:
        called = [{"functionCall": {"name": name, "args": arguments}} for name, arguments in self.calls]
        return [*({"text": piece} for piece in self.pieces), *called] or [{"text": ""}]

    def whole(self) -> Fields:
        return self._content(self._parts, last=True)

    def events(self) -> Iterator[str]:
        parts = self._parts
        for n, part in enumerate(parts, 1):
            yield _data(self._content([part], last=n == len(parts)))


ANSWERS: dict[str, type[Answer]] = {
    "anthropic": Anthropic, "responses": Responses, "chat": Chat, "gemini": Gemini,
}  # fmt: skip


# -- refusals, by the APIs' own status, type and text

ERRORS = ("usage-limit", "rate-limit", "credit", "server", "auth")


def refusal(api: str, error: str, resets_in: int) -> Refusal:
    """Refuse a request; a usage limit ends in `resets_in` seconds."""
    return _REFUSALS.get(api, _by_openai)(error, resets_in)


def _by_anthropic(error: str, resets_in: int) -> Refusal:
    at = str(int(time.time()) + resets_in)
    window = {"status": "rejected", "reset": at}
    limit = {f"anthropic-ratelimit-unified-{name}": value for name, value in window.items()}
    limit |= {f"anthropic-ratelimit-unified-5h-{name}": value for name, value in window.items()}
    limit |= {"anthropic-ratelimit-unified-5h-utilization": "1.0"}
    limit |= {"anthropic-ratelimit-unified-representative-claim": "five_hour"}
    known: dict[str, tuple[int, dict[str, str], str, str]] = {
        "usage-limit": (429, limit, "rate_limit_error", "This request would exceed your account's rate limit."),
        "rate-limit": (429, {"retry-after": "1"}, "rate_limit_error", "Number of requests has exceeded your limit."),
        "credit": (400, {}, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        "server": (500, {}, "api_error", "Internal server error"),
        "auth": (401, {}, "authentication_error", "invalid x-api-key"),
    }
    status, headers, kind, text = known[error]
    return status, headers, {"type": "error", "error": {"type": kind, "message": text}}


def _by_gemini(error: str, resets_in: int) -> Refusal:
    known = {
        "usage-limit": (429, "RESOURCE_EXHAUSTED", _exhausted(resets_in)),
        "rate-limit": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. Please retry in 1s."),
        "credit": (402, "FAILED_PRECONDITION", "billing is off"),
        "server": (500, "INTERNAL", "An internal error has occurred."),
        "auth": (401, "UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    }
    status, kind, text = known[error]
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
    details = [retry] if error == "rate-limit" else []
    return status, {}, {"error": {"code": status, "message": text, "status": kind, "details": details}}


def _by_openai(error: str, resets_in: int) -> Refusal:
    at = int(time.time()) + resets_in
    limit = {"x-codex-primary-used-percent": "100", "x-codex-primary-window-minutes": "300"}
    limit |= {"x-codex-primary-reset-at": str(at)}
    known: dict[str, tuple[int, dict[str, str], str, str]] = {
        "usage-limit": (429, limit, "usage_limit_reached", _exhausted(resets_in)),
        "rate-limit": (429, {"retry-after": "1"}, "rate_limit_exceeded", "Rate limit reached. Try again in 1s."),
        "credit": (429, {}, "insufficient_quota", "You exceeded your current quota, please check your plan."),
        "server": (500, {}, "server_error", "The server had an error."),
        "auth": (401, {}, "invalid_api_key", "Incorrect API key provided: x."),
    }
    status, headers, kind, text = known[error]
    told: Fields = {"type": kind, "code": kind, "message": text}
    if error == "usage-limit":
        told |= {"plan_type": "pro", "resets_at": at, "resets_in_seconds": resets_in}
    return status, headers, {"error": told}


def _exhausted(resets_in: int) -> str:
    minutes, seconds = divmod(resets_in, 60)
    after = f"{minutes // 60}h{minutes % 60}m{seconds}s"
    return f"You have exhausted your capacity on this model. Your quota will reset after {after}."


_REFUSALS: dict[str, Callable[[str, int], Refusal]] = {"anthropic": _by_anthropic, "gemini": _by_gemini}
