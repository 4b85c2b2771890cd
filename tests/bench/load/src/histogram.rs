//! Latencies by their size, to within 1 %.

/// Below this each value has a place of its own; above, each doubling has this many places.
const PLACES: u64 = 128;
const BITS: u32 = PLACES.ilog2();

/// Counts of nanoseconds.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    all: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let counts = vec![0; place(u64::MAX) + 1];
        Histogram { counts, all: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, nanos: u64) {
        self.counts[place(nanos)] += 1;
        self.all += 1;
    }

    /// What this share of them is at or below; 0 of none.
    pub(crate) fn at(&self, share: f64) -> u64 {
        let wanted = (self.all as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return most(place);
            }
        }
        0
    }
}

fn place(nanos: u64) -> usize {
    let shift = nanos.max(1).ilog2().saturating_sub(BITS - 1);
    let within = nanos >> shift;
    (u64::from(shift) * (PLACES / 2) + within) as usize
}

/// The largest value of a place.
fn most(place: usize) -> u64 {
    let place = place as u64;
    if place < PLACES {
        return place;
    }
    let shift = place / (PLACES / 2) - 1;
    let within = place - shift * (PLACES / 2);
    ((within + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_and_its_place_are_less_than_two_percent_apart() {
        for value in (0..5000).chain([1 << 20, (1 << 20) + 1, 999_999_999, 1 << 40]) {
            let place = place(value);
            let most = most(place);
            assert!(
                most >= value && most - value <= value / 60,
                "{value} {most}"
            );
            assert!(place == 0 || super::most(place - 1) < value, "{value}");
        }
    }

    #[test]
    fn shares_are_found_from_below() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.at(0.5), 0);
        (1..=100).for_each(|value| histogram.add(value));
        assert_eq!(
            (histogram.at(0.5), histogram.at(0.99), histogram.at(1.0)),
            (50, 99, 100)
        );
    }
}
