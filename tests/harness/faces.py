"""Nodes that speak Redis, in front of test pods."""
import contextlib
import subprocess

import lab
import redis
from harness import wait
from harness.nodes import binary, clean_environment, free_port, loopback


@contextlib.contextmanager
def test_pods(count=2):
    """`count` pods that compute nothing, as `[[pods]]` tables, for as long as the block lasts."""
    addresses = [loopback(free_port()) for _ in range(count)]
    flags = [word for address in addresses for word in ("--grpc", address)]
    process = subprocess.Popen(
        lab.launched([binary(), "pod", *flags], tied=True),
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield "".join(f'[[pods]]\nname = "pod-{k}"\ngrpc = "http://{address}"\n' for k, address in enumerate(addresses))
    finally:
        process.kill()
        process.wait()


class Face:
    """A node and the port where it speaks Redis."""

    def __init__(self, nodes, name, redis_table, pods, join=()):
        self.port = free_port()
        sections = f'[redis]\nlisten = "{loopback(self.port)}"\n{redis_table}\n{pods}'
        self.node = nodes.configured(name, sections, join=[face.node for face in join])

    def client(self, **options):
        """A redis-py client that does not try again."""
        return redis.Redis(port=self.port, **{"retry": None, "protocol": 2, "decode_responses": True} | options)


def cluster(nodes, tables, pods):
    """A face for each name in `tables` (name -> [redis] keys), all of one cluster; returns when each node sees all."""
    made = []
    for name, table in tables.items():
        made.append(Face(nodes, name, table, pods, join=made))
    for face in made:
        face.node.start()
    for face in made:
        others = set(tables) - {face.node.name}
        wait.until(f"{face.node.name} sees all", lambda: set(face.node.alive_members()) >= others, 15)
    return made
