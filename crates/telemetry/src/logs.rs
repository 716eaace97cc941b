// SPDX-License-Identifier: Apache-2.0
//! Logs on standard error, as text for people or as one JSON object a line.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level cannot be understood.
    #[error(
        "unknown log level `{0}`; expected error, warn, info, debug, trace or off, or a list such \
         as `info,dulse_replication=debug`"
    )]
    Level(String),
    /// Something logs already.
    #[error("set up logs: {0}")]
    Set(String),
}

/// What is logged where nothing else is said.
const LEVEL_DEFAULT: &str = "info";

/// Sets up logging for the process. `level` is a level, or a list of `target=level`.
///
/// # Errors
///
/// `Level` where it cannot be understood.
pub fn init(format: Format, level: Option<&str>) -> Result<(), InitError> {
    let level = level.unwrap_or(LEVEL_DEFAULT);
    let filter = filter(level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let set = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    set.map_err(|e| InitError::Set(e.to_string()))
}

fn filter(level: &str) -> Result<EnvFilter, InitError> {
    let wrong = || InitError::Level(level.to_owned());
    // A bare word that is no level would be taken for a target and show everything of it.
    let mut parts = level.split(',').map(str::trim);
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    if parts.any(|part| !part.contains('=') && !is_level(part)) {
        return Err(wrong());
    }
    EnvFilter::try_new(level).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_level_that_is_none_is_refused() {
        for good in ["info", "off", "warn,dulse_filer=debug", "TRACE"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "info,loud", "info,a=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
