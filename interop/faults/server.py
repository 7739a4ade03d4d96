"""A real Cycls server on a port of loopback that is given, so that it can be started there again.

What its agent does is what it is asked: `hold` never ends, `wait N` says nothing for so many seconds, `long N`
takes so many seconds for as many words, `who` tells the port; everything else is answered at once.
"""

import asyncio
import sys
import tempfile

import cycls
import uvicorn
from cycls._agent.main import CYCLS_PATH
from cycls._agent.web import web


@cycls.agent(name="it", volumes={"/workspace": cycls.Volume("interop")})
async def it(context):
    word, _, rest = str(context.last_message).partition(" ")
    match word:
        case "hold":
            yield "first "
            await asyncio.Event().wait()
        case "wait":
            await asyncio.sleep(float(rest))
            yield "at last"
        case "long":
            for i in range(int(rest)):
                yield f"word {i} "
                await asyncio.sleep(1)
            yield "the end"
        case "who":
            yield sys.argv[1]
        case _:
            yield "Hello, "
            yield "world."


with tempfile.TemporaryDirectory() as volume:
    it.config.volume = volume
    it.config.public_path = str(CYCLS_PATH.joinpath(f"_agent/web/themes/{it.theme}"))
    app = web(it.user_func, it.config, extra_routers=it._routers(), auth=None)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
