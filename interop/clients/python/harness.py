"""Runs the tests of one client and prints a line for each.

    plan 2
    ok   client: a promise
    FAIL client: another promise
         why, indented
"""

import json
import os
import re
import sys
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

PROXY = os.environ.get("DRAGOMAN_URL", "")
REAL = os.environ.get("CYCLS_REAL_URL", "")
BROKEN = os.environ.get("CYCLS_BROKEN_URL", "")

_expected = json.loads((Path(__file__).parent.parent / "expected.json").read_text())
PROMPT = _expected["prompt"]
AGENTS = _expected["agents"]

# All that the proxy has in front of it.
NAMES = set(re.findall(r"^  - name: (\S+)$", (Path(__file__).parent.parent.parent / "config.yaml").read_text(), re.MULTILINE))

# No client waits longer than this for the next byte: what hangs is a failure.
PATIENCE = 30.0

_tests = []


def test(name):
    def register(fn):
        _tests.append((name, fn))
        return fn

    return register


def each(template, names):
    """Registers a test for each name, which it gets as its argument."""

    def register(fn):
        for n in names:
            _tests.append((template.format(n), lambda n=n: fn(n)))
        return fn

    return register


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError(f"{what}:\n   got {got!r}\n  want {want!r}")


def check(ok, what):
    if not ok:
        raise AssertionError(what)


def raises(kind, fn):
    """The exception of that very kind which fn raises."""
    try:
        result = fn()
    except kind as e:
        return e
    raise AssertionError(f"no {kind.__name__}, but {result!r}")


def fresh():
    """A name that no other test uses."""
    return uuid.uuid4().hex


def release(name):
    httpx.post(f"{REAL}/interop/release/{name}", timeout=PATIENCE).raise_for_status()


def closed(name):
    """Waits until the agent that holds under this name was cancelled."""
    httpx.get(f"{REAL}/interop/closed/{name}", timeout=PATIENCE).raise_for_status()


def runs(prompt):
    """How often the broken agent was run with a prompt."""
    return httpx.get(f"{BROKEN}/interop/runs", params={"prompt": prompt}, timeout=PATIENCE).json()["runs"]


def main(client):
    def attempt(t):
        name, fn = t
        try:
            fn()
        except BaseException:
            why = traceback.format_exc().rstrip().replace("\n", "\n     ")
            return f"FAIL {client}: {name}\n     {why}"
        return f"ok   {client}: {name}"

    print(f"plan {len(_tests)}", flush=True)
    failed = 0
    with ThreadPoolExecutor(8) as pool:
        for line in pool.map(attempt, _tests):
            failed += line.startswith("FAIL")
            print(line, flush=True)
    sys.exit(1 if failed else 0)
