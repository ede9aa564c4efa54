#!/usr/bin/env python3
"""Balancing over Redis, as teams publish it: pod loads in a sorted set, a log of requests for each pod, Lua for what must be one step.

    examples/redis_balancer.py --redis redis://127.0.0.1:6379 --pods a,b,c,d --requests 200
    examples/redis_balancer.py --redis redis://127.0.0.1:6379 --pods 10.0.0.1:8000,10.0.0.2:8000 --model sim_gpu --concurrency 16

Keys: `balancer:loads` (pod -> load), `balancer:log:<pod>` (request -> "cost client"), `balancer:clients` (client -> last
heartbeat, ms). It knows nothing of plimsoll: pointed at a Redis, or at a node's `[redis] listen`, it does the same.

A pod is a name, which stands for a stub that sleeps, or an HTTP address of a Triton. The results are one JSON object.
"""
import argparse
import concurrent.futures
import json
import random
import threading
import time
import urllib.request
import uuid

import redis

LOADS, LOG, CLIENTS = "balancer:loads", "balancer:log:", "balancer:clients"

# KEYS: loads. ARGV: request, cost, client. The least loaded pod is charged, and the request written into its log.
PICK = """
local least = redis.call('ZRANGE', KEYS[1], 0, 0)
if #least == 0 then return redis.error_reply('NOPODS nothing to pick from') end
local pod = least[1]
redis.call('ZINCRBY', KEYS[1], ARGV[2], pod)
redis.call('HSET', 'balancer:log:' .. pod, ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return pod
"""

# KEYS: loads, the pod's log. ARGV: pod, request. Once: a request that is not in the log was released already.
RELEASE = """
local entry = redis.call('HGET', KEYS[2], ARGV[2])
if not entry then return 0 end
redis.call('HDEL', KEYS[2], ARGV[2])
local cost = tonumber(string.match(entry, '^%S+'))
local load = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
redis.call('ZADD', KEYS[1], math.max(0, load - cost), ARGV[1])
return 1
"""

# KEYS: loads. Each score becomes the sum of what its pod's log holds; answers how many were wrong.
RECONCILE = """
local wrong = 0
for _, pod in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local sum = 0
  for _, entry in ipairs(redis.call('HVALS', 'balancer:log:' .. pod)) do
    sum = sum + tonumber(string.match(entry, '^%S+'))
  end
  if tonumber(redis.call('ZSCORE', KEYS[1], pod)) ~= sum then
    redis.call('ZADD', KEYS[1], sum, pod)
    wrong = wrong + 1
  end
end
return wrong
"""

# KEYS: loads, clients. ARGV: heartbeats from before this time are of the dead. What they had charged is given back.
RECLAIM = """
local dead, back = {}, 0
for _, client in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[1])) do
  dead[client] = true
  redis.call('ZREM', KEYS[2], client)
end
if not next(dead) then return 0 end
for _, pod in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local log = redis.call('HGETALL', 'balancer:log:' .. pod)
  for at = 1, #log, 2 do
    local cost, client = string.match(log[at + 1], '^(%S+) (.*)$')
    if dead[client] then
      redis.call('HDEL', 'balancer:log:' .. pod, log[at])
      local load = tonumber(redis.call('ZSCORE', KEYS[1], pod))
      redis.call('ZADD', KEYS[1], math.max(0, load - tonumber(cost)), pod)
      back = back + 1
    end
  end
end
return back
"""


