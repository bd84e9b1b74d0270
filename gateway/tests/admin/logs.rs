//! Logs of all workers: merged, followed, with those named who did not answer.

use std::time::Duration;

use dunlin_proto::{
    ids::InvocationId,
    v1::{self, log_service_client::LogServiceClient, read_logs_response::Event},
};
use serde_json::Value;
use tonic::Request;

use super::world::{World, line};

/// Reads logs as an operator.
async fn read(world: &World, request: v1::ReadLogsRequest) -> tonic::Streaming<v1::ReadLogsResponse> {
    let mut request = Request::new(request);
    let token = world.tokens.operator();
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut client = LogServiceClient::new(world.channel().await);
    client.read_logs(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_come_in_order_and_a_worker_that_is_away_is_named() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let get = async |query: &str| world.said_by_all(&format!("/api/v1/namespaces/shop{query}"), &token).await;
    let all = get("/logs").await;
    assert_eq!(all["unreachable"], serde_json::json!(["worker-3"]));
    let lines = all["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 7);
    assert!(lines.is_sorted_by_key(|line| line["time"].as_str().unwrap().to_owned()));
    assert_eq!(get("/functions/search/logs").await["lines"].as_array().unwrap().len(), 1);
    assert_eq!(get("/logs?lines=2").await["lines"].as_array().unwrap().len(), 2);
    assert_eq!(get("/logs?search=refused").await["lines"][0]["stream"], "stdout");
    assert_eq!(get("/logs?request_id=nobody").await["lines"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_what_there_is_and_then_what_comes() {
    let texts = ["order 7303: 1 item, 9.90 EUR", "order 7303: paid", "new 1", "new 2"].map(str::to_owned);
    let expected = (texts.to_vec(), vec!["worker-3".to_owned()]);
    let mut seen = Vec::new();
    // Workers that stand still look as if they were away, but not every time.
    while !seen.contains(&expected) {
        assert!(seen.len() < 5, "{seen:?}");
        seen.push(followed().await);
    }
}

/// What a follower is told of lines that are there and of two that come, and which workers are said to be away.
async fn followed() -> (Vec<String>, Vec<String>) {
    let world = World::new().await;
    let request = v1::ReadLogsRequest {
        parent: "namespaces/shop/functions/checkout".to_owned(),
        follow: true,
        lines: 2,
        ..Default::default()
    };
    let mut events = read(&world, request).await;
    let (mut texts, mut away) = (Vec::new(), Vec::new());
    let mut written = false;
    while texts.len() < 4 {
        if texts.len() == 2 && !written {
            written = true;
            world.peers.write(line(0, "new 1"));
            world.peers.write(line(0, "new 2"));
        }
        match events.message().await.unwrap().unwrap().event {
            Some(Event::Line(line)) => texts.push(line.text),
            Some(Event::UnreachableWorker(worker)) => away.push(worker),
            Some(Event::Gap(_)) | None => {}
        }
    }
    (texts, away)
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_status_are_followed_and_come_once_their_call_has_ended() {
    let world = World::new().await;
    let failed = world.peers.records.lock().unwrap().iter().find(|call| call.status == 502).unwrap().clone();
    let of = |id: InvocationId, text: &str| v1::LogLine { invocation: id.to_string(), ..line(0, text) };
    world.peers.write(of(failed.name.rsplit('/').next().unwrap().parse().unwrap(), "failed before"));
    let request = v1::ReadLogsRequest {
        parent: "namespaces/shop".to_owned(),
        follow: true,
        status: "502".to_owned(),
        ..Default::default()
    };
    let mut events = read(&world, request).await;
    let [fails, works] = [(); 2].map(|()| InvocationId::new());
    let ends = |id: InvocationId, status| {
        let name = format!("namespaces/shop/functions/checkout/invocations/{id}");
        world.peers.records.lock().unwrap().push(v1::Invocation { name, status, ..failed.clone() });
    };
    let mut texts = Vec::new();
    while texts.len() < 4 {
        let event = tokio::time::timeout(Duration::from_secs(20), events.message()).await.unwrap();
        let Some(Event::Line(line)) = event.unwrap().unwrap().event else { continue };
        texts.push(line.text);
        if texts.len() == 1 {
            world.peers.write(of(works, "works 1"));
            world.peers.write(of(fails, "fails 1"));
            world.peers.write(of(fails, "fails 2"));
            let quiet = tokio::time::timeout(Duration::from_millis(600), async {
                while !matches!(events.message().await.unwrap().unwrap().event, Some(Event::Line(_))) {}
            });
            assert!(quiet.await.is_err(), "neither has ended");
            ends(works, 200);
            ends(fails, 502);
        } else if texts.len() == 3 {
            world.peers.write(of(works, "works 2"));
            world.peers.write(of(fails, "fails 3"));
        }
    }
    assert_eq!(texts, ["failed before", "fails 1", "fails 2", "fails 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_follow_by_events_and_come_back_where_they_were() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let open = |last: &str| {
        let path = "/api/v1/namespaces/shop/functions/checkout/logs/stream";
        let request = world.get(path).header("cookie", format!("dunlin-session={token}"));
        request.header("last-event-id", last.to_owned()).send()
    };
    let mut answer = open("").await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while text.matches("event: line").count() < 6 {
        text.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().unwrap()));
    }
    drop(answer);
    let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap();
    let mut again = open(last).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    world.peers.write(line(0, "after the break"));
    let mut text = String::new();
    while !text.contains("after the break") {
        text.push_str(&String::from_utf8_lossy(&again.chunk().await.unwrap().unwrap()));
    }
    assert_eq!(text.matches("event: line").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_goes_on_after_what_was_read_page_by_page() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let get =
        async |query: String| world.said_by_all(&format!("/api/v1/namespaces/shop/logs?lines=2{query}"), &token).await;
    let texts = |page: &Value| -> Vec<String> {
        page["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    };
    let last = get(String::new()).await;
    for text in ["a", "b", "c"] {
        world.peers.write(line(0, text));
    }
    let next = get(format!("&cursor={}", last["cursor"].as_str().unwrap())).await;
    assert_eq!(texts(&next), ["a", "b"]);
    let end = get(format!("&cursor={}", next["cursor"].as_str().unwrap())).await;
    assert_eq!(texts(&end), ["c"]);
    assert!(texts(&get(format!("&cursor={}", end["cursor"].as_str().unwrap())).await).is_empty());
    assert_eq!(get("&cursor=here".to_owned()).await["error"]["field"], "cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_found_by_the_status_of_their_call_and_calls_by_their_lines() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let get = async |query: &str| world.said_by_all(&format!("/api/v1/namespaces/shop{query}"), &token).await;
    let name = world.peers.records.lock().unwrap().iter().find(|call| call.status == 502).unwrap().name.clone();
    let id = name.rsplit('/').next().unwrap().to_owned();
    world.peers.write(v1::LogLine { invocation: id.clone(), ..line(0, "{\"level\":\"ERROR\",\"what\":\"no stock\"}") });
    let of = get("/logs?status=502").await;
    assert_eq!((&of["lines"][0]["level"], &of["lines"][0]["fields"]["what"]), (&"error".into(), &"no stock".into()));
    assert_eq!(of["lines"].as_array().unwrap().len(), 1);
    assert_eq!(get("/logs?status=404").await["lines"].as_array().unwrap().len(), 0);
    let calls = get("/invocations?search=no%20stock").await;
    assert_eq!((calls["invocations"].as_array().unwrap().len(), &calls["invocations"][0]["id"]), (1, &id.into()));
    assert_eq!(get("/invocations?search=nobody%20wrote%20this").await["invocations"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_found_by_its_line_however_many_newer_ones_there_are_and_wherever_a_search_stopped() {
    let world = World::new().await;
    let token = world.tokens.with(&[("shop", "viewer")]);
    let get = async |query: &str| world.said_by_all(&format!("/api/v1/namespaces/shop{query}"), &token).await;
    let ids: Vec<String> = {
        let records = world.peers.records.lock().unwrap();
        records.iter().map(|call| call.name.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let write = |id: &String| {
        world.peers.write(v1::LogLine { invocation: id.clone(), ..line(3, "no stock") });
    };
    write(&ids[250]);
    (0..1_500).for_each(|_| write(&ids[2]));
    let found = |list: &Value| -> Vec<String> {
        list["invocations"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = get("/invocations?search=no%20stock").await;
    assert_eq!(found(&all), [ids[2].clone(), ids[250].clone()]);
    assert!(all.get("searched_from").is_none(), "all lines were looked at: {all}");
    let first = get("/invocations?search=no%20stock&page_size=1").await;
    assert_eq!((found(&first), first["next_page_token"].as_str()), (vec![ids[2].clone()], Some(ids[2].as_str())));
    let next = get(&format!("/invocations?search=no%20stock&page_size=1&page_token={}", ids[2])).await;
    assert_eq!(found(&next), [ids[250].clone()]);
    // A worker that stops goes on in the next round, as long as there is time.
    *world.peers.searched_from.lock().unwrap() = Some(ids[100].clone());
    assert_eq!(found(&get("/invocations?search=no%20stock").await), found(&all));
    assert_eq!(get(&format!("/invocations?search={}", "x".repeat(300))).await["error"]["field"], "search");
}
