"""The official Python client of OpenAI at a door that checks keys and counts."""

import asyncio
import threading
from queue import Queue

import openai
from openai import AsyncOpenAI, OpenAI

from door import CEILING, DOOR, SCOPE, STRANGERS, WELCOME, WORDS, Attempts, Keys, until_refused
from harness import PATIENCE, check, each, equal, fresh, main, raises, release, test

keys = Keys("openai-python")


plain = openai.DefaultHttpxClient()


def client(key, attempts=None, base=DOOR, **more):
    http = openai.DefaultHttpxClient(event_hooks=attempts.hooks, verify=False) if attempts else plain
    return OpenAI(base_url=f"{base}/v1", api_key=key, timeout=PATIENCE, http_client=http, **more)


def user(text):
    return [{"role": "user", "content": text}]


def chat(c, agent="scripted-chat", **more):
    return c.chat.completions.create(model=agent, messages=user(WORDS), **more)


def responses(c, agent="scripted-responses", **more):
    return c.responses.create(model=agent, input=WORDS, **more)


# All the ways to begin: what is refused is refused here, before any of the answer.
BEGIN = {
    "chat, JSON": chat,
    "chat, stream": lambda c, *agent, **more: chat(c, *agent, stream=True, **more),
    "responses, JSON": responses,
    "responses, stream": lambda c, *agent, **more: responses(c, *agent, stream=True, **more),
}


def ask(how, *args, **more):
    """Begins, and reads the answer to its end."""
    answer = BEGIN[how](*args, **more)
    check(list(answer) if "stream" in how else answer.id, "no answer")


# How the client is told to send no key.
KEYLESS = {"extra_headers": {"Authorization": openai.Omit()}}


def stranger(kind):
    """Of a bad key, the key and what more to say with a request."""
    return (keys.bad(kind), KEYLESS if kind == "none" else {})


@each("openai: 401 is an AuthenticationError, never tried again: {}", [f"{k}, {how}" for k in STRANGERS for how in BEGIN])
def _(cell):
    kind, how = cell.split(", ", 1)
    attempts = Attempts()
    key, more = stranger(kind)
    e = raises(openai.AuthenticationError, lambda: BEGIN[how](client(key, attempts), **more))
    equal(attempts.statuses, [401], "attempts")
    equal((e.status_code, e.type, e.param, e.code), (401, "authentication_error", None, "invalid_api_key"))
    check(all(w in e.message for w in WELCOME), e.message)
    check("dragoman-interop" not in str(e) and "sk-short" not in str(e), f"the key: {e}")
    equal(e.response.headers["www-authenticate"], 'Bearer realm="dragoman"')
    check(e.request_id.startswith("req_"), f"request id {e.request_id}")


@test("openai: 401 is the same whatever is wrong with the key")
def _():
    def seen(kind):
        key, more = stranger(kind)
        e = raises(openai.AuthenticationError, lambda: chat(client(key), **more))
        h = {k: v for k, v in e.response.headers.items() if k not in ("date", "x-request-id")}
        return e.body, h, e.message
    want = seen("none")
    for kind in STRANGERS[1:]:
        equal(seen(kind), want, kind)


@test("openai: 401 of lists, and of the client without threads")
def _():
    raises(openai.AuthenticationError, lambda: client(keys.bad("unknown")).models.list())
    raises(openai.AuthenticationError, lambda: client(keys.bad("none")).models.retrieve("chat", **KEYLESS))

    async def ask():
        async with AsyncOpenAI(base_url=f"{DOOR}/v1", api_key=keys.bad("unknown"), timeout=PATIENCE) as c:
            await c.responses.create(model="scripted-responses", input=WORDS)
    raises(openai.AuthenticationError, lambda: asyncio.run(ask()))


@test("openai: a key in x-api-key is as good")
def _():
    c = client("unused", default_headers={"x-api-key": keys.of("all")})
    check(chat(c, **KEYLESS).choices[0].message.content, "no answer")
    both = client(keys.of("all"), default_headers={"x-api-key": keys.of("all")})
    check(responses(both).output_text, "no answer")


