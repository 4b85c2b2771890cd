//! A rotated refresh token that cannot be stored: served from memory, said, and stored when it can.

use std::time::Duration;

use http::Method;

use crate::world::{Setup, World};

/// What `/metrics` says of writes that failed.
async fn failures(world: &World) -> u64 {
    let metrics = world.admin(Method::GET, "/metrics").await;
    let name = "regent_state_write_failures_total ";
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(name));
    line.expect("it is there").parse().expect("a number")
}

/// What `/readyz` says is wrong though it is ready.
async fn degraded(world: &World) -> String {
    let answer = world.admin(Method::GET, "/readyz").await;
    assert_eq!(answer.status, 200);
    answer.json()["degraded"].to_string()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_state_file_that_cannot_be_written_costs_no_request_and_heals() {
    let folder = tempfile::tempdir().expect("a folder");
    let blocked = folder.path().join("state");
    std::fs::write(&blocked, "no folder").expect("written");
    let file = blocked.join("state.json");
    let setup = Setup {
        lifetime: Duration::from_secs(10),
        sets: vec![format!("region.credential.state=file:{}", file.display())],
        ..Setup::default()
    };
    let mut world = World::start(setup).await;
    for _ in 0..300 {
        assert_eq!(world.get("/").await.status, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.refreshes() > 5, "it rotates on");
    let said = degraded(&world).await;
    assert!(said.contains("in memory only"), "{said}");
    assert!(failures(&world).await > 0);
    assert_eq!(std::fs::read(&blocked).expect("untouched"), b"no folder");

    std::fs::remove_file(&blocked).expect("removed");
    std::fs::create_dir(&blocked).expect("made");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(degraded(&world).await, "[]");
    assert!(file.exists());
    // The source's own token is long spent: a restart lives from what was stored.
    for _ in 0..3 {
        world.restart().await;
        assert_eq!(world.get("/").await.status, 200);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(world.get("/").await.status, 200);
    }
    assert_eq!(failures(&world).await, 0, "of the new process");
}
