//! The log of `serve`: for people, or a JSON object a line.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::debug_fn;

use crate::{
    Failure,
    args::{LogFormat, LogLevel},
};

pub(crate) fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // Else what cannot be written is told where it cannot be told either, which panics.
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Human => {
            // A message says everything; the fields beside it are for machines.
            let message_alone = debug_fn(|writer, field, value| match field.name() {
                "message" => write!(writer, "{value:?}"),
                _ => Ok(()),
            });
            let is_terminal = std::io::stderr().is_terminal();
            log.fmt_fields(message_alone).with_ansi(is_terminal).init();
        }
        LogFormat::Json => log.json().init(),
    }
}

/// Says in the log why the command fails.
pub(crate) fn tell(failure: Failure) -> Failure {
    if let Some(why) = failure.reason() {
        tracing::error!("{why}");
    }
    match failure {
        Failure::Wrong(_) => Failure::Told(2),
        Failure::CouldNot(_) => Failure::Told(1),
        Failure::Told(code) => Failure::Told(code),
    }
}
