//! Guests' output, read and followed over gRPC.

use std::time::Duration;

use dunlin_proto::{
    ids::InvocationId,
    internal::v1::{
        LogPosition, ReadWorkerLogsRequest, ReadWorkerLogsResponse, SearchWorkerLogsRequest,
        worker_log_service_client::WorkerLogServiceClient,
    },
    v1::{LogLine, LogStream, ReadLogsRequest},
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use crate::{
    cluster::{Cluster, secret},
    gateway::Gateway,
    guests,
};

async fn read(cluster: &Cluster, query: ReadLogsRequest) -> Result<Streaming<ReadWorkerLogsResponse>, Status> {
    ask(cluster, ReadWorkerLogsRequest { query: Some(query), ..ReadWorkerLogsRequest::default() }).await
}

async fn ask(cluster: &Cluster, question: ReadWorkerLogsRequest) -> Result<Streaming<ReadWorkerLogsResponse>, Status> {
    let channel = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap().connect().await.unwrap();
    let mut client = WorkerLogServiceClient::with_interceptor(channel, secret().attach());
    Ok(client.read_worker_logs(question).await?.into_inner())
}

async fn next(lines: &mut Streaming<ReadWorkerLogsResponse>) -> Option<LogLine> {
    loop {
        let next = timeout(Duration::from_secs(20), lines.message()).await.expect("no line came").unwrap()?;
        if next.line.is_some() {
            return next.line;
        }
    }
}

/// All lines that are there, as soon as there are so many.
async fn lines(cluster: &Cluster, count: usize, query: ReadLogsRequest) -> Vec<LogLine> {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while tokio::time::Instant::now() < until {
        let mut stream = read(cluster, query.clone()).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = next(&mut stream).await {
            lines.push(line);
        }
        if lines.len() >= count {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are not {count} lines");
}

fn query(parent: &str) -> ReadLogsRequest {
    ReadLogsRequest { parent: parent.into(), ..ReadLogsRequest::default() }
}

#[tokio::test]
async fn lines_are_found_by_call_by_text_and_after_a_restart_and_never_by_another_tenant() {
    let mut cluster = Cluster::with_worker().await;
    let talk = cluster.deploy("talk", guests::TALK).await;
    let mut other = cluster.version("talk", guests::TALK);
    other.namespace = "bank".into();
    let other = cluster.assign(other).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let call = gateway.begin_with(&talk, b"", true, |begin| begin.request_id = "order-7".into()).await;
    let id = call.id.to_string();
    assert_eq!(call.finish().await.status, 204);
    gateway.call(&talk, b"").await;
    gateway.call(&other, b"").await;
    let all = lines(&cluster, 4, query("namespaces/shop")).await;
    assert_eq!(all.len(), 4);
    let line = &all[0];
    assert_eq!((line.text.as_str(), line.stream()), ("one line", LogStream::Stderr));
    assert_eq!((line.function.as_str(), line.version), ("namespaces/shop/functions/talk", 1));
    assert_eq!((line.invocation.as_str(), line.worker.as_str()), (id.as_str(), "w1"));
    for request_id in [id.clone(), "order-7".into()] {
        let found = lines(&cluster, 2, ReadLogsRequest { request_id, ..query("namespaces/shop/functions/talk") }).await;
        assert_eq!(found.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["one line", "second line"]);
    }
    let found = lines(&cluster, 2, ReadLogsRequest { search: "second".into(), ..query("namespaces/shop") }).await;
    assert_eq!(found.len(), 2);
    let last = lines(&cluster, 1, ReadLogsRequest { lines: 1, ..query("namespaces/shop") }).await;
    assert_eq!((last.len(), last[0].text.as_str()), (1, "second line"));
    let other = lines(&cluster, 2, query("namespaces/bank")).await;
    assert!(other.len() == 2 && other.iter().all(|line| line.function.starts_with("namespaces/bank/")));
    let none = lines(&cluster, 0, ReadLogsRequest { request_id: id, ..query("namespaces/bank") }).await;
    assert!(none.is_empty());
    cluster.stop_worker().await;
    cluster.start_worker(|_| {}).await;
    assert_eq!(lines(&cluster, 4, query("namespaces/shop")).await, all);
}

#[tokio::test]
async fn followers_get_what_comes() {
    let mut cluster = Cluster::with_worker().await;
    let talk = cluster.deploy("talk", guests::TALK).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    gateway.call(&talk, b"").await;
    lines(&cluster, 2, query("namespaces/shop")).await;
    let follow = ReadLogsRequest { follow: true, search: "second".into(), ..query("namespaces/shop") };
    let mut follower = read(&cluster, follow).await.unwrap();
    let mut times = Vec::new();
    for round in 0..5 {
        if round > 0 {
            gateway.call(&talk, b"").await;
        }
        let line = next(&mut follower).await.unwrap();
        assert_eq!(line.text, "second line");
        times.push(line.time.map(|time| (time.seconds, time.nanos)));
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    cluster.stop_worker().await;
    assert!(next(&mut follower).await.is_none(), "it ends with the worker");
}

#[tokio::test]
async fn calls_are_found_by_what_they_wrote_and_page_by_page() {
    let mut cluster = Cluster::with_worker().await;
    let talk = cluster.deploy("talk", guests::TALK).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let call = gateway.begin(&talk, b"", true).await;
        ids.push(call.id);
        assert_eq!(call.finish().await.status, 204);
    }
    lines(&cluster, 6, query("namespaces/shop")).await;
    let search = async |parent: &str, before: String, most| {
        let channel = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap().connect().await.unwrap();
        let query = ReadLogsRequest { search: "second".into(), ..query(parent) };
        let question = SearchWorkerLogsRequest { query: Some(query), before, most, patience: None };
        let mut client = WorkerLogServiceClient::with_interceptor(channel, secret().attach());
        client.search_worker_logs(question).await.map(tonic::Response::into_inner)
    };
    let found = search("namespaces/shop", String::new(), 2).await.unwrap();
    let bytes = |id: InvocationId| id.uuid().as_bytes().to_vec();
    assert_eq!(found.invocations, [bytes(ids[2]), bytes(ids[1])]);
    assert_eq!(found.complete_from, bytes(ids[1]), "and there are more");
    let found = search("namespaces/shop", ids[1].to_string(), 2).await.unwrap();
    assert_eq!((found.invocations, found.complete_from.len()), (vec![bytes(ids[0]).into()], 0));
    assert!(search("namespaces/bank", String::new(), 2).await.unwrap().invocations.is_empty());
    assert_eq!(search("namespaces/shop", "x".into(), 2).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused() {
    let cluster = Cluster::with_worker().await;
    for query in [
        query("namespaces/../etc"),
        query("shop"),
        ReadLogsRequest { lines: 10_001, ..query("namespaces/shop") },
        ReadLogsRequest { search: "x".repeat(2000), ..query("namespaces/shop") },
    ] {
        assert_eq!(read(&cluster, query).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_also_after_a_restart() {
    let mut cluster = Cluster::with_worker().await;
    let talk = cluster.deploy("talk", guests::TALK).await;
    let mut gateway = Gateway::connect(cluster.address).await;
    for _ in 0..2 {
        gateway.call(&talk, b"").await;
    }
    let all = lines(&cluster, 4, query("namespaces/shop")).await;
    assert_eq!(all.iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for _ in 0..2 {
        let after = Some(LogPosition { boot: all[1].boot, sequence: all[1].sequence });
        let query = Some(ReadLogsRequest { lines: 1, ..query("namespaces/shop") });
        let mut page = ask(&cluster, ReadWorkerLogsRequest { query, after, ..Default::default() }).await.unwrap();
        let first = page.message().await.unwrap().unwrap();
        assert_eq!((first.line.as_ref(), first.gap), (Some(&all[2]), None));
        assert!(next(&mut page).await.is_none(), "a page has as many lines as were asked for");
        cluster.stop_worker().await;
        cluster.start_worker(|_| {}).await;
    }
    let wrong = ReadWorkerLogsRequest {
        query: Some(query("namespaces/shop")),
        invocations: vec!["no id".into()],
        ..Default::default()
    };
    assert_eq!(ask(&cluster, wrong).await.unwrap_err().code(), Code::InvalidArgument);
}
