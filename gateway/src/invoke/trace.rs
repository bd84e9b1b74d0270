//! The trace that a request belongs to (W3C Trace Context): the caller's where it is valid, otherwise a new one.

use std::sync::Arc;

use dunlin_proto::ids::Namespace;
use http::{HeaderMap, HeaderValue, Version};

use crate::{
    records::Traced,
    traces::{Traces, protocol_of},
};

/// A `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    /// The header's text.
    pub(super) parent: String,
    /// The trace's id in it.
    pub(super) id: u128,
    /// Whether it is the caller's, whose `tracestate` then passes too.
    pub(super) inherited: bool,
}

/// What a request says of its trace; nothing where it says several things.
pub(super) fn sent(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut sent = headers.get_all("traceparent").iter();
    sent.next().filter(|_| sent.next().is_none())
}

/// The longest `tracestate` that is repeated, in bytes: so much has to be passed on (W3C Trace Context 3.3.1.5).
const MAX_STATE: usize = 512;

/// What a request says of its trace's state, which may come in several fields; nothing where that is too long.
pub(super) fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let fields = headers.get_all("tracestate").iter().map(HeaderValue::to_str).collect::<Result<Vec<_>, _>>();
    let text = fields.ok()?.join(",");
    (!text.is_empty() && text.len() <= MAX_STATE).then(|| text.into())
}

/// The trace of a request; `random` makes a new one.
pub(super) fn parent(headers: &HeaderMap, random: (u128, u64)) -> Trace {
    of_sent(sent(headers), random)
}

/// The trace that a request speaks of, where that makes sense; `random` makes a new one.
pub(super) fn of_sent(sent: Option<&HeaderValue>, random: (u128, u64)) -> Trace {
    if let Some(Ok(text)) = sent.map(HeaderValue::to_str)
        && is_valid(text)
        && let Some(id) = id(text)
    {
        return Trace { parent: text.to_owned(), id, inherited: true };
    }
    // All zeros are not valid, and a random number could be just that.
    let (trace, span) = (random.0.max(1), random.1.max(1));
    Trace { parent: format!("00-{trace:032x}-{span:016x}-01"), id: trace, inherited: false }
}

impl Trace {
    /// Makes the gateway a part of the trace, where it traces anything: its span is what the function has as its parent. `span` is
    /// what a new trace was made with.
    pub(super) fn joined(&mut self, traces: &Traces, namespace: &Namespace, span: u64) -> Traced {
        if !traces.is_on() {
            return Traced::default();
        }
        let sampled = traces.takes(namespace, self.id, self.flag());
        self.with(sampled, span)
    }

    /// The same for a request that is refused, of which the function sees nothing.
    pub(super) fn refused(&mut self, traces: &Traces, namespace: Option<&Namespace>, span: u64) -> Traced {
        if !traces.is_on() {
            return Traced::default();
        }
        let sampled = traces.takes_refusal(namespace, self.id, self.flag());
        self.with(sampled, span)
    }

    /// What the caller says of it, where it is the caller's.
    fn flag(&self) -> Option<bool> {
        self.inherited.then(|| last_parts(&self.parent).1 & SAMPLED != 0)
    }

    /// Makes the gateway a part of it, whether it traces anything or not.
    fn with(&mut self, sampled: bool, span: u64) -> Traced {
        let (parent, flags) = if self.inherited { last_parts(&self.parent) } else { (0, 0) };
        let span = span.max(1);
        if self.inherited {
            // What a caller said of its trace stays said, also to the function; it is not for us to take it back.
            self.parent = format!("00-{:032x}-{span:016x}-{flags:02x}", self.id);
        } else if !sampled {
            // A new one has our span already, and the flag as its last digit.
            self.parent.pop();
            self.parent.push('0');
        }
        Traced { span, parent, sampled, ..Traced::default() }
    }
}

/// Makes a call that comes by administration a part of a trace, where anything is traced: what its headers say, or a new one.
/// Returns the trace's id, 0 where there is none, and what its spans need.
pub(crate) fn traced(headers: &mut HeaderMap, traces: &Traces, namespace: &Namespace) -> (u128, Traced) {
    if !traces.is_on() {
        return Default::default();
    }
    of_administration(headers, |trace, span| trace.joined(traces, namespace, span))
}

/// As [`traced`] for a call whose trace is `sampled` or not, whatever its headers say, and that has spans in any case.
pub(crate) fn traced_as(headers: &mut HeaderMap, sampled: bool) -> (u128, Traced) {
    of_administration(headers, |trace, span| trace.with(sampled, span))
}

