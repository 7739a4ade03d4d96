"""The helpers of the official Python client over what is hard: parallel calls, structured output, custom tools,
refusals, answers cut short, the client without threads, headers and statuses."""

import asyncio
import json

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from harness import AGENTS, PATIENCE, PROMPT, PROXY, check, each, equal, raises, test

client = OpenAI(base_url=f"{PROXY}/v1", api_key="sk-interop", timeout=PATIENCE, max_retries=0)

# The scripted agent (agents/scripted.py) behind each of OpenAI's own APIs, and what it says.
SCRIPTED = ["scripted-chat", "scripted-responses"]
MODES = [f"{mode}, {agent}" for mode in ("stream", "JSON") for agent in SCRIPTED]
THOUGHT = "Let me think, “step by step”."
BOTH = "the weather in Paris and in Rome"
LOOKING = "Let me look that up."
CALLED = [{"city": "Paris", "unit": "Ada “é”"}, {"city": "Rome", "unit": "Ada “é”"}]
REFUSAL = "I cannot help with „that“."


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


class GetWeather(BaseModel):
    """The weather of a city"""

    city: str
    unit: str


ADA = Person(name="Ada “é”", age=36, tags=["Ada “é”"])
CHAT_TOOL = openai.pydantic_function_tool(GetWeather, name="get_weather")
RESPONSES_TOOL = {"type": "function", **CHAT_TOOL["function"]}


def user(text):
    return [{"role": "user", "content": text}]


def split(pair):
    mode, agent = pair.split(", ")
    return mode == "stream", agent


def sky(args):
    return f"the sky of {args['city']} is “clear” 🌍"


HEARD = "The tools say: " + " | ".join(map(sky, CALLED))


def usage_of_chat(u):
    equal((u.prompt_tokens, u.completion_tokens, u.total_tokens), (11, 7, 18), "usage")
    equal((u.prompt_tokens_details.cached_tokens, u.completion_tokens_details.reasoning_tokens), (3, 2), "details")


def usage_of_responses(u):
    equal((u.input_tokens, u.output_tokens, u.total_tokens), (11, 7, 18), "usage")
    equal((u.input_tokens_details.cached_tokens, u.output_tokens_details.reasoning_tokens), (3, 2), "details")


# --- chat ---


@each("chat helper, content.delta and content.done: {}", AGENTS)
def _(agent):
    text, types = "", []
    with client.chat.completions.stream(model=agent, messages=user(PROMPT), stream_options={"include_usage": True}) as stream:
        for e in stream:
            types.append(e.type)
            if e.type == "content.delta":
                text += e.delta
                equal(e.snapshot, text, "snapshot")
            elif e.type == "content.done":
                equal(e.content, text, "content.done")
        final = stream.get_final_completion()
    equal(text, AGENTS[agent]["text"], "text")
    equal(types.count("content.done"), 1, "number of content.done")
    check("content.delta" not in types[types.index("content.done") :], "words after the end")
    equal((len(final.choices), final.choices[0].message.content, final.choices[0].finish_reason), (1, text, "stop"))
    equal(final.usage is not None and final.usage.total_tokens > 0, AGENTS[agent]["usage"], f"usage {final.usage!r}")


@each("chat helper, parallel calls: {}", SCRIPTED)
def _(agent):
    arguments, done = ["", ""], []
    with client.chat.completions.stream(model=agent, messages=user(BOTH), tools=[CHAT_TOOL], stream_options={"include_usage": True}) as stream:
        for e in stream:
            if e.type == "tool_calls.function.arguments.delta":
                arguments[e.index] += e.arguments_delta
                equal((e.name, e.arguments), ("get_weather", arguments[e.index]), "arguments so far")
            elif e.type == "tool_calls.function.arguments.done":
                equal(e.arguments, arguments[e.index], "arguments at the end")
                done.append((e.index, e.parsed_arguments))
        final = stream.get_final_completion()
    equal(done, [(i, GetWeather(**c)) for i, c in enumerate(CALLED)], "done")
    choice = final.choices[0]
    equal((choice.finish_reason, choice.message.content), ("tool_calls", LOOKING))
    equal([(c.type, c.function.name, c.function.arguments) for c in choice.message.tool_calls], [("function", "get_weather", a) for a in arguments])
    equal([c.function.parsed_arguments for c in choice.message.tool_calls], [GetWeather(**c) for c in CALLED], "parsed")
    equal(len({c.id for c in choice.message.tool_calls}), 2, "number of ids")
    usage_of_chat(final.usage)


