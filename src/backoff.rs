//! How long to wait before the next try at what failed. Pure: the caller brings the dice.
//!
//! One rule for every server that is called, so that those it turned away together do not come back
//! together.

use std::time::Duration;

/// The longest wait of our own.
pub const CAP: Duration = Duration::from_secs(120);
/// No try comes sooner.
pub const FLOOR: Duration = Duration::from_millis(250);

/// How long to wait after `failures` failures in a row (1 for the first): full jitter below a bound
/// that doubles from 1 s to [`CAP`], and the server's own word added where it gave one, so
/// that those it turned away together do not come back together. `die` is uniform in 0..1.
#[must_use]
pub fn wait(failures: u32, retry_after: Option<Duration>, die: f64) -> Duration {
    let bound = CAP.min(Duration::from_secs(
        1_u64 << failures.saturating_sub(1).min(7),
    ));
    let jitter = FLOOR.max(bound.mul_f64(die.clamp(0.0, 1.0)));
    retry_after.unwrap_or_default() + jitter
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn back_off_grows_from_one_second_to_two_minutes() {
        let bounds: Vec<_> = (1..=9)
            .map(|failures| wait(failures, None, 1.0).as_secs())
            .collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(wait(1, None, 0.0), FLOOR);
        assert_eq!(wait(u32::MAX, None, 1.0), CAP);
    }

    #[test]
    fn retry_after_is_obeyed_and_spread() {
        let told = Duration::from_secs(30);
        assert!(wait(1, Some(told), 0.0) >= told);
        assert_eq!(wait(4, Some(told), 0.5), told + 4 * SECOND);
    }

    #[test]
    fn sidecars_that_waited_for_an_outage_do_not_come_back_together() {
        let mut dice = fastrand::Rng::with_seed(8);
        let mut seconds = [0_u32; 121];
        for _ in 0..6_000 {
            let returns = wait(9, None, dice.f64());
            seconds[usize::try_from(returns.as_secs()).expect("two minutes")] += 1;
        }
        // 50 a second, were they spread evenly.
        assert!(seconds.iter().all(|count| *count < 3 * 50), "{seconds:?}");
    }
}