class Balancer:
    """One caller's share of the balancing."""

    def __init__(self, url, client=None, dead_after=10.0):
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.client, self.dead_after = client or str(uuid.uuid4()), dead_after
        self._pick, self._release, self._reconcile, self._reclaim = map(self.redis.register_script, (PICK, RELEASE, RECONCILE, RECLAIM))

    def add_pods(self, pods):
        """Pods that are known already keep their load."""
        self.redis.zadd(LOADS, dict.fromkeys(pods, 0), nx=True)

    def pick(self, request, cost):
        """The least loaded pod, charged with the request."""
        return self._pick(keys=[LOADS], args=[request, cost, self.client])

    def release(self, pod, request):
        """Gives back what the request was charged; whether it still was."""
        return bool(self._release(keys=[LOADS, LOG + pod], args=[pod, request]))

    def heartbeat(self):
        self.redis.zadd(CLIENTS, {self.client: int(time.time() * 1000)})

    def reclaim(self):
        """Gives back what callers held that have been silent for too long; how many requests that were."""
        return self._reclaim(keys=[LOADS, CLIENTS], args=[int((time.time() - self.dead_after) * 1000)])

    def reconcile(self):
        """Puts right every score that the logs do not bear out; how many."""
        return self._reconcile(keys=[LOADS])

    def state(self):
        """Loads and logs as they are."""
        loads = dict(self.redis.zrange(LOADS, 0, -1, withscores=True))
        return {"loads": loads, "logs": {pod: self.redis.hgetall(LOG + pod) for pod in loads}}


def cost_of(size):
    """Milliseconds that a payload of this size takes, by what was measured once."""
    return 5 + size // 50


def infer(pod, model, size, cost):
    """One request: to a Triton over HTTP, or a stub that sleeps for a tenth of what it would take."""
    if ":" not in pod:
        time.sleep(cost / 10_000)
        return
    tensor = {"name": "PAYLOAD", "datatype": "UINT8", "shape": [size], "data": [0] * size}
    body = json.dumps({"inputs": [tensor]}).encode()
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(f"http://{pod}/v2/models/{model}/infer", body, headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        answer.read()


def play(balancer, args):
    """All requests; the picks in the order of their requests, and how long each pick took."""
    rng = random.Random(args.seed)
    sizes = [rng.choices([100, 5000], [85, 15])[0] for _ in range(args.requests)]
    held, lock, picks, took, failed = [], threading.Lock(), [None] * args.requests, [], []

    def one(number):
        request, cost = f"{balancer.client}:{number}", cost_of(sizes[number])
        start = time.perf_counter()
        picks[number] = pod = balancer.pick(request, cost)
        took.append((time.perf_counter() - start) * 1000)
        try:
            infer(pod, args.model, sizes[number], cost)
        except OSError as error:
            failed.append(str(error))
        with lock:  # held for a while: a sequential history, too, has requests in flight
            held.append((pod, request))
            ended = held.pop(0) if len(held) > args.hold else None
        if ended:
            balancer.release(*ended)

    with concurrent.futures.ThreadPoolExecutor(args.concurrency) as pool:
        list(pool.map(one, range(args.requests)))
    return {"picks": picks, "pick_ms": sorted(took), "failed": failed, "held": held}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", help="where the shared state is")
    parser.add_argument("--pods", type=lambda text: text.split(","), required=True, help="names of stubs, or HOST:PORT of Tritons")
    parser.add_argument("--model", default="sim_gpu", help="what Tritons are asked for (sim_gpu)")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=1, help="requests at once; 1 makes the history sequential (1)")
    parser.add_argument("--hold", type=int, default=6, help="requests that stay charged after their answer (6)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--client", help="this caller's name (a random one)")
    args = parser.parse_args()
    balancer = Balancer(args.redis, args.client)
    balancer.add_pods(args.pods)
    balancer.heartbeat()
    told = play(balancer, args)
    waits = told.pop("pick_ms")
    told["pick_p50_ms"], told["pick_p99_ms"] = (waits[int(len(waits) * part)] for part in (0.5, 0.99))
    told["in_flight"] = balancer.state()
    told["released_twice"] = sum(balancer.release(*one) for one in told["held"]) - len(told["held"]) + sum(
        balancer.release(*one) for one in told.pop("held")
    )
    told["reconciled"] = balancer.reconcile()
    told["end"] = balancer.state()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
