//! The audit log in the database. An entry is written in the transaction of the change that it tells, as its last statement
//! before the commit: there is never one without the other. The row of the log's end is held from then on, so that entries come
//! one after the other, and its signature is checked before the log goes on from it.

use std::sync::Arc;

use dunlin_proto::{
    ApiError, ErrorCode,
    audit::{AuditSigner, Author, DISTRUST, Entry, Head, HeadKind, Outcome},
    ids::Digest,
};
use sqlx::{Any, Transaction, any::AnyRow};

use super::{Store, row};
use crate::{audit::Change, error::Error, model::Time};

/// Which entries are wanted; what is empty or 0 leaves all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AuditFilter {
    pub(crate) namespace: String,
    pub(crate) since: i64,
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) resource: String,
}

/// Entries with their hashes.
pub(crate) type Hashed = (Entry, Digest);

/// Entries that are deleted at once; more wait for the next time.
const PRUNED: i64 = 10_000;

/// The columns of an entry, in the order of [`entry_insert_in_tx`]. What somebody has put there that this log never writes is
/// read as something that fits no hash: whoever checks the log is told of this entry, and everybody can read the others.
fn read(row: &AnyRow) -> Result<Hashed, Error> {
    let entry = Entry {
        sequence: row::count(row, "sequence")?,
        time: row::number(row, "time")?,
        subject: row::text(row, "subject")?,
        issuer: row::text(row, "issuer")?,
        role: row::text(row, "role")?,
        token_id: row::text(row, "token_id")?,
        address: row::text(row, "address")?,
        gateway: row::text(row, "gateway")?,
        action: row::text(row, "action")?,
        namespace: row::text(row, "namespace")?,
        resource: row::text(row, "resource")?,
        outcome: row::text(row, "outcome")?.parse().unwrap_or(Outcome::Unknown),
        before: row::text(row, "state_before")?,
        after: row::text(row, "state_after")?,
        request_id: row::text(row, "request_id")?,
    };
    Ok((entry, hash(row)?))
}

/// What is no hash is one of nothing that there is.
fn hash(row: &AnyRow) -> Result<Digest, Error> {
    Ok(row::text(row, "hash")?.parse().unwrap_or(Digest::ZERO))
}

/// The refusal of whoever finds that the end of the log is not one that was written here. Nothing goes on from it.
fn no_end() -> Error {
    let message = "the signed end of the audit log is missing from the database, or was changed there";
    let error = ApiError::new(ErrorCode::FailedPrecondition, message);
    error
        .hint("nothing can be changed before the tables of the audit log are put back as they were, from a backup")
        .into()
}

/// An end; one whose signature is none is not signed.
fn read_end(row: &AnyRow) -> Result<Head, Error> {
    Ok(Head {
        sequence: row::count(row, "sequence").map_err(|_| no_end())?,
        hash: hash(row)?,
        time: row::number(row, "time")?,
        signature: hex::decode(row::text(row, "signature")?).unwrap_or_default(),
    })
}

/// The end of the log, which nobody else moves before the transaction ends.
async fn head_lock_in_tx(tx: &mut Transaction<'static, Any>) -> Result<Head, Error> {
    let sql = "UPDATE audit_ends SET sequence = sequence WHERE kind = 'head' \
               RETURNING sequence, hash, time, signature";
    read_end(&sqlx::query(sql).fetch_optional(&mut **tx).await?.ok_or_else(no_end)?)
}

async fn end_write_in_tx(tx: &mut Transaction<'static, Any>, kind: HeadKind, end: &Head) -> Result<(), Error> {
    let sql = "UPDATE audit_ends SET sequence = $1, hash = $2, time = $3, signature = $4 WHERE kind = $5";
    let query = sqlx::query(sql).bind(row::signed(end.sequence)).bind(end.hash.hex()).bind(end.time);
    query.bind(hex::encode(&end.signature)).bind(kind_text(kind)).execute(&mut **tx).await?;
    Ok(())
}

fn kind_text(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Head => "head",
        HeadKind::Checkpoint => "checkpoint",
    }
}

