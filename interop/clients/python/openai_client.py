"""The official Python client of OpenAI: Chat Completions and Responses."""

import asyncio
import json

import openai
from openai import AsyncOpenAI, OpenAI
from openai.types import CompletionUsage
from openai.types.responses import ResponseUsage

from harness import AGENTS, NAMES, PATIENCE, PROMPT, PROXY, check, closed, each, equal, fresh, main, raises, release, runs, test

client = OpenAI(base_url=f"{PROXY}/v1", api_key="sk-interop", timeout=PATIENCE, max_retries=0)

# The agents that are passed through on a face: what they say of themselves stays.
PASSED = {"chat": "chat", "responses": "responses"}


def user(text):
    return [{"role": "user", "content": text}]


def model_of(face, agent):
    return "demo-model" if PASSED[face] == agent else agent


class Said:
    """What a chat stream said, with the order of its parts checked."""

    def __init__(self, chunks):
        self.text = self.reasoning = ""
        self.finish = None
        self.usage = None
        self.calls = {}
        self.models, self.ids = set(), set()
        first = True
        for c in chunks:
            equal(c.object, "chat.completion.chunk", "object")
            self.models.add(c.model)
            self.ids.add(c.id)
            check(self.usage is None, "a chunk after the usage")
            if c.usage is not None:
                equal(c.choices, [], "choices of the usage chunk")
                self.usage = c.usage
                continue
            equal(len(c.choices), 1, "number of choices")
            choice = c.choices[0]
            equal(choice.index, 0, "index")
            check(self.finish is None, "a chunk after the finish")
            if first:
                equal(choice.delta.role, "assistant", "role of the first chunk")
            else:
                check(choice.delta.role is None, "the role again")
            first = False
            self.text += choice.delta.content or ""
            self.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or []:
                if call.index not in self.calls:
                    equal(call.index, len(self.calls), "index of a new call")
                    check(call.id and call.function.name and call.type == "function", f"opener {call!r}")
                    self.calls[call.index] = [call.id, call.function.name, ""]
                else:
                    check(call.id is None and call.function.name is None, f"id or name again: {call!r}")
                self.calls[call.index][2] += call.function.arguments or ""
            self.finish = choice.finish_reason
        equal(len(self.ids), 1, "number of ids")
        equal(len(self.models), 1, "number of models")
        self.model, self.id = self.models.pop(), self.ids.pop()


def usage_of_chat(usage):
    check(isinstance(usage, CompletionUsage), f"usage {usage!r}")
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total tokens")
    check(usage.prompt_tokens > 0 and usage.completion_tokens > 0, f"usage {usage!r}")


@each("chat, stream: {}", AGENTS)
def _(agent):
    want = AGENTS[agent]
    said = Said(client.chat.completions.create(model=agent, messages=user(PROMPT), stream=True))
    equal(said.text, want["text"], "text")
    equal(said.reasoning, want["reasoning"], "reasoning")
    equal(said.finish, "stop", "finish_reason")
    equal(said.model, model_of("chat", agent), "model")
    equal(said.calls, {}, "tool calls")
    equal(said.usage, None, "usage that nobody asked for")
    check(said.id.startswith("chatcmpl-"), said.id)


@each("chat, stream with usage: {}", AGENTS)
def _(agent):
    said = Said(client.chat.completions.create(model=agent, messages=user(PROMPT), stream=True, stream_options={"include_usage": True}))
    equal(said.text, AGENTS[agent]["text"], "text")
    equal(said.finish, "stop", "finish_reason")
    if AGENTS[agent]["usage"]:
        usage_of_chat(said.usage)


@each("chat, stream helper: {}", AGENTS)
def _(agent):
    with client.chat.completions.stream(model=agent, messages=user(PROMPT)) as stream:
        done = [e for e in stream if e.type == "content.done"]
        final = stream.get_final_completion()
    equal([e.content for e in done], [AGENTS[agent]["text"]], "content.done")
    equal(final.choices[0].message.content, AGENTS[agent]["text"], "text")
    equal(final.choices[0].message.role, "assistant", "role")
    equal(final.choices[0].finish_reason, "stop", "finish_reason")


