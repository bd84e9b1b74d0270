//! Whether a function is healthy: what the scheduler, the gateways and the workers know of it, asked at once and brought
//! together. What it means is said by `health.rs`.

use std::time::SystemTime;

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::VersionNumber,
    internal::v1::SummarizeRecordsRequest,
    model::to_wire_duration,
    names::{BudgetName, FunctionRef, NamespaceRef},
    route::HostPattern,
    v1::{self, read_logs_response::Event},
};
use futures::TryStreamExt;

use super::{
    App,
    fanout::{gather, message},
    name,
};
use crate::{
    admin::{
        access::Operation,
        health::{self, Facts, Sum},
    },
    auth::Principal,
    records::{MOST_SUMMARY, service::summary},
};

/// Versions, failures and domains that are looked at, each.
const VERSIONS: i32 = 100;
const FAILURES: i32 = 5;
const DOMAINS: i32 = 1_000;
/// Lines between which missing ones are looked for.
const LINES: u32 = 1_000;

/// What there may or may not be of a function, and who did not say.
#[derive(Debug, Default)]
struct Silent(Vec<String>);

impl Silent {
    /// What was answered; nothing where there is nothing, or nobody said.
    fn ask<T>(&mut self, what: &str, answer: Result<T, ApiError>) -> Option<T> {
        match answer {
            Ok(found) => return Some(found),
            Err(error) if error.code == ErrorCode::NotFound => {}
            Err(_) => self.0.push(format!("the scheduler ({what})")),
        }
        None
    }
}

impl App {
    /// Says whether a function is healthy.
    pub(crate) async fn function_describe(
        &self,
        who: &Principal,
        request: v1::DescribeFunctionRequest,
    ) -> Result<v1::DescribeFunctionResponse, ApiError> {
        self.function_health(who, name("name", &request.name)?, None).await
    }

    /// The same; `failures_since`: only failures of calls from then on are looked for, which is sooner done than finding the
    /// last ones, however long ago.
    pub(crate) async fn function_health(
        &self,
        who: &Principal,
        function: FunctionRef,
        failures_since: Option<SystemTime>,
    ) -> Result<v1::DescribeFunctionResponse, ApiError> {
        Operation::DescribeFunction.allow_in(who, &function.namespace)?;
        let (found, platform, processes) = tokio::join!(
            self.function_get(who, v1::GetFunctionRequest { name: function.to_string() }),
            // They ask so much at once that they would make large futures of all who ask for them.
            Box::pin(self.known_to_scheduler(who, &function)),
            Box::pin(self.known_to_processes(who, &function, failures_since)),
        );
        let (platform, versions, Silent(mut unreachable)) = platform;
        let found = match found {
            // Calls go on without the scheduler, and how they do is known without it.
            Err(error) if error.is_unavailable() => {
                unreachable = vec!["the scheduler".to_owned()];
                self.served(&function).ok_or(error)?
            }
            found => found?.function.unwrap_or_default(),
        };
        let (sum, failures, lost_log_lines, silent) = processes?;
        unreachable.extend(silent);
        unreachable.sort_unstable();
        unreachable.dedup();
        let known = v1::FunctionHealth {
            window: Some(to_wire_duration(MOST_SUMMARY)),
            activity: Some(sum.activity()),
            versions: self.capacity(&found, &versions),
            concurrency: self.concurrency(&function, &sum),
            quotas: quota("function", found.quota_usage).into_iter().chain(platform.quotas).collect(),
            last_deploy: versions.first().map(deploy),
            failures,
            lost_records: sum.lost_records,
            lost_log_lines,
            domains: self.domains_of(&function, platform.domains),
            ..platform
        };
        let has_workers = self.context.dispatcher.directory().load().endpoints().next().is_some();
        let facts = Facts { function: &found, has_workers, unreachable: &unreachable, now: SystemTime::now() };
        let health = Some(health::judged(known, &facts));
        Ok(v1::DescribeFunctionResponse { health, unreachable })
    }

    /// A function as this gateway serves it, as far as a verdict depends on it; nothing where it serves none of that name.
    fn served(&self, function: &FunctionRef) -> Option<v1::Function> {
        let table = self.context.routes.load();
        let known = table.function(function.namespace.as_str(), function.function.as_str())?;
        let share = |(version, percent): (VersionNumber, u32)| v1::TrafficTarget { version: version.get(), percent };
        Some(v1::Function {
            name: function.to_string(),
            public: known.public,
            disabled: known.disabled,
            traffic: known.traffic.shares().map(share).collect(),
            latest_version: known.versions.keys().next_back().copied().unwrap_or_default(),
            ..Default::default()
        })
    }

