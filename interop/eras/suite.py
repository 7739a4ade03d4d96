"""Every era of the real Cycls server behind the proxy, none of them configured:
which protocol it speaks, and on which path, is for the proxy to find out.

Starts the servers (server.py) and a proxy of its own in front of them
(config.yaml), asks through the Chat, the Responses and the Cycls face, and
stops both. Arguments: the folder of the installed versions, the proxy's binary,
and a folder for logs.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ERAS, DRAGOMAN, OUT = map(Path, sys.argv[1:4])

# An era is what an agent may yield and how a failure is told; what fails in
# mid-stream is told by the typed versions from .127 on, and by .90 in its way.
VERSIONS = ["62", "64", "90", "115", "118", "126", "127", "140", "new"]
SERVED = {"62": "/", "64": "/chat/cycls", "90": "/chat/cycls", "115": "/chat/cycls", "118": "/"}  # the others: /chat
PROBED = {"/chat/cycls", "/chat", "/"}


def start():
    """Starts the servers and the proxy, and tells in the environment where they are."""
    addresses = OUT / "eras-addresses"
    addresses.unlink(missing_ok=True)
    with open(OUT / "eras-servers.log", "w") as log:
        servers = subprocess.Popen(
            [sys.executable, HERE / "server.py", ERAS, addresses, *VERSIONS], stdout=log, stderr=log
        )
    processes.append(servers)
    wait(servers, addresses.exists)
    env = dict(line.split("=", 1) for line in addresses.read_text().split())
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        env["DRAGOMAN_LISTEN"] = "{}:{}".format(*s.getsockname())
    env["DRAGOMAN_URL"] = "http://" + env["DRAGOMAN_LISTEN"]
    os.environ.update(env)
    with open(OUT / "eras-dragoman.log", "w") as log:
        proxy = subprocess.Popen([DRAGOMAN, "serve", "-config", HERE / "config.yaml"], stdout=log, stderr=log)

    def answers():
        with socket.socket() as s:
            host, port = env["DRAGOMAN_LISTEN"].split(":")
            return s.connect_ex((host, int(port))) == 0

    processes.append(proxy)
    wait(proxy, answers)


def wait(process, ready):
    until = time.monotonic() + 60
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            stop()
            sys.exit(f"{process.args[:2]} did not come up; see {OUT}")
        time.sleep(0.05)


def stop():
    for p in reversed(processes):
        if p.poll() is None:
            p.terminate()
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            p.kill()


def leave(*_):
    stop()
    os._exit(1)


processes = []
signal.signal(signal.SIGTERM, leave)
start()
sys.path.insert(0, str(HERE.parent / "clients/python"))

import httpx  # noqa: E402
import openai  # noqa: E402

from harness import PROXY, check, each, equal, fresh, main  # noqa: E402

PATIENCE = 15.0  # for the next byte: what hangs is a failure

http = httpx.Client(base_url=PROXY, timeout=PATIENCE)
sdk = openai.OpenAI(base_url=f"{PROXY}/v1", api_key="none", timeout=PATIENCE, max_retries=0)

WORDS = 'Hello, wörld 🌍!\n\nLine "two" \\ \t\u2028日本語 e\u0301 👩‍👩‍👧.'
STRING = "Only words,\n„ünd so“ 🌍."
REASONING = "Let me think about “wörld” 🌍."
CODE = 'def f():\n    return "```"\n'
TOUR = (
    'Hello, wörld 🌍!\n\nSome code:\n\n````python\ndef f():\n    return "```"\n````\n\nAnd a table:\n\n'
    "| Name | Qty |\n| --- | --- |\n| apple | 3 |\n| a \\| b | two<br>lines |\n\n"
    "> **Success: Done**\n>\n> All is well.\n\n![A court](https://example.com/a.png)\n\nBye."
)
PARTS = [
    {"type": "thinking", "thinking": REASONING},
    {"type": "status", "status": "Working"},
    {"type": "text", "text": "Hello, wörld 🌍!\n\nSome code:"},
    {"type": "code", "code": CODE, "language": "python"},
    {"type": "text", "text": "And a table:"},
    {"type": "table", "headers": ["Name", "Qty"], "rows": [["apple", "3"], ["a | b", "two\nlines"]]},
    {"type": "callout", "callout": "All is well.", "style": "success", "title": "Done"},
    {"type": "image", "src": "https://example.com/a.png", "alt": "A court"},
    {"type": "text", "text": "Bye."},
]


def version(agent):
    return agent.split("-")[1]


def server(version):
    return os.environ[f"CYCLS_{version.upper()}_URL"]


def user(text):
    return [{"role": "user", "content": text}]


class Failed(Exception):
    """The answer says in its face's own way that it failed."""


