"""The peers' settings, each at its best for few pods and slow requests, as far as it was found out by trying. One core each.

What costs a peer dearly, and is why these are not defaults:
- nginx keeps no connections to its upstreams unless told (twice the CPU), and closes a caller's connection after 1,000
  requests, with what is in flight on it;
- Envoy's LEAST_REQUEST takes the better of two random hosts, drawn with replacement: a fourth of the picks among four pods
  are no choice at all. FULL_SCAN looks at all of them. Its circuit breakers would refuse beyond 1,024 requests;
- HAProxy takes 100 streams on a connection.
"""

# Streams on one connection: more than any section of the comparison has. For all alike.
STREAMS = 10_000
# Bytes that may be under way unread on a stream, and on a connection: more than any section has under way.
STREAM_WINDOW, CONNECTION_WINDOW = 1 << 20, 16 << 20


def haproxy(port, pods):
    servers = "\n".join(f"  server pod{k} 127.0.0.1:{pod}" for k, pod in enumerate(pods))
    return f"""global
  maxconn 8000
  nbthread 1
  tune.h2.max-concurrent-streams {STREAMS}
  tune.h2.initial-window-size {STREAM_WINDOW}
defaults
  mode http
  timeout connect 2s
  timeout client 10m
  timeout server 10m
  timeout http-request 10m
  timeout http-keep-alive 10m
frontend callers
  bind 127.0.0.1:{port} proto h2
  default_backend pods
backend pods
  balance leastconn
  http-reuse always
  default-server proto h2 pool-purge-delay 10m
{servers}
"""


def nginx(port, pods, folder):
    servers = "\n".join(f"    server 127.0.0.1:{pod} max_fails=0;" for pod in pods)
    temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    # One process instead of a master and a worker: the loop is the same, and nobody is left when it ends.
    return f"""daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  http2_max_concurrent_streams {STREAMS};
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 0;
  client_body_buffer_size 64k;
{temporary}
  upstream pods {{
    zone pods 256k;
    least_conn;
{servers}
    keepalive 512;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{ grpc_pass grpc://pods; grpc_read_timeout 10m; grpc_send_timeout 10m; grpc_buffer_size 16k; }}
  }}
}}
"""


def envoy(port, pods, selection):
    """`selection` is FULL_SCAN or N_CHOICES (of two)."""
    endpoints = "\n".join(
        f"        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {pod}}}}}}}" for pod in pods
    )
    http2 = (
        f"{{max_concurrent_streams: {STREAMS}, initial_stream_window_size: {STREAM_WINDOW}, "
        f"initial_connection_window_size: {CONNECTION_WINDOW}}}"
    )
    typed = "type.googleapis.com/envoy.extensions"
    return f"""static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {typed}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: callers
          codec_type: HTTP2
          generate_request_id: false
          http2_protocol_options: {http2}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: pods, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {typed}.filters.http.router.v3.Router, suppress_envoy_headers: true}}
  clusters:
  - name: pods
    connect_timeout: 2s
    type: STATIC
    load_balancing_policy:
      policies:
      - typed_extension_config:
          name: envoy.load_balancing_policies.least_request
          typed_config:
            "@type": {typed}.load_balancing_policies.least_request.v3.LeastRequest
            selection_method: {selection}
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {typed}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {http2}}}
    load_assignment:
      cluster_name: pods
      endpoints:
      - lb_endpoints:
{endpoints}
"""


def plimsoll(index, ports, pods, join, secret):
    """`ports` are a node's gRPC, admin and gossip ports."""
    listed = "".join(f'\n[[pods]]\nname = "pod{k}"\ngrpc = "http://127.0.0.1:{pod}"\n' for k, pod in enumerate(pods))
    grpc, admin, gossip = (f"127.0.0.1:{port}" for port in ports)
    return (
        f'[node]\nname = "node{index}"\ngrpc = "{grpc}"\nadmin = "{admin}"\ngossip = "{gossip}"\n'
        f'join = [{", ".join(f"{chr(34)}127.0.0.1:{port}{chr(34)}" for port in join)}]\ncluster_secret_file = "{secret}"\n{listed}'
    )
