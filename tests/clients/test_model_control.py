"""What changes or describes a server: loading and unloading models, the index, statistics, trace and log settings.

A node answers these for its whole fleet (docs/triton.md has the table): what is changed through it is changed on every pod.
"""
import json
import threading

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from harness import wait
from harness.nodes import loopback
from harness.wire import ints, plain, seen

MODEL = "simple_int8"


@pytest.fixture
def behind(stock, stock_tritons):
    """A client of every pod that a change must reach: the one asked, or all behind the node."""
    pods = stock_tritons if stock.through_node else stock_tritons[:1]
    made = [grpc_client.InferenceServerClient(loopback(pod.grpc)) for pod in pods]
    yield made
    for client in made:
        client.close()


@pytest.fixture
def as_before(stock_tritons):
    """Whatever a test did to the models: all are loaded again afterwards, as their files have them."""
    yield
    for pod in stock_tritons:
        with grpc_client.InferenceServerClient(loopback(pod.grpc)) as client:
            if not client.is_model_ready(MODEL) or largest_batch(client) != 8:
                reload(client)
            if client.is_model_ready("sim_slow_load"):
                client.unload_model("sim_slow_load")


def reload(client):
    """As its files have it: a load alone would leave an override in place, since the files did not change."""
    client.unload_model(MODEL)
    client.load_model(MODEL)


def configuration(client):
    config = plain(client.get_model_config(MODEL))
    return config.get("config", config)


def ask(spot, client, rows=1):
    data = np.ones((rows, 16), np.int8)
    return client.infer(MODEL, [spot.input("INPUT0", data, "INT8"), spot.input("INPUT1", data, "INT8")])


def largest_batch(client):
    return configuration(client)["max_batch_size"]


# ---- repository ----


def test_the_index(stock):
    """Names, versions and states of all models, those that are not loaded too."""
    def index(spot):
        with spot.client() as client:
            answer = plain(client.get_model_repository_index())
        models = answer["models"] if isinstance(answer, dict) else answer
        return sorted(json.dumps(model, sort_keys=True) for model in models)

    assert index(stock) == index(stock.alone)
    assert any('"simple"' in model and "READY" in model for model in index(stock))


def test_unload_and_load(stock, behind, as_before):
    """Unloaded, the model is gone from every pod, in the words of a Triton; loaded, it serves on all of them again."""
    with stock.client() as client, stock.alone.client() as alone:
        client.unload_model(MODEL)
        wait.until("it is gone everywhere", lambda: not any(pod.is_model_ready(MODEL) for pod in behind), limit=5)
        assert not client.is_model_ready(MODEL)
        gone = seen(lambda: ask(stock, client))
        assert gone[0] == "failed" and gone == seen(lambda: ask(stock.alone, alone))
        client.load_model(MODEL)
        assert all(pod.is_model_ready(MODEL) for pod in behind), "load_model returns when the model is ready"
        assert client.is_model_ready(MODEL)
        for _ in range(9):
            assert ask(stock, client).as_numpy("OUTPUT0").tolist() == [[2] * 16]


def test_load_with_another_configuration(stock, behind, as_before):
    """The override reaches every pod and changes what it serves; a fresh load from the files puts it back."""
    with stock.client() as client:
        assert largest_batch(client) == 8
        client.load_model(MODEL, config=json.dumps(configuration(client) | {"max_batch_size": 16}))
        assert [largest_batch(pod) for pod in behind] == [16] * len(behind)
        assert largest_batch(client) == 16
        for _ in range(6):
            assert ask(stock, client, rows=16).as_numpy("OUTPUT0").shape == (16, 16)
        reload(client)
        assert [largest_batch(pod) for pod in behind] == [8] * len(behind)


def test_load_with_files(stock, behind, as_before):
    """A model that comes inside the request: configuration, and code as bytes."""
    code = b"""
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        given = [pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array * 3)]) for array in given]
"""
    with stock.client() as client:
        config = json.dumps(configuration(client) | {"max_batch_size": 2})
        client.load_model(MODEL, config=config, files={"file:1/model.py": code})
        assert [largest_batch(pod) for pod in behind] == [2] * len(behind)
        for _ in range(6):
            assert ask(stock, client).as_numpy("OUTPUT0").tolist() == [[3] * 16]


LOAD_FAILURES = {
    "unknown model": lambda client: client.load_model("wrong_model_name"),
    "configuration that is no JSON": lambda client: client.load_model(MODEL, config='"parameters": {"config": {{'),
    "configuration of another type": lambda client: client.load_model(MODEL, config='{"max_batch_size": [1]}'),
    "files without a configuration": lambda client: client.load_model(MODEL, files={"file:1/model.py": b"x"}),
}


@pytest.mark.parametrize("case", LOAD_FAILURES)
def test_a_load_that_fails_says_why(stock, as_before, case):
    """In the words of a Triton, and the model that was there goes on."""
    with stock.client() as client, stock.alone.client() as alone:
        failed = seen(lambda: LOAD_FAILURES[case](client))
        assert failed[0] == "failed" and failed == seen(lambda: LOAD_FAILURES[case](alone))
        assert ask(stock, client).as_numpy("OUTPUT0").tolist() == [[2] * 16]