async fn entry_insert_in_tx(tx: &mut Transaction<'static, Any>, entry: &Entry, hash: &Digest) -> Result<(), Error> {
    let sql = "INSERT INTO audit_entries (sequence, time, subject, issuer, role, token_id, address, gateway, action, \
               namespace, resource, outcome, state_before, state_after, request_id, hash) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let query = sqlx::query(sql).bind(row::signed(entry.sequence)).bind(entry.time).bind(&*entry.subject);
    let query = query.bind(&*entry.issuer).bind(&*entry.role).bind(&*entry.token_id).bind(&*entry.address);
    let query = query.bind(&*entry.gateway).bind(&*entry.action).bind(&*entry.namespace).bind(&*entry.resource);
    let query = query.bind(entry.outcome.as_str()).bind(&*entry.before).bind(&*entry.after);
    let written = query.bind(&*entry.request_id).bind(hash.hex()).execute(&mut **tx).await;
    // An end that was set back leads to an entry that there is.
    let is_there = |error: &sqlx::Error| error.as_database_error().is_some_and(|error| error.is_unique_violation());
    written.map(drop).map_err(|error| if is_there(&error) { no_end() } else { error.into() })
}

/// What was sent is text of any kind; a database takes no NUL.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|letter| *letter != '\0').take(512).collect()
}

fn entry_of(author: &Author, change: Change) -> Entry {
    Entry {
        sequence: 0,
        time: 0,
        subject: clean(&author.subject),
        issuer: clean(&author.issuer),
        role: clean(author.role_in(&change.namespace)),
        token_id: clean(&author.token_id),
        address: clean(&author.address),
        gateway: clean(&author.gateway),
        action: change.action.to_owned(),
        namespace: change.namespace,
        resource: clean(&change.resource),
        outcome: change.outcome,
        before: change.before,
        after: change.after,
        request_id: clean(&author.request_id),
    }
}

/// An entry with which the log goes on behind an end that this cluster did not sign.
fn distrust(head: &Head) -> Entry {
    let state = serde_json::json!({ "sequence": head.sequence, "head": head.hash.to_string() });
    let after = state.to_string();
    Entry { action: DISTRUST.to_owned(), resource: "audit".to_owned(), after, ..Entry::default() }
}

impl Store {
    /// The same store for changes on somebody's behalf.
    pub(crate) fn by(&self, author: Author) -> Self {
        Self { author: Arc::new(author), ..self.clone() }
    }

    /// Writes an entry into the transaction of the change that it tells. The last statement before the commit: the log waits
    /// meanwhile.
    pub(super) async fn audit_in_tx(&self, tx: &mut Transaction<'static, Any>, change: Change) -> Result<(), Error> {
        self.idempotency_note_in_tx(tx).await?;
        let mut head = head_lock_in_tx(tx).await?;
        let signer = self.auditor.as_deref();
        if signer.is_some_and(|signer| !head.is_signed(HeadKind::Head, signer.public_key())) {
            tracing::error!(sequence = head.sequence, "the audit log's end was not signed by this cluster");
            head = self.append_in_tx(tx, &head, distrust(&head)).await?;
        }
        let head = self.append_in_tx(tx, &head, entry_of(&self.author, change)).await?;
        end_write_in_tx(tx, HeadKind::Head, &head).await
    }

    /// Checks that nothing has changed since the caller looked, where that matters; then nothing does until the transaction ends,
    /// so that a change which turns out to be none has seen the present, too.
    pub(super) async fn check_unchanged_in_tx(&self, tx: &mut Transaction<'static, Any>) -> Result<(), Error> {
        let Some(seen) = self.unchanged_since else { return Ok(()) };
        if head_lock_in_tx(tx).await?.sequence == seen {
            return Ok(());
        }
        Err(ApiError::new(ErrorCode::Changed, "something has changed since the caller looked").into())
    }

    /// Writes an entry behind an end; the new end.
    async fn append_in_tx(&self, tx: &mut Transaction<'static, Any>, head: &Head, entry: Entry) -> Result<Head, Error> {
        let sequence = head.sequence.saturating_add(1);
        let entry = Entry { sequence, time: Time::now().0.max(head.time), ..entry };
        let hash = entry.hash_after(&head.hash);
        entry_insert_in_tx(tx, &entry, &hash).await?;
        Ok(self.signed(HeadKind::Head, Head { sequence, hash, time: entry.time, signature: Vec::new() }))
    }

