"""OpenAPI documents as routes on a real cluster: imported whole or not at all, requests checked before any sandbox, and out again."""

import json

import pytest
import yaml
from openapi_spec_validator import validate

from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")

PETS_30 = """
openapi: 3.0.3
info: { title: Pet Shop, version: "1" }
servers: [{ url: https://pets.example.com/v1 }]
x-dunlin-function: probe
security: []
paths:
  /pets:
    get:
      operationId: listPets
      parameters:
        - { name: limit, in: query, schema: { type: integer, minimum: 1, maximum: 100 } }
        - { name: tag, in: query, schema: { type: array, items: { type: string, enum: [cat, dog] } } }
        - { name: X-Trace, in: header, required: true, schema: { type: string, pattern: "^[0-9a-f]{4}$" } }
      responses: { 200: { description: Pets } }
    post:
      operationId: addPet
      requestBody:
        required: true
        content: { application/json: { schema: { $ref: "#/components/schemas/Pet" } } }
      responses: { 201: { description: Added } }
  /pets/{petId}:
    parameters: [{ name: petId, in: path, required: true, schema: { type: integer } }]
    get:
      operationId: getPet
      x-dunlin-route: { rewrite: /count }
      responses: { 200: { description: A pet } }
components:
  schemas:
    Pet:
      type: object
      required: [id, name]
      additionalProperties: false
      properties:
        id: { type: integer, readOnly: true }
        name: { type: string, minLength: 1 }
        nick: { type: string, nullable: true }
        age: { type: number, minimum: 0, exclusiveMinimum: true }
        parents: { type: array, maxItems: 2, items: { $ref: "#/components/schemas/Pet" } }
"""

ORDERS_31 = {
    "openapi": "3.1.0",
    "info": {"title": "Orders", "version": "2"},
    "paths": {
        "/orders": {
            "put": {
                "operationId": "putOrder",
                "x-dunlin-function": "probe",
                "security": [{"token": []}],
                "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"count": {"type": ["integer", "null"], "exclusiveMinimum": 0}}}}}},
                "responses": {"default": {"description": "Put"}},
            },
        },
        "/ping": {"get": {"security": [], "x-dunlin-route": {"name": "ping", "respond": {"status": 200, "content_type": "text/plain", "body": "pong"}}, "responses": {"200": {"description": "pong"}}}},
    },
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
}


@pytest.fixture
def dunlin(cli, namespace, tmp_path):
    """The command at work in the test's namespace; documents are written to files."""

    def run(*arguments, document=None, fails=False):
        if document is not None:
            file = tmp_path / "api.yaml"
            file.write_text(document if isinstance(document, str) else json.dumps(document))
            arguments = ("api", "import", str(file), *arguments)
        return cli("-n", namespace, *arguments) if fails else cli.ok("-n", namespace, *arguments)

    return run


def listed(dunlin):
    return {route["name"]: route for route in dunlin("route", "list", "-o", "json").json}


def records(api, namespace):
    return api.call("InvocationService.ListInvocations", parent=f"namespaces/{namespace}", page_size=200)["invocations"]


def test_requests_are_checked_before_any_sandbox(cluster, api, namespace, probe, dunlin):
    api.deploy(namespace, "probe", probe)
    said = dunlin(document=PETS_30)
    assert "GET /v1/pets/{petId} -> function probe as /count" in said.err and "3 routes of the API pet-shop" in said.err, said
    base, trace = f"/{namespace}/v1/pets", {"X-Trace": "00ff"}
    with cluster.http() as client:
        eventually(lambda: client.get(f"{base}?limit=5&tag=cat&tag=dog", headers=trace).status_code == 200, what="the routes")
        served = eventually(lambda: client.get(f"{base}/7"), what="a pet")
        assert served.status_code == 200
        before = eventually(lambda: len(records(api, namespace)) >= 2 and len(records(api, namespace)), what="the records")

        def wrong(answer, *fields, status=400):
            assert answer.status_code == status, answer.text
            error = answer.json()["error"]
            assert [violation["field"] for violation in error.get("violations", [])] == list(fields), error
            return error

        error = wrong(client.get(f"{base}?limit=x&tag=cow"), "query.limit", "query.tag/0", "header.X-Trace")
        assert error["code"] == "invalid_argument" and "list-pets" in error["message"] and "integer" in error["violations"][0]["message"], error
        wrong(client.get(f"{base}?limit=101", headers=trace), "query.limit")
        wrong(client.get(f"{base}?limit=1&limit=2", headers=trace), "query.limit")
        wrong(client.get(f"{base}/seven"), "path.petId")
        wrong(client.post(base), "body")
        for body, fields in [
            ({"name": ""}, {"body/name"}),
            ({}, {"body"}),
            ({"name": "a", "x": 1}, {"body"}),
            ({"name": "a", "age": 0}, {"body/age"}),
            ({"name": 7, "nick": 7}, {"body/name", "body/nick"}),
            ({"name": "a", "parents": [{"name": "b"}, {"name": ""}]}, {"body/parents/1/name"}),
        ]:
            answer = client.post(base, json=body)
            assert answer.status_code == 400 and {v["field"] for v in answer.json()["error"]["violations"]} == fields, answer.text
        json_type = {"Content-Type": "application/json"}
        wrong(client.post(base, content=b"{", headers=json_type), "body")
        wrong(client.post(base, content=b'{"name":"a","name":"b"}', headers=json_type), "body")
        assert wrong(client.post(base, content=b"<pet/>", headers={"Content-Type": "application/xml"}), status=415)["code"] == "unsupported_media_type"
        wrong(client.post(base, content=b"{}", headers=json_type | {"Content-Encoding": "gzip"}), status=415)
        wrong(client.post(base, content=b'"' + b"a" * (1 << 20) + b'"', headers=json_type), status=413)
    with cluster.http() as client:
        good = {"name": "Rex", "nick": None, "age": 0.5, "parents": [{"name": "Max"}]}
        assert client.post(base, json=good).json() == good
        after = eventually(lambda: len(records(api, namespace)) > before and len(records(api, namespace)), what="the last record")
        assert after == before + 1, "what was refused has started nothing"