def events(path, body):
    """The events of a stream, read as strictly as the known clients do, and its last state."""
    with http.stream("POST", path, json=body, headers={"Accept": "text/event-stream"}) as r:
        if r.status_code != 200:
            r.read()
            raise Failed(r.status_code, r.text)
        equal(r.headers["content-type"].split(";")[0], "text/event-stream")
        done, rest = False, ""
        for piece in r.iter_text():
            *frames, rest = (rest + piece).split("\n\n")
            for frame in frames:
                data = [line[6:] for line in frame.split("\n") if line.startswith("data: ")]
                if frame.startswith(":"):
                    continue
                check(len(data) == 1 and not done, f"not one data line, or one after [DONE]: {frame!r}")
                if data[0] == "[DONE]":
                    done = True
                else:
                    yield json.loads(data[0])
        check(done and not rest, f"no [DONE], or {rest!r} after it")


def chat_stream(agent, prompt, heard=None):
    """(text, reasoning) of a Chat stream."""
    text, reasoning, finish = "", "", None
    for d in events("/v1/chat/completions", {"model": agent, "messages": user(prompt), "stream": True}):
        if "error" in d:
            check(finish is None, "a finish_reason before the error")
            raise Failed(d["error"])
        for c in d["choices"]:
            check(finish is None or not c["delta"].get("content"), f"after the finish: {d}")
            text += c["delta"].get("content") or ""
            if heard:
                heard(text)
            reasoning += c["delta"].get("reasoning_content") or ""
            check("tool_calls" not in c["delta"], d)
            finish = c["finish_reason"] or finish
    equal(finish, "stop", "finish_reason")
    return text, reasoning


def chat_json(agent, prompt, heard=None):
    r = http.post("/v1/chat/completions", json={"model": agent, "messages": user(prompt)})
    if r.status_code != 200:
        check(r.json()["error"]["message"], r.text)
        raise Failed(r.status_code, r.text)
    c = r.json()["choices"][0]
    equal(c["finish_reason"], "stop", "finish_reason")
    return c["message"]["content"] or "", c["message"].get("reasoning_content") or ""


def responses_stream(agent, prompt, heard=None):
    text, reasoning, last = "", "", {}
    for d in events("/v1/responses", {"model": agent, "input": prompt, "stream": True}):
        match d["type"]:
            case "response.output_text.delta":
                text += d["delta"]
                if heard:
                    heard(text)
            case "response.reasoning_summary_text.delta":
                reasoning += d["delta"]
        last = d
    if last["type"] != "response.completed":
        equal(last["type"], "response.failed")
        raise Failed(last["response"]["error"])
    equal(whole(last["response"]), (text, reasoning), "response.completed")
    return text, reasoning


def whole(response):
    equal((response["status"], response["error"]), ("completed", None), "status")
    text = "".join(p["text"] for o in response["output"] if o["type"] == "message" for p in o["content"])
    reasoning = "".join(p["text"] for o in response["output"] if o["type"] == "reasoning" for p in o["summary"])
    return text, reasoning


def responses_json(agent, prompt, heard=None):
    r = http.post("/v1/responses", json={"model": agent, "input": prompt})
    if r.status_code != 200:
        check(r.json()["error"]["message"], r.text)
        raise Failed(r.status_code, r.text)
    return whole(r.json())


def cycls_parts(stream, heard=None):
    """What the web client of today makes of a stream of components."""
    parts = []
    for d in stream:
        kind = d.get("type")
        if kind in ("chat_id", "session_id", "ping"):
            continue
        if kind == "callout" and d.get("style") == "error":
            check(d["callout"], d)
            raise Failed(d)
        if kind == "thinking" and d["thinking"].startswith("⚠️ Error\n```\n"):  # how .89 and .90 tell it
            raise Failed(d)
        last = parts[-1] if parts else {}
        if kind == last.get("type") and "row" in d and "rows" in last:
            last["rows"].append(d["row"])
        elif kind == last.get("type") and isinstance(d.get(kind), str) and isinstance(last.get(kind), str):
            last[kind] += d[kind]
        elif kind == "table":
            check("headers" in d, f"a row without headers: {d}")
            parts.append({**d, "rows": []})
        else:
            parts.append(dict(d))
        if heard:
            heard("".join(p["text"] for p in parts if p["type"] == "text"))
    return [p for p in parts if p.get("text") != ""]  # keeps two components apart


def cycls_text(parts):
    text = "".join(p["text"] for p in parts if p["type"] == "text")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")  # a pair in two events is one character to its client
    return text, "".join(p["thinking"] for p in parts if p["type"] == "thinking")


def cycls_stream(agent, prompt, heard=None):
    return cycls_text(cycls_parts(events(f"/agents/{agent}/chat", {"messages": user(prompt)}), heard))


