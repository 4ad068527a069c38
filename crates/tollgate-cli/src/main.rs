//! The command `tollgate`: arguments in, output out. What it does stands in the crates below it.

mod args;
mod changes;
mod check;
mod describe;
mod load;
mod log;
mod policy_file;
mod reload;
mod replay;
mod serve;
mod shared_store;
mod watched;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Serve(serve) => serve::run(serve),
        Command::Check(check) => check::run(&check),
        Command::Replay(replay) => replay::run(&replay),
        Command::Load(load) => load::run(load),
    };
    let (code, message) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Told(code)) => return ExitCode::from(code),
        Err(Failure::Wrong(message)) => (2, message),
        Err(Failure::CouldNot(error)) if is_closed_pipe(&error) => return ExitCode::SUCCESS,
        Err(Failure::CouldNot(error)) => (1, format!("error: {error:#}")),
    };
    eprintln!("{message}");
    ExitCode::from(code)
}

/// Why the command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// The arguments or a file are wrong: exit code 2. The message is complete.
    Wrong(String),
    /// It could not do it: exit code 1.
    CouldNot(anyhow::Error),
    /// Why has been said already: only the exit code is left.
    Told(u8),
}

impl Failure {
    /// Why, for a log, whose lines say already that they are errors; none if that has been said.
    fn reason(&self) -> Option<String> {
        match self {
            Self::Wrong(message) => Some(message.strip_prefix("error: ").unwrap_or(message).to_owned()),
            Self::CouldNot(error) => Some(format!("{error:#}")),
            Self::Told(_) => None,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::CouldNot(error)
    }
}

/// `tollgate replay … | head` has what it wants.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
