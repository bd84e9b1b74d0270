//! Domains in the database: each belongs to one namespace, with every name below it. What namespaces only ask for is
//! `claims.rs`'s.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{DomainName, Namespace},
    names::DomainRef,
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{
    Store,
    claims::{claim_delete_in_tx, claim_list_in_tx, claims_wake_in_tx},
    config_bump,
    namespaces::{namespace_fetch_in_tx, namespace_lock_in_tx},
    retried,
    routes::{route_list_in_tx, routes_unused},
    row,
};
use crate::{
    audit::Change,
    error::Error,
    model::{DomainRecord, Time},
};

/// The most domains of a namespace.
const MOST: usize = 100;

/// Reads a whole row.
pub(super) fn read(row: &AnyRow) -> Result<DomainRecord, Error> {
    Ok(DomainRecord {
        name: DomainRef { namespace: row::parsed(row, "namespace")?, domain: row::parsed(row, "name")? },
        creator: row::text(row, "creator")?,
        create_time: row::time(row, "create_time")?,
        tls: row::parsed(row, "tls")?,
        proof: row::parsed(row, "proof")?,
    })
}

/// All domains of a namespace.
pub(super) async fn domain_list_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
) -> Result<Vec<DomainRecord>, Error> {
    let query = sqlx::query("SELECT * FROM domains WHERE namespace = $1 ORDER BY name").bind(namespace.as_str());
    query.fetch_all(&mut **tx).await?.iter().map(read).collect()
}

/// All domains of all namespaces.
pub(super) async fn all_in_tx(tx: &mut Transaction<'static, Any>) -> Result<Vec<DomainRecord>, Error> {
    sqlx::query("SELECT * FROM domains").fetch_all(&mut **tx).await?.iter().map(read).collect()
}

/// Checks that a namespace with so many domains and claims may have another one.
pub(super) fn check_room(namespace: &Namespace, count: usize) -> Result<(), Error> {
    if count < MOST {
        return Ok(());
    }
    let message = format!("namespace {namespace} has or asks for {MOST} domains, the most that it may have");
    Err(ApiError::new(ErrorCode::FailedPrecondition, message).into())
}

/// Writes a domain. Whoever asked for it besides finds out.
pub(super) async fn give_in_tx(tx: &mut Transaction<'static, Any>, new: &DomainRecord) -> Result<(), Error> {
    let sql = "INSERT INTO domains (name, namespace, creator, create_time, tls, proof) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(sql).bind(new.name.domain.as_str()).bind(new.name.namespace.as_str());
    let query = query.bind(&*new.creator).bind(new.create_time.0).bind(new.tls.as_str()).bind(new.proof.as_str());
    query.execute(&mut **tx).await?;
    claim_delete_in_tx(tx, &new.name).await?;
    claims_wake_in_tx(tx, &new.name, new.create_time).await
}

/// Checks that a new domain takes nothing from others, among all that there are.
pub(super) fn check_free(new: &DomainRecord, all: &[DomainRecord]) -> Result<(), Error> {
    let DomainRef { namespace, domain } = &new.name;
    let overlap = |other: &DomainName| other.holds(domain.as_str()) || domain.holds(other.as_str());
    let (own, others): (Vec<_>, Vec<_>) = all.iter().partition(|other| other.name.namespace == *namespace);
    if own.iter().any(|other| other.name.domain == *domain) {
        let message = format!("namespace {namespace} has the domain {domain} already");
        return Err(ApiError::new(ErrorCode::AlreadyExists, message).into());
    }
    // Whose it is, is not for everybody to know.
    if others.iter().any(|other| overlap(&other.name.domain)) {
        let message =
            format!("the domain {domain}, a part of it, or what it is a part of belongs to another namespace");
        return Err(ApiError::new(ErrorCode::AlreadyExists, message)
            .hint("an operator can take it away from there")
            .into());
    }
    check_room(namespace, own.len())
}

impl Store {
    /// Gives a domain to a namespace that needs no further proof, unless another one has it.
    pub(crate) async fn domain_create(&self, new: &DomainRecord) -> Result<(), Error> {
        retried!(self.domain_create_once(new))
    }

    async fn domain_create_once(&self, new: &DomainRecord) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &new.name.namespace).await?;
        // From here on, nobody else changes a domain: each change waits for this counter first.
        config_bump(&mut tx).await?;
        check_free(new, &all_in_tx(&mut tx).await?)?;
        give_in_tx(&mut tx, new).await?;
        self.audit_in_tx(&mut tx, change("domain.create", &new.name).after(new)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// At most `limit` domains of a namespace, in the order of their names, after a name.
    pub(crate) async fn domain_list(
        &self,
        namespace: &Namespace,
        after: &str,
        limit: i64,
    ) -> Result<Vec<DomainRecord>, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "SELECT * FROM domains WHERE namespace = $1 AND name > $2 ORDER BY name LIMIT $3";
        let rows = sqlx::query(sql).bind(namespace.as_str()).bind(after).bind(limit).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.iter().map(read).collect()
    }

    /// Takes a domain, or what it asks for, away from its namespace, unless a route names a host that is on no other one.
    pub(crate) async fn domain_delete(&self, name: &DomainRef) -> Result<(), Error> {
        retried!(self.domain_delete_once(name))
    }

    async fn domain_delete_once(&self, name: &DomainRef) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        namespace_lock_in_tx(&mut tx, &name.namespace).await?;
        let owned = domain_list_in_tx(&mut tx, &name.namespace).await?;
        let claims = claim_list_in_tx(&mut tx, &name.namespace).await?;
        let names = owned.iter().map(|record| &record.name).chain(claims.iter().map(|record| &record.name));
        let left: Vec<_> = names.filter(|other| *other != name).collect();
        let routes = route_list_in_tx(&mut tx, &name.namespace).await?;
        let on = |domain: &DomainName, host: &str| domain.holds(host);
        routes_unused(&format!("the domain {}", name.domain), &routes, |route| {
            let host = route.host.as_ref().map(|host| host.domain().as_str());
            host.is_some_and(|host| on(&name.domain, host) && !left.iter().any(|other| on(&other.domain, host)))
        })?;
        let query = sqlx::query("DELETE FROM domains WHERE namespace = $1 AND name = $2");
        let query = query.bind(name.namespace.as_str()).bind(name.domain.as_str());
        let mut change = change("domain.delete", name);
        if query.execute(&mut *tx).await?.rows_affected() > 0 {
            claims_wake_in_tx(&mut tx, name, Time::now()).await?;
            config_bump(&mut tx).await?;
            change = owned.iter().filter(|record| record.name == *name).fold(change, Change::before);
        } else if claim_delete_in_tx(&mut tx, name).await? {
            change = claims.iter().filter(|record| record.name == *name).fold(change, Change::before);
        } else {
            return Err(ApiError::not_found(format!("domain {}", name.domain)).into());
        }
        self.audit_in_tx(&mut tx, change).await?;
        tx.commit().await?;
        Ok(())
    }
}

pub(super) fn change(action: &'static str, name: &DomainRef) -> Change {
    Change::new(action, &name.namespace, name)
}
