//! Signing in at the dashboard through an issuer, and what is tried with it: other people's codes, other issuers' answers,
//! forged tokens, ways out of the site.

use std::os::unix::fs::PermissionsExt;

use http::StatusCode;
use reqwest::Response;
use serde_json::json;

use super::world::{Behaviour, CLIENT, CLIENT_SECRET, Issuer, World};

/// A world with an issuer.
struct Scene {
    world: World,
    issuer: Issuer,
}

/// A browser that has been sent to the issuer.
struct Away {
    cookie: String,
    location: String,
}

impl Scene {
    async fn new(behaviour: Behaviour) -> Self {
        let issuer = Issuer::start(behaviour).await;
        let world = World::with(0, vec![issuer.config(None)]).await;
        Self { world, issuer }
    }

    async fn begin(&self, next: &str) -> Response {
        let query = [("issuer", self.issuer.url.as_str()), ("next", next)];
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        self.world.get(&format!("/sign-in/issuer?{}", query.join("&"))).send().await.unwrap()
    }

    async fn away(&self, next: &str) -> Away {
        let answer = self.begin(next).await;
        assert_eq!(answer.status(), 303);
        let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
        let cookie = header("set-cookie");
        for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        Away { cookie: cookie.split(';').next().unwrap().to_owned(), location: header("location") }
    }

    /// The browser comes back; as it is sent by another site, which is a navigation.
    async fn back(&self, cookie: &str, query: &[(&str, &str)]) -> Response {
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let request = self.world.get(&format!("/sign-in/callback?{}", query.join("&"))).header("cookie", cookie);
        request.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate").send().await.unwrap()
    }

    /// All of it.
    async fn sign_in(&self, next: &str) -> Response {
        let away = self.away(next).await;
        let (code, sent) = self.issuer.sign_in(&away.location);
        self.back(&away.cookie, &[("code", &code), ("state", &sent["state"])]).await
    }