@each("chat, JSON: {}", AGENTS)
def _(agent):
    want = AGENTS[agent]
    raw = client.chat.completions.with_raw_response.create(model=agent, messages=user(PROMPT))
    check(raw.headers["x-request-id"], "no x-request-id")
    equal(raw.headers["dragoman-agent"], agent, "Dragoman-Agent")
    c = raw.parse()
    equal(c.object, "chat.completion", "object")
    equal(c.model, model_of("chat", agent), "model")
    equal(len(c.choices), 1, "number of choices")
    choice = c.choices[0]
    equal(choice.message.role, "assistant", "role")
    equal(choice.message.content, want["text"], "text")
    equal(getattr(choice.message, "reasoning_content", None) or "", want["reasoning"], "reasoning")
    equal(choice.finish_reason, "stop", "finish_reason")
    check(not choice.message.tool_calls, "tool calls")
    if want["usage"]:
        usage_of_chat(c.usage)


def response_is(r, agent):
    want = AGENTS[agent]
    equal(r.object, "response", "object")
    equal(r.status, "completed", "status")
    equal(r.model, model_of("responses", agent), "model")
    equal(r.error, None, "error")
    equal(r.incomplete_details, None, "incomplete_details")
    equal(r.output_text, want["text"], "output_text")
    thought = "".join(s.text for o in r.output if o.type == "reasoning" for s in o.summary)
    equal(thought, want["reasoning"], "reasoning summary")
    equal({o.type for o in r.output} - {"reasoning"}, {"message"}, "types of items")
    ids = [o.id for o in r.output]
    equal(len(ids), len(set(ids)), "number of distinct item ids")
    check(isinstance(r.created_at, (int, float)) and r.tools == [] and r.tool_choice == "auto", "required fields")
    if want["usage"]:
        check(isinstance(r.usage, ResponseUsage), f"usage {r.usage!r}")
        equal(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens, "total tokens")
        check(isinstance(r.usage.input_tokens_details.cached_tokens, int), "cached_tokens")
        check(isinstance(r.usage.output_tokens_details.reasoning_tokens, int), "reasoning_tokens")
        check(r.usage.input_tokens > 0 and r.usage.output_tokens > 0, f"usage {r.usage!r}")


@each("responses, events: {}", AGENTS)
def _(agent):
    events = list(client.responses.create(model=agent, input=PROMPT, stream=True))
    equal([e.sequence_number for e in events], list(range(len(events))), "sequence numbers")
    types = [e.type for e in events]
    equal(types[:2], ["response.created", "response.in_progress"], "first events")
    equal(events[0].response.status, "in_progress", "status at first")
    equal([t for t in types if t in ("response.completed", "response.failed", "response.incomplete", "error")], ["response.completed"], "terminal events")
    final = events[-1].response
    equal(events[0].response.id, final.id, "id")
    check(final.id.startswith("resp_"), final.id)
    response_is(final, agent)
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    equal(text, AGENTS[agent]["text"], "deltas of text")
    thought = "".join(e.delta for e in events if e.type == "response.reasoning_summary_text.delta")
    equal(thought, AGENTS[agent]["reasoning"], "deltas of reasoning")
    added = [(e.output_index, e.item.id) for e in events if e.type == "response.output_item.added"]
    done = [(e.output_index, e.item.id) for e in events if e.type == "response.output_item.done"]
    equal(added, [(i, o.id) for i, o in enumerate(final.output)], "items added")
    equal(done, added, "items done, one after the other")
    for e in events:
        if hasattr(e, "item_id"):
            equal(e.item_id, final.output[e.output_index].id, f"item_id of {e.type}")


@each("responses, stream helper: {}", AGENTS)
def _(agent):
    with client.responses.stream(model=agent, input=PROMPT) as stream:
        done = "".join(e.text for e in stream if e.type == "response.output_text.done")
        final = stream.get_final_response()
    equal(done, AGENTS[agent]["text"], "text done")
    response_is(final, agent)


@each("responses, JSON: {}", AGENTS)
def _(agent):
    raw = client.responses.with_raw_response.create(model=agent, input=PROMPT)
    check(raw.headers["x-request-id"], "no x-request-id")
    response_is(raw.parse(), agent)


