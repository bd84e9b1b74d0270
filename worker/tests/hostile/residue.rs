//! T14: nothing of one guest reaches the next one in the same slot.

use dunlin_worker::sandbox::{Policy, SandboxConfig, SandboxError};

use super::support::{call, get, guest, load, small};

#[tokio::test]
async fn t14_the_next_guest_of_a_slot_finds_it_empty() {
    let runtime = dunlin_worker::sandbox::Runtime::new(&SandboxConfig { max_sandboxes: 1, ..small() }).unwrap();
    let file = |name: &str| load(&runtime, &wat::parse_file(guest(name)).unwrap(), Policy::default());
    let (canary, scan) = (file("canary.wat"), file("scan.wat"));
    for round in 0..10_000 {
        assert_eq!(call(&canary, get("/")).await.code(), "trap");
        assert_eq!(call(&scan, get("/")).await.status, Some(200), "round {round}");
    }
}

#[tokio::test]
async fn a_full_pool_is_said_to_be_full_and_a_freed_place_is_usable() {
    let runtime = dunlin_worker::sandbox::Runtime::new(&SandboxConfig { max_sandboxes: 2, ..small() }).unwrap();
    let program = load(&runtime, &wat::parse_file(guest("hello.wat")).unwrap(), Policy::default());
    let first = program.prepare().await.unwrap();
    let _second = program.prepare().await.unwrap();
    assert!(matches!(program.prepare().await, Err(SandboxError::PoolExhausted)));
    drop(first);
    assert_eq!(call(&program, get("/")).await.code(), "ok");
}