    /// What stands in the database, and the function's versions, the newest first. Domains are all of the namespace's.
    async fn known_to_scheduler(
        &self,
        who: &Principal,
        function: &FunctionRef,
    ) -> (v1::FunctionHealth, Vec<v1::Version>, Silent) {
        let parent = NamespaceRef { namespace: function.namespace.clone() }.to_string();
        let budget = BudgetName { namespace: function.namespace.clone() }.to_string();
        let of = function.to_string();
        let (rollout, versions, budget, space, domains, releases, webhook) = tokio::join!(
            self.rollout_get(who, v1::GetRolloutRequest { function: of.clone() }),
            self.version_list(who, v1::ListVersionsRequest { parent: of, page_size: VERSIONS, ..Default::default() }),
            self.budget_get(who, v1::GetBudgetRequest { name: budget }),
            self.namespace_get(who, v1::GetNamespaceRequest { name: parent.clone() }),
            self.domain_list(
                who,
                v1::ListDomainsRequest { parent: parent.clone(), page_size: DOMAINS, ..Default::default() }
            ),
            self.release_list(who, v1::ListReleasesRequest { parent, page_size: 1, ..Default::default() }),
            self.webhook_health(who, &function.namespace),
        );
        let mut silent = Silent::default();
        let health = v1::FunctionHealth {
            rollout: silent.ask("rollout", rollout).and_then(|found| found.rollout),
            budget: silent.ask("budget", budget),
            quotas: silent
                .ask("namespace", space)
                .and_then(|found| quota("namespace", found.namespace?.quota_usage))
                .into_iter()
                .collect(),
            domains: silent.ask("domains", domains).map(|found| found.domains).unwrap_or_default(),
            webhook: silent.ask("webhook", webhook),
            last_release: silent.ask("release", releases).and_then(|found| found.releases.into_iter().next()),
            ..Default::default()
        };
        let versions = silent.ask("versions", versions).map(|found| found.versions).unwrap_or_default();
        (health, versions, silent)
    }

    /// What gateways and workers have of its calls: counts, the newest failures, missing log lines; and who did not answer.
    async fn known_to_processes(
        &self,
        who: &Principal,
        function: &FunctionRef,
        failures_since: Option<SystemTime>,
    ) -> Result<(Sum, Vec<v1::Invocation>, u64, Vec<String>), ApiError> {
        let (parent, since) = (function.to_string(), failures_since.map(Into::into));
        let failed =
            v1::ListInvocationsRequest { parent, page_size: FAILURES, failed_only: true, since, ..Default::default() };
        let ((sum, mut silent), failed, (lost, workers)) = tokio::join!(
            self.summed(function),
            self.invocations_among(failed, Vec::new()),
            self.lines_lost(who, function)
        );
        let failed = failed?;
        silent.extend(failed.unreachable);
        silent.extend(workers);
        // Another gateway is heard only about what it was asked for.
        let here = format!("{function}/");
        let failures = failed.invocations.into_iter().filter(|call| call.name.starts_with(&here)).collect();
        Ok((sum, failures, lost, silent))
    }

    /// What all gateways counted of its calls.
    async fn summed(&self, function: &FunctionRef) -> (Sum, Vec<String>) {
        let question =
            SummarizeRecordsRequest { function: function.to_string(), window: Some(to_wire_duration(MOST_SUMMARY)) };
        let own = self.context.config.name.as_str();
        let peers = self.context.dispatcher.directory().load().others(own);
        let questions = peers.into_iter().map(|peer| {
            let (client, question) = (self.context.workers.records(&peer.gateway, &peer.address), question.clone());
            (peer.gateway, async move { message(client?.summarize_records(question).await) })
        });
        let (others, silent) = gather(questions).await;
        let mut sum = Sum::default();
        sum.add(summary(&self.context.records, &self.context.routes, function, MOST_SUMMARY).await);
        others.into_iter().for_each(|other| sum.add(other));
        (sum, silent)
    }

