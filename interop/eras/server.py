"""Real Cycls servers of every era, each with the same agent.

An old agent keeps the server that it was deployed with, so all of them are in
the field. Each runs in a process of its own, forked from this one so that what
they share is loaded once, and serves on a free port of loopback what its own
web() returns: no container, no other network. Where an old version asks for a
package only to deploy, or to store chats, an empty module stands in for it.

The agent does what the first word of the last message says; see ask. Once all
servers answer, their addresses are written to the file named by the second
argument, as lines CYCLS_<version>_URL=…; the first is the folder that holds
the installed versions.
"""

import asyncio
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import signal
import socket
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path

import fastapi  # noqa: F401 -- loaded here, so that the servers share it
import uvicorn
from starlette.responses import JSONResponse
from starlette.routing import Route

# For each version: the module with its web(), the folder of its web client, and
# the era, which says what an agent may yield.
VERSIONS = {
    "62": ("web", "cycls/theme", "text"),  # web.py alone is what its containers run
    "64": ("web", "cycls/default-theme", "array"),
    "90": ("cycls.web", "cycls/themes/default", "typed"),
    "115": ("cycls.web", "cycls/themes/dev", "typed"),
    "118": ("cycls.app.web", "cycls/app/themes/dev", "typed"),
    "126": ("cycls.agent.web", "cycls/agent/web/themes/default", "typed"),
    "127": ("cycls.agent.web", "cycls/agent/web/themes/default", "typed"),
    "140": ("cycls._agent.web", "cycls/_agent/web/themes/default", "typed"),
    "new": ("cycls._agent.web", "cycls/_agent/web/themes/default", "typed"),
}

WORDS = ["Hel", "lo, ", "", "wörld", " 🌍", "!\n\n", 'Line "two" \\ \t\u2028', "日本語 e\u0301", " 👩‍👩‍👧.", None]
STRING = "Only words,\n„ünd so“ 🌍."

TYPED = [
    {"type": "thinking", "thinking": "Let me "},
    {"type": "thinking", "thinking": "think about “wörld” 🌍."},
    {"type": "status", "status": "Working"},
    "Hello, ",
    "wörld 🌍!\n\nSome code:",
    {"type": "code", "code": "def f():\n", "language": "python"},
    {"type": "code", "code": '    return "```"\n'},
    "And a table:",
    {"type": "table", "headers": ["Name", "Qty"]},
    {"type": "table", "row": ["apple", "3"]},
    {"type": "table", "row": ["a | b", "two\nlines"]},
    {"type": "callout", "callout": "All is well.", "style": "success", "title": "Done"},
    {"type": "image", "src": "https://example.com/a.png", "alt": "A court"},
    "Bye.",
]

# The same as the array era's own helpers, cycls.ui, make it.
ARRAY = [
    {"name": "thinking", "content": "Let me "},
    {"name": "thinking", "content": "think about “wörld” 🌍."},
    {"name": "status", "content": "Working"},
    "Hello, ",
    "wörld 🌍!\n\nSome code:",
    {"name": "code", "content": "def f():\n", "language": "python"},
    {"name": "code", "content": '    return "```"\n', "language": None},
    "And a table:",
    {"name": "table", "headers": ["Name", "Qty"]},
    {"name": "table", "row": ["apple", "3"]},
    {"name": "table", "row": ["a | b", "two\nlines"]},
    {"name": "callout", "content": "All is well.", "type": "success", "title": "Done", "_complete": True},
    {"name": "image", "src": "https://example.com/a.png", "alt": "A court", "caption": None, "_complete": True},
    "Bye.",
]

TOUR = {"text": TYPED, "array": ARRAY, "typed": TYPED}

# What a text agent can do and no other: bytes, with code points in two pieces.
BYTES = [b"w\xc3", b"\xb6rld ", b"\xf0\x9f", b"\x8c\x8d", b"!"]

# What the tests steer and see from outside.
paths: Counter[str] = Counter()
released: dict[str, asyncio.Event] = {}
closed: dict[str, asyncio.Event] = {}


def event(of: dict[str, asyncio.Event], name: str) -> asyncio.Event:
    return of.setdefault(name, asyncio.Event())


async def say(items):
    for item in items:
        yield item
        await asyncio.sleep(0)


async def fail(items, name):  # when what it said has been heard
    async for item in say(items):
        yield item
    await event(released, name).wait()
    raise RuntimeError("kaput: a secret of the agent")


async def gate(name):  # says nothing more until it is released
    yield "first "
    await event(released, name).wait()
    yield "second"


async def hold(name):  # never ends by itself
    try:
        yield "first "
        await asyncio.Event().wait()
    finally:
        event(closed, name).set()


