//! A function whose answer is what its caller says.

use dunlin_proto::internal::v1::Begin;

use super::{Call, Out, text};

impl Call {
    /// Answers with the headers that the request names, and says how many calls there were; to a request that has the answer
    /// already, that it has. Waits before and after the head where it shall.
    pub(super) async fn say(&self, begin: &Begin) {
        let value = |name: &str| {
            let header = begin.headers.iter().find(|header| header.name == name)?;
            Some(String::from_utf8(header.value.to_vec()).unwrap())
        };
        let calls = self.seen.begins.lock().unwrap().len();
        let said = value("x-say").unwrap_or_default();
        let mut headers: Vec<_> = said.split('|').filter_map(|field| field.split_once(": ")).collect();
        if value("x-wait").is_some() {
            self.go().await;
        }
        let known = value("if-none-match");
        if known.is_some() && headers.iter().any(|(name, tag)| *name == "etag" && Some(*tag) == known.as_deref()) {
            headers.push(("x-confirmed", "yes"));
            self.head(304, &headers).await;
            return self.end("ok", "").await;
        }
        self.head(value("x-status").map_or(200, |status| status.parse().unwrap()), &headers).await;
        if value("x-wait-body").is_some() {
            self.go().await;
        }
        let filled = value("x-fill").map_or_else(String::new, |length| " ".repeat(length.parse().unwrap()));
        self.send(Out::Body(text(&format!("call {calls}{filled}")))).await;
        self.end("ok", "").await;
    }
}
