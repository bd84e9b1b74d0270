//! Compiled code, from the artifact to the seal: compiles what is not there, seals it, and compiles anew what was damaged
//! (threat T23, fault F22) or belongs to an engine of before.

use std::{path::Path, sync::Arc, time::Duration};

use dunlin_process::shutdown::Shutdown;
use dunlin_proto::{
    ApiError, ErrorCode,
    ids::{Digest, Namespace},
};
use tokio::{fs::File, sync::watch};

use crate::{
    artifacts::Artifacts,
    catalog::CatalogKeeper,
    compiler::{Compiler, CompilerReport, Queue},
    error::Error,
    model::{Code, Compiled},
    signing::CodeSigner,
    store::Store,
};

/// How far the making of code has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Others compile.
    Queued,
    Compiling,
    Storing,
}

/// What making code needs that does not wait for the database.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) artifacts: Artifacts,
    pub(crate) compiler: Compiler,
    pub(crate) queue: Queue,
    pub(crate) signer: CodeSigner,
    /// What the compiler compiles for; nothing until it has said so.
    pub(crate) engine: watch::Sender<Option<String>>,
}

/// The compiled code of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Codes {
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) store: Store,
    pub(crate) catalog: Arc<CatalogKeeper>,
}

impl Workshop {
    /// The engine that the compiler compiles for.
    async fn engine(&self) -> Result<String, Error> {
        if let Some(engine) = self.engine.borrow().clone() {
            return Ok(engine);
        }
        let workplace = self.artifacts.workplace()?;
        let engine = self.compiler.fingerprint(workplace.path()).await?;
        self.engine.send_replace(Some(engine.clone()));
        Ok(engine)
    }

    /// Compiles an artifact in `workplace`.
    async fn compile(&self, artifact: &Digest, workplace: &Path) -> Result<CompilerReport, Error> {
        let input = workplace.join("artifact.wasm");
        self.artifacts.artifact_copy(artifact, &input).await?;
        check_magic(&input).await?;
        let report = self.compiler.compile(workplace, &input, &workplace.join("code")).await?;
        self.engine.send_if_modified(|engine| {
            let changed = engine.as_ref() != Some(&report.fingerprint);
            *engine = Some(report.fingerprint.clone());
            changed
        });
        Ok(report)
    }

    /// Seals the code in `workplace`, and stores it.
    async fn store(&self, artifact: Digest, report: CompilerReport, workplace: &Path) -> Result<Compiled, Error> {
        let file = workplace.join("code");
        let bytes = tokio::fs::read(&file).await?;
        let code = self.signer.seal(artifact, &report.fingerprint, Digest::of(&bytes), bytes.len() as u64);
        self.artifacts.code_put(&code.key, &file).await?;
        Ok(Compiled { code, kind: report.kind, imports: report.imports })
    }
}

impl Codes {
    /// The code of an artifact for the compiler's engine, compiled where it is not there.
    pub(crate) async fn ensure(
        &self,
        namespace: &Namespace,
        artifact: &Digest,
        mut progress: impl FnMut(Step),
    ) -> Result<Compiled, Error> {
        let engine = self.workshop.engine().await?;
        if let Some(there) = self.find(artifact, &engine).await? {
            return Ok(there);
        }
        if self.workshop.queue.is_busy(namespace) {
            progress(Step::Queued);
        }
        let _permit = self.workshop.queue.enter(namespace).await?;
        // Whoever compiled before us may have compiled the same.
        if let Some(there) = self.find(artifact, &engine).await? {
            return Ok(there);
        }
        progress(Step::Compiling);
        let workplace = self.workshop.artifacts.workplace()?;
        let report = match self.workshop.compile(artifact, workplace.path()).await {
            Err(Error::Lost(_)) => return Err(self.lost(artifact).await?.into()),
            ended => ended?,
        };
        progress(Step::Storing);
        let _held = self.workshop.artifacts.hold().await;
        let compiled = self.workshop.store(*artifact, report, workplace.path()).await?;
        self.store.code_put(&compiled).await?;
        Ok(compiled)
    }

    /// Code that is there in its full size, and sealed by us.
    async fn find(&self, artifact: &Digest, engine: &str) -> Result<Option<Compiled>, Error> {
        let Some(found) = self.store.code_fetch(artifact, engine).await? else { return Ok(None) };
        let sound = self.workshop.signer.has_sealed(&found.code);
        Ok((sound && self.workshop.artifacts.code_is_there(&found.code).await?).then_some(found))
    }

    /// The artifact's bytes are gone or damaged: the next upload stores them again.
    async fn lost(&self, artifact: &Digest) -> Result<ApiError, Error> {
        // Workers ask for it again and again; once is enough to be told.
        if self.store.artifact_forget(artifact).await? {
            tracing::error!(%artifact, "an artifact is missing or damaged in the store");
        }
        let message = format!("artifact {artifact} is missing or damaged in the platform's store");
        Ok(ApiError::new(ErrorCode::FailedPrecondition, message).hint("upload it again and repeat the deploy"))
    }

