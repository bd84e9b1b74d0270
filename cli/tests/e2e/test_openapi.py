"""The OpenAPI document against what the server does: schemathesis makes requests from it, good and bad, within a bounded time."""

import json
import os
import subprocess
import sys

import pytest

from harness import guests
from harness.paths import plain_environment

EXAMPLES = os.environ.get("DUNLIN_OPENAPI_EXAMPLES", "12")


# What has no end; and calls of functions, which may fail by their own fault, and where schemathesis has drained all workers.
NOT_TRIED = r"follow|/stream$|/functions/[^/]+/test$"


@pytest.fixture
def document(cluster):
    return cluster.rest().get("/api/v1/openapi.json").json()


def test_the_document_covers_the_api_and_names_its_errors(document):
    assert document["openapi"].startswith("3.") and document["info"]["version"]
    paths = document["paths"]
    assert len(paths) >= 8 and all(path.startswith("/api/v1/") for path in paths)
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method in ("get", "post", "put", "patch", "delete"):
                assert operation.get("operationId") and operation["responses"], f"{method} {path}"
                assert path.endswith("openapi.json") or any(code.startswith("4") for code in operation["responses"]), f"{method} {path} documents no error"
    identifiers = [operation["operationId"] for methods in paths.values() for operation in methods.values() if isinstance(operation, dict) and "operationId" in operation]
    assert len(identifiers) == len(set(identifiers))


@pytest.fixture
def workers_taken_back(cluster):
    """Schemathesis finds the workers' names in answers and drains them, as it should; the tests after it want them back."""
    yield
    with cluster.rest() as client:
        for worker in cluster.worker_states():
            assert client.post(f"/api/v1/workers/{worker}/drain", json={"resume": True}).status_code == 200


# It sets budgets that are used up at once.
@pytest.mark.expects_log("a budget is used")
@pytest.mark.timeout(240)
def test_schemathesis_finds_no_difference(cluster, api, namespace, document, workers_taken_back, tmp_path):
    api.deploy(namespace, "fn", guests.LOG)
    cluster.http().get(f"/{namespace}/fn/")
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "run", schema, "--url", cluster.admin, "--header", f"Authorization: Bearer {cluster.token}",
               "--max-examples", EXAMPLES, "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance",
               "--exclude-path-regex", NOT_TRIED, "--request-timeout", "10", "--seed", "1", "--generation-database", "none", "--suppress-health-check", "all", "--workers", "1", "--no-color"]
    ran = subprocess.run(command, cwd=tmp_path, env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]


def test_every_operation_wants_a_token(cluster, document):
    with cluster.rest("") as client:
        for path, methods in document["paths"].items():
            concrete = path.replace("{namespace}", "shop").replace("{function}", "fn")
            for method, operation in methods.items():
                if method not in ("get", "post", "put", "patch", "delete") or operation.get("security") == [] or path.endswith("openapi.json"):
                    continue
                answer = client.request(method, concrete, json={} if method in ("post", "put", "patch") else None)
                assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
                assert answer.json()["error"]["code"] == "unauthenticated"
