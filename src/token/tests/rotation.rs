//! Rotation: nothing is lost but what never arrived.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;

use super::fake::Mood;
use super::{Bench, mode, sleep_s};
use crate::config::StateAt;
use crate::files::faulty::{Fault, Faulty};
use crate::files::{Lock, OsFiles};
use crate::secret::Secret;
use crate::token::Phase;

fn rotating() -> Bench {
    let bench = Bench::new();
    {
        let mut region = bench.region.with();
        region.rotates = true;
        region.lifetime_s = 2;
    }
    bench
}

#[tokio::test(start_paused = true)]
async fn a_thousand_rotations_fail_no_reader_and_every_restart_works() {
    let mut bench = rotating();
    for round in 1..=20 {
        let side = bench.start();
        let last = round * 50;
        while bench.region.calls() < last {
            let got = side.request().await;
            assert!(got.is_ok(), "round {round}: {got:?}");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        side.stop().await;
    }
    let calls = bench.region.calls();
    assert!(calls >= 1_000);
    assert_eq!(bench.region.with().committed, calls);
    assert_eq!(bench.region.with().most_in_flight, 1);
    assert_eq!(mode(&bench.path("token.state")), 0o600);
    assert_eq!(bench.names(), ["token", "token.state", "token.state.lock"]);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_is_on_the_disk_before_its_access_token_is_used() {
    let mut bench = rotating();
    let side = bench.start();
    for generation in 1..=50 {
        side.until_generation(generation).await;
        let state = std::fs::read_to_string(bench.path("token.state")).expect("written");
        let region = bench.region.with();
        let live: Vec<_> = region.live.keys().collect();
        assert!(
            live.len() == 1 && state.contains(live[0].as_str()),
            "{generation}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_of_a_rotation_locks_out_only_where_the_answer_was_lost_and_says_so() {
    // A first rotation, and one on top of a state that is there already.
    for before in [0, 3] {
        let mut locked_out = Vec::new();
        let mut steps = 0;
        for at in 0.. {
            assert!(at < 40, "a rotation has fewer steps");
            let mut bench = rotating();
            if before > 0 {
                let side = bench.start();
                side.until_generation(before).await;
                side.stop().await;
            }
            let committed = bench.region.with().committed;
            let files = Arc::new(Faulty::new());
            files.arm(at, Fault::Crashes);
            bench.region.with().crashing = Some(Arc::clone(&files));
            let side = bench.start_on(Arc::clone(&files) as _);
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if files.crashed() || side.handle.state().attempts > 0 {
                    break;
                }
            }
            let crashed = files.crashed();
            side.kill().await;
            bench.region.with().crashing = None;
            if !crashed {
                steps = at;
                break;
            }
            let side = bench.start();
            let state = side.until("an end", |state| state.attempts > 0).await;
            let step = *files.log().last().expect("a step");
            match &state.phase {
                Phase::Working => assert!(side.is_ready(), "{step}"),
                Phase::Parked { why } => {
                    assert!(
                        bench.region.with().committed > committed,
                        "{step}: never spent"
                    );
                    assert!(why.contains("answer was lost"), "{step}: {why}");
                    assert!(why.contains("a new login is needed"), "{step}: {why}");
                    locked_out.push((at, step));
                }
                other => panic!("{step}: {other:?}"),
            }
            side.stop().await;
            assert!(
                !bench.names().iter().any(|name| name.ends_with(".tmp")),
                "{step}: {:?}",
                bench.names()
            );
        }
        assert!(steps >= 10, "every step was met: {steps}");
        // The one moment left: the answer has arrived and is not even half on its way to the disk.
        let steps: Vec<_> = locked_out.iter().map(|(_, step)| *step).collect();
        assert_eq!(steps, ["write"], "{locked_out:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_the_region_answers_is_told_at_the_next_start() {
    let mut bench = rotating();
    bench.region.set(Mood::AnswersNever);
    let side = bench.start();
    sleep_s(1).await;
    side.kill().await;
    bench.region.set(Mood::Up);
    for _ in 0..2 {
        let side = bench.start();
        let why = side.until_parked().await;
        assert!(
            why.contains("answer was lost") && why.contains("new login"),
            "{why}"
        );
        side.kill().await;
    }
    // A refusal without such a past does not claim one.
    bench.write("token", &bench.region.issue("alice"));
    bench.region.revoke_all();
    let side = bench.start();
    let why = side.until_parked().await;
    assert!(!why.contains("lost"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_on_the_way_parks_clearly_and_is_not_hammered() {
    let mut bench = rotating();
    let side = bench.start();
    side.until_generation(1).await;
    bench.region.set(Mood::LosesAnswers);
    side.until("the lost answer", |state| {
        matches!(state.phase, Phase::BackingOff { .. })
    })
    .await;
    bench.region.set(Mood::Up);
    let why = side.until_parked().await;
    assert!(why.contains("answer was lost"), "{why}");
    let calls = bench.region.calls();
    sleep_s(1_205).await;
    assert!(bench.region.calls() - calls <= 4, "once in five minutes");
    assert!(side.until_parked().await.contains("answer was lost"));
}

#[tokio::test(start_paused = true)]
async fn two_processes_on_one_state_file_stay_healthy_over_a_hundred_rotations() {
    let mut bench = rotating();
    bench.region.with().latency = Duration::from_millis(30);
    let (one, two) = (bench.start(), bench.start());
    one.until_generation(1).await;
    two.until_generation(1).await;
    let start = bench.region.calls();
    while bench.region.calls() < start + 200 {
        for side in [&one, &two] {
            let got = side.request().await;
            assert!(got.is_ok(), "{got:?}");
            assert_eq!(side.handle.counters().refresh_refused.load(Relaxed), 0);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        bench.region.with().most_in_flight,
        1,
        "the lock is held over the call"
    );
    for side in [one, two] {
        assert!(
            side.handle
                .state()
                .token
                .as_ref()
                .expect("a token")
                .generation
                >= 90
        );
        side.stop().await;
    }
    bench.start().until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_token_is_never_spent_without_the_lock() {
    let mut bench = rotating();
    let lock = Lock::try_take(&OsFiles, &bench.path("token.state.lock"))
        .expect("works")
        .expect("free");
    let side = bench.start();
    let state = side
        .until("back-off", |state| {
            matches!(state.phase, Phase::BackingOff { .. })
        })
        .await;
    assert!(
        format!("{:?}", state.degraded).contains("another process"),
        "{state:?}"
    );
    sleep_s(60).await;
    assert_eq!(bench.region.calls(), 0);
    drop(lock);
    side.until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_token_is_not_spent_where_no_descriptor_is_left_for_the_lock() {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
        let mut bench = Bench::new();
        bench.region.with().rotates = true;
        let files = Arc::new(Faulty::new());
        files.arm(0, Fault::Broken(errno.raw_os_error()));
        let side = bench.start_on(Arc::clone(&files) as _);
        let failing = |state: &crate::token::State| state.is_failing();
        let why = side.until("back-off", failing).await.why();
        sleep_s(60).await;
        assert_eq!(bench.region.calls(), 0, "{errno}");
        assert!(why.contains("open the lock file"), "{why}");
        files.heal();
        side.until_generation(1).await;
        assert!(side.handle.state().degraded.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_served_from_memory_said_and_written_later() {
    use rustix::io::Errno;
    for errno in [Errno::NOSPC, Errno::ROFS, Errno::ACCESS, Errno::IO] {
        // From which step of a rotation on the disk is broken: open the lock, create, allocate,
        // write, sync, ..., rename, sync the folder.
        for at in 0..10 {
            let mut bench = rotating();
            let files = Arc::new(Faulty::new());
            let side = bench.start_on(Arc::clone(&files) as _);
            side.until_generation(2).await;
            let old = std::fs::read(bench.path("token.state")).expect("written");
            files.arm(at, Fault::Broken(errno.raw_os_error()));
            // Readers never notice.
            for _ in 0..200 {
                let got = side.request().await;
                assert!(got.is_ok(), "{errno} from step {at}: {got:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let state = side.handle.state();
            assert!(state.token.as_ref().expect("a token").generation > 5);
            assert!(
                state
                    .degraded
                    .iter()
                    .any(|what| what.contains("in memory only")),
                "{errno} from step {at}: {:?}",
                state.degraded
            );
            assert!(side.handle.counters().state_write_failures.load(Relaxed) > 0);
            let now = std::fs::read(bench.path("token.state")).expect("still there");
            assert!(now == old || now.ends_with(b"}\n"), "never emptied");
            files.heal();
            sleep_s(4).await;
            assert!(
                side.handle.state().degraded.is_empty(),
                "{:?}",
                side.handle.state().degraded
            );
            side.stop().await;
            bench.start().until_generation(1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_failed_step_is_made_good_at_the_next_poll() {
    for at in 0..12 {
        let mut bench = rotating();
        bench.region.with().lifetime_s = 300;
        let files = Arc::new(Faulty::new());
        files.arm(at, Fault::Fails(rustix::io::Errno::NOSPC.raw_os_error()));
        let side = bench.start_on(Arc::clone(&files) as _);
        side.until_generation(1).await;
        sleep_s(4).await;
        assert!(side.handle.state().degraded.is_empty(), "step {at}");
        side.kill().await;
        bench.start().until_generation(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_system_without_locks_is_said_loudly_and_used_alone() {
    let mut bench = rotating();
    let files = Arc::new(Faulty::new());
    files.without_locks();
    let side = bench.start_on(files);
    let state = side.until_generation(5).await;
    assert!(
        format!("{:?}", state.degraded).contains("has no locks"),
        "{state:?}"
    );
    side.stop().await;
    bench.start().until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_the_region_does_not_rotate() {
    for echoes in [false, true] {
        let mut bench = Bench::new();
        bench.region.with().echoes = echoes;
        bench.region.with().lifetime_s = 5;
        let side = bench.start();
        side.until_generation(10).await;
        assert_eq!(bench.names(), ["token"]);
        side.stop().await;
        bench.start().until_generation(3).await;
        assert_eq!(bench.names(), ["token"]);
    }
}

#[tokio::test(start_paused = true)]
async fn rotation_that_is_switched_on_later_loses_nothing() {
    let mut bench = Bench::new();
    bench.region.with().lifetime_s = 5;
    let (one, two) = (bench.start(), bench.start());
    one.until_generation(3).await;
    bench.region.with().rotates = true;
    for side in [&one, &two] {
        let generation = side
            .handle
            .state()
            .token
            .as_ref()
            .map_or(0, |token| token.generation);
        side.until_generation(generation + 20).await;
        assert!(side.handle.state().degraded.is_empty());
    }
    one.stop().await;
    two.stop().await;
    bench.start().until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_and_stores_a_rotation_that_is_under_way() {
    let mut bench = rotating();
    bench.region.with().latency = Duration::from_secs(8);
    let side = bench.start();
    sleep_s(1).await;
    assert_eq!(bench.region.calls(), 1);
    let before = tokio::time::Instant::now();
    side.stop().await;
    assert!(before.elapsed() < Duration::from_secs(10));
    let state = std::fs::read_to_string(bench.path("token.state")).expect("stored");
    let live = bench
        .region
        .with()
        .live
        .keys()
        .next()
        .cloned()
        .expect("one");
    assert!(state.contains(&live));
    bench.region.with().latency = Duration::ZERO;
    bench.start().until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_what_nothing_depends_on() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    bench.region.with().latency = Duration::from_secs(8);
    side.handle.force(1);
    sleep_s(1).await;
    assert_eq!(bench.region.calls(), 2);
    let before = tokio::time::Instant::now();
    side.stop().await;
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_operators_new_token_wins_over_old_state() {
    let mut bench = rotating();
    let side = bench.start();
    side.until_generation(5).await;
    side.stop().await;
    // The old line of tokens dies with the operator's new one.
    bench.region.revoke_all();
    let first = std::fs::read_to_string(bench.path("token")).expect("there");
    bench.write("token", &bench.region.issue("alice"));
    let side = bench.start();
    side.until_generation(3).await;
    assert!(side.handle.state().degraded.is_empty());
    side.stop().await;
    // And an old source token again does not bring the new one's state into play.
    bench.write("token", &first);
    bench.start().until_parked().await;
}

#[tokio::test(start_paused = true)]
async fn state_goes_to_our_own_folder_where_the_sources_folder_cannot_be_written() {
    let mut bench = rotating();
    // A path below a file can never be made, not even by root.
    bench.write("file", "");
    let token = std::fs::read_to_string(bench.path("token")).expect("there");
    bench.credential.refresh_token_file = None;
    bench.credential.refresh_token_env = Some(("PRT_TOKEN".to_owned(), Some(token.trim().into())));
    bench.credential.state_home = Some(bench.path("home/regent"));
    let side = bench.start();
    side.until_generation(3).await;
    side.stop().await;
    let digest = crate::secret::Secret::from(token.trim())
        .digest()
        .to_string();
    let path = bench.path(&format!("home/regent/{}.json", &digest[..32]));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&bench.path("home/regent")), 0o700);
    bench.start().until_generation(1).await;
    // And where that is nowhere either, memory serves, and is said.
    bench.credential.state_home = Some(bench.path("file/regent"));
    let fresh = bench.region.issue("alice");
    bench.credential.refresh_token_env =
        Some(("PRT_TOKEN".to_owned(), Some(fresh.as_str().into())));
    let side = bench.start();
    let state = side.until_generation(10).await;
    assert!(
        format!("{:?}", state.degraded).contains("no lasting place"),
        "{state:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn state_of_another_region_is_not_used() {
    let mut bench = rotating();
    bench.credential.state = Some(crate::config::StateAt::File(bench.path("state.json")));
    let side = bench.start();
    side.until_generation(2).await;
    side.stop().await;
    let state = std::fs::read_to_string(bench.path("state.json")).expect("written");
    bench.write(
        "state.json",
        &state.replace("region.example", "other.example"),
    );
    let side = bench.start();
    // The source's own token is tried, which rotation has spent.
    assert!(side.until_parked().await.contains("token_not_valid"));
}

#[tokio::test(start_paused = true)]
async fn a_broken_state_file_is_not_fatal() {
    for content in ["", "{", "null", r#"{"version":9}"#] {
        let mut bench = rotating();
        bench.write("token.state", content);
        let side = bench.start();
        side.until_generation(3).await;
        side.stop().await;
        bench.start().until_generation(1).await;
    }
}

/// `state = "file:PATH"` with two rungs: each keeps what grew from its own source.
#[tokio::test(start_paused = true)]
async fn two_rungs_in_one_state_file_keep_a_token_each() {
    let mut bench = rotating();
    bench.credential.state = Some(StateAt::File(bench.path("state.json")));
    let variable = Secret::from(bench.region.issue("alice").as_str());
    bench.credential.refresh_token_env = Some(("PRT_TOKEN".to_owned(), Some(variable)));
    let file = bench.path("token");
    let token = std::fs::read(&file).expect("there");
    // Each rung in turn alone, so that the other's token only lies there meanwhile.
    for round in 0..6 {
        if round % 2 == 0 {
            std::fs::remove_file(&file).expect("there");
        } else {
            std::fs::write(&file, &token).expect("written");
        }
        let side = bench.start();
        let state = side.until_generation(3).await;
        assert_eq!(state.phase, Phase::Working, "{round}");
        let degraded = &state.degraded;
        assert!(degraded.is_empty(), "{round}: {degraded:?}");
        side.stop().await;
    }
}

/// The sweep of one rung must not take what another one had not finished storing.
#[tokio::test(start_paused = true)]
async fn a_rung_finishes_what_another_one_had_not_stored() {
    let mut bench = rotating();
    bench.credential.state = Some(StateAt::File(bench.path("state.json")));
    let variable = Secret::from(bench.region.issue("alice").as_str());
    bench.credential.refresh_token_env = Some(("PRT_TOKEN".to_owned(), Some(variable)));
    let file = bench.path("token");
    let token = std::fs::read(&file).expect("there");
    // The file's rung ends between the writing and the renaming.
    let files = Arc::new(Faulty::new());
    files.arm(7, Fault::Crashes);
    bench.region.with().crashing = Some(Arc::clone(&files));
    let side = bench.start_on(Arc::clone(&files) as _);
    while !files.crashed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(files.log().last(), Some(&"rename"));
    side.kill().await;
    bench.region.with().crashing = None;
    // The variable's rung is next at that file, then the file's again.
    std::fs::remove_file(&file).expect("there");
    let side = bench.start();
    side.until_generation(2).await;
    side.stop().await;
    std::fs::write(&file, &token).expect("written");
    let side = bench.start();
    let state = side.until_generation(2).await;
    assert!(state.degraded.is_empty(), "{:?}", state.degraded);
}

/// The folder beside the token file says that it can be written, and then has no room, or not for
/// us.
#[tokio::test(start_paused = true)]
async fn where_the_preferred_place_fails_before_the_token_is_spent_the_next_one_is_taken() {
    // The lock file, the new file, its room.
    for (step, errno) in [(0, Errno::ACCESS), (1, Errno::ROFS), (2, Errno::NOSPC)] {
        let mut bench = rotating();
        bench.credential.state_home = Some(bench.path("home/regent"));
        let files = Arc::new(Faulty::new());
        files.arm(step, Fault::Fails(errno.raw_os_error()));
        let side = bench.start_on(Arc::clone(&files) as _);
        let state = side.until_generation(1).await;
        assert!(state.degraded.is_empty(), "{errno}: {:?}", state.degraded);
        side.kill().await;
        let homes = std::fs::read_dir(bench.path("home/regent")).expect("made");
        let names: Vec<_> = homes
            .map(|entry| entry.expect("a name").file_name())
            .collect();
        let stored = |name: &&std::ffi::OsString| name.to_string_lossy().ends_with(".json");
        assert_eq!(names.iter().filter(stored).count(), 1, "{names:?}");
        assert!(!bench.path("token.state").exists(), "{errno}");
        // From there it goes on, in the preferred place again.
        let side = bench.start();
        side.until_generation(2).await;
        side.stop().await;
        assert!(bench.path("token.state").exists(), "{errno}");
        bench.start().until_generation(1).await;
    }
}

/// A crash leaves the token whole in the second place too.
#[tokio::test(start_paused = true)]
async fn a_crash_while_the_next_place_is_written_loses_nothing() {
    for step in 0.. {
        let mut bench = rotating();
        bench.credential.state_home = Some(bench.path("home/regent"));
        let files = Arc::new(Faulty::new());
        files.fill(bench.folder.path());
        files.arm(step, Fault::Crashes);
        bench.region.with().crashing = Some(Arc::clone(&files));
        let side = bench.start_on(Arc::clone(&files) as _);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if files.crashed() || side.handle.state().attempts > 0 {
                break;
            }
        }
        let crashed = files.crashed();
        side.kill().await;
        let last = files.log().last().copied();
        bench.region.with().crashing = None;
        let side = bench.start();
        let state = side.until("an end", |state| state.attempts > 0).await;
        if !crashed {
            assert!(step >= 9, "every step was met: {:?}", files.log());
            break;
        }
        // As in the preferred place: only what was not even half written is lost.
        let lost = last == Some("write") && matches!(state.phase, Phase::Parked { .. });
        assert!(side.is_ready() || lost, "{step} {last:?}: {state:?}");
    }
}