def agent(era):
    async def ask(context):
        last = context.messages[-1]["content"]
        word, _, rest = (last if isinstance(last, str) else "echo").partition(" ")
        match word:
            case "words":  # in pieces, with empty ones, which the server skips
                return say(w for w in WORDS if w or era != "text")
            case "string":  # returned, so that it goes one character an event
                return STRING
            case "sync":  # a plain generator
                return (w for w in WORDS if w)
            case "bytes":
                return say(BYTES)
            case "pair":  # a character in two events
                return say(["a\ud83c", "\udf0db"])
            case "sse":  # words that look like a stream of this very server
                return say(['data: {"type": "text", "text": "no event"}\n\n', "data: [DONE]\n\n", "so it looks."])
            case "tour":  # every component that the era has
                return say(TOUR[era])
            case "object":  # a component in the middle of words
                return say(["before ", TOUR[era][0], "after"])
            case "break":  # fails in the middle of its words
                return fail(["I will try, ", "but "], rest)
            case "break-code":  # in the middle of a component
                return fail(["Look:", TOUR[era][5]], rest)
            case "crash":
                raise RuntimeError("kaput before the first word")
            case "nothing":
                return say([])
            case "gate":
                return gate(rest)
            case "hold":
                return hold(rest)
            case "many":  # more than one read, write or buffer holds
                return say(f"{i} wörld 🌍\n" for i in range(int(rest)))
            case "echo":  # what it was sent
                roles = [m["role"] for m in context.messages]
                return say([json.dumps({"roles": roles, "messages": list(context.messages)}, ensure_ascii=False)])
        return say([f"No such word: {word}"])

    return ask


async def release(request):
    event(released, request.path_params["name"]).set()
    return JSONResponse({})


async def was_closed(request):
    await event(closed, request.path_params["name"]).wait()
    return JSONResponse({})


async def asked(request):
    return JSONResponse(paths)


def counted(app):
    """The app, which counts the POSTs to each path."""

    async def counting(scope, receive, send):
        if scope["type"] == "http" and scope["method"] == "POST":
            paths[scope["path"]] += 1
        await app(scope, receive, send)

    return counting


class Before312(importlib.machinery.SourceFileLoader):
    """Loads a version whose server is written for Python 3.12, which its
    containers have, in an older one: takes apart the only line of it that the
    older parser rejects, to the same effect."""

    NESTED = rb'''yield f"data: {json.dumps({'choices': [{'delta': {'content': f'\n\n[stream failed: {e}]'}}]})}\n\n"'''
    APART = rb'''s = f'\n\n[stream failed: {e}]'; yield f"data: {json.dumps({'choices': [{'delta': {'content': s}}]})}\n\n"'''

    @classmethod
    def finder(cls, path, folder):
        if not path.startswith(folder):
            raise ImportError(f"{path} is not the version's")
        return importlib.machinery.FileFinder(path, (cls, importlib.machinery.SOURCE_SUFFIXES))

    def get_data(self, path):
        data = super().get_data(path)
        return data.replace(self.NESTED, self.APART)


class Absent(types.ModuleType):
    """An empty module in the place of one that serving does not need."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def load(version, root: Path, volume: str):
    module, theme, era = VERSIONS[version]
    if version == "new":
        import cycls

        folder = Path(cycls.__file__).parent.parent
    else:
        folder = root / version
        sys.path.insert(0, str(folder / "cycls" if module == "web" else folder))
    sys.path.append(str(root / "shared"))
    if version == "127":  # its store of chats; imported, never opened
        for name in ("slatedb", "slatedb.uniffi"):
            sys.modules[name] = Absent(name)
    if version in ("127", "140") and sys.version_info < (3, 12):
        sys.path_hooks.insert(0, lambda path: Before312.finder(path, str(folder)))
    m = importlib.import_module(module)
    path = str(folder / theme)
    if not hasattr(m, "Config"):
        return m.web(agent(era), public_path=path)
    config = m.Config(name=f"era-{version}", public_path=path, volume=volume)
    config.set_prod(False)
    return m.web(agent(era), config)


class Server(uvicorn.Server):
    """Says on a pipe that it answers."""

    pipe = 0

    async def startup(self, *args, **kwargs):
        await super().startup(*args, **kwargs)
        os.write(self.pipe, b".")
        os.close(self.pipe)


def serve(version, root, volume, sock, pipe):
    app = load(version, root, volume)
    app.router.routes[:0] = [  # before the server's own, which take every path
        Route("/interop/release/{name}", release, methods=["POST"]),
        Route("/interop/closed/{name}", was_closed),
        Route("/interop/paths", asked),
    ]
    server = Server(uvicorn.Config(counted(app), log_level="warning", timeout_graceful_shutdown=1))
    server.pipe = pipe
    server.run(sockets=[sock])


def main(root: Path, out: Path, versions):
    pids, pipes, lines = [], [], []
    with tempfile.TemporaryDirectory() as volume:
        for version in versions:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            ours, theirs = os.pipe()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.close(ours)
                    serve(version, root, volume, sock, theirs)
                    status = 0
                except BaseException as e:
                    if not isinstance(e, (SystemExit, KeyboardInterrupt)):
                        print(f"cycls .{version}:", file=sys.stderr)
                        sys.excepthook(type(e), e, e.__traceback__)
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            os.close(theirs)
            pids.append(pid)
            pipes.append(ours)
            lines.append("CYCLS_{}_URL=http://{}:{}\n".format(version.upper(), *sock.getsockname()))
            sock.close()

        def stop(*_):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass

        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, stop)
        up = all(os.read(pipe, 1) for pipe in pipes)  # nothing to read: its end closed with the process
        if up:
            part = out.with_suffix(".part")
            part.write_text("".join(lines))
            os.replace(part, out)
        else:
            stop()
        for _ in pids:
            os.wait()
    sys.exit(0 if up else 1)


main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:] or list(VERSIONS))
