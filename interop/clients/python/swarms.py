"""The official Python client of Swarms."""

import json

import swarms_client
from swarms_client import SwarmsClient

from harness import AGENTS, PATIENCE, PROMPT, PROXY, check, closed, each, equal, fresh, main, raises, runs, test

client = SwarmsClient(base_url=PROXY, api_key="sk-interop", timeout=PATIENCE, max_retries=0)


def config(agent, **more):
    return {"agent_name": agent, "model_name": "gpt-4.1", **more}


@each("JSON: {}", AGENTS)
def _(agent):
    want = AGENTS[agent]
    raw = client.agent.with_raw_response.run(agent_config=config(agent), task=PROMPT)
    equal(raw.headers["dragoman-agent"], agent, "Dragoman-Agent")
    check(raw.headers["x-request-id"], "no x-request-id")
    r = raw.parse()
    check(isinstance(r, dict), r)
    check(isinstance(r["job_id"], str) and r["job_id"].startswith("agent-"), r)
    equal(r["success"], True, "success")
    equal(r["name"], agent, "name")
    outputs = r["outputs"]
    check(isinstance(outputs, list) and outputs, r)
    equal(outputs[-1]["content"], want["text"], "answer")
    check(all(o["role"] for o in outputs), outputs)
    if want["usage"]:
        u = r["usage"]
        check(all(isinstance(u[k], int) for k in ("input_tokens", "output_tokens", "total_tokens")), u)
        equal(u["total_tokens"], u["input_tokens"] + u["output_tokens"], "total tokens")
    check(r["timestamp"], r)


@test("the model's name finds the agent where no agent is named")
def _():
    raw = client.agent.with_raw_response.run(agent_config={"agent_name": None, "model_name": "cycls-real"}, task=PROMPT)
    equal(raw.headers["dragoman-agent"], "cycls-real")
    equal(raw.parse()["outputs"][-1]["content"], AGENTS["cycls-real"]["text"])


@test("cycls-real gets system prompt, history and task")
def _():
    r = client.agent.run(
        agent_config=config("cycls-real", system_prompt="Be brief."),
        history=[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}],
        task="echo",
    )
    equal(json.loads(r["outputs"][-1]["content"]), [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "echo"},
    ], "messages")


@each("a tool call comes as the vendor's list: {}", ["chat", "responses", "swarms"])
def _(agent):
    tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    r = client.agent.run(agent_config=config(agent, tools_list_dictionary=[tool]), task="What is the weather in Paris?")
    equal(r["success"], True)
    calls = [c for o in r["outputs"] if isinstance(o["content"], list) for c in o["content"]]
    equal(len(calls), 1, "number of calls")
    equal((calls[0]["type"], calls[0]["function"]["name"]), ("function", "get_weather"))
    equal(json.loads(calls[0]["function"]["arguments"]), {"city": "Paris", "unit": "celsius"})


@each("an agent that fails is a 502, and is not run again: {}", ["cycls-broken", "chat", "responses", "ticos", "swarms"])
def _(agent):
    prompt = f"fail {fresh()}"
    e = raises(swarms_client.InternalServerError, lambda: client.with_options(max_retries=2).agent.run(agent_config=config(agent), task=prompt))
    equal((e.status_code, list(e.body)), (502, ["detail"]))
    check("secret" not in str(e.body), e.body)
    if agent == "cycls-broken":
        equal(runs(prompt), 1, "runs")


@test("an agent that nobody can reach is a 502")
def _():
    e = raises(swarms_client.InternalServerError, lambda: client.agent.run(agent_config=config("dead"), task=PROMPT))
    equal((e.status_code, list(e.body)), (502, ["detail"]))


@test("an unknown agent is a 404 that names what exists")
def _():
    e = raises(swarms_client.NotFoundError, lambda: client.agent.run(agent_config=config("nobody"), task=PROMPT))
    check("cycls-real" in e.body["detail"], e.body)


@each("an agent that refuses is a 429 with its wait: {}", ["chat", "responses", "swarms"])
def _(agent):
    e = raises(swarms_client.RateLimitError, lambda: client.agent.run(agent_config=config(agent), task="refuse"))
    equal(e.response.headers["retry-after"], "7")
    check("asked to refuse" in e.body["detail"], e.body)


@test("a stream is read line by line: cycls-real")
def _():
    with client.agent.with_streaming_response.run(agent_config=config("cycls-real", streaming_on=True), task=PROMPT) as raw:
        lines = [line for line in raw.iter_lines() if line]
    events = [line[7:] for line in lines if line.startswith("event: ")]
    equal((events[0], events[-2:]), ("start", ["end", "done"]), "events")
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    equal(data[0]["type"], "metadata", "first frame")
    text = "".join(json.loads(d[6:])["content"] for e, d in zip(lines, lines[1:]) if e == "event: chunk")
    equal(text, AGENTS["cycls-real"]["text"], "text")


@test("the list of models is the list of agents")
def _():
    r = client.models.list_available()
    models = r["models"] if isinstance(r, dict) else r.models
    check({"cycls-real", "chat", "swarms"} <= set(models), r)


@test("a client that leaves before its answer ends the agent")
def _():
    name = fresh()
    hasty = client.with_options(timeout=1.0)
    raises(swarms_client.APITimeoutError, lambda: hasty.agent.run(agent_config=config("cycls-real"), task=f"hold {name}"))
    closed(name)


if __name__ == "__main__":
    main("swarms-python")
