//! The node's own log, on standard error: what happened to the node, never what happened to one request.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// Hears each line beside standard error.
pub type Also = Box<dyn Layer<Registry> + Send + Sync>;

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
pub fn init_logs(
    level: &str,
    format: LogFormat,
    also: Option<Also>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(level)?;
    let lines = tracing_subscriber::registry().with(also).with(filter);
    let errors = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with(errors.with_ansi(io::stderr().is_terminal())).try_init()?,
        LogFormat::Json => lines.with(errors.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}