def test_unloading_what_is_not_there(stock):
    """Whatever a Triton says to that."""
    with stock.client() as client, stock.alone.client() as alone:
        assert seen(lambda: client.unload_model("wrong_model_name")) == seen(lambda: alone.unload_model("wrong_model_name"))


def test_other_models_serve_while_one_loads(stock, behind, as_before):
    """A load takes its time, and a Triton calls the whole server not ready meanwhile. Nobody's requests may suffer of it.

    The load comes over gRPC: over HTTP a Triton keeps one of its few threads busy with it, and every connection of that one.
    """
    with stock.client() as client, grpc_client.InferenceServerClient(stock.target.grpc) as loader:
        thread = threading.Thread(target=lambda: loader.load_model("sim_slow_load"))
        thread.start()
        served = 0
        ask(stock, client)  # its connection is made
        while thread.is_alive():
            assert ask(stock, client).as_numpy("OUTPUT0").tolist() == [[2] * 16]
            served += 1
        thread.join()
        assert served > 20
        assert all(pod.is_model_ready("sim_slow_load") for pod in behind)


# ---- statistics ----


def counted(client, model):
    stats = plain(client.get_inference_statistics(model))["model_stats"]
    assert [entry["name"] for entry in stats] == [model]
    return int(stats[0].get("inference_count", 0)), int(stats[0].get("inference_stats", {}).get("success", {}).get("count", 0))


def test_statistics_count_every_request(stock):
    """Twelve more requests are twelve more in the statistics, wherever they ran."""
    data = ints(1).astype(np.int32)
    inputs = [stock.input("INPUT0", data, "INT32"), stock.input("INPUT1", data, "INT32")]
    with stock.client() as client:
        before = counted(client, "simple")
        for _ in range(12):
            client.infer("simple", inputs)
        wait.until("twelve more are counted", lambda: counted(client, "simple") == (before[0] + 12, before[1] + 12))


def test_statistics_have_tritons_shape(stock):
    """Every field that a Triton gives, and each model once."""

    def shape(value):
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return [shape(item) for item in value[:1]] if isinstance(value, list) else type(value).__name__

    data = ints(1).astype(np.int32)
    inputs = [stock.input("INPUT0", data, "INT32"), stock.input("INPUT1", data, "INT32")]
    with stock.client() as client, stock.alone.client() as alone:
        alone.infer("simple", [stock.alone.input("INPUT0", data, "INT32"), stock.alone.input("INPUT1", data, "INT32")])
        client.infer("simple", inputs)
        assert shape(plain(client.get_inference_statistics("simple"))) == shape(plain(alone.get_inference_statistics("simple")))
        names = lambda asked: sorted(entry["name"] for entry in plain(asked.get_inference_statistics())["model_stats"])
        assert names(client) == names(alone)


def test_statistics_of_an_unknown_model(stock):
    """A Triton's own words."""
    with stock.client() as client, stock.alone.client() as alone:
        failed = seen(lambda: client.get_inference_statistics("nope"))
        assert failed[0] == "failed" and failed == seen(lambda: alone.get_inference_statistics("nope"))


# ---- settings ----


def test_log_settings(stock, behind):
    """Read, changed on every pod, and put back."""
    with stock.client() as client, stock.alone.client() as alone:
        before = plain(client.get_log_settings())
        assert before == plain(alone.get_log_settings())
        try:
            changed = plain(client.update_log_settings({"log_verbose_level": 1}))
            assert changed == plain(alone.update_log_settings({"log_verbose_level": 1}))
            levels = [plain(pod.get_log_settings())["settings"]["log_verbose_level"] for pod in behind]
            assert levels == [{"uint32_param": 1}] * len(behind)
        finally:
            client.update_log_settings({"log_verbose_level": 0})
        assert plain(client.get_log_settings()) == before


def test_log_settings_that_are_wrong(stock):
    """Refused in a Triton's words."""
    wrong = {"log_format": "sonnet"}
    with stock.client() as client, stock.alone.client() as alone:
        failed = seen(lambda: client.update_log_settings(wrong))
        assert failed[0] == "failed" and failed == seen(lambda: alone.update_log_settings(wrong))


@pytest.mark.parametrize("model", ["", "simple"])
def test_trace_settings(stock, behind, model):
    """For all models and for one: read, changed on every pod, and cleared."""
    with stock.client() as client, stock.alone.client() as alone:
        before = plain(client.get_trace_settings(model))
        assert before == plain(alone.get_trace_settings(model))
        settings = {"trace_rate": "777", "log_frequency": "5"}
        try:
            changed = plain(client.update_trace_settings(model, settings))
            assert "777" in json.dumps(changed)
            assert all("777" in json.dumps(plain(pod.get_trace_settings(model))) for pod in behind)
        finally:
            client.update_trace_settings(model, {key: None for key in settings})
        assert plain(client.get_trace_settings(model)) == before


def test_trace_settings_of_an_unknown_model(stock):
    """A Triton's own words."""
    with stock.client() as client, stock.alone.client() as alone:
        failed = seen(lambda: client.get_trace_settings("nope"))
        assert failed[0] == "failed" and failed == seen(lambda: alone.get_trace_settings("nope"))
