"""An agent behind both of OpenAI's APIs that does as it is told.

The demo agents have one answer and one tool. What clients find hard needs more: parallel calls whose arguments come
interleaved, custom tools, JSON for a schema, refusals, citations, an answer cut short, every status. The first word of
the question says which; all other questions get plain text, or calls of the offered tools if they are about the
weather or a call is required. It obeys stop, max_tokens, n, tool_choice and the response format, and `echo` tells what
it was sent. The address is written to the file named by the only argument, as a line NAME=URL.
"""

import asyncio
import itertools
import json
import os
import re
import socket
import sys
from pathlib import Path

import uvicorn

MODEL = "scripted-1"
CREATED = 1767225600
THOUGHT = "Let me think, “step by step”."
CITIES = ("Paris", "Rome", "Tokyo", "London", "Berlin")
USAGE = {"in": 11, "out": 7, "cached": 3, "reasoning": 2}

numbers = itertools.count(1)


def new_id(prefix):
    return f"{prefix}{next(numbers):024x}"


def words(s):
    return re.findall(r"\S*\s*", s)[:-1] or [s]


def bites(s):
    return [s[i : i + 7] for i in range(0, len(s), 7)]


def flat(content):
    if isinstance(content, str):
        return content
    return "".join(p.get("text") or p.get("refusal") or "" for p in content or [])


