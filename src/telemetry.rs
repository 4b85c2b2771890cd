//! Logs and counters.
//!
//! Log lines are written by a thread of their own, so that a full pipe never holds up a request;
//! where it cannot keep up, lines are dropped and counted. Counters are owned by one thread each
//! and summed when they are read.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

pub mod counters;
#[cfg(test)]
pub(crate) mod kept;

/// Lines that wait to be written; room for each is taken at the start.
const LINES: usize = 4096;

/// Starts logging to standard error. Lines still in the queue are written when the guard drops.
///
/// # Errors
/// The level is not one, or logging was started before.
pub fn start(log: &Log) -> Result<WorkerGuard, String> {
    let queue = NonBlockingBuilder::default().buffered_lines_limit(LINES);
    let (writer, guard) = queue.finish(io::stderr());
    let filter: Targets = log
        .level
        .parse()
        .map_err(|error| format!("log.level \"{}\": {error}", log.level))?;
    // h2 writes down targets that are none, with their queries.
    let filter = filter.with_target("h2::server", LevelFilter::INFO);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match log.format {
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_current_span(false))
            .try_init(),
        LogFormat::Text => registry.with(layer.with_ansi(false)).try_init(),
    }
    .map_err(|error| error.to_string())?;
    Ok(guard)
}
