//! What a process may trust before it has met anybody.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn secret() -> Trust {
    Trust::Secret(ClusterSecret::from_text(&"s".repeat(32)).unwrap())
}

#[test]
fn t47_a_secret_stays_on_loopback() {
    assert!(secret().check_listener("--listen", "127.0.0.1:7071".parse().unwrap()).is_ok());
    assert!(secret().check_listener("--listen", "[::1]:7071".parse().unwrap()).is_ok());
    let error = secret().check_listener("--listen", "10.0.0.1:7071".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("--listen 10.0.0.1:7071") && error.contains("join token"), "{error}");
    for good in ["http://127.0.0.1:7070", "http://[::1]:7070", "http://localhost:7070"] {
        assert!(secret().scheduler(good).is_ok(), "{good}");
    }
    for bad in [
        "http://10.0.0.1:7070",
        "http://scheduler:7070",
        "https://127.0.0.1:7070",
        "127.0.0.1:7070",
        "",
        "/",
        "ftp://x",
    ] {
        let error = secret().scheduler(bad).unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
}

fn home(folder: &std::path::Path) -> Home {
    Home::new(folder, std::sync::Arc::new(crate::vault::Vault::new(&[7; 32]).unwrap()))
}

#[tokio::test]
async fn t47_a_process_without_anything_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let token = folder.path().join("token");
    let home = home(folder.path());
    let enrolment = |token| Enrolment {
        role: Role::Worker,
        wanted: None,
        fallback: "w",
        home: &home,
        secret: &secret,
        token,
        scheduler: "http://127.0.0.1:1",
    };
    let error = enrolment(None).open().await.unwrap_err().to_string();
    assert!(error.contains("certificate") && error.contains(&secret.display().to_string()), "{error}");
    let error = enrolment(Some(token.as_path())).open().await.unwrap_err().to_string();
    assert!(error.contains(&token.display().to_string()), "{error}");
    std::fs::write(&token, "nonsense").unwrap();
    let error = enrolment(Some(token.as_path())).open().await.unwrap_err().to_string();
    assert!(error.contains("no join token"), "{error}");
    std::fs::write(&secret, "b7f2c09a41d85e6370ac1f4be92d58c6").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(enrolment(None).open().await, Ok(Trust::Secret(_))));
}

#[test]
fn t47_a_members_file_must_be_private_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    assert!(Member::load(&home).unwrap().is_none());
    let path = folder.path().join("trust/member.pem");
    std::fs::create_dir(folder.path().join("trust")).unwrap();
    std::fs::write(&path, "-----BEGIN PRIVATE KEY-----").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Member::load(&home), Err(TrustError::Mode { mode: 0o644, .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Member::load(&home).unwrap_err().to_string().contains("join again"));
}
