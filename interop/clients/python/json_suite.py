"""Every file of nst/JSONTestSuite as the body of a request, at each face: what is no JSON is a 400 in the face's own words."""

import json
import os
import pathlib
import subprocess

import httpx

from harness import PATIENCE, PROXY, check, equal, main, test

# The module proxy serves the suite as it was at this commit; the sum is the one that the checksum database keeps.
MODULE = "github.com/nst/JSONTestSuite@v0.0.0-20241122125541-1ef36fa01286"
SUM = "h1:t/cjDwz9uc/5ZSagWtr7nWpoEA5Imvw/ArlJuI+d+Cw="

# Two of the texts that a parser must take are refused on purpose: of two equal keys one parser takes the first, another the last.
REFUSED = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}

FACES = {  # path, and the message in an error's body
    "/v1/chat/completions": lambda d: d["error"]["message"],
    "/v1/responses": lambda d: d["error"]["message"],
    "/api/client/v1/responses": lambda d: d["error"],
    "/v1/agents/chat/responses": lambda d: d["error"]["message"],
    "/v1/agent/completions": lambda d: d["detail"],
    "/chat": lambda d: d["detail"],
}

http = httpx.Client(base_url=PROXY, timeout=PATIENCE)


def files():
    out = subprocess.run(["go", "mod", "download", "-json", MODULE], cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=120)
    told = json.loads(out.stdout)
    check(not told.get("Error"), told.get("Error"))
    equal(told["Sum"], SUM)
    found = sorted(pathlib.Path(told["Dir"], "test_parsing").glob("*.json"))
    equal([sum(f.name[0] == c for f in found) for c in "iny"], [35, 188, 95])
    return found


@test("what is no JSON is a 400, and what is JSON is not")
def what_is_no_json_is_a_400():
    for f in files():
        body = f.read_bytes()
        for path, message in FACES.items():
            r = http.post(path, content=body, headers={"Content-Type": "application/json"})
            where = f"{f.name} at {path}: {r.status_code} {r.text[:200]}"
            # No such file is a request that an agent could answer: those that are JSON lack a model, messages, a task.
            check(r.status_code in (400, 404), where)
            said = message(r.json())
            # An empty body is told apart from one that is no JSON.
            bad = "is not valid JSON" in said or "has no body" in said
            if f.name[0] == "n" or f.name in REFUSED:
                check(r.status_code == 400 and bad, where)
            elif f.name[0] == "y" and body.strip()[:1] in (b"{", b"["):
                check(not bad, where)
    equal(http.get("/livez").status_code, 200)


main("json")
