//! When to refresh. Pure: the caller brings the dice. When to try again is [`crate::backoff`]'s.
//!
//! Times are fractions of a token's *usable* lifetime, the one second of margin already taken off,
//! so that a token of two seconds is still replaced before it ends.

use std::time::Duration;

/// How often a parked login asks again.
pub const PARKED: Duration = Duration::from_secs(300);
/// How often sources are read, and the longest that one timer runs: timers stand still in a
/// laptop's sleep, the clock that deadlines are on does not.
pub const POLL: Duration = Duration::from_secs(3);
/// Reloads, however many, do not ask about a refused login more often.
pub const RELOAD_FLOOR: Duration = Duration::from_secs(5);
/// An answer that cannot be used (a token that is already over) is not asked for again sooner.
pub const USELESS_FLOOR: Duration = Duration::from_secs(5);

/// How long after the call was sent the next refresh is due: 0.1 to 0.9 of the usable lifetime for
/// the first token, so that sidecars that start together part, 0.5 to 0.9 for later ones. `die` is
/// uniform in 0..1.
#[must_use]
pub fn refresh_after(usable: Duration, first: bool, die: f64) -> Duration {
    let from = if first { 0.1 } else { 0.5 };
    usable.mul_f64(from + (0.9 - from) * die.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn refreshes_fall_where_the_contract_says() {
        // lifetime in seconds, of which one is margin; first; die; due in milliseconds
        for (lifetime, first, die, due) in [
            (2, true, 0.0, 100),
            (2, false, 0.0, 500),
            (2, false, 1.0, 900),
            (5, true, 0.0, 400),
            (5, true, 1.0, 3_600),
            (5, false, 0.0, 2_000),
            (60, false, 0.5, 41_300),
            (300, true, 0.0, 29_900),
            (300, false, 1.0, 269_100),
            (86_400, true, 1.0, 77_759_100),
            (86_400, false, 0.0, 43_199_500),
        ] {
            let usable = Duration::from_secs(lifetime - 1);
            let got = refresh_after(usable, first, die);
            assert_eq!(got.as_millis(), due, "{lifetime} s, {first}, {die}");
        }
    }

    #[test]
    fn no_lifetime_has_a_gap_or_refreshes_all_the_time() {
        for lifetime in [2, 5, 60, 300, 86_400] {
            let usable = Duration::from_secs(lifetime) - SECOND;
            for step in 0..=100 {
                let die = f64::from(step) / 100.0;
                let later = refresh_after(usable, false, die);
                assert!(later < usable && later >= usable / 2, "{lifetime} s");
                let first = refresh_after(usable, true, die);
                assert!(first < usable && first >= usable / 11, "{lifetime} s");
            }
        }
    }

    /// What the fullest window of `times` holds, as a multiple of the mean over `spread` seconds.
    fn peak(times: &[Duration], spread: f64, window: u64) -> f64 {
        let mut windows = std::collections::HashMap::<u64, f64>::new();
        for time in times {
            *windows.entry(time.as_secs() / window).or_default() += 1.0;
        }
        let fullest = windows.values().copied().fold(0.0, f64::max);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let mean = times.len() as f64 * window as f64 / spread;
        fullest / mean
    }

    #[test]
    fn sidecars_that_start_together_do_not_refresh_together() {
        let mut dice = fastrand::Rng::with_seed(7);
        let usable = Duration::from_secs(299);
        let firsts: Vec<_> = (0..5_000)
            .map(|_| refresh_after(usable, true, dice.f64()))
            .collect();
        let spread = firsts.iter().max().expect("some").as_secs_f64()
            - firsts.iter().min().expect("some").as_secs_f64();
        assert!(spread > 0.2 * usable.as_secs_f64());
        assert!(peak(&firsts, spread, 1) < 3.0);
        // And they stay apart over the next rounds.
        let mut due = firsts;
        for _ in 0..5 {
            for time in &mut due {
                *time += refresh_after(usable, false, dice.f64());
            }
            let spread = due.iter().max().expect("some").as_secs_f64()
                - due.iter().min().expect("some").as_secs_f64();
            // By now a second holds so few that chance alone makes peaks.
            assert!(peak(&due, spread, 10) < 3.0);
        }
    }
}
