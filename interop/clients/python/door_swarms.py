"""The official Python client of Swarms at a door that checks keys and counts. It sends its key as x-api-key."""

from datetime import UTC, datetime

import swarms_client
from swarms_client import SwarmsClient

from door import CEILING, DOOR, SCOPE, STRANGERS, WELCOME, WORDS, Attempts, Keys, until_refused
from harness import PATIENCE, check, each, equal, raises, test

keys = Keys("swarms-python")


plain = swarms_client.DefaultHttpxClient()


def client(key, attempts=None, base=DOOR, **more):
    http = swarms_client.DefaultHttpxClient(event_hooks=attempts.hooks, verify=False) if attempts else plain
    return SwarmsClient(base_url=base, api_key=key, timeout=PATIENCE, http_client=http, **more)


def config(agent):
    return {"agent_name": agent, "model_name": "gpt-4.1"}


def run(c, agent="scripted-chat", **more):
    return c.agent.run(agent_config=config(agent), task=WORDS, **more)


def batch(c, n, agent="scripted-chat"):
    return c.agent.batch.run(body=[{"agent_config": config(agent), "task": WORDS} for _ in range(n)])


ASK = {
    "one": run,
    "batch": lambda c, **more: c.agent.batch.run(body=[{"agent_config": config("scripted-chat"), "task": WORDS}], **more),
    "models": lambda c, **more: c.models.list_available(**more),
    "limits": lambda c, **more: c.client.rate.get_limits(**more),
}


@each("swarms: 401 is an AuthenticationError, never tried again: {}", [f"{k}, {what}" for k in STRANGERS for what in ASK])
def _(cell):
    kind, what = cell.split(", ")
    attempts = Attempts()
    more = {"extra_headers": {"x-api-key": swarms_client._types.Omit()}} if kind == "none" else {}
    e = raises(swarms_client.AuthenticationError, lambda: ASK[what](client(keys.bad(kind), attempts), **more))
    equal(attempts.statuses, [401], "attempts")
    equal((e.status_code, list(e.body)), (401, ["detail"]))
    check(all(w in e.body["detail"] for w in WELCOME), e.body)
    equal(e.response.headers["www-authenticate"], 'Bearer realm="dragoman"')


@test("swarms: a key as a bearer is as good, and two different keys are a BadRequestError")
def _():
    bearer = {"Authorization": f"Bearer {keys.of('all')}"}
    equal(run(client("unused"), extra_headers={"x-api-key": swarms_client._types.Omit(), **bearer})["success"], True)
    e = raises(swarms_client.BadRequestError, lambda: run(client(keys.of("scoped"), default_headers=bearer)))
    check("x-api-key" in e.body["detail"] and "dragoman-interop" not in str(e), e)


@test("swarms: an agent out of scope is a NotFoundError, like one that is missing")
def _():
    def seen(agent):
        e = raises(swarms_client.NotFoundError, lambda: run(client(keys.of("scoped")), agent))
        return str(e.body).replace(agent, "AGENT")
    want = seen("nobody")
    equal(seen("swarms"), want)
    equal(seen("cycls-real"), want)
    results = client(keys.of("scoped")).agent.batch.run(body=[{"agent_config": config(a), "task": WORDS} for a in ("swarms", "chat", "nobody")])["results"]
    equal([(r["success"], r.get("status_code")) for r in results], [(False, 404), (True, None), (False, 404)], "results")
    equal(results[0]["error"].replace("swarms", "AGENT"), results[2]["error"].replace("nobody", "AGENT"), "errors")


@test("swarms: a list of models is what the key may call")
def _():
    equal(set(client(keys.of("scoped")).models.list_available()["models"]), SCOPE)


HEADERS = ("x-ratelimit-limit-minute", "x-ratelimit-remaining-minute", "x-ratelimit-limit-day", "x-ratelimit-remaining-day", "x-ratelimit-reset")


@test("swarms: a limit of requests is a RateLimitError, and what is left stands in every answer")
def _():
    c = client(keys.fresh("few"), max_retries=0)
    for want in ("1", "0"):
        raw = c.agent.with_raw_response.run(agent_config=config("scripted-chat"), task=WORDS)
        equal((raw.headers["x-ratelimit-remaining-minute"], raw.headers["x-ratelimit-remaining-requests"]), (want, want))
        check(all(int(raw.headers[h]) >= 0 for h in HEADERS), raw.headers)
    e = raises(swarms_client.RateLimitError, lambda: run(c))
    h = e.response.headers
    equal(h["x-ratelimit-remaining-minute"], "0")
    check(abs(int(h["x-ratelimit-reset"]) - datetime.now(UTC).timestamp()) < 7200, f"x-ratelimit-reset {h['x-ratelimit-reset']}")
    check(1000 < int(h["retry-after"]) <= 1800, h)
    equal(list(e.body), ["detail"])
    check("2 requests per hour" in e.body["detail"] and h["retry-after"] in e.body["detail"], e.body)


