"""Whether all that the faces write has the shapes which the official SDKs' types demand.

Reads the golden outputs of translate/testdata, no network: every frame and every body must be what the model of the SDK
says, in pydantic's strict mode; a field of which the model knows nothing must be in EXTRA. Then the SDK's own stream
helpers put every stream together, and must arrive at what the JSON face says for the same case.

What passes through is the backend's own, whatever its shape, and is left out.
"""

import functools
import json
import re
import typing
from pathlib import Path

import httpx
import openai
import pydantic
import swarms_client.types
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.shared import ErrorObject

from harness import check, each, equal, main, test

TESTDATA = Path(__file__).resolve().parents[3] / "translate" / "testdata"
PROTOCOLS = ["chat", "responses", "cognipeer", "ticos", "swarms", "cycls"]
CASES = {p: sorted(d for d in (TESTDATA / p).iterdir() if d.is_dir()) for p in PROTOCOLS}

# Fields of which no model of the SDK knows, each with the reason why it is written nevertheless.
EXTRA = {
    "Response.store": "Open Responses demands it, and the real API sends it",
    "Response.presence_penalty": "Open Responses demands it, and the real API sends it",
    "Response.frequency_penalty": "Open Responses demands it, and the real API sends it",
    "Response.version": "Cognipeer's own field: the version of the agent",
    "Logprob.bytes": "Open Responses demands it in the deltas too",
    "ResponseCustomToolCall.status": "the real API sends it, as it does for every other item",
    "ResponseFunctionCallArgumentsDoneEvent.name": "the API's specification demands it, the SDK's does not yet",
    "ChoiceDelta.reasoning_content": "the field in which every vendor but OpenAI sends what the model thinks",
    "ChatCompletionMessage.reasoning_content": "the same",
    "ChoiceDelta.annotations": "the API sends citations so; the SDK has them only in a message that does not stream",
    "ChoiceDeltaToolCall.custom": "the API streams a custom tool's call so; the SDK has it only in a message that does not stream",
}

# Words that the models do not list: the end of the field's path, the word or None for any, a listed word in whose
# place the rest is checked, and the reason.
WORDS = [
    ("response.error.code", None, "server_error", "the real API sends others too (insufficient_quota); they tell the client which failure it was"),
    ("incomplete_details.reason", "cancelled", "content_filter", "Open Responses takes any; a cancelled answer has no event of its own in a stream"),
    ("delta.tool_calls.[].type", "custom", "function", "see ChoiceDeltaToolCall.custom"),
]

used = set()


# --- the golden outputs ---