@test("cycls-plain: one event a character becomes one text")
def _():
    want = "Only words, „ünd so“ 🌍."
    said = Said(client.chat.completions.create(model="cycls-plain", messages=user("hi"), stream=True))
    equal((said.text, said.finish), (want, "stop"))
    equal(client.chat.completions.create(model="cycls-plain", messages=user("hi")).choices[0].message.content, want)
    equal(client.responses.create(model="cycls-plain", input="hi").output_text, want)


# --- what reaches the agent ---

HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one “é”"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "echo"},
]


@test("cycls-real gets the history of a chat as it was")
def _():
    got = client.chat.completions.create(model="cycls-real", messages=HISTORY).choices[0].message.content
    equal(json.loads(got), HISTORY, "messages")


@test("cycls-real gets the history of a response as it was")
def _():
    r = client.responses.create(model="cycls-real", instructions=HISTORY[0]["content"], input=HISTORY[1:])
    equal(json.loads(r.output_text), HISTORY, "messages")


@each("parts of text reach {} as one question", ["cycls-real", "chat", "responses", "swarms", "ticos", "cognipeer"])
def _(agent):
    parts = [{"type": "text", "text": "echo"}, {"type": "text", "text": " of two parts"}]
    got = client.chat.completions.create(model=agent, messages=[{"role": "user", "content": parts}]).choices[0].message.content
    check(got.index("echo") < got.index(" of two parts"), got)


# --- tools ---

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
CHAT_TOOLS = [{"type": "function", "function": WEATHER}]
RESPONSES_TOOLS = [{"type": "function", "strict": False, **WEATHER}]
QUESTION = "What is the weather in Paris?"
RESULT = json.dumps({"result": 4711, "sky": "clear"})
ARGUMENTS = {"city": "Paris", "unit": "celsius"}
WITH_TOOLS = ["chat", "responses", "swarms"]


def answered(agent, text):
    if agent == "swarms":  # which has no place for a result but the task
        check("4711" in text, text)
    else:
        equal(text, "The tool says: " + RESULT, "answer")


def chat_with_result(agent, call_id, name, arguments, **kw):
    messages = user(QUESTION) + [
        {"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": call_id, "content": RESULT},
    ]
    return client.chat.completions.create(model=agent, messages=messages, tools=CHAT_TOOLS, **kw)


@each("chat, tool round trip, stream: {}", WITH_TOOLS)
def _(agent):
    said = Said(client.chat.completions.create(model=agent, messages=user(QUESTION), tools=CHAT_TOOLS, stream=True))
    equal(said.finish, "tool_calls", "finish_reason")
    equal(len(said.calls), 1, "number of calls")
    call_id, name, arguments = said.calls[0]
    equal((name, json.loads(arguments)), ("get_weather", ARGUMENTS), "call")
    check("Let me look that up." in said.text + said.reasoning, "no text beside the call")
    said = Said(chat_with_result(agent, call_id, name, arguments, stream=True))
    equal((said.finish, said.calls), ("stop", {}))
    answered(agent, said.text)


@each("chat, tool round trip, JSON: {}", WITH_TOOLS)
def _(agent):
    choice = client.chat.completions.create(model=agent, messages=user(QUESTION), tools=CHAT_TOOLS).choices[0]
    equal(choice.finish_reason, "tool_calls", "finish_reason")
    equal(len(choice.message.tool_calls), 1, "number of calls")
    call = choice.message.tool_calls[0]
    equal((call.type, call.function.name, json.loads(call.function.arguments)), ("function", "get_weather", ARGUMENTS), "call")
    choice = chat_with_result(agent, call.id, call.function.name, call.function.arguments).choices[0]
    equal((choice.finish_reason, choice.message.tool_calls), ("stop", None))
    answered(agent, choice.message.content)


