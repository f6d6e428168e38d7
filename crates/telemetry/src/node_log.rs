//! The node's own log, on standard error: what happened to the node, never what happened to one request.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Once per process. `level`: `info`, or a filter as `TIDEGATE_LOG` takes it: `warn,tidegate_cluster=debug`.
///
/// # Errors
/// The filter cannot be read, or a log was set up already.
pub fn init_logs(level: &str, format: LogFormat) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
}
