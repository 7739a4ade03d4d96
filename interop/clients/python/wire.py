"""The six faces as bytes: what no SDK shows, and what some of them die of."""

import json
import re

import httpx

from harness import AGENTS, NAMES, PATIENCE, PROMPT, PROXY, REAL, check, closed, each, equal, fresh, main, release, test

http = httpx.Client(base_url=PROXY, timeout=PATIENCE)


def user(text):
    return [{"role": "user", "content": text}]


class Face:
    def __init__(self, path, body, delta, whole, ends):
        self.path = path
        self.body = body  # (agent, prompt, stream) to the request's body
        self.delta = delta  # (event, data) to the words of one event
        self.whole = whole  # a JSON answer to its text
        self.ends = ends  # (event, data) is the event that ends a good answer
        self.accept = {}


def chat_delta(_, d):
    return d["choices"][0]["delta"].get("content") or "" if d.get("choices") else ""


def responses_delta(event, d):
    return d["delta"] if event == "response.output_text.delta" else ""


def responses_whole(d):
    return "".join(p["text"] for o in d["output"] if o["type"] == "message" for p in o["content"])


def responses_ends(event, d):
    return event == "response.completed" and d["response"]["status"] == "completed"


def chat_ends(_, d):
    return bool(d.get("choices")) and d["choices"][0]["finish_reason"] == "stop"


def chat_whole(d):
    return d["choices"][0]["message"]["content"]


FACES = {
    "chat": Face(
        lambda a: "/v1/chat/completions",
        lambda a, p, s: {"model": a, "messages": user(p), "stream": s},
        chat_delta, chat_whole, chat_ends,
    ),
    "responses": Face(
        lambda a: "/v1/responses",
        lambda a, p, s: {"model": a, "input": p, "stream": s},
        responses_delta, responses_whole, responses_ends,
    ),
    "cognipeer": Face(
        lambda a: "/api/client/v1/agents/responses",
        lambda a, p, s: {"model": a, "input": p, "stream": s},
        responses_delta, responses_whole, responses_ends,
    ),
    "ticos": Face(
        lambda a: f"/v1/agents/{a}/responses",
        lambda a, p, s: {"input": p, "stream": s},
        chat_delta, chat_whole, chat_ends,
    ),
    "swarms": Face(
        lambda a: "/v1/agent/completions",
        lambda a, p, s: {"agent_config": {"agent_name": a, "model_name": "m", "streaming_on": s}, "task": p},
        lambda event, d: d["content"] if event == "chunk" else "",
        lambda d: d["outputs"][-1]["content"],
        lambda event, d: event == "done",
    ),
    "cycls": Face(
        lambda a: f"/agents/{a}/chat",
        lambda a, p, s: {"messages": user(p)},
        lambda event, d: d["text"] if d.get("type") == "text" else "",
        lambda d: "".join(p["text"] for p in d["parts"] if p["type"] == "text"),
        lambda event, d: False,
    ),
}

# The faces whose streams end with data: [DONE].
DONE = ["chat", "responses", "cognipeer", "ticos", "cycls"]


class Stream:
    """A stream of events, read as the strictest of the known clients reads."""

    def __init__(self, face, agent, prompt):
        f = FACES[face]
        self.face = f
        self.request = http.stream("POST", f.path(agent), json=f.body(agent, prompt, True), headers={"Accept": "text/event-stream"})
        self.raw = b""
        self.done = False

    def __enter__(self):
        self.response = self.request.__enter__()
        if self.response.status_code == 200:
            equal(self.response.headers["content-type"].split(";")[0], "text/event-stream")
        check(self.response.headers["x-request-id"], "no x-request-id")
        return self

    def __exit__(self, *why):
        return self.request.__exit__(*why)

    def events(self):
        buffered = b""
        for piece in self.response.iter_raw():
            self.raw += piece
            buffered += piece
            check(buffered.endswith(b"\n\n"), f"a frame is split over two writes: {buffered[-200:]!r}")
            *frames, buffered = buffered.split(b"\n\n")
            for frame in frames:
                event, data = None, None
                for line in frame.split(b"\n"):
                    check(b"\r" not in line, f"CR in {frame!r}")
                    if line.startswith(b":"):
                        continue
                    m = re.fullmatch(rb"(event|data): (.*)", line)
                    check(m, f"a line that clients die of: {line!r}")
                    if m[1] == b"event":
                        event = m[2].decode()
                    else:
                        check(data is None, f"two data lines: {frame!r}")
                        data = m[2]
                if data is None:
                    check(event is None, f"an event without data: {frame!r}")
                    continue
                check(not self.done, f"after [DONE]: {frame!r}")
                if data == b"[DONE]":
                    self.done = True
                    continue
                yield event, json.loads(data)
        equal(buffered, b"", "what is left over")