@each("openai: two different keys are a BadRequestError: {}", BEGIN)
def _(how):
    attempts = Attempts()
    c = client(keys.of("all"), attempts, default_headers={"x-api-key": keys.of("scoped")})
    e = raises(openai.BadRequestError, lambda: BEGIN[how](c))
    equal(attempts.statuses, [400], "attempts")
    check("x-api-key" in e.message and "Authorization" in e.message, e.message)
    check("dragoman-interop" not in str(e), f"the key: {e}")


@each("openai: an agent out of scope is a NotFoundError, like one that is missing: {}", BEGIN)
def _(how):
    def seen(agent):
        attempts = Attempts()
        e = raises(openai.NotFoundError, lambda: BEGIN[how](client(keys.of("scoped"), attempts), agent))
        equal(attempts.statuses, [404], "attempts")
        h = {k: v for k, v in e.response.headers.items() if k not in ("date", "x-request-id", "content-length")}
        return str(e.body).replace(agent, "AGENT"), e.message.replace(agent, "AGENT"), e.code, e.param, h
    want = seen("nobody")
    equal(want[2], "model_not_found", "code")
    for agent in ("swarms", "cycls-real"):
        equal(seen(agent), want, agent)
        check("cycls-real" not in want[1], want[1])
    check(BEGIN[how](client(keys.of("scoped")), "scripted-chat"), "an agent in scope")


@test("openai: a list of models is what the key may call")
def _():
    c = client(keys.of("scoped"))
    equal({m.id for m in c.models.list()}, SCOPE, "models")
    equal(c.models.retrieve("chat").id, "chat")
    gone = raises(openai.NotFoundError, lambda: c.models.retrieve("swarms"))
    missing = raises(openai.NotFoundError, lambda: c.models.retrieve("nobody"))
    equal(str(gone.body).replace("swarms", "?"), str(missing.body).replace("nobody", "?"), "body")
    check({m.id for m in client(keys.of("all")).models.list()} > SCOPE, "a key without a scope sees no more")


# --- limits ---

LIMITS = ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]


def left(h):
    check(h["x-ratelimit-reset-requests"].endswith("s"), h)
    check(h["ratelimit"] and h["ratelimit-policy"], h)
    return h["x-ratelimit-limit-requests"], h["x-ratelimit-remaining-requests"]


@each("openai: a limit of requests is a RateLimitError before any of the answer, and what is left stands in every answer: {}", BEGIN)
def _(how):
    face, mode = how.split(", ")
    c = client(keys.fresh("few"), max_retries=0)
    api = c.chat.completions if face == "chat" else c.responses
    said = {"messages": user(WORDS)} if face == "chat" else {"input": WORDS}
    for want in ("1", "0"):
        raw = api.with_raw_response.create(model=f"scripted-{face}", stream=mode == "stream", **said)
        equal(left(raw.headers), ("2", want), "limit and remaining")
        parsed = raw.parse()
        check(list(parsed) if mode == "stream" else parsed.model, "no answer")
    e = raises(openai.RateLimitError, lambda: BEGIN[how](c))
    h = e.response.headers
    equal(left(h), ("2", "0"), "limit and remaining")
    equal((e.status_code, e.type, e.code), (429, "rate_limit_error", "rate_limit_exceeded"))
    # Half an hour to the next of two an hour, a little of which has passed.
    check(1000 < int(h["retry-after"]) <= 1800 and 1000 * (int(h["retry-after"]) - 1) < int(h["retry-after-ms"]) <= 1000 * int(h["retry-after"]), f"{h}")
    check("2 requests per hour" in e.message and h["retry-after"] in e.message, e.message)


@test("openai: a wait of half an hour is too long for the client to try again by itself")
def _():
    key = keys.fresh("few")
    for _ in range(2):
        chat(client(key))
    attempts = Attempts()
    raises(openai.RateLimitError, lambda: chat(client(key, attempts)))
    equal(attempts.statuses, [429], "attempts")


