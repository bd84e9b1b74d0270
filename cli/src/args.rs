//! The command line as a whole: what is common to all commands, and the list of them.

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        alias, api, app, audit, budget, build, cache, completion, context, delete, deploy, describe, doctor, domain,
        function, invocations, invoke, join_token, key, list, login, logs, namespace, new, plan, preview, promote,
        release, role, rollback, rollout, route, token, traffic, usage, versions, webhook, why, worker,
    },
    context::ContextArgs,
    exit::EXIT_CODES_HELP,
    output::Format,
    up::UpArgs,
};

/// Functions as a service on your own machines: develop, deploy, call, watch
#[derive(Parser)]
#[command(name = "dunlin", version, after_help = EXIT_CODES_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) cluster: ContextArgs,
    /// Shape of the data on standard output
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,
    /// Say nothing on standard error but errors and warnings
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster in this process, with a sample function to call
    Up(Box<UpArgs>),
    /// Begin a function from a template
    #[command(visible_alias = "init")]
    New(new::NewArgs),
    /// Build the function in a folder by its manifest
    Build(build::BuildArgs),
    /// Build and deploy a function, or deploy a WebAssembly file
    Deploy(Box<deploy::DeployArgs>),
    /// Call a function
    Invoke(Box<invoke::InvokeArgs>),
    /// List functions
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Say whether a function is healthy and what to do where it is not, and everything else about it
    Describe(describe::DescribeArgs),
    /// List a function's versions
    Versions(versions::VersionsArgs),
    /// Send all traffic back to an earlier version
    Rollback(rollback::RollbackArgs),
    /// Make a link with which anybody can look at a version, with traffic or without
    Preview(preview::PreviewArgs),
    /// Send all traffic to the newest version
    Promote(promote::PromoteArgs),
    /// Divide a function's calls over its versions
    #[command(subcommand)]
    Traffic(traffic::TrafficCommand),
    /// Move a function's calls step by step to another version, as long as that is no worse
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Make, list and delete names for versions, or for several by weight
    #[command(subcommand)]
    Alias(alias::AliasCommand),
    /// List, compare and go back to releases: what callers of the namespace got
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// List and show apps: functions and routes that one manifest declares
    #[command(subcommand)]
    App(app::AppCommand),
    /// Delete a function with all its versions
    Delete(delete::DeleteArgs),
    /// Take a function out of service, and back into it
    #[command(subcommand)]
    Function(function::FunctionCommand),
    /// Show what the calls of a namespace used, by the hour
    Usage(usage::UsageArgs),
    /// Set, show and delete the namespace's budget: how much it may use in a day or month
    #[command(subcommand)]
    Budget(budget::BudgetCommand),
    /// Have events of the namespace posted to a URL: rollbacks, quarantined versions, budgets, certificates
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Make, list and delete usage plans for keys
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Make, list and remove routes: which requests go to which function
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// Import routes from an OpenAPI document, and export them as one
    #[command(subcommand)]
    Api(api::ApiCommand),
    /// Purge the answers that gateways have stored for routes
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Take, list and give back domains for routes
    #[command(subcommand)]
    Domain(domain::DomainCommand),
    /// Show what functions wrote to their standard output and error
    #[command(visible_alias = "tail")]
    Logs(logs::LogsArgs),
    /// List recent calls and what they cost
    Invocations(invocations::InvocationsArgs),
    /// Say what became of a request, step by step
    Why(why::WhyArgs),
    /// Make, list and delete namespaces
    #[command(subcommand, visible_alias = "ns")]
    Namespace(namespace::NamespaceCommand),
    /// Issue tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Make, list and revoke keys for callers
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make tokens with which gateways and workers join the cluster
    #[command(subcommand)]
    JoinToken(join_token::JoinTokenCommand),
    /// List, drain and resume workers, join as one, or be one
    Worker(Box<worker::WorkerCommand>),
    /// Be a gateway: serve functions, and the administration API
    Gateway(Box<dunlin_gateway::GatewayArgs>),
    /// Be a scheduler: own durable state, compile, place
    Scheduler(Box<role::SchedulerCommand>),
    /// Show who changed what, and verify that nobody changed that record
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show whom your token names and what it grants
    Whoami,
    /// Sign in to a cluster with a token
    Login(login::LoginArgs),
    /// List, choose and delete contexts
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
    /// Look for what is wrong with a project and a cluster, and say the fix
    Doctor(doctor::DoctorArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_says_what_it_is() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().filter(|sub| !sub.is_hide_set()).for_each(check);
        }
        check(&Cli::command());
    }
}
