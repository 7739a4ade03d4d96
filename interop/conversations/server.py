"""A real Cycls server on a given port of loopback, whose agent tells what it has heard: `heard: role: text | …`. Asked to
`wait NAME` it says no more than `first ` until it is told to go on with that name.
"""

import asyncio
import sys
import tempfile

import cycls
import uvicorn
from cycls._agent.main import CYCLS_PATH
from cycls._agent.web import web


def text(content):
    return content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)


released = {}


def release_of(name):
    return released.setdefault(name, asyncio.Event())


@cycls.agent(name="it", volumes={"/workspace": cycls.Volume("interop")})
async def it(context):
    word, _, name = text(context.messages[-1]["content"]).partition(" ")
    if word == "wait":
        yield "first "
        await release_of(name).wait()
        yield "second"
        return
    yield "heard: "
    yield " | ".join(f"{m['role']}: {text(m['content'])}" for m in context.messages if not text(m["content"]).startswith("heard: "))


@it.server.post("/interop/release/{name}")
async def release(name: str):
    release_of(name).set()


with tempfile.TemporaryDirectory() as volume:
    it.config.volume = volume
    it.config.public_path = str(CYCLS_PATH.joinpath(f"_agent/web/themes/{it.theme}"))
    app = web(it.user_func, it.config, extra_routers=it._routers(), auth=None)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
