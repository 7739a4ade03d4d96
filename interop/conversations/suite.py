"""Conversations through the official clients, over the real Cycls server and the Swarms demo agent, with a proxy that keeps them in a
file and is started again in their midst: told to leave, or killed.

Starts a server (server.py) and a proxy (config.yaml) of its own. Arguments: the proxy's binary, the folder with Node.js' packages, the Go client, the
address of the scripted agent, and a folder for logs.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import httpx
import openai

HERE = Path(__file__).parent
DRAGOMAN, NODE, GO = (Path(a).absolute() for a in sys.argv[1:4])
SCRIPTED, OUT = sys.argv[4], Path(sys.argv[5]).absolute()
PATIENCE = 60.0  # nothing takes longer but by mistake
ANN, BOB = "key-of-ann-0123456789abcdefghijklm", "key-of-bob-0123456789abcdefghijklm"
WEATHER = "What is the weather in Paris?"
TOOL = {"type": "function", "name": "get_weather", "strict": False, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}

processes = []
tests = []


def test(name):
    def register(fn):
        tests.append((name, fn))
        return fn

    return register


def check(ok, what):
    if not ok:
        raise AssertionError(what)


def equal(got, want):
    check(got == want, f"got {got!r}\n   want {want!r}")


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A program that serves on a port, and can be started again there."""

    def __init__(self, name, number, *command, **options):
        self.name, self.port, self.command, self.options = name, number, command, options
        self.url = f"http://127.0.0.1:{number}"
        processes.append(self)

    def start(self):
        with open(OUT / f"conversations-{self.name}.log", "ab") as log:
            self.p = subprocess.Popen(self.command, stdout=log, stderr=log, **self.options)
        end = time.monotonic() + PATIENCE
        while True:
            check(self.p.poll() is None, f"{self.name} ended at once; see conversations-{self.name}.log")
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            check(time.monotonic() < end, f"{self.name} does not come up")
            time.sleep(0.02)

    def restart(self, how):
        self.p.send_signal(how)
        status = self.p.wait(PATIENCE)
        check(how == signal.SIGKILL or status == 0, f"{self.name}: exit status {status}")
        self.start()

    def stop(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait(PATIENCE)


ways = [signal.SIGTERM, signal.SIGKILL]  # by turns


def restart():
    ways.append(ways.pop(0))
    proxy.restart(ways[0])


def sdk(key=ANN):
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)


def heard(text, *what):
    check(all(w in text for w in what), text)


def streamed(client, **asked):
    with client.responses.stream(**asked) as s:
        for _ in s:
            pass
        return s.get_final_response()


for model in ("cycls", "swarms"):

    @test(f"openai (Python) over {model}")
    def python(model=model):
        one = sdk().responses.create(model=model, input="My name is Ann.")
        two = streamed(sdk(), model=model, input="What did I say?", previous_response_id=one.id)
        heard(two.output_text, "My name is Ann.")
        restart()
        three = sdk().responses.create(model="swarms", input=WEATHER, tools=[TOOL], previous_response_id=two.id)
        call = next(o for o in three.output if o.type == "function_call")
        restart()
        four = streamed(sdk(), model="swarms", tools=[TOOL], previous_response_id=three.id,
                        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "The result is rain, 7 degrees."}])
        check(four.output_text, "no answer to the tool's output")
        five = sdk().responses.create(model=model, input="What did I say?", previous_response_id=four.id)
        heard(five.output_text, "My name is Ann.", "The result is rain, 7 degrees.")
        branch = sdk().responses.create(model=model, input="What did I say at first?", previous_response_id=one.id)
        heard(branch.output_text, "My name is Ann.")
        check("What did I say?" not in branch.output_text and "rain" not in branch.output_text, branch.output_text)
        equal(sdk().responses.retrieve(five.id).output_text, five.output_text)

    for client in ("openai", "ai-sdk", "agents"):

        @test(f"{client} (Node.js) over {model}")
        def node(model=model, client=client):
            spoken([NODE / ".bin/node", HERE / "client.mjs", proxy.url, client, model])

    @test(f"openai-go over {model}")
    def go(model=model):
        spoken([GO, "-conversation", model, "-url", proxy.url, "-key", ANN])


def spoken(command):
    """Runs a client that says when the proxy is to be started again."""
    with open(OUT / "conversations-client.err", "ab") as err:
        p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True, cwd=HERE)
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line.strip()) for line in p.stdout] and None or lines.put(None), daemon=True).start()
    try:
        restarts = 0
        while (line := lines.get(timeout=PATIENCE)) not in ("done", None):
            equal(line, "restart")
            restart()
            restarts += 1
            p.stdin.write("on\n")
            p.stdin.flush()
        check(line == "done" and restarts > 1, f"it ended after {restarts} restarts; see conversations-client.err")
    finally:
        p.kill()
        p.wait()


