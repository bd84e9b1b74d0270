//! Whether what functions reserve of their namespace's concurrency is there: checked wherever one of the two changes, with
//! the namespace's row held.

use std::collections::BTreeMap;

use dunlin_proto::{ApiError, ErrorCode, ids::FunctionName, model::VersionSpec};
use sqlx::{Any, Transaction};

use super::row;
use crate::{
    error::Error,
    model::{NamespaceRecord, Share},
};

/// Checks that the namespace has what its functions reserve; `new` is what a function is about to reserve instead.
pub(super) async fn reservations_check_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &NamespaceRecord,
    new: Option<(&FunctionName, u32)>,
) -> Result<(), Error> {
    let sql = "SELECT f.name, f.traffic, v.number, v.spec FROM functions f \
               JOIN versions v ON v.function_uid = f.uid AND v.namespace = f.namespace WHERE f.namespace = $1";
    let rows = sqlx::query(sql).bind(namespace.name.as_str()).fetch_all(&mut **tx).await?;
    let mut reserved = BTreeMap::new();
    for row in &rows {
        let (traffic, number): (Vec<Share>, u32) = (row::json(row, "traffic")?, row::count(row, "number")?);
        if traffic.iter().any(|Share(version, _)| version.get() == number) {
            let (name, spec): (FunctionName, VersionSpec) = (row::parsed(row, "name")?, row::json(row, "spec")?);
            let most = reserved.entry(name).or_insert(0);
            *most = spec.scaling.reserved_concurrency.max(*most);
        }
    }
    if let Some((name, amount)) = new {
        reserved.insert(name.clone(), amount);
    }
    Ok(check(namespace, &reserved)?)
}

/// Whether these reservations fit.
fn check(namespace: &NamespaceRecord, reserved: &BTreeMap<FunctionName, u32>) -> Result<(), ApiError> {
    let sum: u64 = reserved.values().copied().map(u64::from).sum();
    let who = || {
        let reserving = reserved.iter().filter(|(_, amount)| **amount > 0).take(10);
        reserving.map(|(name, amount)| format!("{name} {amount}")).collect::<Vec<_>>().join(", ")
    };
    let name = &namespace.name;
    let message = match namespace.max_concurrency {
        None if sum > 0 => format!("namespace {name} has no max_concurrency of which to reserve ({})", who()),
        Some(max) if sum > u64::from(max) => {
            format!("functions of namespace {name} reserve {sum} ({}), but its max_concurrency is {max}", who())
        }
        _ => return Ok(()),
    };
    let hint = "reserve less, or let an operator give the namespace more: dunlin namespace update";
    let error = ApiError::new(ErrorCode::FailedPrecondition, message).hint(hint);
    Err(ApiError { field: Some("spec.scaling.reserved_concurrency".to_owned()), ..error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    #[test]
    fn what_is_reserved_must_be_there() {
        let (name, description) = ("shop".parse().unwrap(), String::new());
        let retention = dunlin_proto::model::Retention::default();
        let (create_time, max_concurrency) = (Time(0), Some(10));
        let mut namespace =
            NamespaceRecord { name, description, create_time, max_concurrency, rate: None, quota: None, retention };
        let reserved = |amounts: &[u32]| -> BTreeMap<FunctionName, u32> {
            amounts.iter().enumerate().map(|(n, amount)| (format!("f{n}").parse().unwrap(), *amount)).collect()
        };
        for fits in [&[][..], &[0, 0], &[10], &[4, 6]] {
            assert_eq!(check(&namespace, &reserved(fits)), Ok(()), "{fits:?}");
        }
        let error = check(&namespace, &reserved(&[4, 7, 0])).unwrap_err();
        assert_eq!(error.message, "functions of namespace shop reserve 11 (f0 4, f1 7), but its max_concurrency is 10");
        assert!(check(&namespace, &reserved(&[u32::MAX, u32::MAX])).is_err());
        namespace.max_concurrency = None;
        assert_eq!(check(&namespace, &reserved(&[0])), Ok(()));
        assert!(check(&namespace, &reserved(&[1])).unwrap_err().message.contains("has no max_concurrency"));
    }
}
