"""Real Cycls servers, with agents whose answers the tests know.

Three agents, each a server of its own on a free port of loopback, built with
the package's decorator and served by its own web application:

  real    text, thinking, code, a table, a callout, an image, a status, a step;
          other prompts make it wait, repeat what it was sent, or break off
  broken  fails in the middle of its answer
  plain   returns a string, which the server sends one character an event

A port on which nobody listens stands for an agent that is dead. The addresses
are written to the file named by the only argument, as lines NAME=URL.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import cycls
import uvicorn
from cycls._agent.main import CYCLS_PATH
from cycls._agent.web import web

VOLUMES = {"/workspace": cycls.Volume("interop")}

# What the tests steer and see from outside, each by a name of their own.
released: dict[str, asyncio.Event] = {}
closed: dict[str, asyncio.Event] = {}
runs: Counter[str] = Counter()


def event(of: dict[str, asyncio.Event], name: str) -> asyncio.Event:
    return of.setdefault(name, asyncio.Event())


def prompt(context) -> str:
    said = context.last_message
    return said if isinstance(said, str) else json.dumps(said)


async def tour():
    yield {"type": "thinking", "thinking": "Let me "}
    yield {"type": "thinking", "thinking": "think about “wörld” 🌍."}
    yield {"type": "status", "status": "Working"}
    yield {"type": "step", "step": "Search", "tool_name": "search", "id": "s1"}
    yield {"type": "step_arg", "id": "s1", "delta": '{"q":"wörld"}'}
    yield {"type": "step", "id": "s1", "ok": True, "result": "3 hits"}
    await asyncio.sleep(0)
    yield "Hello, "
    yield "wörld 🌍!\n\nSome code:"
    yield {"type": "code", "code": "def f():\n", "language": "python"}
    yield {"type": "code", "code": '    return "```"\n'}
    yield "And a table:"
    yield {"type": "table", "headers": ["Name", "Qty"]}
    yield {"type": "table", "row": ["apple", "3"]}
    yield {"type": "table", "row": ["a | b", "two\nlines"]}
    await asyncio.sleep(0)
    yield {"type": "callout", "callout": "All is well.", "style": "success", "title": "Done"}
    yield {"type": "image", "src": "https://example.com/a.png", "alt": "A court"}
    yield "Bye."


@cycls.agent(name="real", volumes=VOLUMES)
async def real(context):
    word, _, name = prompt(context).partition(" ")
    match word:
        case "gate":  # says nothing more until it is released
            yield "first "
            await event(released, name).wait()
            yield "second"
        case "hold":  # never ends by itself
            try:
                yield "first "
                await asyncio.Event().wait()
            finally:
                event(closed, name).set()
        case "echo":  # what it was sent
            yield json.dumps(context.messages.raw, ensure_ascii=False)
        case "burst":  # more than its server keeps: the answer breaks off
            for i in range(600):
                yield f"{i} "
        case "crash":
            raise RuntimeError("kaput before the first word")
        case "What" if "my name" in name and (known := re.findall(r"My name is (\w+)", json.dumps(context.messages.raw))):
            yield known[-1]
        case _:
            async for item in tour():
                yield item


@cycls.agent(name="broken", volumes=VOLUMES)
async def broken(context):
    word, _, name = prompt(context).partition(" ")
    runs[prompt(context)] += 1
    yield {"type": "thinking", "thinking": "Hm."}
    yield "I will try, "
    yield "but "
    if word == "gate":  # fails when its words have been read
        await event(released, name).wait()
    raise RuntimeError("kaput: a secret of the agent")


@cycls.agent(name="plain", volumes=VOLUMES)
async def plain(context):
    return "Only words, „ünd so“ 🌍."


@real.server.post("/interop/release/{name}")  # also of the broken agent
async def release(name: str):
    event(released, name).set()
    return {}


@real.server.get("/interop/closed/{name}")
async def was_closed(name: str):
    await event(closed, name).wait()
    return {}


@broken.server.get("/interop/runs")
async def count_runs(prompt: str):
    return {"runs": runs[prompt]}


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self):  # main stops all of them
        yield


def serve(agent, volume: str) -> tuple[Server, socket.socket]:
    agent.config.volume = volume
    agent.config.public_path = str(CYCLS_PATH.joinpath(f"_agent/web/themes/{agent.theme}"))
    app = web(agent.user_func, agent.config, extra_routers=agent._routers(), auth=None)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)), sock


def url(sock: socket.socket) -> str:
    return "http://{}:{}".format(*sock.getsockname())


async def main(out: Path):
    dead = socket.socket()
    dead.bind(("127.0.0.1", 0))  # and never listens: connections are refused
    with tempfile.TemporaryDirectory() as volume:
        servers = {a.name: serve(a, volume) for a in (real, broken, plain)}
        loop = asyncio.get_running_loop()

        def stop():
            for server, _ in servers.values():
                server.should_exit = True

        for s in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(s, stop)
        lines = [f"CYCLS_{name.upper()}_URL={url(sock)}\n" for name, (_, sock) in servers.items()]
        lines.append(f"DEAD_URL={url(dead)}\n")
        part = out.with_suffix(".part")
        part.write_text("".join(lines))
        os.replace(part, out)
        await asyncio.gather(*(server.serve(sockets=[sock]) for server, sock in servers.values()))


asyncio.run(main(Path(sys.argv[1])))