@test("what the API says of what is kept, in Python")
def kept():
    client = sdk()
    items = [{"role": "user", "content": f"item {i}"} for i in range(45)]
    r = client.responses.create(model="cycls", input=items)
    listed = list(client.responses.input_items.list(r.id, limit=7, order="asc"))
    equal([i.content[0].text for i in listed], [i["content"] for i in items])
    for other in (sdk(BOB),):
        for call in (lambda: other.responses.retrieve(r.id), lambda: other.responses.delete(r.id), lambda: other.responses.input_items.list(r.id)):
            try:
                call()
                raise AssertionError("somebody else's answer was shown")
            except openai.NotFoundError as e:
                check(r.id in str(e), str(e))
        try:
            other.responses.create(model="cycls", input="on", previous_response_id=r.id)
            raise AssertionError("somebody else's answer was gone on from")
        except openai.BadRequestError as e:
            equal(e.code, "previous_response_not_found")
    client.responses.delete(r.id)
    try:
        client.responses.retrieve(r.id)
        raise AssertionError("it is still there")
    except openai.NotFoundError:
        pass
    unkept = client.responses.create(model="cycls", input="hello", store=False)
    check(not unkept.store, "store")
    try:
        client.responses.create(model="cycls", input="on", previous_response_id=unkept.id)
        raise AssertionError("what was not to be kept was gone on from")
    except openai.BadRequestError as e:
        equal(e.code, "previous_response_not_found")


@test("conversation objects, in Python")
def conversations():
    client = sdk()
    c = client.conversations.create(items=[{"type": "message", "role": "user", "content": "My name is Ann."}], metadata={"topic": "demo"})
    equal(client.conversations.retrieve(c.id).metadata, {"topic": "demo"})
    r = client.responses.create(model="cycls", input="Who am I?", conversation=c.id)
    check("My name is Ann." in r.output_text and r.conversation.id == c.id, r.output_text)
    restart()
    client = sdk()
    listed = list(client.conversations.items.list(c.id, order="asc", limit=2))
    equal([i.role for i in listed], ["user", "user", "assistant"])
    client.conversations.items.create(c.id, items=[{"type": "message", "role": "user", "content": "An aside."}])
    equal(client.conversations.items.retrieve(listed[0].id, conversation_id=c.id).id, listed[0].id)
    client.conversations.items.delete(listed[0].id, conversation_id=c.id)
    r = streamed(client, model="cycls", input="And now?", conversation=c.id)
    check("An aside." in r.output_text and "My name is Ann." not in r.output_text, r.output_text)
    equal(client.conversations.update(c.id, metadata={"topic": "other"}).metadata, {"topic": "other"})
    check(client.conversations.delete(c.id).deleted, "not deleted")


@test("answers in the background, in Python")
def background():
    client = sdk()
    r = client.responses.create(model="cycls", input="My name is Ann.", background=True)
    check(r.status == "queued" and r.background, r.status)
    end = time.monotonic() + PATIENCE
    while r.status in ("queued", "in_progress"):
        check(time.monotonic() < end, "it does not end")
        time.sleep(0.05)
        r = client.responses.retrieve(r.id)
    check(r.status == "completed" and "My name is Ann." in r.output_text, r)
    events = list(client.responses.create(model="cycls", input="On.", previous_response_id=r.id, background=True, stream=True))
    equal([e.type for e in events[:3]], ["response.created", "response.queued", "response.in_progress"])
    equal(events[-1].type, "response.completed")
    equal([e.sequence_number for e in events], list(range(len(events))))
    rid = events[-1].response.id
    restart()
    again = list(sdk().responses.retrieve(rid, stream=True, starting_after=2))
    equal([e.to_dict() for e in again], [e.to_dict() for e in events[3:]])
    equal(sdk().responses.cancel(rid).status, "completed")


def refusal(kind, call):
    """What a client is told of an id, without the id itself."""
    try:
        call()
    except kind as e:
        return e.status_code, e.code, e.body.get("type"), e.body.get("param")
    raise AssertionError("it was shown")


