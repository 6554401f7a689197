//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("not a log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging was set up before.
    #[error("logging is set up already: {0}")]
    Twice(Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging with a filter such as `info` or `info,selvage_node_agent=debug`.
///
/// # Errors
/// Where the filter can't be parsed, or logging was started before.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let mut filter = EnvFilter::builder().parse(filter)?;
    // It logs each failed request as an error, which whoever made the request does too, and better.
    if !filter.to_string().contains("kube_client") {
        filter = filter.add_directive("kube_client::client::builder=off".parse()?);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(LogError::Twice)
}