def cycls_json(agent, prompt, heard=None):
    r = http.post(f"/agents/{agent}/chat", json={"messages": user(prompt)}, headers={"Accept": "application/json"})
    if r.status_code != 200:
        check(r.json()["detail"], r.text)
        raise Failed(r.status_code, r.text)
    equal(r.json()["role"], "assistant", "role")
    return cycls_text(r.json()["parts"])


ASK = {
    "chat stream": chat_stream,
    "chat JSON": chat_json,
    "responses stream": responses_stream,
    "responses JSON": responses_json,
    "cycls stream": cycls_stream,
    "cycls JSON": cycls_json,
}
STREAMS = [face for face in ASK if face.endswith("stream")]
AGENTS = [f"cycls-{v}{path}" for path in ("", "-chat") for v in VERSIONS]
# Words that look like events, and an empty answer that looks like a cut one,
# are told apart only where the configuration says that all is text.
CLEAR = ["cycls-62-text", *(a for a in AGENTS if a != "cycls-62")]


def release(agent, name):
    httpx.post(f"{server(version(agent))}/interop/release/{name}", timeout=PATIENCE).raise_for_status()


def fails(agent, prompt, face, before=""):
    """Asks for an answer that must be told as a failure, and of a stream first
    hears the words before it: it is these that let the agent fail."""
    name = fresh()
    last = ""

    def heard(text):
        nonlocal last
        if text == before and text != last:
            release(agent, name)
        last = text

    if face not in STREAMS or not before:
        release(agent, name)
    try:
        got = ASK[face](agent, f"{prompt} {name}", heard)
    except Failed as e:
        if before and face in STREAMS:
            # What passed untouched is ended by an empty line, so that no
            # client takes the error for a piece of it.
            equal(last.removesuffix("\n"), before, "text before the failure")
        # .90, .127 and the /chat/completions from .127 on tell the exception.
        if version(agent) not in ("90", "127") and not (agent.endswith("-chat") and version(agent) in ("140", "new")):
            check("secret" not in str(e) and "kaput" not in str(e), f"the agent's exception is told: {e}")
        return
    raise AssertionError(f"a failure told as an answer: {got!r}")


# One request to each, so that each has been found out; the rest run at once.
for a in AGENTS:
    http.post("/v1/chat/completions", json={"model": a, "messages": user("words")})


@each("{}: its path is remembered", VERSIONS)
def _(v):
    served = SERVED.get(v, "/chat")
    before = httpx.get(f"{server(v)}/interop/paths", timeout=PATIENCE).json()
    for _ in range(3):
        chat_json(f"cycls-{v}", "words")
    after = httpx.get(f"{server(v)}/interop/paths", timeout=PATIENCE).json()
    check(after[served] >= before[served] + 3, f"{served} is not what was asked: {after}")
    for path in PROBED - {served}:
        equal(after.get(path, 0), before.get(path, 0), f"requests to {path}")


@each("{}: words, whole and in order, through every face", [*AGENTS, "cycls-62-text"])
def _(agent):
    for face, ask in ASK.items():
        equal(ask(agent, "words"), (WORDS, ""), face)


@each("{}: a returned string, a plain generator", AGENTS)
def _(agent):
    for face, ask in ASK.items():
        equal(ask(agent, "string"), (STRING, ""), face)
    for face in STREAMS:
        equal(ASK[face](agent, "sync"), (WORDS, ""), face)


@each("{}: a character in two events, words that look like events", CLEAR)
def _(agent):
    for face, ask in ASK.items():
        if agent != "cycls-62-text":  # text without events has no halves of characters
            equal(ask(agent, "pair"), ("a🌍b", ""), face)
        equal(ask(agent, "sse"), ('data: {"type": "text", "text": "no event"}\n\ndata: [DONE]\n\nso it looks.', ""), face)


@each("{}: the official client, stream and JSON", AGENTS)
def _(agent):
    s = sdk.chat.completions.create(model=agent, messages=user("words"), stream=True)
    equal("".join(c.choices[0].delta.content or "" for c in s if c.choices), WORDS, "chat stream")
    r = sdk.chat.completions.create(model=agent, messages=user("words"))
    equal(r.choices[0].message.content, WORDS, "chat")
    with sdk.responses.stream(model=agent, input="words") as s:
        for _ in s:
            pass
        equal(s.get_final_response().output_text, WORDS, "responses stream")
    equal(sdk.responses.create(model=agent, input="words").output_text, WORDS, "responses")
    name, text = fresh(), ""
    try:
        for c in sdk.chat.completions.create(model=agent, messages=user(f"break {name}"), stream=True):
            if c.choices and c.choices[0].delta.content:
                text += c.choices[0].delta.content
                if text == "I will try, but ":
                    release(agent, name)
    except openai.APIError:
        return
    raise AssertionError("no exception from a stream that failed")