def test_a_route_still_wants_its_credential_first(cluster, api, namespace, probe, dunlin):
    api.deploy(namespace, "probe", probe)
    dunlin(document=ORDERS_31)
    with cluster.http() as client:
        eventually(lambda: client.get(f"/{namespace}/ping").text == "pong", what="the routes")
        answer = client.put(f"/{namespace}/orders", json={"count": 0})
        assert answer.status_code == 401, answer.text


def test_an_import_is_whole_or_nothing(api, namespace, probe, dunlin):
    api.deploy(namespace, "probe", probe)
    dunlin("route", "add", "mine", "/v1/pets/{id}", "--respond", "x", "-m", "GET")
    ran = dunlin(document=PETS_30, fails=True)
    assert ran.code == 7 and "route get-pet (GET /v1/pets/{petId})" in ran.err and "route mine (GET /v1/pets/{id})" in ran.err, ran
    assert set(listed(dunlin)) == {"mine"}
    dunlin("route", "remove", "mine", "-y")
    assert "would be" in dunlin("--dry-run", document=PETS_30).err and not listed(dunlin)
    missing = dunlin("--function-map", "getPet=missing", document=PETS_30, fails=True)
    assert missing.code == 3 and "route get-pet" in missing.err and not listed(dunlin), missing
    dunlin(document=PETS_30)
    made = listed(dunlin)
    assert set(made) == {"list-pets", "add-pet", "get-pet"} and all(route["api"] == "pet-shop" for route in made.values())
    dunlin(document=PETS_30)
    assert listed(dunlin) == made, "the same document changes nothing"
    fewer = yaml.safe_load(PETS_30)
    del fewer["paths"]["/pets/{petId}"]
    dunlin(document=fewer)
    assert set(listed(dunlin)) == set(made)
    pruned = dunlin("--prune", "-o", "json", document=fewer).json
    assert pruned["deleted"] == ["get-pet"] and set(listed(dunlin)) == {"list-pets", "add-pet"}
    other = dunlin("--api", "other", document=PETS_30, fails=True)
    assert other.code == 7 and "belongs to the API pet-shop" in other.err, other


@pytest.mark.parametrize("change, words", [
    (lambda d: d.update(openapi="2.0"), ["at /openapi:", "3.0 and 3.1"]),
    (lambda d: d["components"]["schemas"]["Pet"].update(type="pet"), ["at /components/schemas/Pet/type:"]),
    (lambda d: d["paths"]["/pets"]["get"]["parameters"].append({"$ref": "https://example.com/x.yaml#/p"}), ["at /paths/~1pets/get/parameters/3/$ref:", "leads out of the document"]),
    (lambda d: d["components"]["schemas"].update(Pet={"$ref": "other.yaml"}), ["at /components/schemas/Pet/$ref:"]),
    (lambda d: (d.update(security=[{"basic": []}]), d["components"].update(securitySchemes={"basic": {"type": "http", "scheme": "basic"}})), ["at /components/securitySchemes/basic:"]),
    (lambda d: d.pop("x-dunlin-function"), ["at /paths/~1pets/get:", "no function is named", "x-dunlin-function"]),
    (lambda d: d["paths"]["/pets"]["get"].update({"x-dunlin-route": {"cach": True}}), ["at /paths/~1pets/get/x-dunlin-route:", "cach"]),
])
def test_a_document_that_can_not_be_is_refused_with_the_place(namespace, dunlin, change, words):
    document = yaml.safe_load(PETS_30)
    change(document)
    ran = dunlin(document=document, fails=True)
    assert ran.code == 2 and all(word in ran.err for word in words), ran
    assert not listed(dunlin)


def test_what_is_no_yaml_is_refused_with_the_line(namespace, dunlin):
    ran = dunlin(document="openapi: 3.1.0\ninfo: [\npaths: {}\n", fails=True)
    assert ran.code == 2 and "not YAML: line" in ran.err, ran
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    ran = dunlin(document=bomb, fails=True)
    assert ran.code == 2 and "not YAML" in ran.err, ran


def test_routes_come_out_as_a_document_and_in_again(cluster, api, namespace, probe, dunlin):
    api.deploy(namespace, "probe", probe)
    dunlin(document=PETS_30)
    dunlin(document=ORDERS_31)
    dunlin("route", "add", "files", "/files/{path+}", "--function", "probe", "-m", "GET", "-m", "PUT", "--auth", "private", "--cache", "--cors-origin", "*")
    dunlin("route", "add", "old", "/old/...", "--redirect", "/new")
    exported = dunlin("api", "export", "-o", "json").json
    validate(exported)
    assert yaml.safe_load(dunlin("api", "export").out) == exported
    rest = cluster.rest().get(f"/api/v1/namespaces/{namespace}/openapi")
    assert rest.status_code == 200 and rest.json() == exported
    assert exported["paths"]["/v1/pets"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Pet"

    def routes():
        wire = api.call("RouteService.ListRoutes", parent=f"namespaces/{namespace}", page_size=100)["routes"]
        return {route["name"]: {key: value for key, value in route.items() if key not in ("api", "create_time", "update_time", "creator")} for route in wire}

    before = routes()
    for name in listed(dunlin):
        dunlin("route", "remove", name, "-y")
    dunlin("--api", "again", document=exported)
    assert routes() == before
