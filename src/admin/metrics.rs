//! `/metrics`: Prometheus text, or OpenMetrics 1.0 for whoever asks for it, from the counters of each
//! thread, summed when they are read. No label carries a caller's words.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::{Board, COMMIT, Configured, VERSION};
use crate::clock::Boot;
use crate::proxy::inbound::Inbound;
use crate::reason::Reason;
use crate::telemetry::counters::{BUCKETS_US, Counters, Side, SideCounters};
use crate::token;

/// What the samples are written as. They differ in the names of families and in the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The Prometheus text format.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Prometheus itself prefers OpenMetrics; what does not name it gets text.
    fn wanted(headers: &HeaderMap) -> Format {
        let mut accepted = headers.get_all(header::ACCEPT).iter();
        let is_open = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text")
                && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        };
        let names_it = accepted.any(|accept| {
            let accept = accept.to_str().unwrap_or_default();
            accept.to_ascii_lowercase().split(',').any(is_open)
        });
        match names_it {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) async fn answer(State(board): State<Board>, headers: HeaderMap) -> Response {
    let policy = std::sync::Arc::clone(&board.policies.borrow());
    let format = Format::wanted(&headers);
    let mut out = Text::new(format);
    out.requests(&board.counters);
    if let Some(token) = policy.token() {
        out.token(token.counters());
    }
    if let Some(inbound) = &policy.inbound {
        out.issuers(inbound, board.clock.boot());
        out.lists(inbound);
    }
    out.config(&board.config.borrow());
    out.build();
    let kind = [(header::CONTENT_TYPE, format.content_type())];
    (kind, out.end()).into_response()
}

fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Text {
    format: Format,
    out: String,
}

impl Text {
    fn new(format: Format) -> Text {
        let out = String::new();
        Text { format, out }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A family has the name without the ending that its kind gives to samples.
        let (name, kind) = match (self.format, kind) {
            (Format::Prometheus, "info") => (name, "gauge"),
            (Format::Prometheus, _) => (name, kind),
            (_, "counter") => (name.trim_end_matches("_total"), kind),
            (_, "info") => (name.trim_end_matches("_info"), kind),
            (_, _) => (name, kind),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.out, "{name} {value}")
        } else {
            writeln!(self.out, "{name}{{{labels}}} {value}")
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
                // A float in both formats, so that a series is the same in either.
                let bound = Duration::from_micros(*bound).as_secs_f64();
                let bound = format!("{labels},le=\"{bound:?}\"");
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

    fn config(&mut self, config: &Configured) {
        let name = "regent_config_reload_total";
        self.head(name, "counter", "Reloads of the config.");
        self.line(name, "result=\"ok\"", config.taken);
        self.line(name, "result=\"refused\"", config.refused);
        let name = "regent_config_last_reload_timestamp_seconds";
        let help = "When the config in force was taken: the start, or the last reload that was.";
        self.head(name, "gauge", help);
        self.line(name, "", config.since_unix_s);
    }

    fn build(&mut self) {
        self.head("regent_build_info", "info", "This build.");
        let labels = format!("version=\"{VERSION}\",commit=\"{COMMIT}\"");
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
            "1 while no credential works.",
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
    use http::{HeaderValue, StatusCode};

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
        let mut out = Text::new(Format::Prometheus);
        out.requests(&threads);
        out.token(&token::Counters::default());
        let text = out.end();
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

    #[test]
    fn openmetrics_is_for_whoever_names_it() {
        let wanted = |accept: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            Format::wanted(&headers).content_type()
        };
        let text = "text/plain; version=0.0.4; charset=utf-8";
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(wanted(&[]), text);
        assert_eq!(wanted(&["*/*"]), text);
        assert_eq!(wanted(&["text/plain;version=0.0.4;q=0.5,*/*;q=0.1"]), text);
        assert_eq!(
            wanted(&["text/plain, application/openmetrics-text;q=0"]),
            text
        );
        // As Prometheus 2 and 3 ask.
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(wanted(&[prometheus]), open);
        assert_eq!(
            wanted(&["text/plain;q=0.1", "Application/OpenMetrics-Text"]),
            open
        );
    }

    #[test]
    fn a_family_is_named_as_its_format_has_it() {
        for (format, lines) in [
            (
                Format::Prometheus,
                &[
                    "# TYPE regent_config_reload_total counter",
                    "regent_config_reload_total{result=\"ok\"} 0",
                    "# TYPE regent_build_info gauge",
                ][..],
            ),
            (
                Format::OpenMetrics,
                &[
                    "# TYPE regent_config_reload counter",
                    "regent_config_reload_total{result=\"ok\"} 0",
                    "# TYPE regent_build info",
                ],
            ),
        ] {
            let mut out = Text::new(format);
            let name = "regent_config_reload_total";
            out.head(name, "counter", "Reloads.");
            out.line(name, "result=\"ok\"", 0);
            out.build();
            let text = out.end();
            for line in lines {
                assert!(text.lines().any(|found| found == *line), "{line}\n{text}");
            }
            let ends = text.ends_with("\n# EOF\n");
            assert_eq!(ends, format == Format::OpenMetrics, "{text}");
        }
    }
}
