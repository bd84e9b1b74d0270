//! How a gateway or worker comes by its trust when it starts: a certificate that it has, otherwise a join token that it is
//! given, otherwise the secret of its machine.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{Home, Identity, JoinToken, Member, Role, Trust, TrustError, join::Joining};
use crate::metadata::{ClusterSecret, SecretError};

/// Between attempts to reach the scheduler.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a process knows of itself before it is one of the cluster's.
#[derive(Debug)]
pub struct Enrolment<'a> {
    /// What it will do.
    pub role: Role,
    /// The name that its configuration says; nothing where the join token may choose.
    pub wanted: Option<&'a str>,
    /// The name that it takes where neither says one.
    pub fallback: &'a str,
    /// Where it keeps its key and certificate.
    pub home: &'a Home,
    /// The file of the cluster secret.
    pub secret: &'a Path,
    /// The file of a join token.
    pub token: Option<&'a Path>,
    /// The scheduler's URL.
    pub scheduler: &'a str,
}

impl Enrolment<'_> {
    /// Finds or gets the trust. Waits for the scheduler as long as it takes, but only where it has to join.
    ///
    /// # Errors
    /// There is nothing to be trusted by, or it can't be used; the scheduler refuses the token.
    pub async fn open(&self) -> Result<Trust, TrustError> {
        if let Some(member) = self.load()? {
            return Ok(Trust::Certificate(member));
        }
        match self.token {
            Some(token) => self.join(&read(token)?).await.map(Trust::Certificate),
            None => self.secret(),
        }
    }

    /// Joins with a token at once, or says why not.
    ///
    /// # Errors
    /// The scheduler can't be reached or refuses, or the certificate can't be kept.
    pub async fn join_once(&self, token: &JoinToken) -> Result<Member, TrustError> {
        let member = self.joining(token)?.ask(&self.endpoint()?).await?;
        member.save(self.home)?;
        Ok(member)
    }

    async fn join(&self, token: &JoinToken) -> Result<Member, TrustError> {
        let (joining, endpoint) = (self.joining(token)?, self.endpoint()?);
        let mut pause = FIRST_PAUSE;
        let member = loop {
            match joining.ask(&endpoint).await {
                Err(error) if error.is_transient() => {
                    tracing::info!(%error, again_in = ?pause, "waiting for the scheduler to join");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                joined => break joined?,
            }
        };
        member.save(self.home)?;
        tracing::info!(identity = %member.identity(), "joined the cluster");
        Ok(member)
    }

    fn joining<'a>(&'a self, token: &'a JoinToken) -> Result<Joining<'a>, TrustError> {
        if token.role() != self.role {
            return Err(TrustError::Token(format!(
                "the join token is for a {}, but this is a {}",
                token.role(),
                self.role
            )));
        }
        Joining::new(token, self.wanted.or(token.name()).unwrap_or(self.fallback))
    }

    fn endpoint(&self) -> Result<tonic::transport::Endpoint, TrustError> {
        let wrong = || TrustError::Address {
            url: self.scheduler.to_owned(),
            cause: "is no address; one is https://10.0.0.1:7070",
        };
        let endpoint = tonic::transport::Endpoint::from_shared(self.scheduler.to_owned()).map_err(|_| wrong())?;
        if endpoint.uri().host().is_some() { Ok(endpoint) } else { Err(wrong()) }
    }

    /// The certificate that it has from an earlier start, if it has one.
    fn load(&self) -> Result<Option<Member>, TrustError> {
        let Some(member) = Member::load(self.home)? else { return Ok(None) };
        let path = || self.home.file().display().to_string();
        let Identity { role, id } = member.identity().clone();
        if role != self.role || self.wanted.is_some_and(|wanted| wanted != id) {
            let wanted = format!("{} {}", self.role, self.wanted.unwrap_or_default()).trim_end().to_owned();
            return Err(TrustError::Other { path: path(), found: format!("{role} {id}"), wanted });
        }
        let Ok(ago) = SystemTime::now().duration_since(member.peer()?.not_after) else { return Ok(Some(member)) };
        if self.token.is_some() {
            tracing::warn!("the certificate has expired; joining with the join token");
            return Ok(None);
        }
        let ago = humantime::format_duration(Duration::from_secs(ago.as_secs()));
        Err(TrustError::Expired { path: path(), ago, role })
    }

    fn secret(&self) -> Result<Trust, TrustError> {
        match ClusterSecret::from_file(self.secret) {
            Ok(secret) => Ok(Trust::Secret(secret)),
            Err(secret @ SecretError::Read { .. }) => {
                Err(TrustError::Nothing { folder: self.home.folder().join("trust").display().to_string(), secret })
            }
            Err(other) => Err(other.into()),
        }
    }
}

fn read(path: &Path) -> Result<JoinToken, TrustError> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| TrustError::file(path)(io::ErrorKind::InvalidData.into()))?,
        Err(error) => return Err(TrustError::file(path)(error)),
    };
    JoinToken::read(&text)
}
