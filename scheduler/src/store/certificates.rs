//! Certificates of domains in the database, and the cluster's accounts with authorities. Private keys come and go encrypted.

use std::collections::BTreeMap;

use dunlin_proto::ids::{DomainName, Namespace};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{Store, retried, row, webhooks::webhook_tell_in_tx};
use crate::{
    acme::ends_soon,
    error::Error,
    model::{CertificateRecord, Issued, Time},
    webhooks::Event,
};

/// Failures after which a webhook is told: the first ones pass by themselves now and then.
const TOLD: i64 = 3;

/// Reads a whole row.
fn read(row: &AnyRow) -> Result<CertificateRecord, Error> {
    Ok(CertificateRecord {
        domain: row::parsed(row, "domain")?,
        issued: issued(row)?,
        failures: row::count(row, "failures")?,
        error: row::text(row, "error")?,
        hint: row::text(row, "hint")?,
        attempt: row::time(row, "attempt_time")?,
    })
}

fn issued(row: &AnyRow) -> Result<Option<Issued>, Error> {
    let Some(chain) = row::optional_text(row, "chain")? else { return Ok(None) };
    Ok(Some(Issued {
        chain,
        sealed_key: bytes(&row::text(row, "sealed_key")?)?,
        issuer: row::text(row, "issuer")?,
        start: row::time(row, "start_time")?,
        expire: row::time(row, "expire_time")?,
    }))
}

fn bytes(text: &str) -> Result<Vec<u8>, Error> {
    // Not even a damaged key is repeated.
    hex::decode(text).map_err(|_| Error::Damaged { what: "sealed key", value: String::new() })
}

/// What a webhook would have been told by now of the certificates of a namespace, as far as it still holds.
pub(super) async fn standing_in_tx(
    tx: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    now: Time,
) -> Result<Vec<Event>, Error> {
    let sql = "SELECT certificates.* FROM certificates JOIN domains ON domains.name = certificates.domain
               WHERE domains.namespace = $1 AND domains.tls = 'acme' ORDER BY certificates.domain";
    let rows = sqlx::query(sql).bind(namespace.as_str()).fetch_all(&mut **tx).await?;
    let records = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(records.iter().flat_map(|record| standing(namespace, record, now)).collect())
}

fn standing(namespace: &Namespace, record: &CertificateRecord, now: Time) -> Vec<Event> {
    let CertificateRecord { domain, issued, failures, error, hint, .. } = record;
    let expire = issued.as_ref().map(|issued| issued.expire);
    let failed = (i64::from(*failures) >= TOLD)
        .then(|| Event::certificate_failed(namespace, domain, (error.as_str(), hint.as_str()), expire));
    let ending = issued.as_ref().filter(|issued| ends_soon(issued.start, issued.expire, now));
    let ending = ending.map(|issued| Event::certificate_expiring(namespace, domain, issued.expire));
    failed.into_iter().chain(ending).collect()
}

impl Store {
    /// The domains of all namespaces for which the cluster gets certificates, with what has become of them; nothing for those
    /// that are new.
    pub(crate) async fn certificate_wanted(&self) -> Result<Vec<(DomainName, Option<CertificateRecord>)>, Error> {
        let mut tx = self.begin().await?;
        let domains =
            sqlx::query("SELECT name FROM domains WHERE tls = 'acme' ORDER BY name").fetch_all(&mut *tx).await?;
        let known = sqlx::query("SELECT * FROM certificates").fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let known = known.iter().map(|row| read(row).map(|record| (record.domain.clone(), record)));
        let mut known = known.collect::<Result<BTreeMap<_, _>, _>>()?;
        let names = domains.iter().map(|row| row::parsed(row, "name"));
        names.map(|name| name.map(|name: DomainName| (name.clone(), known.remove(&name)))).collect()
    }