@test("chat helper, parallel calls whose arguments come by turns")
def _():
    got = {}
    for c in client.chat.completions.create(model="scripted-chat", messages=user("braided " + BOTH), tools=[CHAT_TOOL], stream=True):
        for t in c.choices[0].delta.tool_calls or []:
            got[t.index] = got.get(t.index, "") + t.function.arguments
    equal([json.loads(got[i]) for i in sorted(got)], CALLED, "arguments")


@each("chat, both results of parallel calls: {}", MODES)
def _(pair):
    stream, agent = split(pair)

    def ask(messages):
        if not stream:
            return client.chat.completions.create(model=agent, messages=messages, tools=[CHAT_TOOL]).choices[0].message
        with client.chat.completions.stream(model=agent, messages=messages, tools=[CHAT_TOOL]) as s:
            return s.get_final_completion().choices[0].message

    first = ask(user(BOTH))
    messages = user(BOTH) + [first.model_dump(include={"role", "content", "tool_calls"})]
    messages += [{"role": "tool", "tool_call_id": c.id, "content": sky(json.loads(c.function.arguments))} for c in first.tool_calls]
    second = ask(messages)
    equal((second.content, second.tool_calls), (HEARD, None), "answer")


@each("chat, parse with a pydantic model: {}", MODES)
def _(pair):
    stream, agent = split(pair)
    asked = {"model": agent, "messages": user("Who is it?"), "response_format": Person}
    if stream:
        parsed = []
        with client.chat.completions.stream(**asked) as s:
            for e in s:
                if e.type == "content.done":
                    parsed.append(e.parsed)
            final = s.get_final_completion()
        equal(parsed, [ADA], "content.done")
    else:
        final = client.chat.completions.parse(**asked)
    equal(final.choices[0].message.parsed, ADA, "parsed")
    equal(json.loads(final.choices[0].message.content), ADA.model_dump(), "content")


@each("chat, a refusal is none of the content: {}", MODES)
def _(pair):
    stream, agent = split(pair)
    asked = {"model": agent, "messages": user("refusal"), "response_format": Person}
    if stream:
        heard, done = "", []
        with client.chat.completions.stream(**asked) as s:
            for e in s:
                check(e.type != "content.done" and (e.type != "content.delta" or e.delta == ""), repr(e))
                if e.type == "refusal.delta":
                    heard += e.delta
                elif e.type == "refusal.done":
                    done.append(e.refusal)
            final = s.get_final_completion()
        equal((heard, done), (REFUSAL, [REFUSAL]), "refusal")
    else:
        final = client.chat.completions.parse(**asked)
    message = final.choices[0].message
    equal((message.refusal, message.content or None, message.parsed, final.choices[0].finish_reason), (REFUSAL, None, None, "stop"))


@each("chat, an answer cut short: {}", MODES)
def _(pair):
    stream, agent = split(pair)
    for word, text, want in (("length", "This is cut ", "length"), ("thought", "", "length"), ("filter", "This is filtered ", "content_filter")):
        if stream:
            chunks = list(client.chat.completions.create(model=agent, messages=user(word), stream=True))
            got = "".join(c.choices[0].delta.content or "" for c in chunks)
            finish = [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason]
        else:
            choice = client.chat.completions.create(model=agent, messages=user(word)).choices[0]
            got, finish = choice.message.content or "", [choice.finish_reason]
        equal((got, finish), (text, [want]), word)
    kinds = {"length": openai.LengthFinishReasonError, "filter": openai.ContentFilterFinishReasonError}
    for word, kind in kinds.items():

        def parse(word=word):
            if not stream:
                return client.chat.completions.parse(model=agent, messages=user(word), response_format=Person)
            with client.chat.completions.stream(model=agent, messages=user(word), response_format=Person) as s:
                return s.get_final_completion()

        raises(kind, parse)


