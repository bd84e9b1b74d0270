"""A small cluster of its own: artifacts in an S3-compatible store, state in SQLite, and a compiler with little processor time."""

import subprocess
import time

import httpx
import pytest
from moto.server import ThreadedMotoServer

from conftest import new_namespace
from harness import guests
from harness.api import ApiError
from harness.cluster import Cluster, eventually

BUCKET, PREFIX = "artifacts", "of/dunlin"
CPU_SECONDS = 4
CONFIG = f"""
artifacts = "s3://{BUCKET}/{PREFIX}"
compiler_cpu_seconds = {CPU_SECONDS}
"""


class Bucket:
    """A bucket of a store that can go away and come back with what is in it."""

    def __init__(self):
        self._server = None
        self.port = 0
        self.start()
        assert httpx.put(f"{self.url}/{BUCKET}", trust_env=False).status_code == 200

    def start(self):
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self):
        self._server.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def holds(self, folder):
        listing = httpx.get(f"{self.url}/{BUCKET}", params={"list-type": "2", "prefix": f"{PREFIX}/{folder}/"}, trust_env=False).text
        return listing.count("<Key>")


@pytest.fixture(scope="module")
def bucket():
    made = Bucket()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def apart(tmp_path_factory, bucket):
    folder = tmp_path_factory.mktemp("apart")
    config = folder / "scheduler.toml"
    config.write_text(CONFIG)
    credentials = {"AWS_ENDPOINT": bucket.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    made = Cluster(folder, "--sqlite", "--gateways", 1, "--workers", 1, f"--scheduler-arg=--config={config}", *(f"--env={name}={value}" for name, value in credentials.items()))
    yield made
    made.stop()


@pytest.fixture
def shop(apart):
    return new_namespace(apart.api())


def answered(apart, path):
    with apart.http() as client:
        return eventually(lambda: (answer := client.get(path)).status_code == 200 and answer.text, what=path)


def padded(wasm, size):
    """The same module with a custom section that nobody reads."""
    return wasm + guests.section(0, b"\x03pad" + bytes(size))


def test_artifacts_and_code_are_in_the_store_and_outlive_scheduler_and_worker(apart, bucket, shop):
    before = bucket.holds("artifacts"), bucket.holds("code")
    apart.api().deploy(shop, "small", guests.answer("from the store"))
    # Larger than what is written in one piece.
    apart.api().deploy(shop, "large", padded(guests.answer("in parts"), 20 << 20))
    assert answered(apart, f"/{shop}/small/") == "from the store" and answered(apart, f"/{shop}/large/") == "in parts"
    assert (bucket.holds("artifacts"), bucket.holds("code")) == (before[0] + 2, before[1] + 2)
    apart.restart("scheduler")
    for code in (apart.folder / "worker-1/code").glob("*"):
        code.unlink()
    apart.restart("worker-1")
    assert answered(apart, f"/{shop}/large/") == "in parts"


@pytest.mark.timeout(150)
def test_a_store_that_goes_away_stops_deploys_and_no_calls(apart, bucket, shop):
    apart.api().deploy(shop, "fn", guests.answer("still here"))
    assert answered(apart, f"/{shop}/fn/") == "still here"
    bucket.stop()
    try:
        with pytest.raises(ApiError) as refused:
            apart.api().deploy(shop, "other", guests.answer("not now"))
        assert refused.value.reason == "unavailable" and "can't be reached" in refused.value.message, refused.value
        assert "127.0.0.1" not in str(refused.value), "where things are is for the log"
        assert answered(apart, f"/{shop}/fn/") == "still here"
    finally:
        bucket.start()
    apart.api().deploy(shop, "other", guests.answer("now"))
    assert answered(apart, f"/{shop}/other/") == "now"


@pytest.mark.timeout(150)
def test_t20_a_compile_bomb_is_ended_by_its_processor_time(apart, shop):
    apart.api().deploy(shop, "fn", guests.answer("still here"))
    began = time.monotonic()
    with pytest.raises(ApiError) as refused:
        apart.api().deploy(shop, "bomb", guests.slow_bomb())
    took = time.monotonic() - began
    assert refused.value.reason == "invalid_artifact" and f"{CPU_SECONDS} s of processor time" in refused.value.message, refused.value
    assert took < 3 * CPU_SECONDS + 5, f"took {took:.0f} s"
    children = subprocess.run(["ps", "--ppid", str(apart.pid("scheduler")), "-o", "pid="], capture_output=True, text=True).stdout.split()
    assert not children, "the compiler was left running"
    assert answered(apart, f"/{shop}/fn/") == "still here"
