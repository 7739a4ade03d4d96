"""Backends and proxies that fail, behind and in front of the official clients: a real Cycls server is killed, stopped and
started again; the proxy is told to leave, or to read its configuration again, while answers run.

Starts servers (server.py) and proxies (config.yaml) of its own, one test after the other. Arguments: the proxy's binary,
the folder with Node.js' packages, the Go client, and a folder for logs.
"""

import asyncio
import os
import resource
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
DRAGOMAN, NODE, GO, OUT = (Path(a).absolute() for a in sys.argv[1:5])
PATIENCE = 30.0  # nothing takes longer but by mistake
HELLO = "Hello, world."

processes = []
tests = []


def test(name):
    def register(fn):
        tests.append((name, fn))
        return fn

    return register


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError(f"{what}:\n   got {got!r}\n  want {want!r}")


def check(ok, what):
    if not ok:
        raise AssertionError(what)


def until(ok, what, patience=PATIENCE):
    end = time.monotonic() + patience
    while not ok():
        check(time.monotonic() < end, f"waited in vain: {what}")
        time.sleep(0.02)


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(number):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", number)) == 0


class Process:
    """A program that serves on a port, and can be started again there."""

    def __init__(self, name, number, *command, **options):
        self.name, self.port, self.command, self.options = name, number, command, options
        self.url = f"http://127.0.0.1:{number}"
        processes.append(self)

    def start(self):
        with open(OUT / f"faults-{self.name}.log", "ab") as log:
            self.p = subprocess.Popen(self.command, stdout=log, stderr=log, **self.options)
        return self

    def up(self):
        def ok():
            check(self.p.poll() is None, f"{self.name} ended at once; see faults-{self.name}.log")
            return listening(self.port)

        until(ok, f"{self.name} comes up")
        return self

    def kill(self):
        self.p.send_signal(signal.SIGKILL)
        self.p.wait(PATIENCE)

    def stop(self):
        if getattr(self, "p", None) is None or self.p.poll() is not None:
            return
        self.p.send_signal(signal.SIGCONT)
        self.p.terminate()
        try:
            self.p.wait(3)
        except subprocess.TimeoutExpired:
            self.kill()


def server(name):
    number = port()
    return Process(name, number, sys.executable, HERE / "server.py", str(number)).start()


def proxy(name, config=HERE / "config.yaml", **options):
    number = port()
    env = {**os.environ, "FAULTS_LISTEN": f"127.0.0.1:{number}"}
    return Process(name, number, DRAGOMAN, "serve", "-config", config, env=env, **options).start().up()


def sdk(p, retries=0, **more):
    return openai.OpenAI(base_url=f"{p.url}/v1", api_key="none", timeout=more.pop("timeout", PATIENCE), max_retries=retries, **more)


def user(text):
    return [{"role": "user", "content": text}]


def ask(client, agent, text="hello"):
    return client.chat.completions.create(model=agent, messages=user(text)).choices[0].message.content


def words(stream, first=lambda: None):
    """All that a stream says, and why it ended."""
    text, finish = "", None
    for c in stream:
        if c.choices:
            if c.choices[0].delta.content:
                text += c.choices[0].delta.content
                first()
            finish = c.choices[0].finish_reason or finish
    return text, finish


class Watch(threading.Thread):
    """Runs a client in a thread: `begun` when it has the first words, `error` when it raised."""

    def __init__(self, fn):
        super().__init__(daemon=True)
        self.fn, self.begun, self.result, self.error = fn, threading.Event(), None, None
        self.start()

    def run(self):
        try:
            self.result = self.fn(self.begun.set)
        except Exception as e:
            self.error = e

    def first(self):
        check(self.begun.wait(PATIENCE), f"the first words did not come: {self.error!r} {self.result!r}")

    def end(self):
        self.join(PATIENCE)
        check(not self.is_alive(), "the client hangs")


def chat_stream(agent, p=None):
    return lambda first: words(sdk(p or main).chat.completions.create(model=agent, messages=user("hold"), stream=True), first)


