"""Any OpenAI-compatible endpoint as a writer: the strictest mode that it takes, retried within limits."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final
from urllib.parse import urlsplit

from counterpoise.errors import UsageError
from counterpoise.scenes.checked_words import MAX_REPLY, reply_schema
from counterpoise.scenes.templates import Task
from counterpoise.scenes.writing import WriterProblem, instructions

KEY_VARIABLE = "COUNTERPOISE_LLM_KEY"
RETRIES = 2
_LONGEST_PAUSE = 5.0
_BUSY = frozenset((408, 429, 500, 502, 503, 504))
_NOT_THIS_WAY = frozenset((400, 415, 422, 501))

Schema = Mapping[str, Any]
# From the strictest. Servers refuse what they do not know with 400; some take a field and ignore it, so what
# comes back is checked all the same.
MODES: tuple[tuple[str, Callable[[Schema], dict[str, Any]]], ...] = (
    (
        "json_schema",
        lambda schema: {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "words", "strict": True, "schema": schema},
            }
        },
    ),
    ("guided_json", lambda schema: {"guided_json": schema, "structured_outputs": {"json": schema}}),
    ("json_object+schema", lambda schema: {"response_format": {"type": "json_object", "schema": schema}}),
    ("json_object", lambda _: {"response_format": {"type": "json_object"}}),
    ("text", lambda _: {}),
)
_TAKEN: dict[str, int] = {}  # base url -> number of the first mode that it did not refuse


@final
@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and a model. timeout: seconds for a whole reply. pause: seconds before a retry, then
    doubled.
    """

    base_url: str
    name: str
    timeout: float = 60.0
    pause: float = 0.5

    def reply(self, task: Task, *, problem: tuple[str, str] | None) -> str:
        """The model's text; WriterProblem where the server gives none."""
        schema = reply_schema(task)
        rules, material = instructions(task)
        messages = [
            {"role": "system", "content": rules},
            {"role": "user", "content": json.dumps({**material, "schema": schema}, ensure_ascii=True)},
        ]
        if problem is not None:
            messages.append({"role": "assistant", "content": problem[0][:4000]})
            messages.append(
                {"role": "user", "content": f"That was refused: {problem[1]}. Reply again, corrected."}
            )
        body = {
            "model": self.name,
            "messages": messages,
            "temperature": 0,
            "max_tokens": 200 + 80 * len(task.slots),
        }
        for mode in range(_TAKEN.get(self.base_url, 0), len(MODES)):
            answer = self._post({**body, **MODES[mode][1](schema)})
            if answer is not None:
                _TAKEN[self.base_url] = mode
                return _content(answer)
        raise WriterProblem(f"{self._host()} refuses every way of asking (HTTP 400)")

    def _post(self, body: Mapping[str, Any]) -> bytes | None:
        """The server's answer, or None where it does not take this mode."""
        pause = self.pause
        for attempt in range(RETRIES + 1):
            try:
                return self._once(json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in _NOT_THIS_WAY:
                        return None
                    reason = f"{self._host()} answers HTTP {error.code}"
                    if error.code not in _BUSY or attempt == RETRIES:
                        raise WriterProblem(f"{reason} for the model {self.name!r}") from None
                    pause = _asked_pause(error.headers.get("Retry-After"), pause)
            except (OSError, http.client.HTTPException, ValueError) as error:
                cause = getattr(error, "reason", None) or error
                if attempt == RETRIES:
                    raise WriterProblem(f"{self._host()} does not answer ({cause})") from None
            time.sleep(min(pause, _LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _once(self, data: bytes) -> bytes:
        request = urllib.request.Request(
            self.base_url.rstrip("/") + "/chat/completions", data, {"Content-Type": "application/json"}
        )
        if key := os.environ.get(KEY_VARIABLE):
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        end = time.monotonic() + self.timeout
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=self.timeout) as answer:
            parts, size = [], 0
            while part := answer.read1(65536):
                parts.append(part)
                size += len(part)
                # A socket's timeout starts again with every byte: a slow drip would hold us for ever.
                if time.monotonic() > end:
                    raise TimeoutError(f"no whole reply within {self.timeout:g} s")
                if size > 4 * MAX_REPLY:
                    raise ValueError(f"more than {4 * MAX_REPLY} bytes")
            return b"".join(parts)

    def _host(self) -> str:
        return urlsplit(self.base_url).netloc.rpartition("@")[2]


def endpoint(base_url: str, model: str, *, timeout: float = 60.0) -> Endpoint:
    """An endpoint such as ("http://localhost:8000/v1", "my-model"); UsageError E_SCENE_LLM for no http
    address.
    """
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not model.strip():
        raise UsageError(
            f"{base_url!r:.80} with the model {model!r:.40}: expected an address such as "
            "http://localhost:8000/v1 (--llm) and a model's name (--model)",
            code="E_SCENE_LLM",
        )
    return Endpoint(base_url, model, timeout=timeout)


@final
class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the user's text, and a key, to where they did not send it."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _asked_pause(header: str | None, pause: float) -> float:
    try:
        return max(0.0, float(header)) if header else pause
    except ValueError:
        return pause


def _content(answer: bytes) -> str:
    """What the model said, in a chat completion. An answer of another form counts as said: it will be
    refused.
    """
    try:
        said = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return answer[:MAX_REPLY].decode("utf-8", "replace")
    return said if isinstance(said, str) else ""
