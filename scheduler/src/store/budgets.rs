//! Budgets of namespaces in the database. How far they are used is in `budgets.rs`.

use dunlin_proto::{ApiError, ids::Namespace, model::Budget, names::BudgetName};
use serde_json::json;
use sqlx::any::AnyRow;

use super::{Store, namespaces::namespace_fetch_in_tx, row};
use crate::{audit::Change, error::Error};

fn read(row: &AnyRow) -> Result<(Namespace, Budget), Error> {
    Ok((row::parsed(row, "namespace")?, row::json(row, "budget")?))
}

fn missing(namespace: &Namespace) -> Error {
    ApiError::not_found(format!("a budget of namespace {namespace}"))
        .hint("set one with: dunlin budget set --calls 1000000/month")
        .into()
}

fn change(action: &'static str, namespace: &Namespace) -> Change {
    Change::new(action, namespace, &BudgetName { namespace: namespace.clone() })
}

impl Store {
    /// Sets a namespace's budget, or replaces it.
    pub(crate) async fn budget_set(&self, namespace: &Namespace, budget: &Budget) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let sql = "INSERT INTO budgets (namespace, budget) VALUES ($1, $2) \
                   ON CONFLICT (namespace) DO UPDATE SET budget = excluded.budget";
        sqlx::query(sql).bind(namespace.as_str()).bind(row::to_json(budget)?).execute(&mut *tx).await?;
        self.audit_in_tx(&mut tx, change("budget.set", namespace).after(&json!(budget))).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A namespace's budget.
    pub(crate) async fn budget_fetch(&self, namespace: &Namespace) -> Result<Budget, Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let query = sqlx::query("SELECT * FROM budgets WHERE namespace = $1");
        let found = query.bind(namespace.as_str()).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        found.as_ref().map(read).transpose()?.map(|(_, budget)| budget).ok_or_else(|| missing(namespace))
    }

    /// All budgets, in the order of namespaces.
    pub(crate) async fn budget_list(&self) -> Result<Vec<(Namespace, Budget)>, Error> {
        let rows = sqlx::query("SELECT * FROM budgets ORDER BY namespace").fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Deletes a namespace's budget.
    pub(crate) async fn budget_delete(&self, namespace: &Namespace) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        namespace_fetch_in_tx(&mut tx, namespace).await?;
        let query = sqlx::query("DELETE FROM budgets WHERE namespace = $1");
        if query.bind(namespace.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(missing(namespace));
        }
        self.audit_in_tx(&mut tx, change("budget.delete", namespace)).await?;
        tx.commit().await?;
        Ok(())
    }
}
