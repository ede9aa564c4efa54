"""TLS with the stock clients on one side and a real Triton on the other: credentials are added, and nothing else changes."""
import subprocess

import gevent.ssl
import lab
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from harness import wait
from harness.kserve import SMALL, payload, pod_of
from harness.nodes import TARGET, loopback, pod_tables
from tritonclient.utils import InferenceServerException

TLS_RUN = TARGET / "triton-tls"
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1\n"


class Keys:
    """A CA and what it issued, in one folder, made by openssl."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "names").write_text(NAMES)
        self.openssl("req", "-x509", *self.new_key("ca"), "-out", "ca.pem", "-days", 2, "-subj", "/CN=ca")

    def issue(self, name):
        """A certificate for this machine and its key: `name.pem`, `name.key`."""
        self.openssl("req", *self.new_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        self.openssl("x509", "-req", "-in", f"{name}.csr", *ca, "-days", 2, "-extfile", "names", "-out", f"{name}.pem")
        return self.path(f"{name}.pem"), self.path(f"{name}.key")

    def path(self, name):
        return str(self.folder / name)

    def new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    def openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    made = Keys(tmp_path_factory.mktemp("keys"))
    for name in ("front", "caller", "pod", "node"):
        made.issue(name)
    return made


@pytest.fixture(scope="module")
def tls_triton(keys):
    """A Triton that takes gRPC over TLS alone, and only from who shows a certificate."""
    made = lab.Lab(run=TLS_RUN)
    made.down()
    flags = ["--grpc-use-ssl=1", "--grpc-use-ssl-mutual=1", f"--grpc-root-cert={keys.path('ca.pem')}"]
    flags += [f"--grpc-server-cert={keys.path('pod.pem')}", f"--grpc-server-key={keys.path('pod.key')}"]
    try:
        yield made.up(1, ["sim_gpu"], base=lab.free_base(1, first=24000), flags=flags, tied=True)[0]
    finally:
        made.down()


def started(node):
    """Ready as its admin API says it: the harness itself speaks no TLS."""
    node.start(ready=False)
    wait.until(f"{node.name} is ready; its log so far:\n{node.log()}", lambda: node.status("/health/ready") == 200, 15)
    return node


def tls_section(keys, mutual=True):
    lines = ["[tls]", f'cert_file = "{keys.path("front.pem")}"', f'key_file = "{keys.path("front.key")}"']
    return "\n".join(lines + ([f'client_ca_file = "{keys.path("ca.pem")}"'] if mutual else [])) + "\n\n"


def grpc_client(node, keys, shown="caller"):
    mine = {"private_key": keys.path(f"{shown}.key"), "certificate_chain": keys.path(f"{shown}.pem")} if shown else {}
    return triton.InferenceServerClient(node.grpc, ssl=True, root_certificates=keys.path("ca.pem"), **mine)


def http_client(node, keys, shown="caller"):
    def context():
        made = gevent.ssl.create_default_context(cafile=keys.path("ca.pem"))
        if shown:
            made.load_cert_chain(keys.path(f"{shown}.pem"), keys.path(f"{shown}.key"))
        return made

    return triton_http.InferenceServerClient(node.http, ssl=True, ssl_context_factory=context)


def test_stock_clients_show_their_certificates(nodes, tritons, keys):
    """Both protocols, both ways of proof: the client believes the node, and the node the client."""
    node = started(nodes.configured("tls", tls_section(keys) + pod_tables(tritons)))
    names = {pod.name for pod in tritons}
    with grpc_client(node, keys) as client:
        assert client.is_server_ready()
        assert {pod_of(client.infer("sim_gpu", payload(SMALL))) for _ in range(8)} <= names
    with http_client(node, keys) as client:
        assert client.is_server_ready()
        assert pod_of(client.infer("sim_gpu", payload(SMALL, triton_http))) in names


def test_stock_clients_without_a_certificate_stay_outside(nodes, tritons, keys):
    """The CA's bundle alone lets nobody in."""
    node = started(nodes.configured("tls", tls_section(keys) + pod_tables(tritons)))
    with grpc_client(node, keys, shown=None) as client, pytest.raises(InferenceServerException):
        client.infer("sim_gpu", payload(SMALL), client_timeout=5)
    with http_client(node, keys, shown=None) as client, pytest.raises(Exception, match="(?i)certificate|closed|ssl"):
        client.infer("sim_gpu", payload(SMALL, triton_http))
    assert sum(pod["picks"] for pod in node.view().values()) == 0


def test_a_client_that_forgot_tls_reads_what_is_wrong(nodes, tritons, keys):
    """The most usual mistake: it must not look like a network that breaks."""
    node = started(nodes.configured("tls", tls_section(keys, mutual=False) + pod_tables(tritons)))
    with triton.InferenceServerClient(node.grpc) as client, pytest.raises(InferenceServerException, match="takes TLS only"):
        client.infer("sim_gpu", payload(SMALL), client_timeout=5)
    with triton_http.InferenceServerClient(node.http) as client:
        with pytest.raises(InferenceServerException, match="takes TLS only"):
            client.infer("sim_gpu", payload(SMALL, triton_http))


def test_a_real_triton_over_tls(nodes, tls_triton, keys):
    """gRPC's own TLS, with certificates of both sides; without ours the Triton lets nobody in."""
    pod = f'[[pods]]\nname = "{tls_triton.name}"\ngrpc = "https://{loopback(tls_triton.grpc)}"\n\n'
    ours = f'cert_file = "{keys.path("node.pem")}"\nkey_file = "{keys.path("node.key")}"\n'
    trust = f'[triton]\nca_file = "{keys.path("ca.pem")}"\n'
    node = started(nodes.configured("shows", trust + ours + pod))
    with triton.InferenceServerClient(node.grpc) as client:
        assert client.infer("sim_gpu", payload(SMALL)).as_numpy("SERVICE_US")[0] >= 5000
    node = nodes.configured("hides", trust + pod).start(ready=False)
    wait.until("its admin API answers", lambda: node.status("/health/live") == 200, 15)
    with triton.InferenceServerClient(node.grpc) as client, pytest.raises(InferenceServerException, match="(?i)alert|broke off"):
        client.infer("sim_gpu", payload(SMALL), client_timeout=5)