@each("chat, deprecated functions: {}", MODES)
def _(pair):
    stream, agent = split(pair)
    function = {k: v for k, v in CHAT_TOOL["function"].items() if k != "strict"}

    def ask(messages, **kw):
        kw |= {"model": agent, "messages": messages, "functions": [function]}
        if not stream:
            choice = client.chat.completions.create(**kw).choices[0]
            equal(choice.message.tool_calls, None, "tool_calls")
            return choice.finish_reason, choice.message.content, choice.message.function_call
        content, call = "", None
        for c in client.chat.completions.create(stream=True, **kw):
            delta = c.choices[0].delta
            equal(delta.tool_calls, None, "tool_calls")
            content += delta.content or ""
            if delta.function_call and call is None:
                call = delta.function_call
            elif delta.function_call:
                equal(delta.function_call.name, None, "the name again")
                call.arguments += delta.function_call.arguments
        return c.choices[0].finish_reason, content, call

    finish, _, call = ask(user("the weather in Paris"), function_call={"name": "get_weather"})
    equal((finish, call.name, json.loads(call.arguments)), ("function_call", "get_weather", CALLED[0]))
    messages = [
        *user("the weather in Paris"),
        {"role": "assistant", "content": None, "function_call": {"name": call.name, "arguments": call.arguments}},
        {"role": "function", "name": "get_weather", "content": sky(CALLED[0])},
    ]
    equal(ask(messages), ("stop", "The tools say: " + sky(CALLED[0]), None))


# --- responses ---


@each("responses helper, parallel calls: {}", SCRIPTED)
def _(agent):
    arguments, thought, text = {}, "", ""
    with client.responses.stream(model=agent, input=BOTH, tools=[RESPONSES_TOOL], store=False) as stream:
        for i, e in enumerate(stream):
            equal(e.sequence_number, i, e.type)
            match e.type:
                case "response.function_call_arguments.delta":
                    arguments[e.output_index] = arguments.get(e.output_index, "") + e.delta
                    equal(e.snapshot, arguments[e.output_index], "snapshot")
                case "response.function_call_arguments.done":
                    equal(e.arguments, arguments[e.output_index], "arguments")
                case "response.output_text.delta":
                    text += e.delta
                    equal(e.snapshot, text, "snapshot")
                case "response.reasoning_summary_text.delta":
                    thought += e.delta
        final = stream.get_final_response()
    equal((thought, text, list(arguments)), (THOUGHT, LOOKING, [2, 3]))
    equal([o.type for o in final.output], ["reasoning", "message", "function_call", "function_call"], "items")
    equal([(o.name, json.loads(o.arguments), o.status) for o in final.output[2:]], [("get_weather", c, "completed") for c in CALLED])
    equal([o.arguments for o in final.output[2:]], [arguments[2], arguments[3]], "arguments")
    usage_of_responses(final.usage)


@each("responses, both results of parallel calls: {}", MODES)
def _(pair):
    stream, agent = split(pair)

    def ask(items):
        asked = {"model": agent, "input": items, "tools": [RESPONSES_TOOL], "store": False, "include": ["reasoning.encrypted_content"]}
        if not stream:
            return client.responses.create(**asked)
        with client.responses.stream(**asked) as s:
            return s.get_final_response()

    first = ask(user(BOTH))
    calls = [o for o in first.output if o.type == "function_call"]
    items = user(BOTH) + [o.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for o in first.output]
    items += [{"type": "function_call_output", "call_id": c.call_id, "output": [{"type": "input_text", "text": sky(json.loads(c.arguments))}]} for c in calls]
    second = ask(items)
    equal((second.output_text, second.status), (HEARD, "completed"))


@each("responses.parse with a pydantic model: {}", MODES)
def _(pair):
    stream, agent = split(pair)
    asked = {"model": agent, "input": "Who is it?", "text_format": Person}
    if stream:
        with client.responses.stream(**asked) as s:
            done = [e.parsed for e in s if e.type == "response.output_text.done"]
            r = s.get_final_response()
        equal(done, [ADA], "output_text.done")
    else:
        r = client.responses.parse(**asked)
    equal((r.output_parsed, r.status), (ADA, "completed"))
    equal((r.text.format.type, r.text.format.name), ("json_schema", "Person"), "text.format")


