//! Domains that namespaces ask for, in the database, until it is proved whose they are. A claim keeps nobody from claiming the
//! same name: the first that proves it has it. What is looked for, and when, is decided elsewhere (`claims.rs`).

use dunlin_proto::{ApiError, ids::Namespace, names::DomainRef};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    Store, config_bump,
    domains::{all_in_tx, change, check_free, check_room, domain_list_in_tx, give_in_tx},
    namespaces::{namespace_fetch_in_tx, namespace_lock_in_tx},
    retried, row,
};
use crate::{
    error::Error,
    model::{ClaimRecord, DomainRecord, Held, ProofKind, RouteRecord, Time},
};

/// The moment of what is not looked for any more.
const NEVER: i64 = i64::MAX;

/// Claims whose record is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueClaims {
    /// With whether another namespace has the name already, a part of it, or what it is a part of.
    pub(crate) due: Vec<(ClaimRecord, bool)>,
    /// When the next one is due.
    pub(crate) next: Option<Time>,
}

fn read(row: &AnyRow) -> Result<ClaimRecord, Error> {
    Ok(ClaimRecord {
        name: DomainRef { namespace: row::parsed(row, "namespace")?, domain: row::parsed(row, "name")? },
        creator: row::text(row, "creator")?,
        create_time: row::time(row, "create_time")?,
        tls: row::parsed(row, "tls")?,
        attempts: row::count(row, "attempts")?,
        error: row::text(row, "error")?,
        hint: row::text(row, "hint")?,
        attempt: Some(row::time(row, "attempt_time")?).filter(|time| time.0 != NEVER),
        expire: row::time(row, "expire_time")?,
    })
}

/// All claims of a namespace.
pub(super) async fn claim_list_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<Vec<ClaimRecord>, Error> {
    let query = sqlx::query("SELECT * FROM domain_claims WHERE namespace = $1 ORDER BY name").bind(namespace.as_str());
    query.fetch_all(&mut **tx).await?.iter().map(read).collect()
}

/// Takes a claim away; says whether it was there.
pub(super) async fn claim_delete_in_tx(tx: &mut Transaction<'static, Any>, name: &DomainRef) -> Result<bool, Error> {
    let query = sqlx::query("DELETE FROM domain_claims WHERE namespace = $1 AND name = $2");
    let query = query.bind(name.namespace.as_str()).bind(name.domain.as_str());
    Ok(query.execute(&mut **tx).await?.rows_affected() > 0)
}

/// Has all look again who claim a name, a part of it, or what it is a part of: whose it is has changed.
pub(super) async fn claims_wake_in_tx(
    tx: &mut Transaction<'static, Any>,
    name: &DomainRef,
    now: Time,
) -> Result<(), Error> {
    let sql = "UPDATE domain_claims SET attempt_time = $1 WHERE attempt_time <> $2
               AND (name = $3 OR name LIKE '%.' || $3 OR $3 LIKE '%.' || name)";
    let query = sqlx::query(sql).bind(now.0).bind(NEVER).bind(name.domain.as_str());
    query.execute(&mut **tx).await?;
    Ok(())
}

impl Store {
    /// Notes that a namespace asks for a domain, or asks again. What lies below a domain of its own, it gets.
    pub(crate) async fn domain_claim(&self, new: &ClaimRecord) -> Result<Held, Error> {
        if let Some(given) = retried!(self.domain_claim_once(new))? {
            self.domain_create(&given).await?;
            return Ok(Held::Owned(given));
        }
        Ok(Held::Claimed(new.clone()))
    }

