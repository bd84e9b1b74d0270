//! A compiler that succeeds, refuses, hangs, eats, prints without end, crashes: each a small script.

use std::{fs, path::PathBuf};

use super::*;

struct Fake {
    folder: tempfile::TempDir,
    compiler: Compiler,
}

fn limits() -> ChildLimits {
    ChildLimits { memory: 512 << 20, cpu: Duration::from_secs(20), file: 1 << 20, wall: Duration::from_secs(60) }
}

fn fake_with(script: &str, limits: ChildLimits) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    // Read by a shell and not executed: a file that was just written may still be open in another test's child.
    let path = folder.path().join("compiler");
    // Limits are set right after the start, on a machine that stands still later: it waits for them.
    fs::write(&path, format!("until [ \"$(ulimit -n)\" = 64 ]; do sleep 0.01; done; {script}")).unwrap();
    fs::write(folder.path().join("in.wasm"), b"wasm").unwrap();
    Fake { compiler: Compiler::new(Path::new("/bin/sh"), &[path.display().to_string()], limits), folder }
}

fn fake(script: &str) -> Fake {
    fake_with(script, limits())
}

impl Fake {
    fn output(&self) -> PathBuf {
        self.folder.path().join("out.code")
    }

    async fn compile(&self) -> Result<CompilerReport, ApiError> {
        self.compiler.compile(self.folder.path(), &self.folder.path().join("in.wasm"), &self.output()).await
    }

    async fn refused(&self, code: ErrorCode, says: &str) {
        let error = self.compile().await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
}

const OK: &str =
    r#"cp "$3" "$5"; echo '{"ok":{"kind":"http-0.2","imports":["b","a","b"],"fingerprint":"f-1","size":4}}'"#;

#[tokio::test]
async fn what_it_compiled_is_reported() {
    let fake = fake(OK);
    let report = fake.compile().await.unwrap();
    assert_eq!((report.kind, &*report.fingerprint, report.size), (Kind::Http02, "f-1", 4));
    assert_eq!(report.imports, ["a", "b"]);
    assert_eq!(fs::read(fake.output()).unwrap(), b"wasm");
}

#[tokio::test]
async fn the_fingerprint_is_a_line_or_an_answer() {
    for script in ["echo f-1", r#"echo '{"ok":{"fingerprint":"f-1"}}'"#] {
        let fake = fake(script);
        assert_eq!(fake.compiler.fingerprint(fake.folder.path()).await.unwrap(), "f-1");
    }
    for script in ["true", "echo '{}'", "echo a b", "exit 1"] {
        let fake = fake(script);
        let error = fake.compiler.fingerprint(fake.folder.path()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable, "{script}");
    }
}

#[tokio::test]
async fn its_refusal_reaches_the_developer() {
    let script =
        r#"echo '{"error":{"code":"invalid_artifact","message":"it imports acme:db/sql","hint":"leave it out"}}'"#;
    for end in ["exit 0", "exit 1"] {
        let error = fake(&format!("{script}; {end}")).compile().await.unwrap_err();
        assert_eq!((error.code, &*error.message), (ErrorCode::InvalidArtifact, "it imports acme:db/sql"));
        assert_eq!(error.hint.as_deref(), Some("leave it out"));
    }
}

#[tokio::test]
async fn an_empty_hint_is_none_and_its_own_trouble_is_not_the_developers() {
    let error =
        fake(r#"echo '{"error":{"code":"invalid_artifact","message":"no","hint":""}}'"#).compile().await.unwrap_err();
    assert_eq!(error.hint, None);
    fake(r#"echo '{"error":{"code":"internal","message":"disk full"}}'"#)
        .refused(ErrorCode::Unavailable, "does not work")
        .await;
}

#[tokio::test]
async fn t20_a_loop_is_ended_by_its_processor_time() {
    let fake = fake_with("while :; do :; done", ChildLimits { cpu: Duration::from_secs(1), ..limits() });
    fake.refused(ErrorCode::InvalidArtifact, "1 s of processor time").await;
}

#[tokio::test]
async fn t20_a_wait_is_ended_by_the_wall_and_its_children_with_it() {
    let fake = fake_with("sleep 60 & echo $! > child; wait", ChildLimits { wall: Duration::from_secs(4), ..limits() });
    fake.refused(ErrorCode::InvalidArtifact, "took more than").await;
    let child = fs::read_to_string(fake.folder.path().join("child")).unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.trim()));
    for _ in 0..1_000 {
        if fs::read_to_string(&status).map_or(true, |status| status.contains("State:\tZ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the compiler's child is still there");
}

#[tokio::test]
async fn t20_memory_is_bounded() {
    // A buffer larger than the limit can't be had.
    let fake =
        fake_with("exec dd if=/dev/zero of=/dev/null bs=200M count=1", ChildLimits { memory: 64 << 20, ..limits() });
    let error = fake.compile().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArtifact, "{error}");
    assert!(error.message.contains("64 MiB of memory"), "{error}");
}

#[tokio::test]
async fn t20_an_abort_for_lack_of_memory_is_told_as_that() {
    let fake = fake(r#"echo "memory allocation of 16 bytes failed" >&2; kill -ABRT $$"#);
    fake.refused(ErrorCode::InvalidArtifact, "512 MiB of memory").await;
}

#[tokio::test]
async fn t21_output_is_bounded() {
    fake(r#"head -c 3000000 /dev/zero > "$5""#).compile().await.unwrap_err();
    let fake = fake(r#"exec dd if=/dev/zero of="$5" bs=65536 count=100"#);
    fake.refused(ErrorCode::InvalidArtifact, "larger than 1 MiB").await;
    assert!(fs::metadata(fake.output()).unwrap().len() <= 1 << 20);
}

#[tokio::test]
async fn printing_without_end_is_ended() {
    fake("exec yes").refused(ErrorCode::InvalidArtifact, "prints without end").await;
    fake("exec yes >&2").refused(ErrorCode::InvalidArtifact, "prints without end").await;
}

#[tokio::test]
async fn a_crash_is_the_artifacts_fault_and_nonsense_is_not() {
    fake("kill -SEGV $$").refused(ErrorCode::InvalidArtifact, "signal 11").await;
    fake("exit 101").refused(ErrorCode::InvalidArtifact, "code 101").await;
    for nonsense in [
        "echo hello",
        "true",
        r#"echo '{"ok":{"kind":"x","fingerprint":"f","size":4}}'"#,
        r#"echo '{"ok":{"kind":"command","fingerprint":"f","size":4}}'"#,
    ] {
        fake(nonsense).refused(ErrorCode::Unavailable, "compiler does not work").await;
    }
}

#[tokio::test]
async fn a_compiler_that_is_not_there_is_the_operators_to_repair() {
    let folder = tempfile::tempdir().unwrap();
    let compiler = Compiler::new(&folder.path().join("nowhere"), &[], limits());
    let error = compiler.fingerprint(folder.path()).await.unwrap_err();
    assert_eq!((error.code, error.retry_after.is_some()), (ErrorCode::Unavailable, true));
}

#[tokio::test]
async fn it_sees_nothing_of_our_environment() {
    let fake = fake(r#"env > seen; exit 1"#);
    fake.compile().await.unwrap_err();
    let seen = fs::read_to_string(fake.folder.path().join("seen")).unwrap();
    assert!(!seen.contains("CARGO") && !seen.contains("HOME="), "{seen}");
}
