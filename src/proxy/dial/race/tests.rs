use tokio::io::AsyncReadExt as _;

use super::*;
use crate::proxy::dial::fake::{Fate, Fates};

use Fate::{Accepts, Fails, Silent};
use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};

const AT_ONCE: Duration = Duration::ZERO;

/// What came of a race.
struct Race {
    took: Duration,
    outcome: Result<String, io::ErrorKind>,
    /// The numbers of the addresses, and when each was tried. Milliseconds.
    tried: Vec<(usize, u128)>,
}

/// The addresses are 1, 2, ..., in this order, with these fates; odd ones are IPv6.
async fn race(fates: &[Fate]) -> Race {
    let address = |number: usize| {
        let text = match number % 2 {
            1 => format!("[2001:db8::{number}]:443"),
            _ => format!("192.0.2.{number}:443"),
        };
        text.parse::<SocketAddr>().expect("an address")
    };
    let addresses: Vec<_> = (1..=fates.len()).map(address).collect();
    let pairs = addresses.iter().copied().zip(fates.iter().copied());
    let net = Fates::new(pairs);
    let connected = connect(&net, &addresses).await;
    let took = net.began.elapsed();
    let outcome = match connected {
        Ok(mut io) => {
            let mut name = String::new();
            let read = io.read_to_string(&mut name);
            read.await.expect("it said who it is");
            Ok(name)
        }
        Err(error) => Err(error.kind()),
    };
    assert_eq!(
        *net.under_way.lock().expect("no panic"),
        0,
        "all are dropped"
    );
    let tried = net.tried.into_inner().expect("no panic");
    let number = |at: &SocketAddr| addresses.iter().position(|other| other == at);
    let tried = tried
        .iter()
        .map(|(at, when)| (number(at).map_or(0, |at| at + 1), when.as_millis()))
        .collect();
    Race {
        took,
        outcome,
        tried,
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_in_time_is_the_only_one_tried() {
    let race = race(&[Accepts(ms(240)), Accepts(AT_ONCE)]).await;
    assert_eq!(race.outcome.as_deref(), Ok("[2001:db8::1]:443"));
    assert_eq!(race.tried, [(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_first_address_costs_a_quarter_of_a_second() {
    let race = race(&[Silent, Accepts(ms(10)), Accepts(AT_ONCE)]).await;
    assert_eq!(race.outcome.as_deref(), Ok("192.0.2.2:443"));
    assert_eq!(race.took, ms(260));
    assert_eq!(race.tried, [(1, 0), (2, 250)]);
}

#[tokio::test(start_paused = true)]
async fn a_first_address_that_refuses_costs_nothing() {
    let race = race(&[
        Fails(AT_ONCE, ConnectionRefused),
        Fails(AT_ONCE, NetworkUnreachable),
        Accepts(AT_ONCE),
    ])
    .await;
    assert_eq!(race.outcome.as_deref(), Ok("[2001:db8::3]:443"));
    assert_eq!(race.took, AT_ONCE);
    assert_eq!(race.tried, [(1, 0), (2, 0), (3, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_first_to_accept_wins_though_another_was_tried_before() {
    let race = race(&[Accepts(ms(400)), Accepts(ms(300)), Accepts(ms(10))]).await;
    // 1 at 400, 2 at 550, 3 never tried: 400 is before 500.
    assert_eq!(race.outcome.as_deref(), Ok("[2001:db8::1]:443"));
    let race = self::race(&[Accepts(ms(400)), Accepts(ms(100))]).await;
    assert_eq!(race.outcome.as_deref(), Ok("192.0.2.2:443"));
    assert_eq!(race.took, ms(350));
}

#[tokio::test(start_paused = true)]
async fn a_failure_begins_the_next_attempt_and_the_pause_anew() {
    let race = race(&[
        Silent,
        Fails(ms(100), ConnectionRefused),
        Silent,
        Accepts(AT_ONCE),
    ])
    .await;
    assert_eq!(race.tried, [(1, 0), (2, 250), (3, 350), (4, 600)]);
    assert_eq!(race.outcome.as_deref(), Ok("192.0.2.4:443"));
}

#[tokio::test(start_paused = true)]
async fn where_all_fail_the_answer_is_not_that_the_machine_has_no_ipv6() {
    for (fates, kind) in [
        (
            [
                Fails(AT_ONCE, NetworkUnreachable),
                Fails(AT_ONCE, ConnectionRefused),
            ],
            ConnectionRefused,
        ),
        (
            [
                Fails(ms(300), ConnectionRefused),
                Fails(AT_ONCE, NetworkUnreachable),
            ],
            ConnectionRefused,
        ),
        (
            [
                Fails(AT_ONCE, io::ErrorKind::TimedOut),
                Fails(AT_ONCE, ConnectionRefused),
            ],
            io::ErrorKind::TimedOut,
        ),
    ] {
        assert_eq!(race(&fates).await.outcome, Err(kind));
    }
    assert_eq!(
        race(&[]).await.outcome,
        Err(io::ErrorKind::AddrNotAvailable)
    );
}