    /// What has become of the certificates of a namespace's domains.
    pub(crate) async fn certificate_list(&self, namespace: &Namespace) -> Result<Vec<CertificateRecord>, Error> {
        let sql = "SELECT certificates.* FROM certificates JOIN domains ON domains.name = certificates.domain
                   WHERE domains.namespace = $1";
        let rows = sqlx::query(sql).bind(namespace.as_str()).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Keeps a new certificate; where nobody has the domain any more, nothing.
    pub(crate) async fn certificate_issue(&self, domain: &DomainName, new: &Issued, next: Time) -> Result<(), Error> {
        retried!(self.certificate_issue_once(domain, new, next))
    }

    async fn certificate_issue_once(&self, domain: &DomainName, new: &Issued, next: Time) -> Result<(), Error> {
        let sql = "INSERT INTO certificates
            (domain, chain, sealed_key, issuer, start_time, expire_time, failures, error, hint, attempt_time)
            SELECT name, $2, $3, $4, $5, $6, 0, '', '', $7 FROM domains WHERE name = $1
            ON CONFLICT (domain) DO UPDATE SET chain = excluded.chain, sealed_key = excluded.sealed_key,
            issuer = excluded.issuer, start_time = excluded.start_time, expire_time = excluded.expire_time,
            failures = 0, error = '', hint = '', attempt_time = excluded.attempt_time";
        let query = sqlx::query(sql).bind(domain.as_str()).bind(&*new.chain).bind(hex::encode(&new.sealed_key));
        let query = query.bind(&*new.issuer).bind(new.start.0).bind(new.expire.0).bind(next.0);
        query.execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that there was no new certificate, and when the authority is asked again; the old one stays.
    pub(crate) async fn certificate_fail(
        &self,
        domain: &DomainName,
        (error, hint): (&str, &str),
        next: Time,
    ) -> Result<(), Error> {
        retried!(self.certificate_fail_once(domain, (error, hint), next))
    }

    async fn certificate_fail_once(
        &self,
        domain: &DomainName,
        (error, hint): (&str, &str),
        next: Time,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO certificates (domain, failures, error, hint, attempt_time)
            SELECT name, 1, $2, $3, $4 FROM domains WHERE name = $1
            ON CONFLICT (domain) DO UPDATE SET failures = certificates.failures + 1, error = excluded.error,
            hint = excluded.hint, attempt_time = excluded.attempt_time
            RETURNING failures, expire_time, (SELECT namespace FROM domains WHERE name = $1) AS namespace";
        let query = sqlx::query(sql).bind(domain.as_str()).bind(error).bind(hint).bind(next.0);
        // Nobody may have the domain any more.
        if let Some(failed) = query.fetch_optional(&mut *tx).await?
            && row::number(&failed, "failures")? >= TOLD
        {
            let (namespace, expire) = (row::parsed(&failed, "namespace")?, row::optional_time(&failed, "expire_time")?);
            let event = Event::certificate_failed(&namespace, domain, (error, hint), expire);
            webhook_tell_in_tx(&mut tx, &event).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The cluster's account with an authority, encrypted.
    pub(crate) async fn acme_account(&self, directory: &str) -> Result<Option<Vec<u8>>, Error> {
        let sql = "SELECT sealed_credentials FROM acme_accounts WHERE directory = $1";
        let found = sqlx::query(sql).bind(directory).fetch_optional(&self.pool).await?;
        found.map(|found| bytes(&row::text(&found, "sealed_credentials")?)).transpose()
    }

    /// Keeps the cluster's account with an authority.
    pub(crate) async fn acme_account_put(&self, directory: &str, sealed: &[u8]) -> Result<(), Error> {
        let sql = "INSERT INTO acme_accounts (directory, sealed_credentials) VALUES ($1, $2)
            ON CONFLICT (directory) DO UPDATE SET sealed_credentials = excluded.sealed_credentials";
        sqlx::query(sql).bind(directory).bind(hex::encode(sealed)).execute(&self.pool).await?;
        Ok(())
    }

    /// Forgets the cluster's account with an authority that does not know it.
    pub(crate) async fn acme_account_forget(&self, directory: &str) -> Result<(), Error> {
        let sql = "DELETE FROM acme_accounts WHERE directory = $1";
        sqlx::query(sql).bind(directory).execute(&self.pool).await?;
        Ok(())
    }
}
