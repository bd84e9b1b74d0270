//! Dunlin's brain: the only owner of durable state. It compiles what is deployed, decides which worker holds which version,
//! and tells workers and gateways. No invocation passes through it: while it is away, what runs goes on.
//!
//! # Layout
//! `rpc` (unpacks and wraps) calls `deploy`, `store` and `cluster`; `reconcile` is the loop around the pure `placement` and
//! `autoscale`; `codes` brings `artifacts`, `compiler` and `signing` together; `catalog` is the durable state in memory;
//! `lending` divides limited rates over gateways; `rollout` judges new versions; `trials` remembers what workers found out, `purges` what gateways
//! forget; `releases` is what callers get, numbered; `audit` is what the audit log says of changes; `budgets` finds which namespaces have used theirs
//! up; `acme` gets certificates for domains, `claims` finds out whose they are;
//! `webhooks` tells namespaces what has happened;
//! `decide` is placement and autoscaling for simulations.

mod acme;
mod app;
mod artifacts;
mod audit;
mod authority;
mod autoscale;
mod budgets;
mod capabilities;
mod catalog;
mod claims;
mod cluster;
mod codes;
mod collection;
mod command;
mod compiler;
mod config;
pub mod decide;
mod deploy;
mod error;
mod garbage;
mod keyring;
mod keys;
mod lending;
mod members;
mod metrics;
mod model;
mod placement;
mod purges;
mod reconcile;
mod releases;
mod rollout;
mod rpc;
mod server;
mod signing;
mod store;
mod tokens;
mod trials;
mod webhooks;

pub use self::{
    command::{JoinTokenArgs, SchedulerCommand},
    config::{
        AcmeConfig, ChallengeKind, Config, DomainsConfig, ProofRule, RetentionConfig, RolloutConfig, SchedulerArgs,
        WebhooksConfig,
    },
    server::{Addresses, Scheduler, join_token, operator_token},
    tokens::MAX_LIFETIME,
};
