"""Writes the keys of the clients that knock at the door, into the file named by the only argument.

Every client has keys of its own, several of each kind, so that no test counts what another one did. What a key is
called tells what it may do; the key itself is this name after a few words, see text.
"""

import hashlib
import json
import sys
from pathlib import Path

CLIENTS = ("openai-python", "swarms-python", "openai-node", "openai-agents", "ai-sdk", "langchain", "cycls-web", "openai-go")

# What a key may do, and that it may not. Of those that count there are several.
KINDS = {
    "all": {},
    "scoped": {"agents": ["chat", "scripted-*"]},
    "expired": {"expires": "2020-01-01T00:00:00Z"},
    "disabled": {"disabled": True},
}
COUNTED = {
    "few": {"requests": "2/h"},
    "brisk": {"requests": "60/m burst 1"},
    "paced": {"requests": "30/m burst 1"},
    "tokens": {"tokens": "2000/h"},
    "single": {"concurrent": 1},
}
EACH = 16


def text(name):
    return f"dragoman-interop-{name}"


def main():
    names = {f"{c}-{kind}": fields for c in CLIENTS for kind, fields in KINDS.items()}
    names |= {f"{c}-{kind}-{i}": {"limits": limits} for c in CLIENTS for kind, limits in COUNTED.items() for i in range(1, EACH + 1)}
    keys = [{"name": name, "hash": "sha256:" + hashlib.sha256(text(name).encode()).hexdigest(), **fields} for name, fields in names.items()]
    Path(sys.argv[1]).write_text("".join(f"- {json.dumps(k)}\n" for k in keys))


if __name__ == "__main__":
    main()
