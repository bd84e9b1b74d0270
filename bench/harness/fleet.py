"""Many functions at once: distinct components, and deploys in parallel over the public gRPC API."""

import importlib.util
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from .tools import REPO, with_grpc

with_grpc()


def _client_of_the_tests():
    """The gRPC client that the end-to-end tests have: it learns the API by reflection."""
    spec = importlib.util.spec_from_file_location("dunlin_api", REPO / "cli/tests/e2e/harness/api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_tests = _client_of_the_tests()
Api, ApiError = _tests.Api, _tests.ApiError
# A deploy waits for the scheduler's next look at the cluster, so many have to be under way.
THREADS = 64
CHANNELS = 8


def distinct(wasm, number):
    """The same component with a custom section more: it does the same, and is compiled, stored and mapped on its own."""
    name, content = b"bench", str(number).encode()
    section = leb128(len(name)) + name + content
    return wasm + b"\0" + leb128(len(section)) + section


def leb128(number):
    pieces = []
    while True:
        number, low = number >> 7, number & 0x7F
        pieces.append(low | (0x80 if number else 0))
        if not number:
            return bytes(pieces)


def patiently(call, seconds=600):
    """Calls again while the cluster has too much to do."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except ApiError as error:
            if error.code.name not in ("RESOURCE_EXHAUSTED", "UNAVAILABLE") or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def deploy_all(cluster, functions, **spec):
    """Deploys functions, a dictionary of components by name, with one specification; equal components are uploaded once."""
    apis = [Api(cluster.admin, cluster.operator_token) for _ in range(CHANNELS)]
    for api in apis:
        # What a client learns by reflection, it has to learn before several threads ask.
        for method in ("UploadArtifact", "CreateVersion"):
            api._method(f"FunctionService.{method}")
    digests = {wasm: None for wasm in functions.values()}
    with ThreadPoolExecutor(THREADS) as pool:

        def upload(pair):
            number, wasm = pair
            return wasm, patiently(lambda: apis[number % CHANNELS].upload("default", wasm))["digest"]

        digests = dict(pool.map(upload, enumerate(list(digests))))

        def create(pair):
            number, (name, wasm) = pair
            request = {
                "parent": f"namespaces/default/functions/{name}",
                "artifact_digest": digests[wasm],
                "request_id": str(uuid.uuid4()),
                "public": True,
                "spec": spec,
            }
            events = patiently(lambda: list(apis[number % CHANNELS].stream("FunctionService.CreateVersion", timeout=600, **request)))
            assert events and "version" in events[-1], f"the deploy of {name} ended without a version"

        list(pool.map(create, enumerate(functions.items())))