# More than a minute it does not heed, and would try again in vain, were it not told not to.
@test("swarms: over the limit for half an hour it gives up at once")
def _():
    key = keys.fresh("few")
    for _ in range(2):
        run(client(key))
    attempts = Attempts()
    raises(swarms_client.RateLimitError, lambda: run(client(key, attempts)))
    equal(attempts.statuses, [429], "attempts")


@each("swarms: over the limit it waits as long as it was told, and then gets its answer: {}", ["one", "batch"])
def _(what):
    attempts = Attempts()
    c = client(keys.fresh("paced"), attempts)
    until_refused(attempts, 429, lambda: ASK[what](c))
    equal(attempts.statuses, [429, 200], "the wait was enough")


@test("swarms: each item of a batch counts")
def _():
    c = client(keys.fresh("few"), max_retries=0)
    r = batch(c, 3)
    equal(r["total_requests"], 3)
    # Which of them are first in line is theirs to decide, but no more than two run.
    good, bad = [i for i in r["results"] if i["success"]], [i for i in r["results"] if not i["success"]]
    equal((len(good), len(bad)), (2, 1), "answers and refusals")
    equal(bad[0]["status_code"], 429)
    check("2 requests per hour" in bad[0]["error"], bad)
    e = raises(swarms_client.RateLimitError, lambda: batch(c, 2))
    check(int(e.response.headers["retry-after"]) > 1000 and "2 requests per hour" in e.body["detail"], e)
    raises(swarms_client.RateLimitError, lambda: run(c))


def limits(c):
    r = c.client.rate.get_limits()
    equal(r["success"], True)
    now = datetime.fromisoformat(r["timestamp"])
    equal(set(r["rate_limits"]), {"minute", "hour", "day"}, "windows")
    for name, w in r["rate_limits"].items():
        equal({k: type(v) for k, v in w.items()}, {"count": int, "limit": int, "exceeded": bool, "remaining": int, "reset_time": str}, name)
        equal(w["remaining"], w["limit"] - w["count"], name)
        equal(w["exceeded"], w["remaining"] == 0, name)
        check(datetime.fromisoformat(w["reset_time"]) >= now, f"{name}: {w} at {now}")
        equal(r["limits"][f"maximum_requests_per_{name}"], w["limit"], name)
    equal(type(r["limits"]["tokens_per_agent"]), int)
    check(r["tier"] in ("free", "premium"), r)
    return r


@test("swarms: the limits are those of the key, and asking is free")
def _():
    c = client(keys.fresh("few"), max_retries=0)
    for used in (0, 1, 2):
        for _ in range(3):
            hour = limits(c)["rate_limits"]["hour"]
            equal((hour["limit"], hour["count"], hour["exceeded"]), (2, used, used == 2))
        if used < 2:
            run(c)
    e = raises(swarms_client.RateLimitError, lambda: run(c))
    equal(limits(c)["rate_limits"]["hour"]["count"], 2, "count after a refusal")
    reset = datetime.fromisoformat(limits(c)["rate_limits"]["hour"]["reset_time"])
    check((reset - datetime.now(UTC)).total_seconds() > int(e.response.headers["retry-after"]), "full before the next one is admitted")


@test("swarms: the limits tell of tokens, and of none")
def _():
    equal(limits(client(keys.fresh("tokens")))["limits"]["tokens_per_agent"], 2000)
    free = limits(client(keys.of("all")))
    check(free["limits"]["tokens_per_agent"] > 10**9 and free["rate_limits"]["minute"]["limit"] > 10**9, free)
    equal(free["rate_limits"]["minute"]["exceeded"], False)


@test("swarms: a limit of tokens is a RateLimitError, charged with what the agent reports")
def _():
    c = client(keys.fresh("tokens"), max_retries=0)
    # Each reserves a thousand and some, and the second one finds less than that.
    good, bad = batch(c, 2)["results"]
    equal((good["success"], good["usage"]["total_tokens"]), (True, 18))
    equal((bad["success"], bad["status_code"]), (False, 429))
    check("2000 tokens per hour" in bad["error"], bad)
    equal(run(c)["success"], True, "after 18 of 2000")


@test("swarms: the proxy's own ceiling is a 503, and is tried again after the wait that it told")
def _():
    attempts = Attempts()
    c = client(keys.of("all"), attempts, base=CEILING, max_retries=100)
    until_refused(attempts, 503, lambda: run(c))
    for _ in range(50):
        try:
            run(client(keys.of("all"), base=CEILING, max_retries=0))
        except swarms_client.InternalServerError as e:
            equal((e.status_code, list(e.body)), (503, ["detail"]))
            check(int(e.response.headers["retry-after"]) >= 1 and "5 requests per second" in e.body["detail"], e.body)
            break
    else:
        raise AssertionError("no ceiling")