    /// The same with an issuer that behaves so, which must not let anybody in.
    async fn refused(&self, behaviour: Behaviour, status: u16, words: &str) {
        self.issuer.behave(behaviour);
        no_session(self.sign_in("/").await, status, words).await;
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn session_of(answer: &Response) -> Option<String> {
    let cookies = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let name = |cookie: &'_ str| {
        cookie.strip_prefix("__Host-").unwrap_or(cookie).strip_prefix("dunlin-session=").map(str::to_owned)
    };
    let mut sessions = cookies.filter_map(name);
    sessions.next()
}

/// Nobody was signed in, the page says why and offers another try, and the sign-in is over.
async fn no_session(answer: Response, status: u16, words: &str) {
    assert_eq!(session_of(&answer), None, "{words}");
    let over = answer.headers().get_all("set-cookie").iter().any(|value| value.to_str().unwrap().contains("Max-Age=0"));
    assert!(over, "{words}");
    let found = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(found, StatusCode::from_u16(status).unwrap(), "{words}: {text}");
    assert!(text.contains("role=\"alert\"") && text.contains(words), "{words}: {text}");
    assert!(text.contains("href=\"/sign-in/issuer?issuer=") && !text.contains("<script>alert"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_signs_in_at_the_issuer_gets_to_the_page_that_was_asked_for() {
    let scene = Scene::new(Behaviour::default()).await;
    let page = scene.world.get("/sign-in?next=/namespaces/shop/keys").send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("Sign in with Example &#60;b&#62;") && page.contains("next=/namespaces/shop/keys\""),
        "{page}"
    );
    let answer = scene.sign_in("/namespaces/shop/keys").await;
    assert_eq!(answer.status(), 200);
    let session = session_of(&answer).unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(session.contains(part), "{session}");
    }
    let seconds: u64 = session.split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((590..=600).contains(&seconds), "the session ends with its token: {seconds}");
    let text = answer.text().await.unwrap();
    assert!(text.contains("content=\"0; url=/namespaces/shop/keys\"") && text.contains("signed in as zoe"), "{text}");
    let token = session.split(';').next().unwrap();
    assert_eq!(scene.world.page("/namespaces/shop", token).await.status(), 200);
    assert_eq!(scene.world.page("/namespaces/bank", token).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_secret_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{CLIENT_SECRET}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let issuer = Issuer::start(Behaviour::default()).await;
    let world = World::with(0, vec![issuer.config(Some(file))]).await;
    let answer = Scene { world, issuer }.sign_in("/").await;
    assert!(session_of(&answer).is_some(), "{}", answer.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_signing_in_leads_nowhere_else() {
    let scene = Scene::new(Behaviour::default()).await;
    let long = format!("/{}", "x".repeat(2_000));
    for next in ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\u{e9}", &long]
    {
        let text = scene.sign_in(next).await.text().await.unwrap();
        assert!(text.contains("content=\"0; url=/\"") && !text.contains("evil"), "{next}: {text}");
    }
    let text = scene.sign_in("/?a=\"><script>alert(1)</script>").await.text().await.unwrap();
    assert!(text.contains("Signed in") && !text.contains("<script>alert"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_belongs_to_the_browser_that_began_and_counts_once() {
    let scene = Scene::new(Behaviour::default()).await;
    let (mine, theirs) = (scene.away("/").await, scene.away("/").await);
    let (code, _) = scene.issuer.sign_in(&theirs.location);
    let state = |away: &Away| scene.issuer.sign_in(&away.location).1["state"].clone();
    let (my_state, their_state) = (state(&mine), state(&theirs));
    let back = |cookie: String, state: String| {
        let (scene, code) = (&scene, code.clone());
        async move { scene.back(&cookie, &[("code", &code), ("state", &state)]).await }
    };
    let garbled = mine.cookie.replace("sign-in=Z", "sign-in=A");
    let doubled = format!("{}; {}", mine.cookie, theirs.cookie);
    for (cookie, state, words) in [
        (String::new(), my_state.clone(), "No sign-in is under way"),
        (garbled, my_state.clone(), "No sign-in is under way"),
        (doubled, my_state.clone(), "No sign-in is under way"),
        (mine.cookie.clone(), their_state.clone(), "another sign-in"),
        (mine.cookie.clone(), String::new(), "another sign-in"),
    ] {
        no_session(back(cookie, state).await, 400, words).await;
    }
    no_session(scene.back(&mine.cookie, &[("state", &my_state)]).await, 400, "no code").await;
    // Somebody else's code in a sign-in of one's own: PKCE tells the issuer, and the nonce tells us.
    no_session(back(mine.cookie.clone(), my_state.clone()).await, 401, "does not accept the code").await;
    scene.issuer.behave(Behaviour { no_pkce: true, ..Behaviour::default() });
    let (code, _) = scene.issuer.sign_in(&theirs.location);
    let answer = scene.back(&mine.cookie, &[("code", &code), ("state", &my_state)]).await;
    no_session(answer, 401, "nonce").await;
    // Once, even for whoever kept the cookie.
    scene.issuer.behave(Behaviour::default());
    let (code, _) = scene.issuer.sign_in(&theirs.location);
    let whole = [("code", code.as_str()), ("state", their_state.as_str())];
    assert!(session_of(&scene.back(&theirs.cookie, &whole).await).is_some());
    no_session(scene.back(&theirs.cookie, &whole).await, 401, "does not accept the code").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_of_the_issuer_that_was_asked() {
    for names_itself in [false, true] {
        let scene = Scene::new(Behaviour { names_itself, ..Behaviour::default() }).await;
        let try_with = async |iss: Option<&str>| {
            let away = scene.away("/").await;
            let (code, sent) = scene.issuer.sign_in(&away.location);
            let mut query = vec![("code", code.as_str()), ("state", &sent["state"])];
            query.extend(iss.map(|iss| ("iss", iss)));
            scene.back(&away.cookie, &query).await
        };
        assert!(session_of(&try_with(Some(&scene.issuer.url)).await).is_some());
        no_session(try_with(Some("https://evil.example")).await, 400, "not of the issuer that was asked").await;
        no_session(try_with(Some("")).await, 400, "not of the issuer that was asked").await;
        match names_itself {
            true => no_session(try_with(None).await, 400, "not of the issuer that was asked").await,
            false => assert!(session_of(&try_with(None).await).is_some()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_issuer_says_instead_of_a_code_is_told() {
    let scene = Scene::new(Behaviour::default()).await;
    for (error, status, words) in [
        ("access_denied", 403, "declined there"),
        ("temporarily_unavailable", 503, "at the moment"),
        ("<script>alert(1)</script>", 403, "did not sign you in: scriptalert1script."),
    ] {
        let away = scene.away("/namespaces/shop").await;
        let (code, sent) = scene.issuer.sign_in(&away.location);
        let query =
            [("error", error), ("error_description", "<script>alert(2)"), ("state", &sent["state"]), ("code", &code)];
        no_session(scene.back(&away.cookie, &query).await, status, words).await;
    }
    let away = scene.away("/").await;
    let answer = scene.back(&away.cookie, &[("state", "a"), ("state", "b")]).await;
    assert_eq!((answer.status().as_u16(), session_of(&answer)), (400, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn t40_t42_a_token_that_is_not_the_answer_signs_nobody_in() {
    let scene = Scene::new(Behaviour::default()).await;
    let claims = |claims| Behaviour { claims, ..Behaviour::default() };
    let now = jsonwebtoken::get_current_timestamp();
    for (changes, status, words) in [
        (json!({"aud": "another-client"}), 401, "audience"),
        // Good for the API, but not issued for this.
        (json!({"aud": "other-tools"}), 401, "audience"),
        (json!({"aud": [CLIENT, "another"]}), 401, "another client"),
        (json!({"azp": "another"}), 401, "another client"),
        (json!({"nonce": "another"}), 401, "nonce"),
        (json!({"nonce": null}), 401, "nonce"),
        (json!({"iss": "https://evil.example"}), 401, "issuer"),
        (json!({"iss": "dunlin"}), 401, "not known here"),
        (json!({"exp": now - 60}), 401, "expired"),
        (json!({"exp": now + 90_000}), 401, "24 hours"),
        (json!({"iat": null}), 401, "iat"),
        (json!({"sub": null}), 401, "sub"),
        (json!({"dunlin_grants": "operator"}), 401, "grants"),
        (json!({"dunlin_grants": []}), 403, "gave zoe a role"),
        (json!({"dunlin_grants": null}), 403, "gave zoe a role"),
        (json!({"padding": "x".repeat(4_000)}), 400, "browsers keep"),
    ] {
        scene.refused(claims(changes), status, words).await;
    }
    let forge = |forge| Behaviour { forge: Some(forge), ..Behaviour::default() };
    scene.refused(forge(|token| with_header(&token, r#"{"alg":"none","kid":"k"}"#)), 401, "algorithm").await;
    scene.refused(forge(|token| with_header(&token, r#"{"alg":"HS256","kid":"k"}"#)), 401, "algorithm").await;
    scene.refused(forge(|token| format!("{}.", token.rsplit_once('.').unwrap().0)), 401, "three parts").await;
    scene.refused(forge(|token| token.replacen('.', ".e", 1)), 401, "token").await;
    scene.refused(forge(|_| "nonsense".into()), 401, "three parts").await;
}

fn with_header(token: &str, header: &str) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), token.split_once('.').unwrap().1)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_answers_nonsense_signs_nobody_in() {
    let scene = Scene::new(Behaviour::default()).await;
    let answer = |status, body: &str| Behaviour { answer: Some((status, body.to_owned())), ..Behaviour::default() };
    for (status, body, words) in [
        (200, "<html>", "did not give a token"),
        (200, "{}", "no ID token"),
        (200, r#"{"id_token": 7}"#, "did not give a token"),
        (500, "", "did not give a token"),
        (401, r#"{"error": "invalid_client<script>alert(1)"}"#, "invalid_clientscriptalert1"),
        (302, "{}", "no reason"),
        (200, &format!("{{\"id_token\": \"{}\"}}", "x".repeat(70_000)), "asked at the moment"),
    ] {
        scene.refused(answer(status, body), 503, words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_an_issuer_that_is_not_what_it_should_be() {
    for metadata in [
        json!({"issuer": "https://evil.example"}),
        json!({"code_challenge_methods_supported": ["plain"]}),
        json!({"token_endpoint": null}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"token_endpoint": "file:///etc/passwd"}),
    ] {
        let scene = Scene::new(Behaviour { metadata: metadata.clone(), ..Behaviour::default() }).await;
        let answer = scene.begin("/").await;
        assert_eq!(answer.status(), 503, "{metadata}");
        assert!(answer.headers().get("set-cookie").is_none());
        assert!(answer.text().await.unwrap().contains("asked at the moment"), "{metadata}");
    }
    let scene = Scene::new(Behaviour::default()).await;
    let unknown = scene.world.get("/sign-in/issuer?issuer=https://evil.example").send().await.unwrap();
    assert_eq!(unknown.status(), 400);
    assert!(!unknown.text().await.unwrap().contains("evil"));
    // No picture of another site begins or ends a sign-in.
    for path in [format!("/sign-in/issuer?issuer={}", scene.issuer.url), "/sign-in/callback?code=a&state=b".into()] {
        let request = scene.world.get(&path).header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "no-cors");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.headers().get("set-cookie").is_none());
    }
}