def responses_round_trip(agent, ask):
    items = user(QUESTION)
    r = ask(model=agent, input=items, tools=RESPONSES_TOOLS, store=False)
    equal(r.status, "completed", "status")
    calls = [o for o in r.output if o.type == "function_call"]
    equal(len(calls), 1, "number of calls")
    call = calls[0]
    equal((call.name, json.loads(call.arguments), call.status), ("get_weather", ARGUMENTS, "completed"), "call")
    check(call.call_id and call.id, f"ids of {call!r}")
    # The whole output goes back, as the vendor's guide has it.
    items = items + [o.model_dump(exclude_none=True) for o in r.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": RESULT})
    r = ask(model=agent, input=items, tools=RESPONSES_TOOLS, store=False)
    check(all(o.type != "function_call" for o in r.output), "the call again")
    answered(agent, r.output_text)


@each("responses, tool round trip, stream: {}", WITH_TOOLS)
def _(agent):
    def ask(**kw):
        with client.responses.stream(**kw) as stream:
            return stream.get_final_response()

    responses_round_trip(agent, ask)


@each("responses, tool round trip, JSON: {}", WITH_TOOLS)
def _(agent):
    responses_round_trip(agent, client.responses.create)


@test("tools that cycls-real has no place for are named as dropped")
def _():
    raw = client.chat.completions.with_raw_response.create(model="cycls-real", messages=user(PROMPT), tools=CHAT_TOOLS, seed=7)
    dropped = raw.headers["dragoman-dropped"]
    check("tools" in dropped and "seed" in dropped, dropped)
    equal(raw.parse().choices[0].message.content, AGENTS["cycls-real"]["text"], "text")


# --- refusals before the agent runs ---


@each("what cycls-real cannot do is a 400 that names it: {}", ["n", "tool_choice", "response_format"])
def _(field):
    asked = {
        "n": {"n": 2},
        "tool_choice": {"tools": CHAT_TOOLS, "tool_choice": "required"},
        "response_format": {"response_format": {"type": "json_object"}},
    }[field]
    for stream in (False, True):
        e = raises(openai.BadRequestError, lambda: client.chat.completions.create(model="cycls-real", messages=user(PROMPT), stream=stream, **asked))
        equal(e.status_code, 400)
        check((e.param or "").startswith(field), f"param {e.param!r}: {e}")
        check(field in e.message, e.message)


@test("responses: text.format and previous_response_id are a 400 that names them")
def _():
    e = raises(openai.BadRequestError, lambda: client.responses.create(model="cycls-real", input=PROMPT, text={"format": {"type": "json_object"}}))
    check((e.param or "").startswith("text.format"), f"param {e.param!r}: {e}")
    e = raises(openai.BadRequestError, lambda: client.responses.create(model="chat", input=PROMPT, previous_response_id="resp_nobody_knows"))
    equal(e.param, "previous_response_id", "param")


@test("an unknown model is a 404 that names what exists")
def _():
    for ask in (
        lambda: client.chat.completions.create(model="nobody", messages=user(PROMPT)),
        lambda: client.chat.completions.create(model="nobody", messages=user(PROMPT), stream=True),
        lambda: client.responses.create(model="nobody", input=PROMPT),
        lambda: client.responses.create(model="nobody", input=PROMPT, stream=True),
    ):
        e = raises(openai.NotFoundError, ask)
        equal((e.status_code, e.code), (404, "model_not_found"))
        check("cycls-real" in e.message and "swarms" in e.message, e.message)
        check(e.response.headers["x-request-id"], "no x-request-id")


@test("models.list() names every agent")
def _():
    models = list(client.models.list())
    equal({m.id for m in models}, NAMES)
    check(all(m.object == "model" and isinstance(m.created, int) and m.owned_by for m in models), models)


@test("an agent is named by an alias, or by the path")
def _():
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=user(QUESTION))
    equal(raw.headers["dragoman-agent"], "chat", "Dragoman-Agent")
    there = client.with_options(base_url=f"{PROXY}/agents/cycls-real/v1")
    c = there.chat.completions.create(model="whatever", messages=user(PROMPT))
    equal((c.choices[0].message.content, c.model), (AGENTS["cycls-real"]["text"], "whatever"))
    equal(there.responses.create(model="whatever", input=PROMPT).output_text, AGENTS["cycls-real"]["text"])


@test("a request id of the client's own comes back")
def _():
    name = fresh()
    raw = client.chat.completions.with_raw_response.create(model="cycls-real", messages=user(PROMPT), extra_headers={"X-Request-Id": name})
    equal(raw.headers["x-request-id"], name)
    with client.chat.completions.with_streaming_response.create(model="cycls-real", messages=user(PROMPT), stream=True) as raw:
        check(raw.headers["x-request-id"], "no x-request-id on a stream")
        equal(raw.headers["content-type"].split(";")[0], "text/event-stream")


