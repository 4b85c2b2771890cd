//! Logs and counters.
//!
//! Log lines are written by a thread of their own, so that a full pipe never holds up a request;
//! where it cannot keep up, lines are dropped and counted. Counters are owned by one thread each
//! and summed when they are read.

use std::io;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::config::{Log, LogFormat};

pub mod counters;
#[cfg(test)]
pub(crate) mod kept;

/// Starts logging to standard error. Lines still in the queue are written when the guard drops.
///
/// # Errors
/// The level is not one, or logging was started before.
pub fn start(log: &Log) -> Result<WorkerGuard, String> {
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    let filter: Targets = log
        .level
        .parse()
        .map_err(|error| format!("log.level \"{}\": {error}", log.level))?;
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
