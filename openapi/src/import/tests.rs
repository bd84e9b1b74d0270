//! Documents: what becomes of them, and what is wrong with those that are refused.

use std::fmt::Write;

use serde_json::json;

use super::*;
use crate::document;

fn read(text: &str, mapping: &[(&str, &str)]) -> Result<Vec<v1::Route>, Malformed> {
    let functions = mapping.iter().map(|(key, function)| ((*key).to_owned(), (*function).to_owned())).collect();
    routes(&document::read(text)?, &"shop".parse().unwrap(), &Options { functions, host: None })
}

const PETS: &str = r##"
openapi: 3.0.3
info: { title: Pets, version: "1" }
servers: [{ url: "https://{host}/v1/", variables: { host: { default: api.example.com } } }]
x-dunlin-function: pets
security: [{ token: [] }]
paths:
  /pets/{petId}:
    parameters:
      - { name: petId, in: path, required: true, schema: { type: integer } }
    get:
      operationId: getPet
      parameters: [{ $ref: "#/components/parameters/Fields" }]
      responses: { 200: { description: A pet } }
    put:
      x-dunlin-function: keeper:beta
      security: [{ token: [] }, { key: [] }]
      requestBody: { required: true, content: { application/json: { schema: { $ref: "#/components/schemas/Pet" } } } }
      responses: { default: { description: x } }
  /health:
    get:
      security: []
      x-dunlin-route: { name: health, respond: { status: 200, body: fine } }
      responses: { default: { description: x } }
components:
  parameters:
    Fields: { name: fields, in: query, explode: false, schema: { type: array, items: { type: string } } }
  schemas:
    Pet: { type: object, required: [name], properties: { name: { type: string, nullable: true } } }
  securitySchemes:
    token: { type: http, scheme: bearer }
    key: { type: apiKey, in: header, name: X-API-Key }
"##;

#[test]
fn operations_become_routes() {
    let routes = read(PETS, &[]).unwrap();
    let mut said = String::new();
    for route in &routes {
        let spec = RouteSpec::try_from(route.clone()).unwrap();
        let validation = spec.validation.clone().unwrap_or_default();
        let parameters: Vec<_> =
            validation.parameters.iter().map(|rule| format!("{}.{}", rule.place.as_str(), rule.name)).collect();
        let body = validation.body.map(|body| body.media_types[0].schema.clone()).unwrap_or_default();
        let name = route.name.rsplit('/').next().unwrap();
        writeln!(said, "{name} | {spec} | {:?} | {} | {body}", spec.auth, parameters.join(" ")).unwrap();
    }
    let expected = r##"health | GET/v1/health | Public |  | 
get-pet | GET/v1/pets/{petId} | Jwt | path.petId query.fields | 
put-pets-pet-id | PUT/v1/pets/{petId} | Private | path.petId | {"$defs":{"Pet":{"properties":{"name":{"type":["string","null"]}},"required":["name"],"type":"object"}},"$ref":"#/$defs/Pet"}
"##;
    assert_eq!(said.replace("GET /", "GET/").replace("PUT /", "PUT/"), expected);
    let function = |at: usize| match routes[at].target.clone().unwrap() {
        Target::Function(target) => format!("{}:{}", target.function, target.alias),
        other => format!("{other:?}"),
    };
    assert_eq!([0, 1, 2].map(|at| routes[at].operation_id.as_str()), ["", "getPet", ""]);
    assert_eq!((function(1), function(2)), ("pets:".to_owned(), "keeper:beta".to_owned()));
    let mapped = read(PETS, &[("getPet", "cats"), ("PUT /pets/{petId}", "dogs")]).unwrap();
    assert!(format!("{mapped:?}").contains("cats") && !format!("{mapped:?}").contains("keeper"));
}

#[test]
fn security_becomes_who_may_call() {
    let said = |security: Value| {
        let mut document = document::read(PETS).unwrap();
        document["security"] = security;
        let routes = routes(&document, &"shop".parse().unwrap(), &Options::default()).unwrap();
        let spec = RouteSpec::try_from(routes[1].clone()).unwrap();
        let scopes: Vec<_> = spec.token.into_iter().flat_map(|rule| rule.scopes).collect();
        format!("{:?} {}", spec.auth, scopes.join(" "))
    };
    assert_eq!(said(json!([{ "key": [] }])), "Key ");
    assert_eq!(said(json!([{ "token": ["write", "read"] }])), "Jwt read write");
    assert_eq!(said(json!([{ "key": [] }, { "token": ["read"] }, { "token": ["read"] }])), "Private read");
    assert_eq!(said(json!([{ "token": ["read"] }, {}])), "Public ");
}

