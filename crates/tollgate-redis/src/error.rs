//! Why the store could not answer.

use std::fmt;

use redis::ErrorKind;

/// Why the store could not answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RedisError {
    /// Nothing came within the time that a decision waits.
    TimedOut,
    /// More decisions wait for the server than are let wait.
    Busy,
    /// There is no connection, and why not.
    Disconnected(String),
    /// What the server said instead of an answer.
    Refused(String),
    /// An answer that is none, or another one than the same step gives here.
    Odd(String),
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Busy => f.write_str("too many decisions wait for it"),
            Self::Disconnected(why) => write!(f, "no connection: {why}"),
            Self::Refused(why) => write!(f, "it refuses: {why}"),
            Self::Odd(what) => write!(f, "an answer that makes no sense: {what}"),
        }
    }
}

impl std::error::Error for RedisError {}

impl From<redis::RedisError> for RedisError {
    fn from(error: redis::RedisError) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        match error.code() {
            // The code as the server has said it, by which others are told apart, and not as the client's library calls it.
            Some(code) => Self::Refused(one_line(&format!("{code} {}", error.detail().unwrap_or_default()))),
            None if error.kind() == ErrorKind::AuthenticationFailed => Self::Refused(one_line(&error.to_string())),
            None => Self::Disconnected(one_line(&error.to_string())),
        }
    }
}

/// Whatever it is that answers: it stands in a log.
fn one_line(said: &str) -> String {
    said.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