class Golden:
    """What one face wrote for one case."""

    def __init__(self, case, face, mode):
        self.name = f"{case.parent.name}/{case.name}/face.{face}.{mode}"
        self.face, self.mode = face, mode
        self.data = (case / f"face.{face}.{mode}").read_bytes()
        self.status = 200
        m = re.match(rb"HTTP (\d+)\n", self.data)
        if m:
            self.status, self.data = int(m[1]), self.data[m.end() :]
        self.passed = case.parent.name == face and self.status == 200 and (case / f"backend.{mode}").exists()

    def error(self):
        """The error that it tells, if any: in a body, or in a frame of its own."""
        if self.status != 200:
            return json.loads(self.data)["error"]
        if self.mode == "sse":
            for _, d in self.frames():
                if d.get("error"):
                    return d["error"]
        return None

    def frames(self):
        """The name and the data of each frame, decoded; [DONE] must be the last one."""
        frames = []
        for block in self.data.decode().split("\n\n")[:-1]:
            lines = [line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")]
            if lines:
                frames.append((dict(lines).get("event"), "".join(v for k, v in lines if k == "data")))
        check(all(d != "[DONE]" for _, d in frames[:-1]), f"{self.name}: something follows [DONE]")
        return [(e, json.loads(d)) for e, d in frames if d != "[DONE]"]


@functools.cache
def golden(case, face, mode):
    return Golden(case, face, mode)


def over(protocol, face, mode):
    """All that a face wrote behind a protocol and did not pass through."""
    return [g for g in (golden(c, face, mode) for c in CASES[protocol]) if not g.passed]


# --- shapes ---


class SwarmsOutput(pydantic.BaseModel, extra="forbid"):
    role: str
    content: str | list[dict[str, object]]
    timestamp: str
    message_id: str


class SwarmsAnswer(pydantic.BaseModel, extra="forbid"):
    job_id: str
    success: bool
    name: str
    description: str | None
    temperature: float | None
    outputs: list[SwarmsOutput]
    usage: dict[str, float] | None
    timestamp: str


@functools.cache
def adapter(kind):
    return pydantic.TypeAdapter(kind)


@functools.cache
def members(union):
    """The models of a union, by the word that tells them apart."""
    found = {}
    for kind in typing.get_args(typing.get_args(union)[0]):
        (word,) = typing.get_args(kind.model_fields["type"].annotation)
        found[word] = kind
    return found


def branches(errors):
    """The errors but those of the members of a union that the value is not, as its type says."""
    wrong = [e["loc"][:-1] for e in errors if e["type"] == "literal_error" and e["loc"][-1] in ("type", "role", "object")]
    kept = [e for e in errors if not any(e["loc"][: len(w)] == w for w in wrong)]
    return kept or errors


def where(kind, loc):
    return ".".join([kind.__name__, *("[]" if isinstance(p, int) else str(p) for p in loc)])


def excused(kind, error):
    """What may stand for a word that the models do not list."""
    for end, word, instead, _ in WORDS:
        if error["type"] == "literal_error" and where(kind, error["loc"]).endswith(end):
            if isinstance(error["input"], str) and word in (None, error["input"]):
                used.add(end)
                return instead
    return None


def replaced(value, loc, instead):
    """A copy of the value with another one at that place."""
    if not loc:
        return instead
    value = list(value) if isinstance(value, list) else dict(value)
    value[loc[0]] = replaced(value[loc[0]], loc[1:], instead)
    return value


def extras(model, found):
    """The fields that the model and those below it know nothing of."""
    if isinstance(model, pydantic.BaseModel):
        for key in model.model_extra or ():
            found.add(f"{type(model).__name__}.{key}")
        for key in type(model).model_fields:
            extras(getattr(model, key), found)
    elif isinstance(model, dict):
        for v in model.values():
            extras(v, found)
    elif isinstance(model, list):
        for v in model:
            extras(v, found)


def shape(kind, value):
    """What is wrong with a value, as the type has it."""
    if kind is ResponseStreamEvent:
        kind = members(ResponseStreamEvent).get(value.get("type"))
        if kind is None:
            return {f"no event is named {value.get('type')!r}"}
    wrong = set()
    try:
        model = adapter(kind).validate_python(value, strict=True)
    except pydantic.ValidationError as e:
        for error in branches(e.errors(include_url=False)):
            instead = excused(kind, error)
            if instead:
                value = replaced(value, error["loc"], instead)
                continue
            wrong.add(f"{where(kind, error['loc'])}: {error['msg']}, got {error['input']!r:.120}")
        return wrong or shape(kind, value)
    found = set()
    extras(model, found)
    for field in found:
        if field in EXTRA:
            used.add(field)
        else:
            wrong.add(f"{field} is unknown")
    return wrong


def verdict(wrong):
    lines = [f"{why}\n  in {len(names)}: {', '.join(names[:4])}" for why, names in sorted(wrong.items())]
    check(not lines, "\n".join(lines))


FACES = {
    ("responses", "sse"): ResponseStreamEvent,
    ("cognipeer", "sse"): ResponseStreamEvent,
    ("chat", "sse"): ChatCompletionChunk,
    ("ticos", "sse"): ChatCompletionChunk,
    ("responses", "json"): Response,
    ("cognipeer", "json"): Response,
    ("chat", "json"): ChatCompletion,
    ("ticos", "json"): ChatCompletion,
}


def values(g):
    """What of a golden output is to be of the face's type. Errors are of none, see below."""
    if g.status != 200:
        return []
    if g.mode == "json":
        return [json.loads(g.data)]
    return [d for _, d in g.frames() if not d.get("error")]


@functools.cache
def misfits(protocol, face, mode):
    wrong = {}
    for g in over(protocol, face, mode):
        for v in values(g):
            for why in shape(FACES[face, mode], v):
                names = wrong.setdefault(why, [])
                if g.name not in names:
                    names.append(g.name)
    return wrong


@each("the shapes of face.{0[1]}.{0[2]} behind {0[0]}", [(p, *f) for p in PROTOCOLS for f in FACES])
def _(t):
    verdict(misfits(*t))


@each("the errors of face.{0[1]}.{0[2]} behind {0[0]}", [(p, *f) for p in PROTOCOLS for f in FACES])
def _(t):
    wrong = {}
    for g in over(*t):
        e = g.error()
        if e is not None:
            if g.face == "cognipeer" and g.status != 200:
                check(isinstance(e, str) and e, f"{g.name}: {e!r}")
                continue  # Cognipeer's own errors are a string
            for why in shape(ErrorObject, e):
                wrong.setdefault(why, []).append(g.name)
            if set(e) != {"message", "type", "param", "code"}:
                wrong.setdefault(f"an error has {sorted(e)}", []).append(g.name)
    verdict(wrong)


@each("the shapes of face.swarms.json behind {}", PROTOCOLS)
def _(protocol):
    # The SDK's type is a dictionary; what is in it, the vendor's documents say.
    for g in over(protocol, "swarms", "json"):
        v = json.loads(g.data)
        adapter(swarms_client.types.AgentRunResponse).validate_python(v, strict=True)
        if g.status != 200:
            equal((list(v), type(v["detail"])), (["detail"], str), g.name)
            continue
        adapter(SwarmsAnswer).validate_python(v, strict=True)


# --- streams, put together by the SDK's own helpers ---


def answer(request):
    case, face, mode = request.headers["x-golden"].rsplit("/", 2)
    g = golden(TESTDATA / case, face, mode)
    kind = "text/event-stream" if mode == "sse" and g.status == 200 else "application/json"
    return httpx.Response(g.status, content=g.data, headers={"content-type": kind})


client = OpenAI(base_url="http://golden/v1", api_key="none", max_retries=0, http_client=httpx.Client(transport=httpx.MockTransport(answer)))


def asked(case, face, mode):
    return {"extra_headers": {"x-golden": f"{case.relative_to(TESTDATA)}/{face}/{mode}"}}


def told(output):
    """What the items of a Response say, without their ids."""
    said = []
    for item in output:
        match item.type:
            case "message":
                said.append(("message", [(c.type, c.text if c.type == "output_text" else c.refusal) for c in item.content], item.status))
            case "reasoning":
                said.append(("reasoning", [s.text for s in item.summary]))
            case "function_call":
                said.append(("function_call", item.call_id, item.name, item.arguments))
            case "custom_tool_call":
                said.append(("custom_tool_call", item.call_id, item.name, item.input))
            case other:
                said.append((other,))
    return said


def heard(output):
    """What the helper gathers of the deltas: text and arguments."""
    said = []
    for item in output:
        if item.type == "message":
            said.append("".join(c.text for c in item.content if c.type == "output_text"))
        elif item.type == "function_call":
            said.append(item.arguments)
    return said


def fails(g, fn):
    """Whether the answer is a failure, which the SDK then must raise."""
    e = g.error()
    if e is None:
        return False
    try:
        fn()
    except openai.APIError as raised:
        equal(raised.status_code if isinstance(raised, openai.APIStatusError) else 200, g.status, f"{g.name}: status")
        equal(raised.code, e["code"] if isinstance(e, dict) else None, f"{g.name}: code")
        return True
    raise AssertionError(f"{g.name}: nothing was raised")


# Where a stream passes through, that of the dialect is looked at; the other clients' suites look at all of them.
@each("Responses streams put together: face.{0[0]} behind {0[1]}", [("cognipeer", "responses"), *(("responses", p) for p in PROTOCOLS)])
def _(t):
    face, protocol = t
    wrong = {}
    for case in CASES[protocol]:
        g, whole = golden(case, face, "sse"), golden(case, face, "json")
        if g.passed:
            continue

        def stream():
            with client.responses.stream(model="demo-model", input="Hello", **asked(case, face, "sse")) as s:
                events = list(s)
                return events[-1].response, s._state._ResponseStreamState__current_snapshot

        try:
            if fails(g, stream):
                check(whole.passed or whole.status != 200, "the JSON face tells no failure")
                continue
            r, snapshot = stream()
            equal(heard(snapshot.output), heard(r.output), "deltas, and the end")
            if whole.passed:
                continue
            raw = Response.construct(**json.loads(whole.data))
            equal((r.status, r.incomplete_details), (raw.status, raw.incomplete_details), "stream, JSON")
            equal(told(r.output), told(raw.output), "stream, JSON")
            equal(r.output_text, raw.output_text, "stream, JSON")
        except Exception as e:
            wrong.setdefault(f"{type(e).__name__}: {e}", []).append(g.name)
    verdict(wrong)


def message(m):
    """What a message says."""
    calls = []
    for c in m.tool_calls or ():
        c = c.to_dict()
        c[c["type"]].pop("parsed_arguments", None)
        calls.append((c["id"], c["type"], c[c["type"]]))
    return (m.role, m.content or "", m.refusal, getattr(m, "reasoning_content", None), calls, m.annotations or [])


@each("Chat streams put together: face.{0[0]} behind {0[1]}", [("ticos", "chat"), *(("chat", p) for p in PROTOCOLS)])
def _(t):
    face, protocol = t
    wrong = {}
    for case in CASES[protocol]:
        g, whole = golden(case, face, "sse"), golden(case, face, "json")
        if g.passed:
            continue

        def stream():
            with client.chat.completions.stream(model="demo-model", messages=[], **asked(case, face, "sse")) as s:
                s.until_done()
                return s.current_completion_snapshot

        try:
            if fails(g, stream):
                check(whole.passed or whole.status != 200, "the JSON face tells no failure")
                continue
            c = stream()
            equal(len(c.choices), 1, "choices")
            if whole.passed:
                continue
            raw = ChatCompletion.construct(**json.loads(whole.data))
            equal(c.choices[0].finish_reason, raw.choices[0].finish_reason, "stream, JSON")
            equal(message(c.choices[0].message), message(raw.choices[0].message), "stream, JSON")
            equal(c.usage, raw.usage, "stream, JSON")
        except Exception as e:
            wrong.setdefault(f"{type(e).__name__}: {e}", []).append(g.name)
    verdict(wrong)


# --- the check itself ---


@test("a shape that is wrong is found")
def _():
    def found(value, change):
        value = json.loads(json.dumps(value))
        change(value)
        return shape(kind, value)

    case = TESTDATA / "chat" / "tools-parallel"
    kind = ResponseStreamEvent
    events = [d for _, d in golden(case, "responses", "sse").frames()]
    for event in events:
        equal(shape(kind, event), set(), "an event that is right")
        for key in event:
            if (event["type"], key) != ("response.function_call_arguments.done", "name"):
                check(found(event, lambda v: v.pop(key)), f"{event['type']} without {key}")
                check(found(event, lambda v: v.update({key: object})), f"{event['type']} with a wrong {key}")
        check(found(event, lambda v: v.update(surplus=1)), f"{event['type']} with a field too many")
    end = events[-1]
    for change in (
        lambda v: v["response"].update(created_at="1"),
        lambda v: v["response"].update(status="done"),
        lambda v: v["response"].update(surplus=1),
        lambda v: v["response"]["output"][0].pop("call_id"),
        lambda v: v["response"]["output"][0].update(surplus=1),
        lambda v: v["response"]["usage"]["input_tokens_details"].pop("cached_tokens"),
    ):
        check(found(end, change), "a Response that is wrong inside")
    kind = ChatCompletion
    body = json.loads(golden(TESTDATA / "responses" / "tools_json", "chat", "json").data)
    equal(shape(kind, body), set(), "a body that is right")
    for change in (
        lambda v: v.pop("choices"),
        lambda v: v["choices"][0].update(index="0"),
        lambda v: v["choices"][0].update(finish_reason="end"),
        lambda v: v["choices"][0]["message"]["tool_calls"][0]["function"].update(arguments={}),
        lambda v: v["choices"][0]["message"]["tool_calls"][0].update(surplus=1),
    ):
        check(found(body, change), "a completion that is wrong")


@test("nothing is excused for which there is no case")
def _():
    for p in PROTOCOLS:
        for f in FACES:
            misfits(p, *f)
    equal(sorted({*EXTRA, *(end for end, *_ in WORDS)} - used), [], "excused")


if __name__ == "__main__":
    main("types-python")