@each("openai: over the limit it waits as long as it was told, and then gets its answer: {}", BEGIN)
def _(how):
    attempts = Attempts()
    c = client(keys.fresh("paced"), attempts)
    until_refused(attempts, 429, lambda: ask(how, c))
    equal(attempts.statuses, [429, 200], "the wait was enough")
    equal([a["count"] for a in attempts.all], ["0", "1"], "counts of retries")


@test("openai: over the limit the client without threads waits too")
def _():
    attempts = Attempts()

    async def ask_again():
        http = openai.DefaultAsyncHttpxClient(event_hooks=attempts.async_hooks)
        async with AsyncOpenAI(base_url=f"{DOOR}/v1", api_key=key, timeout=PATIENCE, http_client=http) as c:
            async for _ in await c.chat.completions.create(model="scripted-chat", messages=user(WORDS), stream=True):
                pass
    key = keys.fresh("paced")
    until_refused(attempts, 429, lambda: asyncio.run(ask_again()))


@each("openai: a limit of tokens is a RateLimitError, charged with what the agent reports: {}", ["chat", "responses"])
def _(face):
    begin, tell = {"chat": (chat, "max_tokens"), "responses": (responses, "max_output_tokens")}[face]
    c = client(keys.fresh("tokens"), max_retries=0)
    api = c.chat.completions if face == "chat" else c.responses
    said = {"messages": user(WORDS)} if face == "chat" else {"input": WORDS}

    def remaining():
        h = api.with_raw_response.create(model=f"scripted-{face}", **{tell: 1000}, **said).headers
        equal(h["x-ratelimit-limit-tokens"], "2000", "limit")
        check(h["x-ratelimit-reset-tokens"].endswith("s") and "x-ratelimit-limit-requests" not in h, h)
        return int(h["x-ratelimit-remaining-tokens"])
    first = remaining()
    check(0 < first < 1000, f"{first} remain of 2000, less a thousand to be said and the question")
    second = remaining()
    check(first - 30 < second < first, f"18 tokens were used, and {second} remain of {first}")
    # More than the bucket holds is admitted when it is full, and so never now.
    e = raises(openai.RateLimitError, lambda: begin(c, **{tell: 5000}))
    check("2000 tokens per hour" in e.message, e.message)
    equal(e.response.headers["x-ratelimit-limit-tokens"], "2000")
    check(int(e.response.headers["retry-after"]) > 0, e.response.headers)
    check(remaining() < second, "the refused one was charged, or the next is free")


@each("openai: a stream is charged with what the agent reports, also where nobody asked for a report: {}", ["nobody", "the client"])
def _(who):
    c = client(keys.fresh("tokens"), max_retries=0)
    asked = {"stream_options": {"include_usage": True}} if who == "the client" else {}
    chunks = list(chat(c, stream=True, max_tokens=1990, **asked))
    equal([k.usage.total_tokens for k in chunks if k.usage], [18] if asked else [], "usage")
    check(all(k.choices for k in chunks[: len(chunks) - len(asked)]), "a chunk without choices")
    # The whole bucket was reserved, and all but what was used is there again.
    left = c.chat.completions.with_raw_response.create(model="scripted-chat", messages=user(WORDS), max_tokens=1).headers
    check(1900 < int(left["x-ratelimit-remaining-tokens"]) < 1982, left)


@test("openai: more tokens than the bucket holds are admitted when it is full, and run into debt")
def _():
    key = keys.fresh("tokens")
    with client(key, max_retries=0).chat.completions.create(model="cycls-real", messages=user(f"gate {(name := fresh())}"), max_tokens=9000, stream=True) as stream:
        next(stream)
        e = raises(openai.RateLimitError, lambda: chat(client(key, max_retries=0), max_tokens=1))
        equal(e.response.headers["x-ratelimit-remaining-tokens"], "0")
        check(int(e.response.headers["retry-after"]) > 3600, "a wait for more than the debt of an hour")
        release(name)
        for _ in stream:
            pass
    check(chat(client(key, max_retries=0), max_tokens=1), "settled with what was used")