@each("{}, stream: the first words come before the agent has ended", FACES)
def _(face):
    f, name = FACES[face], fresh()
    text, ended = "", 0
    with Stream(face, "cycls-real", f"gate {name}") as stream:
        for event, d in stream.events():
            text += f.delta(event, d)
            ended += f.ends(event, d)
            if text == "first ":
                release(name)
        equal(text, "first second", "text")
        equal(stream.done, face in DONE, "[DONE]")
        if face != "cycls":
            equal(ended, 1, "ends")


@each("{}, stream: all of the real agent's answer", FACES)
def _(face):
    f = FACES[face]
    with Stream(face, "cycls-real", PROMPT) as stream:
        text = "".join(f.delta(event, d) for event, d in stream.events())
    if face == "cycls":
        equal(text, "Hello, wörld 🌍!\n\nSome code:And a table:Bye.", "text")
    else:
        equal(text, AGENTS["cycls-real"]["text"], "text")


@each("{}, JSON: all of the real agent's answer", FACES)
def _(face):
    f = FACES[face]
    r = http.post(f.path("cycls-real"), json=f.body("cycls-real", PROMPT, False), headers={"Accept": "application/json"})
    equal((r.status_code, r.headers["content-type"].split(";")[0]), (200, "application/json"))
    if face == "cycls":
        parts = r.json()["parts"]
        equal(r.json()["role"], "assistant", "role")
        equal([p["type"] for p in parts if p["type"] not in ("status", "step")],
              ["thinking", "text", "code", "text", "table", "callout", "image", "text"], "types of parts")
        by = {p["type"]: p for p in parts}
        equal(by["thinking"]["thinking"], AGENTS["cycls-real"]["reasoning"])
        equal((by["code"]["code"], by["code"]["language"]), ('def f():\n    return "```"\n', "python"))
        equal((by["table"]["headers"], by["table"]["rows"]), (["Name", "Qty"], [["apple", "3"], ["a | b", "two\nlines"]]))
        equal((by["callout"]["callout"], by["callout"]["style"], by["callout"]["title"]), ("All is well.", "success", "Done"))
        equal((by["image"]["src"], by["image"]["alt"]), ("https://example.com/a.png", "A court"))
    else:
        equal(f.whole(r.json()), AGENTS["cycls-real"]["text"], "text")


@test("cycls: the bytes of the real server pass untouched")
def _():
    body = {"messages": user(PROMPT)}
    direct = httpx.post(f"{REAL}/chat", json=body, timeout=PATIENCE).content
    with Stream("cycls", "cycls-real", PROMPT) as stream:
        list(stream.events())

    def rest(b):  # the chat's id is another each time
        return re.sub(rb'"chat_id": "[0-9a-f-]{36}"', b'"chat_id": "x"', b)

    check(b'"chat_id"' in direct, direct)
    equal(rest(stream.raw), rest(direct), "bytes")


@test("cycls: its path names no agent, the default one answers on all of them")
def _():
    for path in ("/chat/cycls", "/chat", "/"):
        r = http.post(path, json={"messages": user(PROMPT)})
        equal((r.status_code, r.headers["dragoman-agent"]), (200, "cycls-real"), path)
        check(r.text.endswith('data: {"type": "text", "text": "Bye."}\n\ndata: [DONE]\n\n'), r.text[-200:])


def broken(face):
    """The events of a stream whose agent fails when its words have been read."""
    f, name = FACES[face], fresh()
    events, text = [], ""
    with Stream(face, "cycls-broken", f"gate {name}") as stream:
        equal(stream.response.status_code, 200)
        for event, d in stream.events():
            events.append((event, d))
            if f.delta(event, d):
                text += f.delta(event, d)
                if text == "I will try, but ":
                    release(name)
    check(b"secret" not in stream.raw, stream.raw)
    check(not any(f.ends(e, d) for e, d in events), events)
    equal(stream.done, face in DONE, "[DONE]")
    equal(text, "I will try, but ", "text before")
    return events


@each("{}, stream that fails in its middle: an error, no finish_reason", ["chat", "ticos"])
def _(face):
    events = broken(face)
    check(events[-1][1]["error"]["message"] and events[-1][1]["error"]["type"] == "server_error", events[-1])
    for _, d in events[:-1]:
        equal(d["choices"][0]["finish_reason"], None)
        check("error" not in d, f"openai-go takes any error key for a failure: {d}")