    fn signed(&self, kind: HeadKind, head: Head) -> Head {
        match &self.auditor {
            Some(signer) => signer.sign(kind, &head),
            None => head,
        }
    }

    /// Writes an entry for what is no change of the database, before it is done.
    pub(crate) async fn audit_append(&self, change: Change) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        self.audit_in_tx(&mut tx, change).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The end of the log, and the last entry that was deleted.
    pub(crate) async fn audit_ends(&self) -> Result<(Head, Option<Head>), Error> {
        let mut tx = self.begin_snapshot().await?;
        let sql = "SELECT sequence, hash, time, signature FROM audit_ends ORDER BY kind DESC";
        let rows = sqlx::query(sql).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let [head, checkpoint] = rows.as_slice() else {
            return Err(no_end());
        };
        Ok((read_end(head)?, Some(read_end(checkpoint)?).filter(|it| it.sequence > 0)))
    }

    /// At most `limit` entries before a sequence, the newest first, or after it, the oldest first.
    pub(crate) async fn audit_list(
        &self,
        filter: &AuditFilter,
        place: i64,
        oldest_first: bool,
        limit: i64,
    ) -> Result<Vec<Hashed>, Error> {
        macro_rules! sql {
            ($namespace:literal, $place:literal, $order:literal) => {
                concat!(
                    "SELECT * FROM audit_entries WHERE ",
                    $namespace,
                    " AND sequence ",
                    $place,
                    " $1 AND time >= $2 AND ($4 = '' OR subject = $4) ",
                    "AND ($5 = '' OR action = $5 OR action LIKE $6) ",
                    "AND ($7 = '' OR resource = $7 OR resource LIKE $8 ESCAPE '!') ORDER BY sequence ",
                    $order,
                    " LIMIT $9"
                )
            };
        }
        // A namespace has an index, which is of use only where the statement always asks for one.
        let sql = match (filter.namespace.is_empty(), oldest_first) {
            (true, true) => sql!("$3 = ''", ">", "ASC"),
            (true, false) => sql!("$3 = ''", "<", "DESC"),
            (false, true) => sql!("namespace = $3", ">", "ASC"),
            (false, false) => sql!("namespace = $3", "<", "DESC"),
        };
        let below = filter.resource.replace('!', "!!").replace('%', "!%").replace('_', "!_") + "/%";
        let query = sqlx::query(sql).bind(place).bind(filter.since).bind(&*filter.namespace).bind(&*filter.subject);
        let query = query.bind(&*filter.action).bind(format!("{}.%", filter.action)).bind(&*filter.resource);
        let rows = query.bind(below).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Deletes entries of before a moment, the oldest first, and signs where the log begins since. Says how many.
    pub(crate) async fn audit_prune(&self, before: Time) -> Result<u64, Error> {
        let mut tx = self.begin().await?;
        let head = head_lock_in_tx(&mut tx).await?;
        // The last entry stays: the log's end is never behind its beginning.
        let sql = "SELECT sequence, hash, time FROM audit_entries WHERE time < $1 AND sequence < $2 \
                   AND sequence <= (SELECT sequence FROM audit_ends WHERE kind = 'checkpoint') + $3 \
                   ORDER BY sequence DESC LIMIT 1";
        let query = sqlx::query(sql).bind(before.0).bind(row::signed(head.sequence)).bind(PRUNED);
        let Some(found) = query.fetch_optional(&mut *tx).await? else { return Ok(0) };
        let end = Head {
            sequence: row::count(&found, "sequence")?,
            hash: hash(&found)?,
            time: row::number(&found, "time")?,
            signature: Vec::new(),
        };
        let end = self.signed(HeadKind::Checkpoint, end);
        end_write_in_tx(&mut tx, HeadKind::Checkpoint, &end).await?;
        let delete = sqlx::query("DELETE FROM audit_entries WHERE sequence <= $1").bind(row::signed(end.sequence));
        let deleted = delete.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(deleted)
    }

    /// The key that signs the log's ends.
    pub(crate) fn audit_key(&self) -> &[u8] {
        self.auditor.as_deref().map_or(&[][..], AuditSigner::public_key)
    }
}
