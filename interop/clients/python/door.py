"""What clients at a door that checks keys and counts have in common: keys, and a record of their attempts."""

import itertools
import os
import threading
import time

from harness import check, equal

DOOR = os.environ["DOOR_URL"]
CEILING = os.environ["CEILING_URL"]

WELCOME = ["A valid key is needed", "Authorization: Bearer KEY", "x-api-key: KEY"]
STRANGERS = ["none", "unknown", "short", "expired", "disabled"]
# The agents of door/config.yaml that a scoped key may call.
SCOPE = {"chat", "scripted-chat", "scripted-responses"}
WORDS = "hello"


class Keys:
    """Those of one client; see door/keys.py."""

    def __init__(self, client):
        self.client = client
        self.used = {}
        self.lock = threading.Lock()

    def of(self, kind):
        return f"dragoman-interop-{self.client}-{kind}"

    def fresh(self, kind):
        """One that counts, and that no other test uses."""
        with self.lock:
            n = next(self.used.setdefault(kind, itertools.count(1)))
        return self.of(f"{kind}-{n}")

    def bad(self, kind):
        return {"unknown": self.of("nobody"), "short": "sk-short"}.get(kind) or self.of(kind)


class Attempts:
    """What a client sent and got back, by its own HTTP client: when, which status, and how long it was told to wait."""

    def __init__(self):
        self.all = []

    def sent(self, request):
        self.all.append({"sent": time.monotonic(), "count": request.headers.get("x-stainless-retry-count")})

    def received(self, response):
        h = response.headers
        self.all[-1] |= {"received": time.monotonic(), "status": response.status_code, "ms": h.get("retry-after-ms"), "s": h.get("retry-after")}

    @property
    def hooks(self):
        return {"request": [self.sent], "response": [self.received]}

    @property
    def async_hooks(self):
        async def sent(request):
            self.sent(request)

        async def received(response):
            self.received(response)

        return {"request": [sent], "response": [received]}

    @property
    def statuses(self):
        return [a["status"] for a in self.all]

    def told(self):
        """Checks that none came before the time that the one before it was told."""
        for one, two in itertools.pairwise(self.all):
            check(one["ms"] and one["s"], f"a refusal without its wait: {one}")
            check(0 < int(one["ms"]) <= 1000 * int(one["s"]), f"waits that differ: {one}")
            waited = two["sent"] - one["received"]
            check(waited >= int(one["ms"]) / 1000, f"told {one['ms']} ms, waited {1000 * waited:.1f}")


def until_refused(attempts, status, ask):
    """Asks until one of the attempts at an answer was refused, which must not be the last."""
    for _ in range(50):
        attempts.all.clear()
        ask()
        equal(attempts.statuses[-1], 200, "last status")
        if len(attempts.all) > 1:
            equal(set(attempts.statuses[:-1]), {status}, "statuses before")
            attempts.told()
            return
    raise AssertionError(f"no attempt was refused: {attempts.all}")