@each("{}, stream that fails in its middle: error, then response.failed", ["responses", "cognipeer"])
def _(face):
    events = broken(face)
    equal([e for e, _ in events[-2:]], ["error", "response.failed"])
    check(all(e == d["type"] for e, d in events), "event and type differ")
    equal([d["sequence_number"] for _, d in events], list(range(len(events))), "sequence numbers")
    check(events[-2][1]["error"]["message"], events[-2])
    r = events[-1][1]["response"]
    equal(r["status"], "failed")
    check(r["error"]["message"] and r["error"]["code"], r)
    equal(r["id"], events[0][1]["response"]["id"], "id")


@test("swarms, stream that fails in its middle: event error, and nothing after it")
def _():
    event, d = broken("swarms")[-1]
    equal(event, "error")
    check(d["error"], d)


@test("cycls, stream that fails in its middle: an error callout")
def _():
    _, d = broken("cycls")[-1]
    equal((d["type"], d["style"]), ("callout", "error"))
    check(d["error_id"], d)


def detail(face, d):
    """The message of an error body in a face's own shape, and nothing else in it."""
    if face in ("chat", "responses", "ticos"):
        equal(set(d), {"error"})
        equal(set(d["error"]), {"message", "type", "param", "code"})
        return d["error"]["message"]
    key = "error" if face == "cognipeer" else "detail"
    equal(list(d), [key])
    return d[key]


@each("{}: every error in its own shape", FACES)
def _(face):
    f = FACES[face]
    for agent, prompt, status in (("cycls-broken", "hello", 502), ("dead", "hello", 502), ("chat", "refuse", 429), ("nobody", "hello", 404)):
        r = http.post(f.path(agent), json=f.body(agent, prompt, False), headers={"Accept": "application/json"})
        equal(r.status_code, status, agent)
        message = detail(face, r.json())
        check(isinstance(message, str) and message, r.text)
        check(r.headers["x-request-id"], "no x-request-id")
        if status == 429:
            equal(r.headers["retry-after"], "7")
            check("asked to refuse" in message, message)
        if status == 404 and face == "cognipeer":
            equal(message, "Agent not found")  # as its own server has it
        elif status == 404:
            check("cycls-real" in message, message)
    r = http.post(f.path("chat"), content=b'{"model": "chat", ')
    equal(r.status_code, 400, "half a body")
    check(detail(face, r.json()), r.text)


@each("{}, stream: a client that leaves ends the agent", FACES)
def _(face):
    name = fresh()
    with Stream(face, "cycls-real", f"hold {name}") as stream:
        for event, d in stream.events():
            if FACES[face].delta(event, d):
                break
    closed(name)


@each("header names in {} case are the same", ["lower", "upper"])
def _(case):
    def cased(name):
        return name.lower() if case == "lower" else name.upper()

    body = {"model": "cycls-real", "messages": user(PROMPT), "seed": 7}
    name = fresh()
    r = http.post("/v1/chat/completions", json=body, headers={cased("X-Request-Id"): name})
    equal((r.status_code, r.headers["x-request-id"]), (200, name), "X-Request-Id")
    r = http.post("/v1/chat/completions", json=body, headers={cased("Dragoman-Strict"): "true"})
    equal(r.status_code, 400, "Dragoman-Strict")
    bare = httpx.Client(base_url=PROXY, timeout=PATIENCE)
    del bare.headers["accept"]
    r = bare.post("/agents/cycls-real/chat", json=body, headers={cased("Accept"): "application/json"})
    equal(r.headers["content-type"].split(";")[0], "application/json", "Accept")


@test("health, and the lists that other faces have")
def _():
    for path in ("/livez", "/readyz"):
        equal(http.get(path).status_code, 200, path)
    equal({m["id"] for m in http.get("/v1/models").json()["data"]}, NAMES, "/v1/models")
    equal({a["key"] for a in http.get("/api/client/v1/agents").json()["agents"]}, NAMES, "Cognipeer's agents")
    equal(http.get("/api/client/v1/agents/chat").json()["agent"]["key"], "chat")
    equal(http.get("/api/client/v1/agents/nobody").status_code, 404)
    d = http.get("/v1/models/available").json()
    equal((d["success"], set(d["models"])), (True, NAMES), "Swarms' models")
    equal(http.get("/config").json()["name"], "cycls-real", "Cycls' config")


if __name__ == "__main__":
    main("wire")
