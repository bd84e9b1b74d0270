//! T32: requests that two parsers could divide differently. Each is followed, on the same connection, by the request of a
//! victim, which must get its own answer or none.

use crate::harness::{Cluster, raw};

const VICTIM: &str = "GET /shop/open/victim HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn t32_no_request_hides_in_another() {
    let cluster = Cluster::start().await;
    let smuggled = "GET /shop/open/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let length = smuggled.len();
    let heads: Vec<(String, String)> = vec![
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", length + 5), format!("0\r\n\r\n{smuggled}")),
        (format!("Content-Length: 0\r\nContent-Length: {length}\r\n"), smuggled.into()),
        (format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), smuggled.into()),
        (format!("Content-Length: 0, {length}\r\n"), smuggled.into()),
        (format!("Content-Length: +{length}\r\n"), smuggled.into()),
        (format!("Content-Length : {length}\r\n"), smuggled.into()),
        (format!("Content-Length:\r\n {length}\r\n"), smuggled.into()),
        (format!("X: a\nContent-Length: {length}\r\n"), smuggled.into()),
        (format!("X: a\rContent-Length: {length}\r\n"), smuggled.into()),
        ("Transfer-Encoding: xchunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked, identity\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: identity, chunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding : chunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding:\x0bchunked\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".into(), format!("0\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\n".into(), format!("0\n\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\n".into(), format!("-1\r\n\r\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\n".into(), format!("1;\n{smuggled}")),
        ("Transfer-Encoding: chunked\r\n".into(), format!("fffffffffffffffff0\r\n{smuggled}")),
    ];
    for (fields, rest) in heads {
        let attack = format!("POST /shop/open/attack HTTP/1.1\r\nHost: h\r\n{fields}\r\n{rest}{VICTIM}");
        let before = cluster.workers[0].begins().len();
        let (answer, _) = raw(cluster.functions(), attack.as_bytes()).await;
        let reached: Vec<_> =
            cluster.workers[0].begins().into_iter().skip(before).map(|begin| begin.path_and_query).collect();
        assert!(!reached.contains(&"/smuggled".to_owned()), "{fields:?} {reached:?}");
        assert!(!answer.contains("/victim") || reached.contains(&"/victim".to_owned()), "{fields:?}");
        let refused = answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 5") || answer.is_empty();
        assert!(refused, "{fields:?} {answer}");
        assert!(reached.iter().all(|path| path == "/attack"), "{fields:?} {reached:?}");
    }
}

#[tokio::test]
async fn t32_ordinary_requests_on_one_connection_each_get_their_answer() {
    let cluster = Cluster::start().await;
    let requests = format!(
        "POST /shop/open/one HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
         POST /shop/open/two HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n{VICTIM}"
    );
    let (answers, closed) = raw(cluster.functions(), requests.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert!(answers.contains("/one") && answers.contains("/two") && answers.contains("/victim") && closed);
}

#[tokio::test]
async fn what_no_parser_reads_is_a_bad_request() {
    let cluster = Cluster::start().await;
    for bytes in [
        "GET  /shop/open HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /shop/open HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET /shop/open HTTP/1.1\r\n\r\n",
        "GET http://a/shop/open HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET /shop/open HTTP/1.1\r\nHost: h\r\nbad header\r\n\r\n",
        "GET /shop/open HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        "GET /shop/\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n",
        "\u{16}\u{3}\u{1}nonsense\r\n\r\n",
    ] {
        let (answer, closed) = raw(cluster.functions(), bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{bytes:?} {answer} {closed}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let json: serde_json::Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {bytes:?} {head} {body}"));
        assert_eq!(json["error"]["code"], "invalid_argument", "{bytes:?}");
    }
    assert!(cluster.workers[0].begins().is_empty());
}