#[test]
fn what_can_not_be_a_route_is_refused_with_its_place() {
    let bad = |path: &str, value: Value| {
        let mut document = document::read(PETS).unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{path}"));
        parent.as_object_mut().unwrap().insert(key.replace("~1", "/"), value);
        routes(&document, &"shop".parse().unwrap(), &Options::default()).unwrap_err()
    };
    for (path, value, place, why) in [
        ("/openapi", json!("2.0"), "/openapi", "is not read"),
        ("/openapi", json!("3.2.0"), "/openapi", "is not read"),
        (
            "/paths/~1health/get/operationId",
            json!("getPet"),
            "/paths/~1pets~1{petId}/get/operationId",
            "at /paths/~1health/get/operationId",
        ),
        (
            "/paths/~1pets~1{name}",
            json!({ "post": {} }),
            "/paths/~1pets~1{petId}",
            "that at /paths/~1pets~1{name} in the names",
        ),
        (
            "/paths/~1health/parameters",
            json!([{ "name": "id", "in": "path", "required": true, "schema": {} }]),
            "/paths/~1health/parameters/0",
            "has no parameter \"id\"",
        ),
        (
            "/paths/~1pets~1{petId}/get/parameters",
            json!([{ "name": "petId", "in": "path", "schema": {} }]),
            "/paths/~1pets~1{petId}/get/parameters/0",
            "must say required: true",
        ),
        (
            "/paths/~1pets~1{petId}/get/parameters",
            json!([{ "$ref": "#/components/parameters/Fields" }, { "name": "fields", "in": "query", "schema": {} }]),
            "/paths/~1pets~1{petId}/get/parameters/1",
            "already, at /paths/~1pets~1{petId}/get/parameters/0",
        ),
        (
            "/paths/~1pets~1{petId}/get/parameters",
            json!([{ "name": "X-A", "in": "header", "schema": {} }, { "name": "x-a", "in": "header", "schema": {} }]),
            "/paths/~1pets~1{petId}/get/parameters/1",
            "already",
        ),
        ("/components/schemas/Pet/type", json!(["object"]), "/components/schemas/Pet/type", "one name"),
        ("/swagger", json!("2.0"), "", "Swagger 2.0"),
        ("/paths", json!([]), "/paths", "must be an object"),
        ("/paths/pets", json!({ "get": {} }), "/paths/pets", "begins with a slash"),
        (
            "/paths/~1health/get",
            json!({ "x-dunlin-route": { "naem": "x" } }),
            "/paths/~1health/get/x-dunlin-route",
            "naem",
        ),
        ("/paths/~1health/trace", json!({}), "/paths/~1health/trace", "TRACE"),
        (
            "/paths/~1a",
            json!({ "get": { "operationId": "getPet", "x-dunlin-route": { "name": "health" } } }),
            "/paths/~1health/get",
            "has the route's name",
        ),
        ("/paths/~1a{b", json!({ "get": {} }), "/paths/~1a{b/get", ""),
        ("/paths/~1a", json!({ "$ref": "other.yaml" }), "/paths/~1a/$ref", "leads out of the document"),
        (
            "/components/parameters/Fields",
            json!({ "$ref": "#/components/parameters/Fields" }),
            "/components/parameters/Fields",
            "without end",
        ),
        ("/components/parameters/Fields/style", json!("matrix"), "/components/parameters/Fields/style", "style"),
        (
            "/components/parameters/Fields/schema",
            json!({ "type": "object" }),
            "/components/parameters/Fields",
            "is an object",
        ),
        ("/components/schemas/Pet/type", json!("pet"), "/components/schemas/Pet/type", ""),
        (
            "/components/securitySchemes/token/scheme",
            json!("basic"),
            "/components/securitySchemes/token",
            "authenticated",
        ),
        ("/components/securitySchemes/key/in", json!("query"), "/components/securitySchemes/key", "one header"),
        ("/security", json!([{ "token": ["read"] }, { "token": [] }]), "/security/1/token", "lists of scopes"),
        ("/security", json!([{ "token": [7] }]), "/security/0/token/0", "text"),
        ("/security", json!([{ "key": ["read"] }]), "/security/0/key", "keys have no scopes"),
        ("/security", json!([{ "none": [] }]), "/security/0/none", "no such scheme"),
        ("/servers", json!([{ "url": "/a" }, { "url": "/b" }]), "/servers/1", "different base paths"),
    ] {
        let error = bad(path, value);
        assert!(error.place == place && error.message.contains(why), "{path}: {error:?}");
    }
    let newer =
        PETS.replace("openapi: 3.0.3", "openapi: 3.1.0\njsonSchemaDialect: http://json-schema.org/draft-07/schema#");
    assert_eq!(read(&newer, &[]).unwrap_err().place, "/jsonSchemaDialect");
    let base =
        newer.replace("http://json-schema.org/draft-07/schema#", "https://spec.openapis.org/oas/3.1/dialect/base");
    assert!(read(&base, &[]).is_ok());
    let nobody = read(&PETS.replace("x-dunlin-function: pets\n", ""), &[]).unwrap_err();
    assert!(nobody.place == "/paths/~1pets~1{petId}/get" && nobody.hint.unwrap().contains("x-dunlin-function"));
    assert!(read(PETS, &[("getPets", "x")]).unwrap_err().message.contains("getPets"));
    assert!(read("a: b", &[]).unwrap_err().message.contains("openapi is missing"));
}