@test("somebody else's and what never was are told in the same words, in Python")
def owners():
    client, other = sdk(), sdk(BOB)
    c = client.conversations.create(items=[{"type": "message", "role": "user", "content": "My name is Ann."}])
    r = client.responses.create(model="cycls", input="hello", conversation=c.id)
    item = client.conversations.items.list(c.id, order="asc").data[0].id
    asked = [lambda k, rid, cid: k.responses.retrieve(rid), lambda k, rid, cid: k.responses.delete(rid), lambda k, rid, cid: k.responses.cancel(rid),
             lambda k, rid, cid: k.responses.input_items.list(rid), lambda k, rid, cid: list(k.responses.retrieve(rid, stream=True)),
             lambda k, rid, cid: k.conversations.retrieve(cid), lambda k, rid, cid: k.conversations.update(cid, metadata={"a": "b"}),
             lambda k, rid, cid: k.conversations.delete(cid), lambda k, rid, cid: k.conversations.items.list(cid),
             lambda k, rid, cid: k.conversations.items.retrieve(item, conversation_id=cid), lambda k, rid, cid: k.conversations.items.delete(item, conversation_id=cid),
             lambda k, rid, cid: k.conversations.items.create(cid, items=[{"type": "message", "role": "user", "content": "x"}])]
    missing = (r.id[:-4] + "0000" if not r.id.endswith("0000") else r.id[:-4] + "1111", c.id[:-4] + "0000" if not c.id.endswith("0000") else c.id[:-4] + "1111")
    for i, call in enumerate(asked):
        foreign = refusal(openai.NotFoundError, lambda call=call: call(other, r.id, c.id))
        check(foreign == refusal(openai.NotFoundError, lambda call=call: call(other, *missing)), f"{i}: {foreign}")
    for name, of in (("previous_response_id", (r.id, missing[0])), ("conversation", (c.id, missing[1]))):
        told = [refusal(openai.APIStatusError, lambda v=v: other.responses.create(model="cycls", input="on", **{name: v})) for v in of]
        check(told[0] == told[1] and told[0][0] in (400, 404), f"{name}: {told}")
    equal(client.responses.retrieve(r.id).id, r.id)
    equal(client.conversations.retrieve(c.id).id, c.id)
    unkept = client.responses.create(model="cycls", input="hello", store=False)
    refusal(openai.NotFoundError, lambda: client.responses.retrieve(unkept.id))


@test("a running answer in the background is left, followed again and cancelled, in Python")
def running():
    client = sdk()
    seen = []
    with client.responses.create(model="cycls", input="wait one", background=True, stream=True) as s:
        for e in s:
            seen.append(e)
            if e.type == "response.output_text.delta":
                break
    rid = seen[0].response.id
    equal(client.responses.retrieve(rid).status, "in_progress")
    with client.responses.retrieve(rid, stream=True, starting_after=seen[1].sequence_number) as s:
        rest = []
        for e in s:
            rest.append(e)
            if e.type == "response.output_text.delta" and len(rest) == len(seen) - 2:
                httpx.post(f"{cycls.url}/interop/release/one", timeout=PATIENCE).raise_for_status()
    equal([e.to_dict() for e in rest[: len(seen) - 2]], [e.to_dict() for e in seen[2:]])
    equal(rest[-1].type, "response.completed")
    equal(rest[-1].response.output_text, "first second")
    held = client.responses.create(model="cycls", input="wait two", background=True)
    equal(client.responses.cancel(held.id).status, "cancelled")
    equal(client.responses.retrieve(held.id).status, "cancelled")
    check(refusal(openai.BadRequestError, lambda: client.responses.create(model="cycls", input="on", previous_response_id=held.id)), "gone on from")


@test("the web client of Cycls over a Chat agent: its newest message alone, and an id")
def web_client():
    query = ""
    for i in range(1, 6):
        if i == 3:
            restart()
        text = f"question {i}" if i < 5 else "echo"
        with httpx.stream("POST", f"{proxy.url}/agents/chat/chat{query}", json={"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
                          headers={"Authorization": f"Bearer {ANN}"}, timeout=PATIENCE) as r:
            equal(r.status_code, 200)
            events = [line[6:] for line in r.iter_lines() if line.startswith("data: ")]
        equal(events[-1], "[DONE]")
        first = json.loads(events[0])
        equal(first["type"], "chat_id")
        check(not query or query == f"?id={first['chat_id']}", "another id")
        query = f"?id={first['chat_id']}"
    said = "".join(json.loads(e).get("text", "") for e in events[1:-1])
    for i in range(1, 5):
        check(f"question {i}" in said, said)


def leave(*_):
    for p in reversed(processes):
        p.stop()
    os._exit(1)


signal.signal(signal.SIGTERM, leave)
print(f"plan {len(tests)}", flush=True)
failed = 0
kept_in = OUT / "conversations.db"
kept_in.unlink(missing_ok=True)
try:
    number = port()
    cycls = Process("cycls", number, sys.executable, HERE / "server.py", str(number)).start()
    number = port()
    env = {**os.environ, "CONVERSATIONS_LISTEN": f"127.0.0.1:{number}", "CONVERSATIONS_FILE": str(kept_in), "CYCLS_URL": cycls.url, "SCRIPTED_URL": SCRIPTED}
    proxy = Process("proxy", number, DRAGOMAN, "serve", "-config", HERE / "config.yaml", env=env).start()
    for name, fn in tests:
        begun = time.monotonic()
        try:
            fn()
        except Exception:
            failed += 1
            why = traceback.format_exc().rstrip().replace("\n", "\n     ")
            print(f"FAIL conversations: {name}\n     {why}", flush=True)
        else:
            print(f"ok   conversations: {name}", flush=True)
        print(f"{name}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
finally:
    for p in reversed(processes):
        p.stop()
sys.exit(1 if failed else 0)