@each("responses.parse, arguments of a tool, and a refusal: {}", SCRIPTED)
def _(agent):
    r = client.responses.parse(model=agent, input=BOTH, tools=[CHAT_TOOL])
    equal([o.parsed_arguments for o in r.output if o.type == "function_call"], [GetWeather(**c) for c in CALLED], "parsed")
    r = client.responses.parse(model=agent, input="refusal", text_format=Person)
    equal([(p.type, p.refusal) for p in r.output[0].content], [("refusal", REFUSAL)], "content")
    equal((r.output_parsed, r.output_text), (None, ""))


@each("responses, an answer cut short is incomplete: {}", SCRIPTED)
def _(agent):
    for word, text, reason in (("length", "This is cut ", "max_output_tokens"), ("thought", "", "max_output_tokens"), ("filter", "This is filtered ", "content_filter")):
        events = list(client.responses.create(model=agent, input=word, stream=True))
        equal(events[-1].type, "response.incomplete", word)
        for r in (events[-1].response, client.responses.create(model=agent, input=word)):
            equal((r.status, r.incomplete_details.reason, r.output_text), ("incomplete", reason, text), word)
        raises(RuntimeError, lambda: final_of(agent, word))  # there is no other way to tell, for this helper


def final_of(agent, prompt):
    with client.responses.stream(model=agent, input=prompt) as stream:
        return stream.get_final_response()


# --- failures ---


@each("what was said before a failure is heard, though both came at once: {}", SCRIPTED)
def _(agent):
    text, failure = "", None
    try:
        for c in client.chat.completions.create(model=agent, messages=user("fail at once"), stream=True):
            text += c.choices[0].delta.content or ""
    except openai.APIError as e:
        failure = e
    equal((text, type(failure)), ("I will try, but ", openai.APIError), "chat")
    text, failure = "", None
    try:
        for e in client.responses.create(model=agent, input="fail at once", stream=True):
            text += e.delta if e.type == "response.output_text.delta" else ""
    except openai.APIError as e:
        failure = e
    equal((text, type(failure)), ("I will try, but ", openai.APIError), "responses")


@each("a stream that was cut is a failure: {}", SCRIPTED)
def _(agent):
    for ask in (
        lambda: list(client.chat.completions.create(model=agent, messages=user("cut"), stream=True)),
        lambda: list(client.responses.create(model=agent, input="cut", stream=True)),
        lambda: final_of(agent, "cut"),
    ):
        e = raises(openai.APIError, ask)
        check(e.message and not isinstance(e, openai.APIConnectionError), repr(e))


STATUSES = {
    400: (openai.BadRequestError, 400), 401: (openai.InternalServerError, 502), 403: (openai.InternalServerError, 502), 404: (openai.NotFoundError, 404),
    408: (openai.InternalServerError, 504), 409: (openai.ConflictError, 409), 413: (openai.APIStatusError, 413), 418: (openai.InternalServerError, 502),
    422: (openai.BadRequestError, 400), 429: (openai.RateLimitError, 429), 500: (openai.InternalServerError, 502), 503: (openai.InternalServerError, 503),
    504: (openai.InternalServerError, 504), 529: (openai.InternalServerError, 503),
}


@each("a status of the backend is that error: {}", SCRIPTED)
def _(agent):
    for status, (kind, want) in STATUSES.items():
        for stream in (False, True):
            for ask in (
                lambda: client.chat.completions.create(model=agent, messages=user(f"status {status}"), stream=stream),
                lambda: client.responses.create(model=agent, input=f"status {status}", stream=stream),
            ):
                e = raises(kind, ask)
                equal(e.status_code, want, f"status {status}")
                check(e.request_id and e.type and set(e.body) == {"message", "type", "param", "code"}, f"{status}: {e.body!r}")
                equal(f"scripted status {status}" in e.message, status in (400, 404, 409, 413, 422, 429), f"{status}: {e.message}")
                equal(e.response.headers.get("x-should-retry"), None if status in (409, 429, 503, 529) else "false", f"{status}: x-should-retry")
        if status == 429:
            equal(e.response.headers["retry-after"], "7", "retry-after")