def responses_stream(first):
    kinds = []
    for e in sdk(main).responses.create(model="victim", input="hold", stream=True):
        kinds.append(e.type)
        if e.type == "response.output_text.delta":
            first()
        if e.type == "response.failed":
            raise RuntimeError(e.type)
    return kinds


def async_stream(first):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{main.url}/v1", api_key="none", timeout=PATIENCE, max_retries=0) as c:
            async for chunk in await c.chat.completions.create(model="victim", messages=user("hold"), stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    first()

    asyncio.run(run())


def program(*command):
    def run(first):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=NODE.parent) as p:
            last = ""
            for line in p.stdout:
                if line.strip() == "first":
                    first()
                last = line.strip()
        if last.startswith("error "):
            raise RuntimeError(last)
        return last

    return run


CLIENTS = {
    "openai (Python), Chat": chat_stream("victim"),
    "openai (Python), Responses": responses_stream,
    "openai (Python), async": async_stream,
    "openai (Node.js), Chat": lambda f: program(NODE / ".bin/node", "faults/client.mjs", main.url, "chat")(f),
    "openai (Node.js), Responses": lambda f: program(NODE / ".bin/node", "faults/client.mjs", main.url, "responses")(f),
    "openai (Go), Chat": lambda f: program(GO, "-fault", main.url)(f),
}


@test("kill -9 of the backend: every client sees its stream fail, and JSON is an error that is not tried again")
def _():
    running = {name: Watch(fn) for name, fn in CLIENTS.items()}
    attempts = []
    client = sdk(main, retries=2, http_client=httpx.Client(event_hooks={"request": [lambda r: attempts.append(r)]}))
    whole = Watch(lambda _: ask(client, "victim", "wait 60"))
    for w in running.values():
        w.first()
    until(lambda: attempts, "the JSON request")
    time.sleep(0.3)  # the request reaches the agent
    victim.kill()
    for name, w in running.items():
        w.end()
        check(w.error is not None, f"{name}: no failure, but {w.result!r}")
    whole.end()
    check(isinstance(whole.error, openai.APIStatusError), f"JSON: {whole.error!r} {whole.result!r}")
    equal(whole.error.status_code, 502, "status")
    equal(whole.error.response.headers["x-should-retry"], "false", "x-should-retry")
    equal(len(attempts), 1, "attempts: the agent may have acted")


@test("backend down: 502, which the client tries again by itself")
def _():
    attempts = []
    client = sdk(main, retries=2, http_client=httpx.Client(event_hooks={"request": [lambda r: attempts.append(r)]}))
    try:
        got = ask(client, "victim")
    except openai.InternalServerError as e:
        equal(e.status_code, 502, "status")
        check("x-should-retry" not in e.response.headers, "the client was told not to try again")
    else:
        raise AssertionError(f"no error, but {got!r}")
    equal(len(attempts), 3, "attempts")


@test("restart of the backend between requests: the next request works, at the first attempt")
def _():
    client = sdk(main)
    victim.start().up()
    for end in (victim.kill, victim.stop):
        equal(ask(client, "victim"), HELLO, "before")
        equal(words(client.chat.completions.create(model="victim", messages=user("hello"), stream=True)), (HELLO, "stop"), "stream before")
        end()
        victim.start().up()
        equal(ask(client, "victim"), HELLO, "after")


@test("SIGSTOP of the backend: its silence is told, and after SIGCONT it serves again")
def _():
    w = Watch(chat_stream("impatient"))
    w.first()
    victim.p.send_signal(signal.SIGSTOP)
    try:
        w.end()
        check(isinstance(w.error, openai.APIError), f"no failure, but {w.error!r} {w.result!r}")
        check("silent" in str(w.error), f"the reason is not told: {w.error}")
        try:
            got = ask(sdk(main), "impatient")
        except openai.InternalServerError as e:
            equal(e.status_code, 504, "status")
            equal(e.response.headers["x-should-retry"], "false", "x-should-retry")
        else:
            raise AssertionError(f"an answer from a stopped process: {got!r}")
    finally:
        victim.p.send_signal(signal.SIGCONT)
    equal(ask(sdk(main), "impatient"), HELLO, "after SIGCONT")


