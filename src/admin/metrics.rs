//! `/metrics`: Prometheus text, from the counters of each thread, summed when they are read. No
//! label carries a caller's words.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Board;
use crate::clock::Boot;
use crate::proxy::inbound::Inbound;
use crate::reason::Reason;
use crate::telemetry::counters::{BUCKETS_US, Counters, Side, SideCounters};
use crate::token;

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn answer(State(board): State<Board>) -> Response {
    let policy = std::sync::Arc::clone(&board.policies.borrow());
    let mut out = Text(String::new());
    out.requests(&board.counters);
    if let Some(token) = policy.token() {
        out.token(token.counters());
    }
    if let Some(inbound) = &policy.inbound {
        out.issuers(inbound, board.clock.boot());
        out.lists(inbound);
    }
    out.build();
    ([(header::CONTENT_TYPE, KIND)], out.0).into_response()
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }

    /// What requests came to: a series for each side.
    fn requests(&mut self, threads: &[std::sync::Arc<Counters>]) {
        let sum = |side: Side, pick: &dyn Fn(&SideCounters) -> &AtomicU64| -> u64 {
            (threads.iter())
                .map(|thread| pick(thread.of(side)).load(Relaxed))
                .sum()
        };
        let name = "regent_requests_total";
        let help = "Requests by status class; none: the caller left first.";
        self.head(name, "counter", help);
        for side in Side::ALL {
            for (class, label) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]
                .iter()
                .enumerate()
            {
                let labels = format!("side=\"{}\",status=\"{label}\"", side.name());
                self.line(name, &labels, sum(side, &|count| &count.requests[class]));
            }
        }
        let name = "regent_request_duration_seconds";
        let help = "From a request's head to the end of its answer.";
        self.head(name, "histogram", help);
        for side in Side::ALL {
            let labels = format!("side=\"{}\"", side.name());
            let mut below = 0;
            for (at, bound) in BUCKETS_US.iter().enumerate() {
                below += sum(side, &|count| &count.durations[at]);
                let bound = format!("{labels},le=\"{}\"", seconds(*bound));
                self.line(&format!("{name}_bucket"), &bound, below);
            }
            below += sum(side, &|count| &count.durations[BUCKETS_US.len()]);
            let endless = format!("{labels},le=\"+Inf\"");
            self.line(&format!("{name}_bucket"), &endless, below);
            let total = seconds(sum(side, &|count| &count.duration_us));
            self.line(&format!("{name}_sum"), &labels, total);
            self.line(&format!("{name}_count"), &labels, below);
        }
        let name = "regent_connections";
        self.head(name, "gauge", "Connections that are open.");
        for side in Side::ALL {
            let labels = format!("side=\"{}\"", side.name());
            self.line(name, &labels, sum(side, &|count| &count.connections));
        }
        let name = "regent_refused_total";
        let help = "Answers that Regent gave itself; not enforced: that it would have given.";
        self.head(name, "counter", help);
        for side in Side::ALL {
            for reason in Reason::ALL {
                let labels = format!("side=\"{}\",reason=\"{}\"", side.name(), reason.word());
                let at = *reason as usize;
                let enforced = sum(side, &|count| &count.refused[at]);
                self.line(name, &format!("{labels},enforced=\"true\""), enforced);
                if side == Side::Inbound && reason.is_about_the_caller() {
                    let shadowed = sum(side, &|count| &count.shadowed[at]);
                    self.line(name, &format!("{labels},enforced=\"false\""), shadowed);
                }
            }
        }
        let name = "regent_upstream_failures_total";
        let help = "Upstreams that failed, before or in an answer.";
        self.head(name, "counter", help);
        let upstream = |reason: &&Reason| reason.word().starts_with("upstream_");
        for side in Side::ALL {
            for reason in Reason::ALL.iter().filter(upstream) {
                let labels = format!("side=\"{}\",reason=\"{}\"", side.name(), reason.word());
                let at = *reason as usize;
                self.line(
                    name,
                    &labels,
                    sum(side, &|count| &count.upstream_failures[at]),
                );
            }
        }
        let name = "regent_unauthorized_recovered_total";
        let help = "401s that a fresh token and a replay turned into another answer.";
        self.head(name, "counter", help);
        let recovered = sum(Side::Outbound, &|count| &count.unauthorized_recovered);
        self.line(name, "", recovered);
    }

    fn issuers(&mut self, inbound: &Inbound, now: Boot) {
        let each = || inbound.keys.counters();
        let label = |issuer: &str| format!("issuer=\"{issuer}\"");
        self.head("regent_issuer_keys", "gauge", "Keys in an issuer's set.");
        for (issuer, count) in each() {
            self.line(
                "regent_issuer_keys",
                &label(issuer),
                count.keys.load(Relaxed),
            );
        }
        let name = "regent_issuer_keys_age_seconds";
        self.head(
            name,
            "gauge",
            "Since an issuer's keys were last read or fetched.",
        );
        for (issuer, count) in each() {
            if let Some(age) = count.age(now) {
                self.line(name, &label(issuer), age.as_secs());
            }
        }
        let name = "regent_issuer_fetch_total";
        self.head(name, "counter", "Fetches of an issuer's keys.");
        for (issuer, count) in each() {
            for (result, fetches) in [("ok", &count.fetches_ok), ("failed", &count.fetches_failed)]
            {
                let labels = format!("{},result=\"{result}\"", label(issuer));
                self.line(name, &labels, fetches.load(Relaxed));
            }
        }
    }

    fn lists(&mut self, inbound: &Inbound) {
        let Some(federation) = &inbound.federation else {
            return;
        };
        let name = "regent_federation_quarantined";
        self.head(
            name,
            "gauge",
            "Entries of the list of issuers that are left out.",
        );
        self.line(name, "", federation.faults.len());
    }

    fn build(&mut self) {
        self.head("regent_build_info", "gauge", "This build.");
        let commit = option_env!("REGENT_COMMIT").unwrap_or("unknown");
        let version = env!("CARGO_PKG_VERSION");
        let labels = format!("version=\"{version}\",commit=\"{commit}\"");
        self.line("regent_build_info", &labels, 1);
    }

    fn token(&mut self, token: &token::Counters) {
        self.head(
            "regent_token_refresh_total",
            "counter",
            "Logins and refreshes.",
        );
        for (result, count) in [
            ("ok", &token.refresh_ok),
            ("transient", &token.refresh_transient),
            ("refused", &token.refresh_refused),
        ] {
            let labels = format!("result=\"{result}\"");
            self.line("regent_token_refresh_total", &labels, count.load(Relaxed));
        }
        self.head(
            "regent_login_refused",
            "gauge",
            "1 while the region refuses every credential.",
        );
        self.line(
            "regent_login_refused",
            "",
            u8::from(token.login_refused.load(Relaxed)),
        );
        self.head(
            "regent_state_write_failures_total",
            "counter",
            "A rotated refresh token could not be stored.",
        );
        self.line(
            "regent_state_write_failures_total",
            "",
            token.state_write_failures.load(Relaxed),
        );
        for (name, help, value) in [
            (
                "regent_token_expiry_timestamp_seconds",
                "When the access token ends.",
                &token.token_expiry_unix_s,
            ),
            (
                "regent_refresh_token_expiry_timestamp_seconds",
                "When the refresh token ends.",
                &token.refresh_token_expiry_unix_s,
            ),
            (
                "regent_clock_skew_seconds",
                "The region's clock less ours.",
                &token.clock_skew_s,
            ),
        ] {
            self.head(name, "gauge", help);
            self.line(name, "", value.load(Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use std::time::Duration;

    #[test]
    fn counts_of_all_threads_are_summed_and_the_histogram_adds_up() {
        let threads = [
            std::sync::Arc::new(Counters::default()),
            std::sync::Arc::new(Counters::default()),
        ];
        threads[0]
            .of(Side::Outbound)
            .request(Some(StatusCode::OK), Duration::from_millis(2));
        threads[1]
            .of(Side::Outbound)
            .request(Some(StatusCode::OK), Duration::from_secs(60));
        threads[1].of(Side::Outbound).refused(Reason::LoginRefused);
        threads[0].of(Side::Inbound).refused(Reason::Expired);
        threads[0].of(Side::Inbound).shadowed(Reason::Expired);
        let mut out = Text(String::new());
        out.requests(&threads);
        out.token(&token::Counters::default());
        let text = out.0;
        for line in [
            "regent_requests_total{side=\"outbound\",status=\"2xx\"} 2",
            "regent_request_duration_seconds_bucket{side=\"outbound\",le=\"0.0025\"} 1",
            "regent_request_duration_seconds_bucket{side=\"outbound\",le=\"+Inf\"} 2",
            "regent_request_duration_seconds_sum{side=\"outbound\"} 60.002",
            "regent_refused_total{side=\"outbound\",reason=\"login_refused\",enforced=\"true\"} 1",
            "regent_refused_total{side=\"inbound\",reason=\"expired\",enforced=\"true\"} 1",
            "regent_refused_total{side=\"inbound\",reason=\"expired\",enforced=\"false\"} 1",
            "regent_token_refresh_total{result=\"ok\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
