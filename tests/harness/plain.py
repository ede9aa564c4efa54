"""Plain HTTP, as curl speaks it: what goes over the wire without a Triton client around it."""
import json
import urllib.error
import urllib.request


def exchange(address, path, body=None, headers=None, method=None):
    """Status, headers and body of one exchange, errors included."""
    request = urllib.request.Request(f"http://{address}{path}", data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def post(address, path, body):
    """A JSON body, and the JSON that comes back."""
    status, headers, answer = exchange(address, path, json.dumps(body).encode())
    return status, headers, json.loads(answer) if answer else None


def events(body):
    """The data of the server-sent events in a body."""
    lines = body.decode().splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