# --- headers, and the client without threads ---


@each("headers of a raw response: {}", ["scripted-chat", "scripted-responses", "swarms", "cycls-real"])
def _(agent):
    chat = client.chat.completions.with_raw_response.create(model=agent, messages=user("hello"), seed=7, logit_bias={"1": 1})
    responses = client.responses.with_raw_response.create(model=agent, input="hello", truncation="auto", top_logprobs=0)
    for raw in (chat, responses):
        check(raw.request_id and raw.request_id == raw.headers["x-request-id"], "x-request-id")
        equal(raw.headers["dragoman-agent"], agent, "dragoman-agent")
        equal(raw.headers["content-type"].split(";")[0], "application/json", "content-type")
    if agent == "scripted-chat":
        check("dragoman-dropped" not in chat.headers, chat.headers.get("dragoman-dropped"))
    else:
        check("seed" in chat.headers["dragoman-dropped"] and "logit_bias" in chat.headers["dragoman-dropped"], chat.headers["dragoman-dropped"])
    if agent == "scripted-responses":
        check("dragoman-dropped" not in responses.headers, responses.headers.get("dragoman-dropped"))
    else:
        check("truncation" in responses.headers["dragoman-dropped"], responses.headers["dragoman-dropped"])
    with client.responses.with_streaming_response.create(model=agent, input="hello", stream=True, truncation="auto") as raw:
        equal(raw.headers["content-type"].split(";")[0], "text/event-stream", "content-type")
        equal("dragoman-dropped" in raw.headers, agent != "scripted-responses", "dragoman-dropped of a stream")
        types = [e.type for e in raw.parse()]
    equal((types[0], types[-1]), ("response.created", "response.completed"))


@test("a strict client is told every field at once, before the agent runs")
def _():
    e = raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="swarms", messages=user("hello"), seed=7, logit_bias={"1": 1}, extra_headers={"Dragoman-Strict": "true"}),
    )
    check("seed" in e.message and "logit_bias" in e.message, e.message)


@each("async client, helpers of both APIs: {}", ["scripted-chat", "scripted-responses", "swarms", "cycls-real"])
def _(agent):
    async def ask():
        async with AsyncOpenAI(base_url=f"{PROXY}/v1", api_key="sk-interop", timeout=PATIENCE, max_retries=0) as many:

            async def chat():
                async with many.chat.completions.stream(model=agent, messages=user("hello")) as s:
                    text = "".join([e.delta async for e in s if e.type == "content.delta"])
                    return text, (await s.get_final_completion()).choices[0].message.content

            async def responses():
                async with many.responses.stream(model=agent, input="hello") as s:
                    text = "".join([e.delta async for e in s if e.type == "response.output_text.delta"])
                    return text, (await s.get_final_response()).output_text

            async def whole():
                c, r = await asyncio.gather(many.chat.completions.create(model=agent, messages=user("hello")), many.responses.create(model=agent, input="hello"))
                return c.choices[0].message.content, r.output_text

            return await asyncio.gather(chat(), responses(), whole())

    got = {text for pair in asyncio.run(asyncio.wait_for(ask(), PATIENCE)) for text in pair}
    equal(len(got), 1, f"number of different answers {got!r}")
    check("" not in got, "no words")


@each("async client, parse of both APIs: {}", SCRIPTED)
def _(agent):
    async def ask():
        async with AsyncOpenAI(base_url=f"{PROXY}/v1", api_key="sk-interop", timeout=PATIENCE, max_retries=0) as many:
            c = await many.chat.completions.parse(model=agent, messages=user("Who is it?"), response_format=Person)
            r = await many.responses.parse(model=agent, input="Who is it?", text_format=Person)
            return c.choices[0].message.parsed, r.output_parsed

    equal(asyncio.run(asyncio.wait_for(ask(), PATIENCE)), (ADA, ADA), "parsed")
