//! What goes out comes in again.

use dunlin_proto::route::RouteSpec;

use super::*;
use crate::import::{self, Options};

fn namespace() -> Namespace {
    "shop".parse().unwrap()
}

fn route(name: &str, path: &str, methods: &[&str]) -> v1::Route {
    v1::Route {
        name: format!("namespaces/shop/routes/{name}"),
        path: path.to_owned(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        target: Some(Target::Function(v1::FunctionTarget { function: "pets".into(), ..Default::default() })),
        ..v1::Route::default()
    }
}

fn with(route: v1::Route, schema: &str) -> v1::Route {
    let rule = v1::ParameterRule {
        place: v1::ParameterPlace::Query.into(),
        name: "q".into(),
        schema: schema.into(),
        style: v1::ParameterStyle::Form.into(),
        explode: true,
        ..Default::default()
    };
    let media = v1::MediaTypeRule { media_type: "application/json".into(), schema: schema.into() };
    let body = Some(v1::BodyRule { required: true, media_types: vec![media] });
    v1::Route { validation: Some(v1::Validation { parameters: vec![rule], body }), ..route }
}

#[test]
fn what_goes_out_comes_in_again() {
    let tree = r##"{"$defs":{"Tree":{"items":{"$ref":"#/$defs/Tree"}}},"$ref":"#/$defs/Tree"}"##;
    let other = r##"{"$defs":{"Leaf":{"type":"string"}},"items":{"$ref":"#/$defs/Leaf"}}"##;
    let mut elsewhere = route("elsewhere", "/old/{path*}", &[]);
    elsewhere.target = Some(Target::Redirect(v1::Redirect { location: "/{path}".into(), status: 308 }));
    let mut text = route("text", "/text", &["GET"]);
    text.target =
        Some(Target::Response(v1::StaticResponse { status: 200, content_type: "text/plain".into(), body: "x".into() }));
    text.cors = Some(v1::CorsPolicy { allow_origins: vec!["*".into()], ..Default::default() });
    let mut hosted = route("hosted", "/pets", &["GET"]);
    hosted.host = "api.example.com".into();
    hosted.auth = v1::RouteAuth::Jwt.into();
    let claim = v1::ClaimRule { name: "department".into(), values: vec!["sales".into()] };
    let scopes = vec!["pets:read".to_owned()];
    hosted.token = Some(v1::TokenRule { scopes, claims: vec![claim], ..v1::TokenRule::default() });
    let mut named = route("named", "/named/{id}", &["GET"]);
    named.operation_id = "getNamed".into();
    let mut several = route("several", "/several", &["GET", "PUT"]);
    several.operation_id = "doSeveral".into();
    let mut private = with(route("private", "/files/{path+}", &["GET", "PUT"]), other);
    private.auth = v1::RouteAuth::Private.into();
    private.cache = true;
    private.request_headers = Some(v1::HeaderChanges { remove: vec!["x-a".into()], add: Vec::new() });
    let mut public = with(route("public", "/pets", &["POST"]), r#"{"type":"integer"}"#);
    public.auth = v1::RouteAuth::Public.into();
    let mut keyed = route("keyed", "/keyed", &["GET"]);
    keyed.auth = v1::RouteAuth::Key.into();
    let mut asked = route("asked", "/asked", &["GET"]);
    asked.auth = v1::RouteAuth::Authorizer.into();
    asked.authorizer = Some(v1::Authorizer {
        function: "verify".into(),
        ttl: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        credential: "cookie:session".into(),
    });
    let routes = [
        asked,
        keyed,
        with(route("list", "/pets", &["GET"]), tree),
        hosted,
        public,
        private,
        route("one", "/pets/{id}", &["GET"]),
        route("other", "/pets/{name}", &["POST"]),
        route("all", "/all", &[]),
        named,
        several,
        route("find", "/find", &["PROPFIND"]),
        elsewhere,
        text,
    ];
    let document = document(&namespace(), &routes);
    let again = import::routes(&document, &namespace(), &Options::default()).unwrap();
    let specs = |routes: &[v1::Route]| {
        let spec = |route: &v1::Route| (route.name.clone(), RouteSpec::try_from(route.clone()).unwrap());
        routes.iter().map(spec).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(specs(&again), specs(&routes), "{document:#}");
    assert_eq!(document["paths"]["/pets"]["get"]["operationId"], "list");
    assert_eq!(document["paths"]["/named/{id}"]["get"]["operationId"], "getNamed");
    assert_eq!(document["paths"]["/several"]["put"]["operationId"], "doSeveral-put");
    assert_eq!(document["components"]["schemas"]["Tree"]["items"]["$ref"], "#/components/schemas/Tree");
}

#[test]
fn no_two_operations_have_one_id() {
    let with = |name: &str, path: &str, id: &str| v1::Route { operation_id: id.into(), ..route(name, path, &["GET"]) };
    let mut both = route("both", "/e", &["GET", "PUT"]);
    both.host = "api.example.com".into();
    let routes = [
        with("a", "/a", "list"),
        with("b", "/b", "list"),
        with("c", "/c", "a"),
        both,
        route("both-get", "/d", &["GET"]),
    ];
    let document = document(&namespace(), &routes);
    let id = |path: &str, method: &str| document["paths"][path][method]["operationId"].as_str().unwrap().to_owned();
    let ids = [id("/a", "get"), id("/b", "get"), id("/c", "get"), id("/e", "get"), id("/d", "get")];
    assert_eq!(ids, ["list", "b", "c", "both-get", "both-get-2"]);
    assert!(import::routes(&document, &namespace(), &Options::default()).is_ok());
}

#[test]
fn schemas_of_one_name_that_differ_stay_apart() {
    let first = r##"{"$defs":{"A":{"type":"string"}},"$ref":"#/$defs/A"}"##;
    let second = r##"{"$defs":{"A":{"type":"integer"}},"$ref":"#/$defs/A"}"##;
    let itself = r##"{"items":{"$ref":"#"}}"##;
    let mut components = Components::default();
    let placed = [first, first, second, itself].map(|schema| components.place(schema, "r")["$ref"].clone());
    assert_eq!(placed[0], placed[1]);
    assert!(placed[1] != placed[2] && placed[3] == "#/components/schemas/r-2", "{placed:?} {components:?}");
    assert_eq!(components.schemas["r-2"]["items"]["$ref"], "#/components/schemas/r-2");
}