# The text era has no components, but on its /chat/completions it sends what
# the agent yields.
@each("{}: every component, through every face", [a for a in AGENTS if a != "cycls-62"])
def _(agent):
    for face in ("chat stream", "chat JSON", "responses stream", "responses JSON"):
        equal(ASK[face](agent, "tour"), (TOUR, REASONING), face)
        equal(ASK[face](agent, "object"), ("before after", "Let me "), face)
    got = cycls_parts(events(f"/agents/{agent}/chat", {"messages": user("tour")}))
    equal([{k: v for k, v in p.items() if v is not None} for p in got], PARTS, "cycls stream")
    r = http.post(f"/agents/{agent}/chat", json={"messages": user("tour")}, headers={"Accept": "application/json"})
    equal([{k: v for k, v in p.items() if v is not None} for p in r.json()["parts"]], PARTS, "cycls JSON")


@each("{}: failure in the middle of words", [*AGENTS, "cycls-62-text"])
def _(agent):
    for face in ASK:
        fails(agent, "break", face, "I will try, but ")


@each("{}: failure in the middle of a component", AGENTS)
def _(agent):
    for face in ASK:
        fails(agent, "break-code", face)  # released at once: before it has begun, or while it goes on


@each("{}: failure before the first word", AGENTS)
def _(agent):
    for face in ASK:
        fails(agent, "crash", face)


@each("{}: nothing said, nothing invented", CLEAR)
def _(agent):
    for face, ask in ASK.items():
        equal(ask(agent, "nothing"), ("", ""), face)


@each("{}: many words, more than any buffer", AGENTS)
def _(agent):
    # From .141 on a server whose agent never waits keeps 512 events.
    n = 400 if version(agent) == "new" else 1500
    for face in STREAMS:
        text, _ = ASK[face](agent, f"many {n}")
        equal(text, "".join(f"{i} wörld 🌍\n" for i in range(n)), face)


@each("{}: the first words come before the last are said", AGENTS)
def _(agent):
    for path, body in (
        ("/v1/chat/completions", {"model": agent, "messages": [], "stream": True}),
        (f"/agents/{agent}/chat", {"messages": []}),
    ):
        name = fresh()
        body["messages"] = user(f"gate {name}")
        got = ""
        with http.stream("POST", path, json=body, headers={"Accept": "text/event-stream"}) as r:
            for piece in r.iter_text():
                if "first " in piece and "first " not in got:
                    release(agent, name)
                got += piece
        check("second" in got and got.endswith("data: [DONE]\n\n"), got)


@each("{}: a client that leaves ends the agent", AGENTS)
def _(agent):
    name = fresh()
    body = {"model": agent, "messages": user(f"hold {name}"), "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as r:
        for piece in r.iter_text():
            if "first " in piece:
                break
    httpx.get(f"{server(version(agent))}/interop/closed/{name}", timeout=PATIENCE).raise_for_status()


@each("{}: the history, as the agent sees it", AGENTS)
def _(agent):
    history = [
        {"role": "system", "content": "Be “brief”."},
        {"role": "user", "content": "Erste Frage 🌍"},
        {"role": "assistant", "content": "Erste\nAntwort"},
        {"role": "user", "content": "echo"},
    ]
    r = http.post("/v1/chat/completions", json={"model": agent, "messages": history})
    echo = json.loads(r.json()["choices"][0]["message"]["content"])
    equal(echo["roles"], [m["role"] for m in history], "roles")
    equal([m["content"] for m in echo["messages"]], [m["content"] for m in history], "contents")
    r = http.post("/v1/responses", json={"model": agent, "input": history[1:], "instructions": "Be “brief”."})
    echo = json.loads(whole(r.json())[0])
    equal([m["content"] for m in echo["messages"]], [m["content"] for m in history], "contents")
    parts = [{"type": "text", "text": "echo"}]
    body = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "parts": [{"type": "text", "text": "b"}]},
                         {"role": "user", "content": parts}]}
    text, _ = cycls_text(cycls_parts(events(f"/agents/{agent}/chat", body)))
    echo = json.loads(text)
    equal([m["content"] for m in echo["messages"]][:2], ["a", "b"], "contents of the Cycls face")
    check(echo["messages"][2]["content"] in ("echo", parts), echo)


@each("{}: code points in two chunks", ["cycls-62", "cycls-62-text"])
def _(agent):
    for face, ask in ASK.items():
        equal(ask(agent, "bytes"), ("wörld 🌍!", ""), face)
    for face in ASK:
        fails(agent, "tour", face)  # a component is an exception there
        fails(agent, "object", face, "before ")


try:
    main("cycls-eras")
finally:
    stop()
