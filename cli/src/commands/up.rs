//! `dunlin up`: everything in one process.

use dunlin_process::{shutdown::Shutdown, telemetry};

use crate::{
    session::Session,
    up::{Up, UpArgs, traces},
};

/// What the context is called, unless `--context` says.
const CONTEXT: &str = "local";

/// Runs it until it is told to stop.
pub(crate) async fn run(args: UpArgs, session: Session, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = args.load()?;
    telemetry::start(args.log_format, &args.log_filter)?;
    let mut up = Up::bind(config).await?;
    let host = up.host();
    let context = session.cluster.context.clone().unwrap_or_else(|| CONTEXT.to_owned());
    let output = session.output;
    if let Some(trees) = up.trees() {
        shutdown.spawn(traces::print(trees, output, shutdown.clone()));
    }
    let welcome = host.clone().welcome(context.clone(), !args.no_sample, output);
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = ending.begun() => {}
            greeted = Box::pin(welcome) => if let Err(failure) = greeted {
                output.failure(&failure);
                ending.begin();
            }
        }
    });
    shutdown.spawn(host.renew(context, output, shutdown.clone()));
    up.serve(shutdown).await
}