def example(schema):
    """A value that a schema allows."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return example(schema[key][0])
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            return {k: example(v) for k, v in schema.get("properties", {}).items()}
        case "array":
            return [example(schema.get("items", {"type": "string"}))] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return max(36, schema.get("minimum", 36))
        case "boolean":
            return True
        case "null":
            return None
    return "Ada “é”"


class Question:
    """What the agent reads of a request, in the same words for both APIs."""

    text = ""
    results = ()  # of the tools that were called, if that is what came last
    tools = ()  # (kind, name, schema)
    choice = "auto"  # none, auto, required, or the name of a tool
    parallel = True
    schema = None  # of JSON, {} if any object will do
    limit = None
    stop = ()
    n = 1
    functions = False  # the deprecated form of tools
    effort = None
    probable = False  # it asks how probable each word was

    def __init__(self, doc):
        self.doc = doc
        self.stream = bool(doc.get("stream"))
        self.parallel = doc.get("parallel_tool_calls") is not False


def choose(q, choice, name):
    if isinstance(choice, str):
        q.choice = choice
    elif choice:
        q.choice = name(choice) or "auto"


def read_chat(doc):
    q = Question(doc)
    results = []
    for m in doc["messages"]:
        if m["role"] == "user":
            q.text, results = flat(m["content"]), []
        elif m["role"] in ("tool", "function"):
            results.append(flat(m["content"]))
        else:
            results = []
    q.results = results
    functions = doc.get("functions")
    q.functions = bool(functions)
    q.tools = [("function", f["name"], f.get("parameters", {})) for f in functions or []]
    for t in doc.get("tools") or []:
        of = t[t["type"]]
        q.tools.append((t["type"], of["name"], of.get("parameters", {})))
    choose(q, doc.get("tool_choice", doc.get("function_call")), lambda c: (c.get("function") or c.get("custom") or c).get("name"))
    if f := doc.get("response_format"):
        q.schema = {"json_schema": lambda: f["json_schema"]["schema"], "json_object": dict}.get(f["type"], lambda: None)()
    q.limit = doc.get("max_completion_tokens", doc.get("max_tokens"))
    stop = doc.get("stop") or []
    q.stop = [stop] if isinstance(stop, str) else stop
    q.n = doc.get("n") or 1
    q.effort = doc.get("reasoning_effort")
    q.probable = bool(doc.get("logprobs"))
    return q


def read_responses(doc):
    q = Question(doc)
    items = doc["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    results = []
    for item in items:
        match item.get("type", "message"), item.get("role"):
            case "message", "user":
                q.text, results = flat(item["content"]), []
            case "function_call_output" | "custom_tool_call_output", _:
                results.append(flat(item["output"]))
            case _:
                results = []
    q.results = results
    q.tools = [(t["type"], t["name"], t.get("parameters", {})) for t in doc.get("tools") or []]
    choose(q, doc.get("tool_choice"), lambda c: c.get("name"))
    f = (doc.get("text") or {}).get("format") or {}
    q.schema = {"json_schema": lambda: f["schema"], "json_object": dict}.get(f.get("type"), lambda: None)()
    q.limit = doc.get("max_output_tokens")
    q.effort = (doc.get("reasoning") or {}).get("effort")
    q.probable = "message.output_text.logprobs" in (doc.get("include") or [])
    return q


def calls(q):
    """The calls that a question asks for: of both tools, or one for each city that it names."""
    offered = [t for t in q.tools if q.choice in ("auto", "required", t[1])]
    if not offered or q.choice == "none":
        return []
    kind, name, schema = offered[0]
    if kind == "custom":
        return [("custom", name, "print(“hi”)\n")]
    if "both" in q.text and q.parallel:
        return [(k, n, json.dumps(example(s), ensure_ascii=False)) for k, n, s in offered]
    cities = [c for c in CITIES if c in q.text] if "city" in schema.get("properties", {}) else []
    args = [{**example(schema), "city": c} for c in cities] or [example(schema)]
    return [("function", name, json.dumps(a, ensure_ascii=False)) for a in (args if q.parallel else args[:1])]


def answer(q):
    """Pieces (kind, …), and how the answer ends: a finish reason, or fail, or cut."""
    word = q.text.partition(" ")[0].rstrip(",")
    if q.results:
        said = "The tools say: " + " | ".join(q.results)
        return [("text", json.dumps(example(q.schema)) if q.schema else said)], "stop"
    match word:
        case "echo":
            return [("text", json.dumps(q.doc, ensure_ascii=False))], "stop"
        case "refusal":
            return [("refusal", "I cannot help with „that“.")], "stop"
        case "length":
            return [("think", THOUGHT), ("text", "This is cut " if q.schema is None else '{"name": "Ada ')], "length"
        case "thought":  # the whole budget went into reasoning
            return [("think", THOUGHT)], "length"
        case "filter":
            return [("text", "This is filtered " if q.schema is None else '{"name": "Ada ')], "content_filter"
        case "fail":
            return [("text", "I will try, "), ("text", "but ")], "fail"
        case "cut":
            return [("text", "I will try, "), ("text", "but ")], "cut"
        case "cite":
            return [("text", "See here.", [(4, 8, "https://example.com/a?b=1&c=“é”", "Hère")])], "stop"
    if q.tools and (q.choice not in ("auto", "none") or "weather" in q.text):
        if asked := calls(q):
            return [("think", THOUGHT), *([("text", "Let me look that up.")] if word != "only" else []), *asked], "tool_calls"
    if q.schema is not None:
        return [("text", json.dumps(example(q.schema or {"properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}), ensure_ascii=False))], "stop"
    said, finish = f"You said: {q.text}", "stop"
    if "What is my name" in q.text and (name := re.findall(r"My name is (\w+)", json.dumps(q.doc))):
        said = name[-1]
    for s in q.stop:
        said = said.partition(s)[0]
    if q.limit is not None and q.limit < len(words(said)):
        said, finish = "".join(words(said)[: q.limit]), "length"
    return [*([("think", THOUGHT)] if q.effort != "none" else []), ("text", said)], finish


def usage(q):
    return {**USAGE, "reasoning": 0} if q.effort == "none" else USAGE


def chat_usage(q):
    u = usage(q)
    return {
        "prompt_tokens": u["in"], "completion_tokens": u["out"], "total_tokens": u["in"] + u["out"],
        "prompt_tokens_details": {"cached_tokens": u["cached"]}, "completion_tokens_details": {"reasoning_tokens": u["reasoning"]},
    }


def error(message, kind="server_error", code="server_error"):
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def probabilities(q, said):
    """Of each word, with as many others as are asked for."""
    def of(w, p):
        return {"token": w, "logprob": p, "bytes": list(w.encode())}

    others = [of(w, p) for w, p in (("yes", -1.5), ("no", -2.25))][: q.doc.get("top_logprobs") or 0]
    return [{**of(w, -0.125), "top_logprobs": others} for w in words(said)] if q.probable else []


def chat_call(call):
    kind, name, value = call
    return {"id": new_id("call_"), "type": kind, kind: {"name": name, "arguments" if kind == "function" else "input": value}}


def citations(piece):
    return [{"type": "url_citation", "url_citation": {"start_index": a, "end_index": b, "url": u, "title": t}} for a, b, u, t in (piece[2] if len(piece) > 2 else [])]


def chat_whole(q):
    pieces, finish = answer(q)
    if finish in ("fail", "cut"):
        return 500, error("the scripted agent fails")
    message = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    logprobs = {"content": [], "refusal": None} if q.probable else None
    for p in pieces:
        match p[0]:
            case "think":
                message["reasoning_content"] = p[1]
            case "text":
                message["content"] = (message["content"] or "") + p[1]
                message["annotations"] += citations(p)
                if logprobs:
                    logprobs["content"] += probabilities(q, p[1])
            case "refusal":
                message["refusal"] = p[1]
            case _ if q.functions:
                message["function_call"] = {"name": p[1], "arguments": p[2]}
                finish = "function_call"
            case _:
                message.setdefault("tool_calls", []).append(chat_call(p))
    return 200, {
        "id": new_id("chatcmpl-"), "object": "chat.completion", "created": CREATED, "model": MODEL, "system_fingerprint": "fp_1",
        "choices": [{"index": i, "message": message, "logprobs": logprobs, "finish_reason": finish} for i in range(q.n)],
        "usage": chat_usage(q),
    }


def chat_stream(q):
    pieces, finish = answer(q)
    asked = (q.doc.get("stream_options") or {}).get("include_usage")
    same = {"id": new_id("chatcmpl-"), "object": "chat.completion.chunk", "created": CREATED, "model": MODEL, "system_fingerprint": "fp_1"}

    def chunk(index, delta, reason=None, logprobs=None):
        c = {**same, "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]}
        return "", {**c, "usage": None} if asked else c

    for i in range(q.n):
        yield chunk(i, {"role": "assistant", "content": "", "refusal": None})
        opened = [p for p in pieces if p[0] in ("function", "custom")]
        braided = "braided" in q.text  # the arguments of several calls come by turns

        def more(at, b):
            kind = opened[at][0]
            return {"tool_calls": [{"index": at, kind: {"arguments" if kind == "function" else "input": b}}]}

        for p in pieces:
            match p[0]:
                case "think":
                    for w in words(p[1]):
                        yield chunk(i, {"reasoning_content": w})
                case "text":
                    for w in words(p[1]):
                        yield chunk(i, {"content": w}, logprobs={"content": probabilities(q, w), "refusal": None} if q.probable else None)
                    if c := citations(p):
                        yield chunk(i, {"annotations": c})
                case "refusal":
                    for w in words(p[1]):
                        yield chunk(i, {"refusal": w})
        if q.functions and opened:
            finish = "function_call"
            yield chunk(i, {"function_call": {"name": opened[0][1], "arguments": ""}})
            for b in bites(opened[0][2]):
                yield chunk(i, {"function_call": {"arguments": b}})
        elif opened:
            for at, p in enumerate(opened):
                call = chat_call((p[0], p[1], ""))
                yield chunk(i, {"tool_calls": [{"index": at, **call}]})
                if not braided:
                    yield from (chunk(i, more(at, b)) for b in bites(p[2]))
            for row in itertools.zip_longest(*(bites(p[2]) for p in opened)) if braided else ():
                yield from (chunk(i, more(at, b)) for at, b in enumerate(row) if b is not None)
        if finish == "fail":
            yield "", error("the scripted agent fails")
            yield "", "[DONE]"
        if finish in ("fail", "cut"):
            return
        yield chunk(i, {}, finish)
    if asked:
        yield "", {**same, "choices": [], "usage": chat_usage(q)}
    yield "", "[DONE]"


class Answer:
    """A response that is being written: its items, and an event for all that happens to them."""

    def __init__(self, q):
        self.q = q
        self.id = new_id("resp_")
        self.items = []
        self.seq = 0

    def snapshot(self, status, failure=None, reason=None):
        doc, u = self.q.doc, usage(self.q)
        ended = status in ("completed", "incomplete")
        return {
            "id": self.id, "object": "response", "created_at": CREATED, "completed_at": CREATED + 1 if ended else None, "status": status, "background": False,
            "error": failure, "incomplete_details": {"reason": reason} if reason else None, "instructions": doc.get("instructions"),
            "max_output_tokens": doc.get("max_output_tokens"), "max_tool_calls": None, "model": MODEL, "output": list(self.items),
            "parallel_tool_calls": self.q.parallel, "previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None},
            "safety_identifier": None, "service_tier": "default", "store": doc.get("store", True), "temperature": 1.0,
            "text": doc.get("text", {"format": {"type": "text"}}), "tool_choice": doc.get("tool_choice", "auto"), "tools": doc.get("tools", []),
            "top_logprobs": 0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "truncation": "disabled", "user": None, "metadata": {},
            "usage": {
                "input_tokens": u["in"], "input_tokens_details": {"cached_tokens": u["cached"], "cache_write_tokens": 0}, "output_tokens": u["out"],
                "output_tokens_details": {"reasoning_tokens": u["reasoning"]}, "total_tokens": u["in"] + u["out"],
            } if ended else None,
        }

    def event(self, name, **fields):
        self.seq += 1
        return name, {"type": name, "sequence_number": self.seq - 1, **fields}

    def part(self, kind, key, text, notes=()):
        empty = {"type": kind, key: ""}
        whole = {"type": kind, key: text}
        if kind == "output_text":
            empty |= {"annotations": [], "logprobs": []}
            whole |= {"annotations": [{"type": "url_citation", "start_index": a, "end_index": b, "url": u, "title": t} for a, b, u, t in notes], "logprobs": probabilities(self.q, text)}
        return empty, whole

    def item(self, begun, whole, fill):
        at = {"item_id": begun["id"], "output_index": len(self.items)}
        yield self.event("response.output_item.added", output_index=len(self.items), item=begun)
        yield from fill(at)
        yield self.event("response.output_item.done", output_index=len(self.items), item=whole)
        self.items.append(whole)

    def message(self, p, status):
        kind, key, stem = ("refusal", "refusal", "response.refusal") if p[0] == "refusal" else ("output_text", "text", "response.output_text")
        empty, whole = self.part(kind, key, p[1], p[2] if len(p) > 2 else ())
        m = {"id": new_id("msg_"), "type": "message", "role": "assistant"}

        def extra(said):
            bare = [{k: v for k, v in p.items() if k != "bytes"} for p in probabilities(self.q, said)]
            return {"logprobs": bare} if kind == "output_text" else {}

        def fill(at):
            at = {**at, "content_index": 0}
            yield self.event("response.content_part.added", **at, part=empty)
            for w in words(p[1]):
                yield self.event(stem + ".delta", **at, delta=w, **extra(w))
            for i, note in enumerate(whole.get("annotations", [])):
                yield self.event("response.output_text.annotation.added", **at, annotation_index=i, annotation=note)
            yield self.event(stem + ".done", **at, **{key: p[1]}, **extra(p[1]))
            yield self.event("response.content_part.done", **at, part=whole)

        yield from self.item({**m, "status": "in_progress", "content": []}, {**m, "status": status, "content": [whole]}, fill)

    def reasoning(self, p):
        r = {"id": new_id("rs_"), "type": "reasoning"}
        empty, whole = self.part("summary_text", "text", p[1])

        def fill(at):
            at = {**at, "summary_index": 0}
            yield self.event("response.reasoning_summary_part.added", **at, part=empty)
            for w in words(p[1]):
                yield self.event("response.reasoning_summary_text.delta", **at, delta=w)
            yield self.event("response.reasoning_summary_text.done", **at, text=p[1])
            yield self.event("response.reasoning_summary_part.done", **at, part=whole)

        yield from self.item({**r, "summary": []}, {**r, "summary": [whole]}, fill)

    def call(self, p):
        kind, name, value = p
        stem, key, prefix = ("function_call", "arguments", "fc_") if kind == "function" else ("custom_tool_call", "input", "ctc_")
        c = {"id": new_id(prefix), "type": stem, "call_id": new_id("call_"), "name": name}

        def fill(at):
            for b in bites(value):
                yield self.event(f"response.{stem}_{key}.delta", **at, delta=b)
            yield self.event(f"response.{stem}_{key}.done", **at, **{key: value})

        yield from self.item({**c, key: "", "status": "in_progress"}, {**c, key: value, "status": "completed"}, fill)

    def events(self):
        pieces, finish = answer(self.q)
        yield self.event("response.created", response=self.snapshot("in_progress"))
        yield self.event("response.in_progress", response=self.snapshot("in_progress"))
        short = finish in ("length", "content_filter")
        if finish in ("fail", "cut"):
            pieces = [("text", "".join(p[1] for p in pieces))]
        for p in pieces:
            match p[0]:
                case "think":
                    yield from self.reasoning(p)
                case "text" | "refusal":
                    for e in self.message(p, "incomplete" if short else "completed"):
                        if finish in ("fail", "cut") and e[0].endswith("_text.done"):
                            break
                        yield e
                case _:
                    yield from self.call(p)
        if finish == "fail":
            failure = {"code": "server_error", "message": "the scripted agent fails"}
            yield self.event("error", error={"type": "server_error", **failure, "param": None})
            yield self.event("response.failed", response=self.snapshot("failed", failure))
        elif short:
            reason = "max_output_tokens" if finish == "length" else finish
            yield self.event("response.incomplete", response=self.snapshot("incomplete", reason=reason))
        elif finish != "cut":
            yield self.event("response.completed", response=self.snapshot("completed"))


def responses_stream(q):
    yield from Answer(q).events()


def responses_whole(q):
    *_, (name, last) = Answer(q).events()
    if name not in ("response.completed", "response.incomplete"):
        return 500, error("the scripted agent fails")
    return 200, last["response"]


APIS = {
    "/v1/chat/completions": (read_chat, chat_stream, chat_whole),
    "/v1/responses": (read_responses, responses_stream, responses_whole),
}


def refusal(text):
    """The status that a question asks for."""
    word, _, status = text.partition(" ")
    if word != "status":
        return None
    codes = {"400": ("invalid_request_error", "invalid_value"), "404": ("invalid_request_error", "model_not_found"), "429": ("rate_limit_error", "rate_limit_exceeded")}
    return int(status), error(f"scripted status {status}", *codes.get(status, ("server_error", None)))


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while (event := await receive())["type"] == "http.request":
        body += event.get("body", b"")
        if not event.get("more_body"):
            break

    async def start(status, kind, *more):
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *more]})

    async def reply(status, doc):
        await start(status, b"application/json", *([(b"retry-after", b"7")] if status == 429 else []))
        await send({"type": "http.response.body", "body": json.dumps(doc, ensure_ascii=False).encode()})

    if scope["path"] not in APIS:
        return await reply(200 if scope["path"] == "/" else 404, {})
    read, stream, answered = APIS[scope["path"]]
    q = read(json.loads(body))
    if refused := refusal(q.text):
        return await reply(*refused)
    if not q.stream:
        return await reply(*answered(q))
    await start(200, b"text/event-stream; charset=utf-8")
    whole = b""
    for name, doc in stream(q):
        data = doc if isinstance(doc, str) else json.dumps(doc, ensure_ascii=False)
        frame = ((f"event: {name}\n" if name else "") + f"data: {data}\n\n").encode()
        if "at once" in q.text:  # nothing is to be seen before all of it is there
            whole += frame
        else:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": whole})


async def main(out):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
    part = out.with_suffix(".part")
    part.write_text("SCRIPTED_URL=http://{}:{}\n".format(*sock.getsockname()))
    os.replace(part, out)
    await server.serve(sockets=[sock])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