fn of_administration(headers: &mut HeaderMap, join: impl FnOnce(&mut Trace, u64) -> Traced) -> (u128, Traced) {
    let random = rand::random::<(u128, u64)>();
    let mut trace = parent(headers, random);
    let traced = join(&mut trace, random.1);
    if let Ok(value) = HeaderValue::from_str(&trace.parent) {
        headers.insert("traceparent", value);
    }
    (trace.id, Traced { protocol: protocol_of(Version::HTTP_11), ..traced })
}

/// The `sampled` flag (Trace Context 2.2.5.1).
const SAMPLED: u8 = 1;

/// The span and the flags in a valid `traceparent`.
fn last_parts(text: &str) -> (u64, u8) {
    let mut parts = text.split('-').skip(2);
    let span = parts.next().and_then(|span| u64::from_str_radix(span, 16).ok());
    let flags = parts.next().and_then(|flags| u8::from_str_radix(flags, 16).ok());
    // Of the flags, only those of version 00 are known.
    (span.unwrap_or_default(), flags.unwrap_or_default() & SAMPLED)
}

/// The trace's id in a valid `traceparent`.
fn id(text: &str) -> Option<u128> {
    u128::from_str_radix(text.get(3..35)?, 16).ok()
}

fn is_valid(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut part = |length: usize| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        parts.next().filter(|part| part.len() == length && part.bytes().all(hex))
    };
    let (Some(version), Some(trace), Some(span), Some(_flags)) = (part(2), part(32), part(16), part(2)) else {
        return false;
    };
    let zeros = |text: &str| text.bytes().all(|byte| byte == b'0');
    // Later versions may append parts; version 00 has exactly these.
    let whole = version != "00" || parts.next().is_none();
    version != "ff" && !zeros(trace) && !zeros(span) && whole && text.len() <= 256
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(values: &[&str]) -> Trace {
        let headers = values.iter().map(|value| (http::HeaderName::from_static("traceparent"), value.parse().unwrap()));
        parent(
            &headers.fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            }),
            (7, 0),
        )
    }

    #[test]
    fn a_gateway_without_traces_changes_nothing_of_them() {
        let mut trace = of(&[GOOD]);
        assert_eq!(trace.joined(&Traces::default(), &"shop".parse().unwrap(), 3), Traced::default());
        assert_eq!(trace.parent, GOOD);
    }

    #[test]
    fn a_gateway_with_traces_is_the_functions_parent_and_keeps_what_the_caller_said() {
        let config = crate::Config {
            tracing: crate::TracingConfig {
                endpoint: Some("http://127.0.0.1:1".to_owned()),
                ratio: 1.0,
                callers_per_second: 1,
                ..crate::TracingConfig::default()
            },
            ..crate::Config::default()
        };
        let (traces, _exporter, _trees) = Traces::open(&config).unwrap();
        let namespace = "shop".parse().unwrap();
        let above = 0xb7ad_6b71_6920_3331;
        for (sent, parent, sampled, flags) in [
            (&[][..], 0, true, "01"),
            (&[GOOD][..], above, true, "01"),
            // One a second is enough; the flag stays.
            (&[GOOD][..], above, false, "01"),
            (&[&*GOOD.replace("-01", "-00")][..], above, false, "00"),
        ] {
            let mut trace = of(sent);
            let traced = trace.joined(&traces, &namespace, 0);
            assert_eq!(traced, Traced { span: 1, parent, sampled, ..Traced::default() }, "{sent:?}");
            assert_eq!(trace.parent, format!("00-{:032x}-0000000000000001-{flags}", trace.id));
        }
        let config = crate::TracingConfig { ratio: 0.0, ..config.tracing };
        let (traces, ..) = Traces::open(&crate::Config { tracing: config, ..crate::Config::default() }).unwrap();
        let mut trace = of(&[]);
        assert!(!trace.joined(&traces, &namespace, 0).sampled && trace.parent.ends_with("-0000000000000001-00"));
    }

    #[test]
    fn a_valid_trace_is_passed_on_and_any_other_replaced() {
        assert_eq!(
            of(&[GOOD]),
            Trace { parent: GOOD.to_owned(), id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, inherited: true }
        );
        assert!(of(&[&GOOD.replace("00-0a", "01-0a").replace("-01", "-01-more")]).inherited);
        let new = Trace { parent: format!("00-{:032x}-{:016x}-01", 7, 1), id: 7, inherited: false };
        for bad in [
            &[][..],
            &[""],
            &[GOOD, GOOD],
            &[&GOOD.to_uppercase()],
            &[&format!("{GOOD}-more")],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01"],
        ] {
            assert_eq!(of(bad), new, "{bad:?}");
        }
        assert!(is_valid(&new.parent));
    }
}