# --- agents that fail ---


FAILING = ["cycls-broken", "chat", "responses", "swarms", "cycls"]
BEFORE = "I will try, but "


def failing(agent):
    """A prompt at which an agent fails, and what to do when its words were read."""
    if agent != "cycls-broken":
        return "fail, please", lambda: None
    name = fresh()
    return f"gate {name}", lambda: release(name)


@each("chat, stream that fails in its middle: {}", FAILING)
def _(agent):
    prompt, go_on = failing(agent)
    text, failure = "", None
    try:
        for c in client.chat.completions.create(model=agent, messages=user(prompt), stream=True):
            check(c.choices[0].finish_reason is None, "a finish_reason in a failed stream")
            text += c.choices[0].delta.content or ""
            if text == BEFORE:
                go_on()
    except openai.APIError as e:
        failure = e
    equal(text, BEFORE, "text before")
    check(failure is not None, "a failed stream ended without an error")
    check(not isinstance(failure, openai.APIStatusError), repr(failure))
    check(failure.message and "secret" not in str(failure) + str(failure.body), repr(failure))


@each("chat, JSON of an agent that fails: {}", ["cycls-broken", "chat", "responses", "swarms", "cycls", "ticos", "cognipeer"])
def _(agent):
    e = raises(openai.InternalServerError, lambda: client.chat.completions.create(model=agent, messages=user("fail, please")))
    equal(e.status_code, 502)
    equal(e.response.headers["x-should-retry"], "false", "x-should-retry")
    check(isinstance(e.body, dict) and e.body["message"] and e.type == "server_error", repr(e.body))
    check("secret" not in str(e), str(e))


@each("responses, stream that fails in its middle: {}", FAILING)
def _(agent):
    prompt, go_on = failing(agent)
    text, failure = "", None
    try:
        for e in client.responses.create(model=agent, input=prompt, stream=True):
            check(e.type not in ("response.completed", "response.incomplete"), e.type)
            if e.type == "response.output_text.delta":
                text += e.delta
                if text == BEFORE:
                    go_on()
    except openai.APIError as e:
        failure = e
    equal(text, BEFORE, "text before")
    check(failure is not None, "a failed stream ended without an error")
    check(not isinstance(failure, openai.APIStatusError), repr(failure))
    check(failure.message and "secret" not in str(failure) + str(failure.body), repr(failure))


@each("responses, stream helper over an agent that fails: {}", FAILING)
def _(agent):
    def helper():
        with client.responses.stream(model=agent, input="fail, please") as stream:
            return stream.get_final_response()

    raises(openai.APIError, helper)


@each("responses, JSON of an agent that fails: {}", ["cycls-broken", "chat", "responses", "swarms", "cycls", "ticos", "cognipeer"])
def _(agent):
    e = raises(openai.InternalServerError, lambda: client.responses.create(model=agent, input="fail, please"))
    equal((e.status_code, e.type), (502, "server_error"))


@each("a stream of {}, which has only JSON, fails before its first byte", ["ticos", "cognipeer"])
def _(agent):
    e = raises(openai.InternalServerError, lambda: client.chat.completions.create(model=agent, messages=user("fail"), stream=True))
    equal(e.status_code, 502)
    e = raises(openai.InternalServerError, lambda: client.responses.create(model=agent, input="fail", stream=True))
    equal(e.status_code, 502)


@each("an agent that has run is not run again: {}", ["chat", "responses"])
def _(face):
    prompt = f"count {fresh()}"
    eager = client.with_options(max_retries=2)
    if face == "chat":
        raises(openai.InternalServerError, lambda: eager.chat.completions.create(model="cycls-broken", messages=user(prompt)))
    else:
        raises(openai.InternalServerError, lambda: eager.responses.create(model="cycls-broken", input=prompt))
    equal(runs(prompt), 1, "runs")