@test("openai: a limit of an agent is a RateLimitError that names it, also for others")
def _():
    for _ in range(2):
        try:
            chat(client(keys.of("all"), max_retries=0), "rationed")
        except openai.RateLimitError as e:
            check('"rationed"' in e.message and "1 requests per hour" in e.message, e.message)
            equal(e.response.headers["x-ratelimit-limit-requests"], "1")
            break
    else:
        raise AssertionError("the agent has no limit")
    raises(openai.RateLimitError, lambda: responses(client(keys.fresh("few"), max_retries=0), "rationed"))


@each("openai: of streams at the same time one waits for its turn, and the next is a RateLimitError: {}", ["chat", "responses"])
def _(face):
    key, name = keys.fresh("single"), fresh()
    c = client(key, max_retries=0)
    running = iter(c.chat.completions.create(model="cycls-real", messages=user(f"gate {name}"), stream=True))
    next(running)
    results = Queue()

    def other():
        try:
            results.put(len(list(BEGIN[f"{face}, stream"](c))))
        except Exception as e:
            results.put(e)
    threads = [threading.Thread(target=other) for _ in range(2)]
    for t in threads:
        t.start()
    # There is one place in line, so that one of the two is refused, and the other is known to wait.
    e = results.get(timeout=PATIENCE)
    check(isinstance(e, openai.RateLimitError), repr(e))
    check("at the same time" in e.message and int(e.response.headers["retry-after"]) >= 1, f"{e.message} {e.response.headers}")
    check(results.empty(), "the other one did not wait")
    release(name)
    for _ in running:
        pass
    n = results.get(timeout=PATIENCE)
    check(isinstance(n, int) and n > 0, repr(n))
    for t in threads:
        t.join()
    check(chat(c), "no place after all have gone")


@test("openai: a client that leaves the line lets the next one in")
def _():
    key, name = keys.fresh("single"), fresh()
    c = client(key, max_retries=0)
    running = iter(c.chat.completions.create(model="cycls-real", messages=user(f"gate {name}"), stream=True))
    next(running)
    raises(openai.APITimeoutError, lambda: chat(c.with_options(timeout=0.5)))
    # Its place in line is free again: a retry of it stands there until the first one ends.
    done = Queue()
    patient = threading.Thread(target=lambda: done.put(chat(client(key, max_retries=100))))
    patient.start()
    release(name)
    for _ in running:
        pass
    check(done.get(timeout=PATIENCE).choices, "no answer")
    patient.join()


@test("openai: over the limit of concurrency it waits as long as it was told, and then gets its answer")
def _():
    key, name = keys.fresh("single"), fresh()
    running = iter(client(key).chat.completions.create(model="cycls-real", messages=user(f"gate {name}"), stream=True))
    next(running)
    refused, seen = Queue(), [Attempts(), Attempts()]

    def other(attempts):
        hear = attempts.received

        def received(response):
            hear(response)
            if response.status_code == 429:
                refused.put(attempts)
        attempts.received = received
        chat(client(key, attempts, max_retries=100))
    threads = [threading.Thread(target=other, args=(a,)) for a in seen]
    for t in threads:
        t.start()
    refused.get(timeout=PATIENCE)
    release(name)
    for _ in running:
        pass
    for t in threads:
        t.join(PATIENCE)
    for a in seen:
        equal(a.statuses[-1], 200, "last status")
        a.told()


@each("openai: the proxy's own ceiling is a 503, and is tried again after the wait that it told: {}", ["chat, JSON", "responses, stream"])
def _(how):
    attempts = Attempts()
    c = client(keys.of("all"), attempts, base=CEILING, max_retries=100)
    until_refused(attempts, 503, lambda: ask(how, c))
    for _ in range(50):
        try:
            BEGIN[how](client(keys.of("all"), base=CEILING, max_retries=0))
        except openai.InternalServerError as e:
            equal((e.status_code, e.code), (503, "overloaded"))
            check(int(e.response.headers["retry-after"]) >= 1, e.response.headers)
            check("5 requests per second" in e.message, e.message)
            break
    else:
        raise AssertionError("no ceiling")


if __name__ == "__main__":
    import door_swarms  # noqa: F401  the tests of the other client

    main("door-python")