    /// How many lines are missing among those that were written lately, as far as workers say; and who did not answer.
    async fn lines_lost(&self, who: &Principal, function: &FunctionRef) -> (u64, Vec<String>) {
        let since = SystemTime::now().checked_sub(MOST_SUMMARY).map(Into::into);
        let parent = function.to_string();
        let request = v1::ReadLogsRequest { parent, since, lines: LINES, ..Default::default() };
        let (mut lost, mut silent) = (0_u64, Vec::new());
        let Ok(mut events) = self.log_read(who, request).await else { return (0, silent) };
        while let Ok(Some(response)) = events.try_next().await {
            match response.event {
                // Of a restart it is not known how many.
                Some(Event::Gap(gap)) => lost = lost.saturating_add(gap.lines),
                Some(Event::UnreachableWorker(worker)) => silent.push(worker),
                Some(Event::Line(_)) | None => {}
            }
        }
        (lost, silent)
    }

    /// Where the versions with calls can run, as this gateway was told and as it sees it.
    fn capacity(&self, function: &v1::Function, versions: &[v1::Version]) -> Vec<v1::VersionCapacity> {
        let (table, placements) = (self.context.routes.load(), self.context.dispatcher.directory().load());
        let name: Option<FunctionRef> = function.name.parse().ok();
        let known = name.and_then(|name| table.function(name.namespace.as_str(), name.function.as_str()).cloned());
        let of = |target: &v1::TrafficTarget| {
            let key = known.as_ref().and_then(|known| known.versions.get(&target.version)).map(|version| version.key);
            let endpoints = key.and_then(|key| placements.of(key)).map_or(&[][..], |endpoints| endpoints);
            let reachable = endpoints.iter().filter(|endpoint| endpoint.open_sessions() > 0 && !endpoint.is_out());
            let wanted = versions.iter().find(|version| version.number == target.version);
            let scaling = wanted.and_then(|version| version.spec.as_ref()?.scaling);
            v1::VersionCapacity {
                version: target.version,
                percent: target.percent,
                ready_workers: u32::try_from(endpoints.len()).unwrap_or(u32::MAX),
                reachable_workers: u32::try_from(reachable.count()).unwrap_or(u32::MAX),
                wanted_workers: scaling.and_then(|scaling| scaling.min_workers).unwrap_or_default(),
            }
        };
        function.traffic.iter().map(of).collect()
    }

    /// The bounds of calls at once, and what gateways have of them.
    fn concurrency(&self, function: &FunctionRef, sum: &Sum) -> Vec<v1::ConcurrencyUse> {
        let table = self.context.routes.load();
        let Some(known) = table.function(function.namespace.as_str(), function.function.as_str()) else {
            return Vec::new();
        };
        let bound = |whose: &str, current, allowed: Option<u32>| v1::ConcurrencyUse {
            whose: whose.to_owned(),
            current,
            allowed: allowed.unwrap_or_default().into(),
        };
        vec![
            bound("function", sum.running, known.quota.max),
            bound("namespace", sum.namespace_running, known.quota.namespace_max),
        ]
    }

    /// Of a namespace's domains, those on which routes lead to the function: without a host, a route is on all of them.
    fn domains_of(&self, function: &FunctionRef, domains: Vec<v1::Domain>) -> Vec<v1::Domain> {
        let table = self.context.routes.load();
        let Some(site) = table.router.site(function.namespace.as_str()) else { return Vec::new() };
        let rules = site.calling(&function.function);
        let serves = |domain: &v1::Domain| {
            let domain = crate::admin::model::id_in(&domain.name, "domains");
            rules.iter().any(|rule| rule.spec.host.as_ref().is_none_or(|host| is_on(host, domain)))
        };
        domains.into_iter().filter(serves).collect()
    }
}

fn quota(whose: &str, usage: Option<v1::QuotaUsage>) -> Option<v1::QuotaUse> {
    usage.map(|usage| v1::QuotaUse { whose: whose.to_owned(), usage: Some(usage) })
}

/// Whether a host is a domain or lies below it.
fn is_on(host: &HostPattern, domain: &str) -> bool {
    let (HostPattern::Exact(name) | HostPattern::Below(name)) = host;
    let name = name.to_string();
    name == domain || name.strip_suffix(domain).is_some_and(|above| above.ends_with('.'))
}

fn deploy(version: &v1::Version) -> v1::Deploy {
    v1::Deploy {
        version: version.number,
        create_time: version.create_time,
        creator: version.creator.clone(),
        note: version.note.clone(),
    }
}
