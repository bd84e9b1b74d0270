//! `dunlin worker join`: makes this machine one of a cluster's workers before its worker starts.

use std::{fmt, path::PathBuf};

use anyhow::Context;
use clap::Args;
use dunlin_process::data::DataDir;
use dunlin_proto::trust::JoinToken;

use crate::{WorkerArgs, enrolment, home, identity};

/// What joining takes.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// The join token, or - to read it from standard input, where no list of processes shows it
    token: String,
    /// The scheduler's address, such as https://10.0.0.1:7070
    #[arg(long, value_name = "URL")]
    scheduler: Option<String>,
    /// Name in the cluster
    #[arg(long)]
    name: Option<String>,
    /// The worker's data folder, where key and certificate go
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Configuration file (TOML) of the worker
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What has come of it.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The worker's name in the cluster.
    pub name: String,
    /// The data folder that holds its key and certificate.
    pub data_dir: PathBuf,
    /// Where the scheduler is.
    pub scheduler: String,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, data_dir, scheduler } = self;
        let folder = data_dir.display();
        write!(f, "joined as {name}; start it with: dunlin-worker --scheduler {scheduler} --data-dir {folder}")
    }
}

impl JoinArgs {
    /// Joins, and keeps key and certificate in the data folder.
    ///
    /// # Errors
    /// The token is none or is refused, the scheduler can't be reached, the folder is in use.
    pub async fn join(self) -> anyhow::Result<Joined> {
        let Self { token, scheduler, name, data_dir, config } = self;
        let token = JoinToken::read(&if token == "-" { from_input()? } else { token })?;
        let config = WorkerArgs { config, scheduler, name, data_dir, ..WorkerArgs::default() }.load()?;
        let data = DataDir::open(&config.data_dir)?;
        let name = identity::name(&config.name, data.path())?;
        let home = home(&config, &data)?;
        let member = enrolment(&config, &home, &name).join_once(&token).await?;
        let data_dir = std::path::absolute(&config.data_dir).context("find the data folder")?;
        Ok(Joined { name: member.identity().id.clone(), data_dir, scheduler: config.scheduler })
    }
}

fn from_input() -> anyhow::Result<String> {
    let mut text = String::new();
    // One line: a terminal gives no end.
    std::io::stdin().read_line(&mut text).context("read the join token from standard input")?;
    Ok(text)
}
