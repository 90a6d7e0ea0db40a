# SPDX-License-Identifier: Apache-2.0
"""An engine for tests: the loss of a pattern is a sum over its Shared layers, which grows along a run of them.

toy.py [FAULT AFTER]: misbehaves at the answer number AFTER: "exit" (status 7), "kill", "hang", "garbage", "error",
"wrong-id", "nan", "null", "reject"; "reject-first" rejects every pattern whose layer 2 is Shared; "chatty" prints, and
sends what is unknown.
"""

import json
import os
import signal
import sys
import time

LAYERS = 10
COSTS = [0.0, 0.011, 0.002, 0.05, 0.004, 0.31, 0.003, 0.09, 0.02, 0.001]


def loss(pattern: str) -> float:
    total, run = 1.5, 0
    for cost, letter in zip(COSTS, pattern):
        run = 0 if letter == "F" else run + 1
        total += cost * run * 1.1
    return round(total, 6)


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def overlap(pattern: str) -> dict[str, object]:
    near = [[round(0.9 ** abs(i - j), 4) for j in range(LAYERS)] for i in range(LAYERS)]
    mass = [[round(0.95 ** (i - j), 4) if j <= i else None for j in range(LAYERS)] for i in range(LAYERS)]
    return {"layers": list(range(LAYERS)), "k": 64, "rows": 512, "recall": near, "jaccard": near, "mass": mass}


def main() -> None:
    fault, after = (sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else ("".join(sys.argv[1:]), -1)
    say(type="ready", protocol=1, engine="toy", num_layers=LAYERS, metrics=["recall_loss"], loss_unit="nats/token")
    answers = 0
    for text in sys.stdin:
        asked = json.loads(text)
        kind = asked["type"]
        if kind == "quit":
            break
        if fault == "chatty":
            print("loading weights ...", flush=True)
            say(type="progress", part=0.5)
        hit, answers = answers == after, answers + 1
        if hit and fault == "exit":
            print("out of memory", file=sys.stderr)
            sys.exit(7)
        if hit and fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if hit and fault == "hang":
            time.sleep(600)
        if hit and fault == "garbage":
            print('{"type":"loss","id":', flush=True)
        elif hit and fault == "error":
            say(type="error", message="no more memory")
        elif hit and fault == "wrong-id":
            say(type="loss", id=asked["id"] + 1, loss=1.0)
        elif hit and fault == "nan":
            print(f'{{"type":"loss","id":{asked["id"]},"loss":NaN}}', flush=True)
        elif hit and fault == "null":
            say(type="loss", id=asked["id"], loss=None)
        elif (hit and fault == "reject") or (fault == "reject-first" and asked["pattern"][2] == "S"):
            say(type="reject", id=asked["id"], reason="does not fit")
        elif kind == "overlap":
            say(type="overlap", **overlap(asked["pattern"]))
        elif kind == "similarity":
            say(type="similarity", matrix=[[1 - 0.1 * abs(i - j) for j in range(LAYERS)] for i in range(LAYERS)])
        else:
            value = loss(asked["pattern"])
            extra = {"extra": 1} if fault == "chatty" else {}
            say(type="loss", id=asked["id"], loss=value, metrics={"recall_loss": value * 2}, tokens=512, **extra)


if __name__ == "__main__":
    main()
