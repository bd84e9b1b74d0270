//! `dunlin route`, `dunlin domain` and `dunlin function`: what they send, and golden texts.

use dunlin_proto::v1;
use serde_json::json;

use crate::harness::User;

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_added_listed_and_removed() {
    let user = User::signed_in().await;
    let nothing = user.run("route list").await.ok();
    assert!(nothing.out.is_empty() && nothing.err.contains("dunlin route add"), "{nothing:?}");
    let added = user.run("route add users /users/{id} --function users -m get -m POST --rewrite /v1/{id}").await.ok();
    assert_eq!(added.err, "route users: GET,POST /users/{id} -> function users as /v1/{id}\n");
    user.run("route add old /old/... --redirect https://new.example/{path} --host www.example.com").await.ok();
    let again = user.run("route add old /older --respond gone --status 410").await;
    assert!(again.code == 7 && again.err.contains("exists already"), "{again:?}");
    user.run("route add old /older --respond gone --status 410 --replace").await.ok();
    let table = user.run("route ls").await.ok();
    assert_eq!(
        table.out,
        "NAME   METHODS   HOST  PATH         TARGET                      AUTH      UPDATED\n\
         old    all       -     /older       status 410                  function  5m\n\
         users  GET,POST  -     /users/{id}  function users as /v1/{id}  function  5m\n"
    );
    let refused = user.run("route remove old").await;
    assert!(refused.code == 2 && refused.err.contains("-y"), "{refused:?}");
    user.run("route remove old -y").await.ok();
    assert_eq!(user.run("route remove old -y").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flag_of_a_route_arrives() {
    let user = User::signed_in().await;
    let words = [
        "route",
        "add",
        "api",
        "/api",
        "--function",
        "api",
        "--host",
        "*.example.com",
        "--auth",
        "jwt",
        "--allow",
        "10.0.0.0/8",
        "--deny",
        "10.0.0.1",
        "--add-request-header",
        "X-A: b c",
        "--remove-request-header",
        "cookie",
        "--add-response-header",
        "X-B:d",
        "--remove-response-header",
        "server",
        "--cors-origin",
        "https://app.example",
        "--cors-method",
        "put",
        "--cors-header",
        "*",
        "--cors-expose",
        "x-b",
        "--cors-credentials",
        "--cors-max-age",
        "10m",
        "-o",
        "json",
    ];
    let shown = user.args(&words).await.ok().json();
    let route = user.fake.state().routes.values().next().unwrap().clone();
    assert_eq!((route.name.as_str(), route.auth()), ("namespaces/default/routes/api", v1::RouteAuth::Jwt));
    assert_eq!((route.allow, route.deny), (vec!["10.0.0.0/8".to_owned()], vec!["10.0.0.1".to_owned()]));
    let changes = route.request_headers.unwrap();
    assert_eq!((changes.add[0].value.as_str(), changes.remove), ("b c", vec!["cookie".to_owned()]));
    let cors = route.cors.unwrap();
    assert_eq!((cors.allow_methods, cors.max_age.unwrap().seconds), (vec!["PUT".to_owned()], 600));
    assert_eq!(shown["target"], json!({ "kind": "function", "function": "api", "alias": "", "rewrite": "" }));
    assert_eq!(
        (&shown["auth"], &shown["cors"]["allow_credentials"], &shown["cors"]["max_age_ms"]),
        (&json!("jwt"), &json!(true), &json!(600_000))
    );
    let authorized =
        "route add own /own --function api --auth function:verify --auth-ttl 5m --auth-credential cookie:Session";
    let shown = user.run(&format!("{authorized} -o json")).await.ok().json();
    let route = user.fake.state().routes["namespaces/default/routes/own"].clone();
    let ttl = Some(prost_types::Duration { seconds: 300, nanos: 0 });
    let credential = "cookie:Session".to_owned();
    assert_eq!(route.auth(), v1::RouteAuth::Authorizer);
    assert_eq!(route.authorizer, Some(v1::Authorizer { function: "verify".into(), ttl, credential }));
    assert_eq!(shown["authorizer"], json!({ "function": "verify", "ttl_ms": 300_000, "credential": "cookie:Session" }));
    assert!(user.run("route list").await.ok().out.contains("function:verify"));
    let demanding = "route add orders /orders --function api --auth jwt --scope orders:read --claim role=clerk --claim role=owner --issuer https://id.example --audience shop";
    let shown = user.run(&format!("{demanding} -o json")).await.ok().json();
    let wanted = json!({ "issuers": ["https://id.example"], "audiences": ["shop"], "scopes": ["orders:read"], "claims": { "role": ["clerk", "owner"] } });
    assert_eq!(shown["token"], wanted);
    assert!(user.run("route list -o wide").await.ok().out.contains("jwt with claims"));
    user.run("route add keyed /keyed --function api --auth key").await.ok();
    assert_eq!(user.fake.state().routes["namespaces/default/routes/keyed"].auth(), v1::RouteAuth::Key);
    for bad in [
        "route add x /x --function a --scope read",
        "route add x /x --function a --auth jwt --claim role",
        "route add x /x",
        "route add x /x --function a --auth function:A",
        "route add x /x --function a --auth nobody",
        "route add x /x --function a --auth-ttl 5m",
        "route add x /x --function a --auth function:a --auth-credential body:x",
        "route add x /x --function a --respond b",
        "route add x /x --function a --status 200",
        "route add x /x --function a --cors-credentials",
        "route add X /x --function a",
    ] {
        assert_eq!(user.run(bad).await.code, 2, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_are_taken_listed_and_given_back() {
    let user = User::signed_in().await;
    let asked = user.run("domain add shop.example").await.ok();
    let record = "_dunlin-challenge.shop.example. IN TXT \"text\"";
    assert!(asked.err.contains(record) && asked.err.contains("once the DNS has this record"), "{asked:?}");
    assert!(user.run("domain ls").await.ok().out.contains("shop.example  pending"));
    let shown = user.run("domain show shop.example").await.ok().out;
    assert!(shown.contains(record) && shown.contains("pending"), "{shown}");
    let added = user.run("domain add shop.example --vouch").await.ok();
    assert!(added.err.contains("shop.example belongs to namespace default"), "{added:?}");
    assert_eq!(
        user.run("domain ls").await.ok().out,
        "DOMAIN        PROOF   CERTIFICATE  ADDED  BY\nshop.example  proved  -            5m     zoe\n"
    );
    assert_eq!(user.run("domain list -o json").await.ok().json()[0]["domain"], "shop.example");
    assert!(user.run("domain show shop.example").await.ok().out.contains("Certificate:  -"));
    assert_eq!(user.run("domain show other.example").await.code, 3);
    user.run("domain remove shop.example -y").await.ok();
    user.run("domain add shop.example --tls none").await.ok();
    assert_eq!(user.run("domain show shop.example -o json").await.ok().json()["tls"], "none");
    assert!(user.run("domain add *.shop.example").await.err.contains("DNS-01"));
    assert_eq!(user.run("domain add localhost").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_taken_out_of_service_and_back_into_it() {
    let user = User::signed_in().await;
    let file = user.file("x.wasm", "\0asm\x01\0\0\0");
    user.args(&["deploy", &file, "--name", "hello", "--public"]).await.ok();
    assert_eq!(user.run("function disable hello").await.ok().err, "disabled default/hello\n");
    assert!(user.run("list").await.ok().out.contains("disabled"));
    assert_eq!(user.run("function enable hello -o json").await.ok().json()["disabled"], false);
    assert_eq!(user.run("function enable nobody").await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_answers_are_purged() {
    use v1::purge_cache_request::What;
    let user = User::signed_in().await;
    let purged = user.run("cache purge --path /users/7").await.ok();
    assert_eq!(purged.err, "purged what was stored of namespace default\n");
    user.fake.state().lagging = vec!["gateway-2".to_owned()];
    let purged = user.run("cache purge --prefix /users/").await.ok();
    assert!(purged.err.contains("will once they are reached: gateway-2"), "{purged:?}");
    user.run("cache purge --route users").await.ok();
    let purged = user.run("cache purge --all -o json").await.ok();
    assert_eq!(purged.json(), json!({ "lagging_gateways": ["gateway-2"] }));
    let sent: Vec<_> = user.fake.state().purged.iter().filter_map(|request| request.what.clone()).collect();
    let expected =
        [What::Path("/users/7".into()), What::Prefix("/users/".into()), What::Route("users".into()), What::All(true)];
    assert_eq!(sent, expected);
    assert_eq!(user.run("cache purge").await.code, 2);
    assert_eq!(user.run("cache purge --all --path /x").await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_imported_and_exported() {
    let user = User::signed_in().await;
    let document = "openapi: 3.1.0\ninfo: { title: My Pets }\npaths: { /pets: { get: { operationId: listPets } } }\n";
    let file = user.file("api.yaml", document);
    let imported = user.args(&["api", "import", &file, "--function-map", "listPets=pets:beta", "--prune"]).await.ok();
    let expected = "route list-pets: GET /pets -> function pets:beta\nroute gone goes\n1 routes of the API my-pets are in namespace default\n";
    assert_eq!(imported.err, expected);
    let dry = user
        .args(&["api", "import", &file, "--function-map", "*=pets", "--api", "x", "--dry-run", "-o", "json"])
        .await
        .ok();
    assert_eq!(
        (&dry.json()["api"], &dry.json()["dry_run"], &dry.json()["routes"][0]["name"]),
        (&json!("x"), &json!(true), &json!("list-pets"))
    );
    let sent: Vec<_> = user
        .fake
        .state()
        .imported
        .iter()
        .map(|request| (request.api.clone(), request.prune, request.validate_only))
        .collect();
    assert_eq!(sent, [("my-pets".to_owned(), true, false), ("x".to_owned(), false, true)]);
    let nobody = user.args(&["api", "import", &file]).await;
    assert!(nobody.code == 2 && nobody.err.contains("at /paths/~1pets/get: no function is named"), "{nobody:?}");
    let bad = user.file("bad.yaml", "a: [\n");
    let bad = user.args(&["api", "import", &bad]).await;
    assert!(bad.code == 2 && bad.err.contains("line "), "{bad:?}");
    assert_eq!(user.run("api import nowhere.yaml").await.code, 2);
    assert_eq!(user.run("api export").await.ok().out, "openapi: \"3.1.0\"\npaths: {}\n");
    assert_eq!(user.run("api export -o json").await.ok().json()["openapi"], "3.1.0");
}
