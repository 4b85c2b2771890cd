//! `/metrics`: Prometheus text, from the counters of each thread, summed when they are read. No
//! label carries a caller's words.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Board;
use crate::reason::Reason;
use crate::telemetry::counters::{BUCKETS_US, Counters};
use crate::token;

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn answer(State(board): State<Board>) -> Response {
    let token = board.policies.borrow().token.clone();
    let text = render(&board.counters, token.as_ref().map(token::Handle::counters));
    ([(header::CONTENT_TYPE, KIND)], text).into_response()
}

fn render(threads: &[std::sync::Arc<Counters>], token: Option<&token::Counters>) -> String {
    let sum = |pick: &dyn Fn(&Counters) -> &AtomicU64| -> u64 {
        threads
            .iter()
            .map(|thread| pick(thread).load(Relaxed))
            .sum()
    };
    let mut out = Text(String::new());
    out.head(
        "regent_requests_total",
        "counter",
        "Requests by status class; none: the caller left first.",
    );
    for (class, label) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]
        .iter()
        .enumerate()
    {
        let value = sum(&|thread| &thread.requests[class]);
        out.line(
            "regent_requests_total",
            &format!("side=\"outbound\",status=\"{label}\""),
            value,
        );
    }
    out.head(
        "regent_request_duration_seconds",
        "histogram",
        "From a request's head to the end of its answer.",
    );
    let mut below = 0;
    for (at, bound) in BUCKETS_US.iter().enumerate() {
        below += sum(&|thread| &thread.durations[at]);
        let labels = format!("side=\"outbound\",le=\"{}\"", seconds(*bound));
        out.line("regent_request_duration_seconds_bucket", &labels, below);
    }
    below += sum(&|thread| &thread.durations[BUCKETS_US.len()]);
    out.line(
        "regent_request_duration_seconds_bucket",
        "side=\"outbound\",le=\"+Inf\"",
        below,
    );
    let total = seconds(sum(&|thread| &thread.duration_us));
    out.line(
        "regent_request_duration_seconds_sum",
        "side=\"outbound\"",
        total,
    );
    out.line(
        "regent_request_duration_seconds_count",
        "side=\"outbound\"",
        below,
    );
    out.head("regent_connections", "gauge", "Connections that are open.");
    out.line(
        "regent_connections",
        "side=\"outbound\"",
        sum(&|thread| &thread.connections),
    );
    out.head(
        "regent_refused_total",
        "counter",
        "Answers that Regent gave itself.",
    );
    for reason in Reason::ALL {
        let labels = format!(
            "side=\"outbound\",reason=\"{}\",enforced=\"true\"",
            reason.word()
        );
        out.line(
            "regent_refused_total",
            &labels,
            sum(&|thread| &thread.refused[*reason as usize]),
        );
    }
    out.head(
        "regent_upstream_failures_total",
        "counter",
        "Upstreams that failed, before or in an answer.",
    );
    for reason in Reason::ALL
        .iter()
        .filter(|reason| reason.word().starts_with("upstream_"))
    {
        let labels = format!("side=\"outbound\",reason=\"{}\"", reason.word());
        let value = sum(&|thread| &thread.upstream_failures[*reason as usize]);
        out.line("regent_upstream_failures_total", &labels, value);
    }
    out.head(
        "regent_unauthorized_recovered_total",
        "counter",
        "401s that a fresh token and a replay turned into another answer.",
    );
    out.line(
        "regent_unauthorized_recovered_total",
        "",
        sum(&|thread| &thread.unauthorized_recovered),
    );
    if let Some(token) = token {
        out.token(token);
    }
    out.head("regent_build_info", "gauge", "This build.");
    let commit = option_env!("REGENT_COMMIT").unwrap_or("unknown");
    let labels = format!(
        "version=\"{}\",commit=\"{commit}\"",
        env!("CARGO_PKG_VERSION")
    );
    out.line("regent_build_info", &labels, 1);
    out.0
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
        threads[0].request(Some(StatusCode::OK), Duration::from_millis(2));
        threads[1].request(Some(StatusCode::OK), Duration::from_secs(60));
        threads[1].refused(Reason::LoginRefused);
        let text = render(&threads, Some(&token::Counters::default()));
        for line in [
            "regent_requests_total{side=\"outbound\",status=\"2xx\"} 2",
            "regent_request_duration_seconds_bucket{side=\"outbound\",le=\"0.0025\"} 1",
            "regent_request_duration_seconds_bucket{side=\"outbound\",le=\"+Inf\"} 2",
            "regent_request_duration_seconds_sum{side=\"outbound\"} 60.002",
            "regent_refused_total{side=\"outbound\",reason=\"login_refused\",enforced=\"true\"} 1",
            "regent_token_refresh_total{result=\"ok\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