    /// The bytes of code by its key, checked; compiled anew where they are damaged.
    pub(crate) async fn open(&self, key: &str) -> Result<(Code, File), Error> {
        let missing = || ApiError::not_found("compiled code with this key");
        let found = self.store.code_fetch_by_key(key).await?.ok_or_else(missing)?;
        match self.workshop.artifacts.code_open(&found.code).await {
            Ok(file) if self.workshop.signer.has_sealed(&found.code) => Ok((found.code, file)),
            Ok(_) | Err(Error::Lost(_)) => {
                let rebuilt = self.rebuild(&found.code).await?;
                let file = self.workshop.artifacts.code_open(&rebuilt).await?;
                Ok((rebuilt, file))
            }
            Err(error) => Err(error),
        }
    }

    /// Compiles damaged code anew.
    async fn rebuild(&self, damaged: &Code) -> Result<Code, Error> {
        let catalog = self.catalog.current();
        let user = catalog.versions().find(|(_, version)| version.artifact == damaged.artifact);
        let unused = || ApiError::not_found("a version that uses this compiled code");
        let namespace = user.map(|(_, version)| version.function.namespace.clone()).ok_or_else(unused)?;
        let _permit = self.workshop.queue.enter(&namespace).await?;
        // Several workers may ask for it at once: the first one's turn has repaired it for all.
        if let Some(there) = self.store.code_fetch_by_key(&damaged.key).await?
            && self.workshop.signer.has_sealed(&there.code)
            && self.workshop.artifacts.code_open(&there.code).await.is_ok()
        {
            return Ok(there.code);
        }
        let workplace = self.workshop.artifacts.workplace()?;
        let report = match self.workshop.compile(&damaged.artifact, workplace.path()).await {
            Err(Error::Lost(_)) => return Err(self.lost(&damaged.artifact).await?.into()),
            ended => ended?,
        };
        let _held = self.workshop.artifacts.hold().await;
        let compiled = self.workshop.store(damaged.artifact, report, workplace.path()).await?;
        self.store.code_put(&compiled).await?;
        tracing::warn!(key = damaged.key, "compiled code was damaged in the store and has been compiled anew");
        self.catalog.refresh_core().await;
        if compiled.code.key != damaged.key {
            let message = "the code belongs to an engine that the compiler no longer has";
            return Err(ApiError::new(ErrorCode::FailedPrecondition, message).into());
        }
        Ok(compiled.code)
    }

    /// Compiles what has no code for the compiler's engine, as after an upgrade, until the shutdown begins.
    pub(crate) async fn keep_compiled(self, shutdown: Shutdown) {
        let mut engine = self.workshop.engine.subscribe();
        loop {
            let all = self.compile_missing(&shutdown).await;
            // What failed is tried again later; a new engine is compiled for at once.
            let pause = if all { Duration::from_secs(600) } else { Duration::from_secs(20) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = engine.changed() => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Says whether nothing is missing any more.
    async fn compile_missing(&self, shutdown: &Shutdown) -> bool {
        let Ok(engine) = self.workshop.engine().await else { return false };
        let missing = self.catalog.current().without_code(&engine);
        let mut all = true;
        for (artifact, namespace) in missing {
            let compiled = tokio::select! {
                compiled = self.ensure(&namespace, &artifact, |_| ()) => compiled,
                () = shutdown.begun() => return false,
            };
            match compiled {
                Ok(_) => tracing::info!(%artifact, %namespace, engine, "compiled for the engine of this release"),
                Err(error) => {
                    all = false;
                    let cause = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(%artifact, %namespace, engine, cause, "can't be compiled for the engine of this release");
                }
            }
            self.catalog.refresh_core().await;
        }
        all
    }
}

/// Only binary WebAssembly gets as far as the compiler: no text, no archive, no native code (threat T22).
async fn check_magic(path: &Path) -> Result<(), Error> {
    use tokio::io::AsyncReadExt;
    let mut head = [0; 8];
    let mut file = File::open(path).await?;
    let whole = file.read_exact(&mut head).await.is_ok();
    if whole && head.starts_with(b"\0asm") {
        return Ok(());
    }
    let what = match &head {
        b if b.starts_with(b"\x7fELF") => "it is native or precompiled code",
        b if b.starts_with(b"(") => "it is WebAssembly text",
        b if b.starts_with(b"\x1f\x8b") => "it is compressed",
        _ => "it does not begin as a binary WebAssembly file does",
    };
    let error = ApiError::new(ErrorCode::InvalidArtifact, format!("the artifact is not WebAssembly: {what}"));
    Err(error.hint("upload the .wasm file that the toolchain built").into())
}
