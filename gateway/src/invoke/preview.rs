//! How long a version's own address works: while callers get the version by whatever alias, and for some time after it was made.
//!
//! Pure: now is an argument.

use std::time::{Duration, SystemTime};

use dunlin_proto::{ApiError, ErrorCode, names::FunctionRef};

use crate::routes::Version;

/// Refuses a call of a version's own address that works no longer than this `age`; of 0, for ever. A version that is kept ready
/// has calls.
///
/// # Errors
/// `Gone`.
pub(super) fn check(version: &Version, function: &FunctionRef, age: Duration, now: SystemTime) -> Result<(), ApiError> {
    let since = version.made.and_then(|made| now.duration_since(made).ok());
    if age.is_zero() || version.standbys > 0 || since.is_none_or(|since| since <= age) {
        return Ok(());
    }
    let (number, name) = (version.key.number, &function.function);
    let message = format!(
        "the address of version {number} of function {name} worked for {} after the version was made",
        humantime::format_duration(Duration::from_secs(age.as_secs()))
    );
    let hint = format!(
        "the version is still there: give it an alias (dunlin alias set {name} NAME v{number}), or deploy it anew"
    );
    Err(ApiError::new(ErrorCode::Gone, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dunlin_proto::ids::{FunctionUid, VersionKey, VersionNumber};

    use super::*;
    use crate::routes::Demand;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn version(made: Option<SystemTime>, standbys: usize) -> Version {
        Version {
            key: VersionKey { function: FunctionUid::new(), number: VersionNumber::FIRST },
            timeout: Duration::ZERO,
            request_body_bytes: 1,
            response_body_bytes: 1,
            standbys,
            idempotent: false,
            made,
            demand: Arc::new(Demand::default()),
        }
    }

    #[test]
    fn an_address_works_for_a_time_or_while_the_version_has_calls() {
        let now = SystemTime::UNIX_EPOCH + DAY * 1_000;
        let ago = |days: u32| Some(now - DAY * days);
        for (made, standbys, age, works) in [
            (ago(6), 0, DAY * 7, true),
            (ago(7), 0, DAY * 7, true),
            (ago(8), 0, DAY * 7, false),
            (ago(8), 1, DAY * 7, true),
            (ago(900), 0, Duration::ZERO, true),
            (None, 0, DAY * 7, true),
            (Some(now + DAY), 0, DAY * 7, true),
        ] {
            let function = "namespaces/shop/functions/pay".parse().unwrap();
            let checked = check(&version(made, standbys), &function, age, now);
            assert_eq!(checked.is_ok(), works, "{made:?} {standbys} {age:?}");
            if let Err(error) = checked {
                assert_eq!((error.code, error.code.http_status()), (ErrorCode::Gone, 410));
                assert!(error.message.contains("7days"), "{error:?}");
                assert!(error.hint.unwrap().contains("dunlin alias set pay NAME v1"));
            }
        }
    }
}
