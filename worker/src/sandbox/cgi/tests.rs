//! CGI heads and variables, by table.

use super::*;

/// Status, fields and what is left of the bytes.
type Head = (u16, Vec<(String, String)>, String);

fn head(text: &str) -> Result<Option<Head>, String> {
    let mut buffer = BytesMut::from(text);
    Ok(take_head(&mut buffer)?.map(|(status, headers)| {
        let fields =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        (status.as_u16(), fields, String::from_utf8(buffer.to_vec()).unwrap())
    }))
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn heads_are_taken_off_the_body_with_either_line_end() {
    for text in ["Content-Type: text/plain\n\nbody\n\n", "content-type:text/plain  \r\n\r\nbody\n\n"] {
        assert_eq!(
            head(text).unwrap().unwrap(),
            (200, fields(&[("content-type", "text/plain")]), "body\n\n".to_owned())
        );
    }
    assert_eq!(head("Status: 404 Not Found\n\n").unwrap().unwrap().0, 404);
    assert_eq!(head("Status: 204\n\n").unwrap().unwrap().0, 204);
    assert_eq!(head("Location: /there\n\n").unwrap().unwrap().0, 302);
    assert_eq!(head("Status: 301\nLocation: /there\n\n").unwrap().unwrap().0, 301);
    assert_eq!(head("Set-Cookie: a=1\nSet-Cookie: b=2\n\n").unwrap().unwrap().1.len(), 2);
}

#[test]
fn incomplete_heads_wait_for_more() {
    for text in ["", "Content-Type: text/plain", "Content-Type: text/plain\r\n", "Content-Type: text/plain\n\r"] {
        assert_eq!(head(text), Ok(None), "{text:?}");
    }
}

#[test]
fn t11_malformed_heads_are_refused_with_a_reason() {
    let table = [
        ("hello world\n\n", "expected CGI headers"),
        ("\nbody", "no CGI header"),
        ("\r\n\r\n", "no CGI header"),
        ("Content Type: x\n\n", "invalid header name"),
        (": x\n\n", "invalid header name"),
        ("X\u{0}: x\n\n", "invalid header name"),
        ("X: a\u{0}b\n\n", "invalid header value"),
        ("X: a\rSet-Cookie: b\n\n", "invalid header value"),
        ("X: a\n folded\n\n", "expected CGI headers"),
        ("Status: abc\n\n", "invalid Status"),
        ("Status: 20\n\n", "invalid Status"),
        ("Status: 200\nStatus: 404\n\n", "more than one Status"),
        ("HTTP/1.1 200 OK\n\n", "expected CGI headers"),
    ];
    for (text, reason) in table {
        let error = head(text).unwrap_err();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    assert!(head(&"x".repeat(MAX_HEAD_BYTES + 1)).unwrap_err().contains("more than 65536 bytes"));
    assert!(head(&format!("X: {}\n\n", "x".repeat(MAX_HEAD_BYTES))).is_err());
}

fn variables(request: http::request::Builder) -> Vec<(String, String)> {
    environment(&request.body(()).unwrap().into_parts().0)
}

#[test]
fn variables_describe_the_request() {
    let variables = variables(
        http::Request::post("https://shop.example:8443/a%20b/%2e%00c?x=1&y=%20")
            .header("content-length", "3")
            .header("content-type", "text/plain")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-two", "1")
            .header("x-two", "2")
            .extension(Origin { remote_address: "192.0.2.7".into(), base_path: "/shop/check-out".into() }),
    );
    let expected = [
        ("REQUEST_METHOD", "POST"),
        ("SERVER_NAME", "shop.example"),
        ("SERVER_PORT", "8443"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SCRIPT_NAME", "/shop/check-out"),
        ("REMOTE_ADDR", "192.0.2.7"),
        ("PATH_INFO", "/a b/.%00c"),
        ("QUERY_STRING", "x=1&y=%20"),
        ("REQUEST_URI", "/shop/check-out/a%20b/%2e%00c?x=1&y=%20"),
        ("CONTENT_LENGTH", "3"),
        ("CONTENT_TYPE", "text/plain"),
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_X_TWO", "1, 2"),
    ];
    for (name, value) in expected {
        assert!(variables.contains(&(name.to_owned(), value.to_owned())), "{name}: {variables:?}");
    }
}

#[test]
fn t11_httpoxy_and_ambiguous_names_make_no_variable() {
    let variables = variables(
        http::Request::get("http://h/")
            .header("proxy", "http://evil")
            .header("x_forwarded_for", "1")
            .header("connection", "x"),
    );
    assert!(variables.iter().all(|(name, _)| !name.starts_with("HTTP_")), "{variables:?}");
    assert!(variables.contains(&("SERVER_PORT".to_owned(), "80".to_owned())));
}