    async fn domain_claim_once(&self, new: &ClaimRecord) -> Result<Option<DomainRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &new.name.namespace).await?;
        let (all, given) = (all_in_tx(&mut tx).await?, new.given(ProofKind::Parent, new.create_time));
        check_free(&given, &all)?;
        let own = |other: &&DomainRecord| other.name.namespace == new.name.namespace;
        if all.iter().filter(own).any(|other| other.name.domain.holds(new.name.domain.as_str())) {
            return Ok(Some(given));
        }
        let claims = claim_list_in_tx(&mut tx, &new.name.namespace).await?;
        let others = claims.iter().filter(|claim| claim.name != new.name).count();
        check_room(&new.name.namespace, all.iter().filter(own).count() + others)?;
        claim_write_in_tx(&mut tx, new).await?;
        self.audit_in_tx(&mut tx, change("domain.create", &new.name).after(new)).await?;
        tx.commit().await?;
        Ok(None)
    }

    /// Gives the namespace a domain for which its record was found.
    pub(crate) async fn domain_prove(&self, name: &DomainRef, now: Time) -> Result<DomainRecord, Error> {
        retried!(self.domain_prove_once(name, now))
    }

    async fn domain_prove_once(&self, name: &DomainRef, now: Time) -> Result<DomainRecord, Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &name.namespace).await?;
        // From here on, nobody else changes a domain.
        config_bump(&mut tx).await?;
        let claims = claim_list_in_tx(&mut tx, &name.namespace).await?;
        let missing = || ApiError::not_found(format!("domain {}", name.domain));
        let claim = claims.iter().find(|claim| claim.name == *name).ok_or_else(missing)?;
        let given = claim.given(ProofKind::Dns, now);
        check_free(&given, &all_in_tx(&mut tx).await?)?;
        give_in_tx(&mut tx, &given).await?;
        self.audit_in_tx(&mut tx, change("domain.prove", name).before(claim).after(&given)).await?;
        tx.commit().await?;
        Ok(given)
    }

    /// At most `limit` claims of a namespace, in the order of their names, after a name.
    pub(crate) async fn claim_list(
        &self,
        namespace: &Namespace,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ClaimRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT * FROM domain_claims WHERE namespace = $1 AND name > $2 ORDER BY name LIMIT $3";
        let rows = sqlx::query(sql).bind(namespace.as_str()).bind(after).bind(limit).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// The claim on which a route waits: its host lies on no domain that its namespace has.
    pub(crate) async fn claim_holding(&self, route: &RouteRecord) -> Result<Option<ClaimRecord>, Error> {
        let Some(host) = &route.spec.host else { return Ok(None) };
        let mut tx = self.begin().await?;
        let owned = domain_list_in_tx(&mut tx, &route.name.namespace).await?;
        let claims = claim_list_in_tx(&mut tx, &route.name.namespace).await?;
        tx.commit().await?;
        let host = host.domain().as_str();
        if owned.iter().any(|domain| domain.name.domain.holds(host)) {
            return Ok(None);
        }
        Ok(claims.into_iter().find(|claim| claim.name.domain.holds(host)))
    }

    /// At most `limit` claims whose record is to be looked for now, and when there are more.
    pub(crate) async fn claims_due(&self, now: Time, limit: i64) -> Result<DueClaims, Error> {
        let mut tx = self.begin().await?;
        let sql = "SELECT * FROM domain_claims WHERE attempt_time <= $1 ORDER BY attempt_time LIMIT $2";
        let due = sqlx::query(sql).bind(now.0).bind(limit).fetch_all(&mut *tx).await?;
        let sql = "SELECT attempt_time FROM domain_claims WHERE attempt_time > $1 AND attempt_time < $2
                   ORDER BY attempt_time LIMIT 1";
        let next = sqlx::query(sql).bind(now.0).bind(NEVER).fetch_optional(&mut *tx).await?;
        let all = if due.is_empty() { Vec::new() } else { all_in_tx(&mut tx).await? };
        tx.commit().await?;
        let judged = |claim: ClaimRecord| {
            let taken = check_free(&claim.given(ProofKind::Dns, now), &all).is_err();
            (claim, taken)
        };
        let due = due.iter().map(|row| read(row).map(judged)).collect::<Result<_, _>>()?;
        Ok(DueClaims { due, next: next.map(|row| row::time(&row, "attempt_time")).transpose()? })
    }

    /// Notes that a look proved nothing, and when the next one is; without one, the claim is given up.
    pub(crate) async fn claim_fail(
        &self,
        claim: &ClaimRecord,
        (error, hint): (&str, &str),
        next: Option<Time>,
    ) -> Result<(), Error> {
        let sql = "UPDATE domain_claims SET attempts = attempts + 1, error = $1, hint = $2, attempt_time = $3
                   WHERE namespace = $4 AND name = $5 AND expire_time = $6";
        let query = sqlx::query(sql).bind(error).bind(hint).bind(next.map_or(NEVER, |next| next.0));
        let query = query.bind(claim.name.namespace.as_str()).bind(claim.name.domain.as_str()).bind(claim.expire.0);
        query.execute(&self.pool).await?;
        Ok(())
    }
}

async fn claim_write_in_tx(tx: &mut Transaction<'static, Any>, new: &ClaimRecord) -> Result<(), Error> {
    let sql = "INSERT INTO domain_claims
        (namespace, name, creator, create_time, tls, attempts, error, hint, attempt_time, expire_time)
        VALUES ($1, $2, $3, $4, $5, 0, '', '', $6, $7)
        ON CONFLICT (namespace, name) DO UPDATE SET creator = excluded.creator, create_time = excluded.create_time,
        tls = excluded.tls, attempts = 0, error = '', hint = '', attempt_time = excluded.attempt_time,
        expire_time = excluded.expire_time";
    let query = sqlx::query(sql).bind(new.name.namespace.as_str()).bind(new.name.domain.as_str());
    let query = query.bind(&*new.creator).bind(new.create_time.0).bind(new.tls.as_str());
    let query = query.bind(new.attempt.map_or(NEVER, |at| at.0)).bind(new.expire.0);
    query.execute(&mut **tx).await?;
    Ok(())
}
