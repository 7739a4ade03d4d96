"""A real Cycls server on a given port of loopback, whose agent tells what it has heard: `heard: role: text | …`."""

import sys
import tempfile

import cycls
import uvicorn
from cycls._agent.main import CYCLS_PATH
from cycls._agent.web import web


def text(content):
    return content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)


@cycls.agent(name="it", volumes={"/workspace": cycls.Volume("interop")})
async def it(context):
    yield "heard: "
    yield " | ".join(f"{m['role']}: {text(m['content'])}" for m in context.messages if not text(m["content"]).startswith("heard: "))


with tempfile.TemporaryDirectory() as volume:
    it.config.volume = volume
    it.config.public_path = str(CYCLS_PATH.joinpath(f"_agent/web/themes/{it.theme}"))
    app = web(it.user_func, it.config, extra_routers=it._routers(), auth=None)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