@test("SIGTERM of the proxy in mid-stream: the client gets its whole answer, and the proxy ends with 0")
def _():
    p = proxy("leaving")
    stream = Watch(lambda first: words(sdk(p).chat.completions.create(model="steady", messages=user("long 3"), stream=True), first))
    whole = Watch(lambda _: ask(sdk(p), "steady", "wait 2"))
    stream.first()
    time.sleep(0.3)  # the other request reaches its agent
    p.p.terminate()
    stream.end()
    whole.end()
    equal((stream.result, stream.error), (("word 0 word 1 word 2 the end", "stop"), None), "stream")
    equal((whole.result, whole.error), ("at last", None), "JSON")
    equal(p.p.wait(PATIENCE), 0, "exit status")


@test("SIGHUP with a good and a bad file: requests and streams go on, and the good one is in force")
def _():
    file = OUT / "faults-reload.yaml"
    good = (HERE / "config.yaml").read_text()
    file.write_text(good)
    p = proxy("reloading", file)
    over, wrong, served = threading.Event(), [], [0]

    def load():
        client = sdk(p)
        while not over.is_set():
            try:
                equal(ask(client, "steady"), HELLO)
                served[0] += 1
            except Exception as e:
                wrong.append(e)

    stream = Watch(lambda first: words(sdk(p).chat.completions.create(model="steady", messages=user("long 5"), stream=True), first))
    stream.first()
    threads = [threading.Thread(target=load) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        client = sdk(p)

        def named(word):
            return any(m.id == word for m in client.models.list())

        for i in range(2):
            file.write_text(good + f"\n  - {{name: added-{i}, protocol: cycls, url: {steady.url}}}\n")
            p.p.send_signal(signal.SIGHUP)
            until(lambda: named(f"added-{i}"), "the good file is in force")
            equal(ask(client, f"added-{i}"), HELLO, "the new agent")
            file.write_text("agents: [this is no configuration\n")
            p.p.send_signal(signal.SIGHUP)
            before = served[0]
            until(lambda: served[0] > before + 5, "requests go on")
            check(named(f"added-{i}"), "the last good configuration was dropped")
    finally:
        over.set()
        for t in threads:
            t.join()
    equal(wrong, [], "errors of other requests")
    stream.end()
    equal((stream.result, stream.error), (("word 0 word 1 word 2 word 3 word 4 the end", "stop"), None), "the stream that ran on")


@test("kill -9 of one of two replicas under load: no request that begins afterwards fails")
def _():
    killed, over = threading.Event(), threading.Event()
    failed, asked = [], {False: [], True: []}
    both = {str(steady.port), str(twin.port)}

    def load(stream):
        client = sdk(main)
        while not over.is_set():
            after = killed.is_set()
            try:
                if stream:
                    who, finish = words(client.chat.completions.create(model="pair", messages=user("who"), stream=True))
                    equal(finish, "stop")
                else:
                    who = ask(client, "pair", "who")
                check(who in both, who)
                asked[after].append(who)
            except Exception as e:
                if after:
                    failed.append(e)

    threads = [threading.Thread(target=load, args=(i % 2 == 0,)) for i in range(6)]
    for t in threads:
        t.start()
    try:
        until(lambda: set(asked[False]) == both, "both are asked")
        twin.kill()
        killed.set()
        until(lambda: len(asked[True]) > 100, "a hundred answers afterwards")
        equal(set(asked[True]), {str(steady.port)}, "who answered")
        twin.start().up()
        until(lambda: set(asked[True]) == both, "both are asked again")
    finally:
        over.set()
        for t in threads:
            t.join()
    equal(failed, [], "failures of requests that began afterwards")


@test("fallback: a dead Cycls agent is replaced by a Swarms agent, for stream and JSON")
def _():
    for _ in range(3):
        client = sdk(main)
        r = client.chat.completions.with_raw_response.create(model="replaced", messages=user("hello"))
        check("You said: “hello”." in r.parse().choices[0].message.content, r.text)
        equal(r.headers["dragoman-attempts"], "2", "Dragoman-Attempts")
        text, finish = words(client.chat.completions.create(model="replaced", messages=user("hello"), stream=True))
        check("You said: “hello”." in text and finish == "stop", text)


@test("heartbeat: a client that waits two seconds for a byte survives an agent that thinks for six")
def _():
    impatient = httpx.Timeout(10.0, read=2.0)
    try:
        got = ask(sdk(main, timeout=impatient), "steady", "wait 6")
    except openai.APITimeoutError:
        pass
    else:
        raise AssertionError(f"a client that has patience proves nothing: {got!r}")
    json = Watch(lambda _: ask(sdk(main, timeout=impatient), "beating", "wait 6"))
    stream = Watch(lambda _: words(sdk(main, timeout=impatient).chat.completions.create(model="beating", messages=user("wait 6"), stream=True)))
    raw = Watch(lambda _: httpx.post(f"{main.url}/v1/agent/completions", timeout=impatient,
                                     json={"agent_config": {"agent_name": "beating"}, "task": "wait 6"}).json())
    for w in (json, stream, raw):
        w.end()
    equal((json.result, json.error), ("at last", None), "JSON")
    equal((stream.result, stream.error), (("at last", "stop"), None), "stream")
    check(raw.error is None and "at last" in str(raw.result), f"Swarms: {raw.error!r} {raw.result!r}")


@test("no descriptors left: the proxy goes on, says so, and serves again")
def _():
    limit = 64
    p = proxy("short", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    client = sdk(p)
    equal(ask(client, "steady"), HELLO, "before")
    time.sleep(4.5)  # the connection to the agent is not kept any longer
    crowd = []
    for _ in range(limit):
        s = socket.socket()
        s.settimeout(5)
        s.connect(("127.0.0.1", p.port))
        crowd.append(s)
    time.sleep(0.5)  # the proxy accepts as many as it can
    try:
        got = ask(client, "steady")  # on the connection that it has
    except openai.InternalServerError as e:
        check(e.status_code in (502, 503), f"status {e.status_code}")
        check("x-should-retry" not in e.response.headers, "nothing was sent, and yet the client is told not to try again")
    else:
        equal(got, HELLO, "an answer")
    for s in crowd:
        s.close()
    until(lambda: works(p), "it serves again")
    equal(p.p.poll(), None, "exit status of a proxy that should run")
    p.p.terminate()
    equal(p.p.wait(PATIENCE), 0, "exit status")


def works(p):
    try:
        return ask(sdk(p), "steady") == HELLO
    except openai.APIError:
        return False


def leave(*_):
    for p in reversed(processes):
        p.stop()
    os._exit(1)


signal.signal(signal.SIGTERM, leave)
print(f"plan {len(tests)}", flush=True)
failed = 0
try:
    victim, steady, twin = server("victim"), server("steady"), server("twin")
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))  # and never listens: connections are refused
    for s in (victim, steady, twin):
        s.up()
    os.environ.update(VICTIM_URL=victim.url, STEADY_URL=steady.url, TWIN_URL=twin.url, DEAD_URL="http://{}:{}".format(*dead.getsockname()))
    main = proxy("main")
    for name, fn in tests:
        begun = time.monotonic()
        try:
            fn()
        except Exception:
            failed += 1
            why = traceback.format_exc().rstrip().replace("\n", "\n     ")
            print(f"FAIL faults: {name}\n     {why}", flush=True)
        else:
            print(f"ok   faults: {name}", flush=True)
        print(f"{name}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
finally:
    for p in reversed(processes):
        p.stop()
sys.exit(1 if failed else 0)
