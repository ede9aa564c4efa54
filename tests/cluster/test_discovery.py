"""Pods that come and go while requests are under way."""
import time

from harness import wait
from harness.nodes import pod_tables
from harness.traffic import Traffic, poisson


def rewrite(path, pods):
    """A new list of pods, moved into place in one step as editors and config maps do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(pod_tables(pods))
    fresh.replace(path)


def test_pods_come_and_go_with_the_watched_file(nodes, tritons):
    """Scaling up and down edits a file. Within seconds the new pod serves, the removed one is left alone, and no request
    notices: those in flight on the removed pod are answered."""
    nodes.folder.mkdir(parents=True, exist_ok=True)
    watched = nodes.folder / "pods.toml"
    rewrite(watched, tritons[:3])
    node = nodes.configured("watcher", f'[discovery]\nfile = "{watched}"\n').start()
    assert set(node.view()) == {"pod0", "pod1", "pod2"}
    with Traffic([node], poisson(50, nodes=1)) as traffic:
        time.sleep(1)
        rewrite(watched, tritons)
        added = time.monotonic()
        wait.until("the new pod is known", lambda: "pod3" in node.view(), limit=5)
        wait.until("the new pod serves", lambda: "pod3" in traffic.pods_since(added), limit=5)

        rewrite(watched, tritons[1:])
        wait.until("the removed pod is gone", lambda: "pod0" not in node.view(), limit=5)
        removed = time.monotonic()
        time.sleep(2)
        assert "pod0" not in traffic.pods_since(removed)
        assert {"pod1", "pod2", "pod3"} == traffic.pods_since(removed)
    assert traffic.failures() == []


def test_a_broken_file_changes_nothing(nodes, tritons):
    """Half a file, or a typing error in it: the last good list goes on serving, and one line in the log names the file."""
    nodes.folder.mkdir(parents=True, exist_ok=True)
    watched = nodes.folder / "pods.toml"
    rewrite(watched, tritons[:2])
    node = nodes.configured("watcher", f'[discovery]\nfile = "{watched}"\n').start()
    with Traffic([node], poisson(30, nodes=1)) as traffic:
        watched.write_text("[[pods]]\nname = ")
        wait.until("the log names the file", lambda: node.log_lines_with(str(watched)), limit=5)
        wait.holds("the pods stay", lambda: set(node.view()) == {"pod0", "pod1"}, span=2)
        rewrite(watched, tritons[:3])
        wait.until("the mended file counts", lambda: set(node.view()) == {"pod0", "pod1", "pod2"}, limit=5)
    assert traffic.failures() == []