@test("an agent that fails before its first word, and one that breaks off, are failures")
def _():
    for prompt in ("crash", "burst"):
        e = raises(openai.InternalServerError, lambda: client.chat.completions.create(model="cycls-real", messages=user(prompt)))
        equal(e.status_code, 502)
        e = raises(openai.InternalServerError, lambda: client.responses.create(model="cycls-real", input=prompt))
        equal(e.status_code, 502)
        raises(openai.APIError, lambda: list(client.chat.completions.create(model="cycls-real", messages=user(prompt), stream=True)))
        raises(openai.APIError, lambda: list(client.responses.create(model="cycls-real", input=prompt, stream=True)))


@test("an agent that nobody can reach is a 502")
def _():
    for ask in (
        lambda: client.chat.completions.create(model="dead", messages=user(PROMPT)),
        lambda: client.chat.completions.create(model="dead", messages=user(PROMPT), stream=True),
        lambda: client.responses.create(model="dead", input=PROMPT),
        lambda: client.responses.create(model="dead", input=PROMPT, stream=True),
    ):
        e = raises(openai.InternalServerError, ask)
        equal((e.status_code, e.type), (502, "server_error"))


@each("an agent that refuses is a 429 with its wait: {}", ["chat", "responses", "cognipeer", "ticos", "swarms", "cycls"])
def _(agent):
    for ask in (
        lambda: client.chat.completions.create(model=agent, messages=user("refuse")),
        lambda: client.chat.completions.create(model=agent, messages=user("refuse"), stream=True),
        lambda: client.responses.create(model=agent, input="refuse"),
        lambda: client.responses.create(model=agent, input="refuse", stream=True),
    ):
        e = raises(openai.RateLimitError, ask)
        equal((e.status_code, e.response.headers["retry-after"]), (429, "7"))
        check("asked to refuse" in e.message, e.message)
        check("x-should-retry" not in e.response.headers, "x-should-retry")


# --- time ---


@test("chat: the first words come before the agent has ended")
def _():
    name = fresh()
    text = ""
    for c in client.chat.completions.create(model="cycls-real", messages=user(f"gate {name}"), stream=True):
        text += c.choices[0].delta.content or ""
        if text == "first ":
            release(name)
    equal(text, "first second")


@test("responses: the first words come before the agent has ended")
def _():
    name = fresh()
    text = ""
    with client.responses.stream(model="cycls-real", input=f"gate {name}") as stream:
        for e in stream:
            if e.type == "response.output_text.delta":
                text += e.delta
                if text == "first ":
                    release(name)
        equal(stream.get_final_response().output_text, "first second")
    equal(text, "first second")


@test("a client that leaves ends the agent")
def _():
    for face in ("chat", "responses"):
        name = fresh()
        if face == "chat":
            stream = client.chat.completions.create(model="cycls-real", messages=user(f"hold {name}"), stream=True)
        else:
            stream = client.responses.create(model="cycls-real", input=f"hold {name}", stream=True)
        for c in stream:
            delta = c.choices[0].delta.content if face == "chat" else getattr(c, "delta", "")
            if delta:
                break
        stream.close()
        closed(name)


@test("a client that leaves before a JSON answer ends the agent")
def _():
    name = fresh()
    hasty = client.with_options(timeout=1.0)
    raises(openai.APITimeoutError, lambda: hasty.chat.completions.create(model="cycls-real", messages=user(f"hold {name}")))
    closed(name)


@test("twenty streams at once, each begun before any has ended")
def _():
    async def all_at_once():
        async with AsyncOpenAI(base_url=f"{PROXY}/v1", api_key="sk-interop", timeout=PATIENCE, max_retries=0) as many:
            begun, go = asyncio.Semaphore(0), asyncio.Event()

            async def one():
                name, text = fresh(), ""
                async for c in await many.chat.completions.create(model="cycls-real", messages=user(f"gate {name}"), stream=True):
                    text += c.choices[0].delta.content or ""
                    if text == "first ":
                        begun.release()
                        await go.wait()
                        await asyncio.to_thread(release, name)
                equal(text, "first second")

            async def starter():
                for _ in range(20):
                    await begun.acquire()
                go.set()

            await asyncio.gather(starter(), *(one() for _ in range(20)))

    asyncio.run(asyncio.wait_for(all_at_once(), PATIENCE * 2))


if __name__ == "__main__":
    import openai_helpers  # noqa: F401  more tests of the same client

    main("openai-python")
