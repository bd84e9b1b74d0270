//! Certificates from files, as the page of routes shows them: for whom, by whom, until when, and whether that is soon. What the
//! cluster gets for domains is not here (`domains.rs`).

use std::time::{Duration, SystemTime};

use super::{
    format::When,
    view::{Badge, visible},
};
use crate::{admin::model::Time, tls};

/// Nothing renews a file by itself, so somebody is told this long before it ends.
const SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// A certificate from a file.
#[derive(Debug)]
pub(super) struct CertificateRow {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) state: Badge,
    pub(super) from: Option<When>,
    pub(super) until: Option<When>,
}

impl CertificateRow {
    /// What is shown of a certificate.
    pub(super) fn new(found: &tls::FileCertificate, now: SystemTime) -> Self {
        let when = |at: SystemTime| Some(When::new(Time::from(at), now));
        Self {
            names: found.names.iter().map(|name| visible(name)).collect(),
            issuer: visible(&found.issuer),
            state: state(found.start, found.expire, now),
            from: when(found.start),
            until: when(found.expire),
        }
    }
}

/// Whether clients take a certificate, and for how long.
pub(super) fn state(start: SystemTime, expire: SystemTime, now: SystemTime) -> Badge {
    match expire.duration_since(now) {
        _ if start > now => Badge::bad("not valid yet"),
        Err(_) | Ok(Duration::ZERO) => Badge::bad("expired"),
        Ok(left) if left < SOON => Badge::warn("ends soon"),
        Ok(_) => Badge::ok("valid"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn somebody_is_told_before_a_file_ends() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = |days: i64| {
            let span = Duration::from_secs(days.unsigned_abs() * 86_400);
            if days < 0 { now - span } else { now + span }
        };
        for (start, end, text, class) in [
            (-30, 60, "valid", "ok"),
            (-30, 14, "valid", "ok"),
            (-30, 13, "ends soon", "warn"),
            (-30, 0, "expired", "bad"),
            (-30, -1, "expired", "bad"),
            (1, 60, "not valid yet", "bad"),
        ] {
            let badge = state(day(start), day(end), now);
            assert_eq!((badge.text.as_str(), badge.class), (text, class), "{start} {end}");
        }
    }

    #[test]
    fn a_certificate_is_told_as_text() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (start, expire) = (now - Duration::from_secs(86_400), now + Duration::from_secs(86_400 * 30));
        let found =
            tls::FileCertificate { names: vec!["*.example".into()], issuer: "An\u{1b}CA".into(), start, expire };
        let row = CertificateRow::new(&found, now);
        assert_eq!((row.names.as_slice(), row.issuer.as_str()), (["*.example".to_owned()].as_slice(), "An␛CA"));
        assert_eq!(row.until.unwrap().relative, "in 30 days");
    }
}
