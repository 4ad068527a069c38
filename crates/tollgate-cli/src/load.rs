//! `tollgate load`: a hungry client that behaves. It sends at a steady pace until it has what it came for, leaves a server alone
//! for as long as it asks to be, and tells what it met.

mod connection;
mod histogram;
mod pace;
mod plot;
mod progress;
mod run;
mod series;
mod table;
mod tally;
mod target;

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use tokio::{runtime, task::LocalSet};

pub(crate) use self::{
    pace::Rate,
    target::{body, header, method, url},
};
use self::{
    run::{Ending, Run},
    table::Table,
    target::Target,
};
use crate::{
    Failure,
    args::{Load, Output},
};

pub(crate) fn run(load: Load) -> Result<(), Failure> {
    // Not after minutes of load does anybody want to hear that it cannot be written.
    let plot = load.plot.as_deref().map(|file| opened(file).map(|opened| (file, opened))).transpose()?;
    // Each connection takes a file descriptor, and systems start programs with few; what is missing is told when it is missed.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    let (run, ending) = LocalSet::new().block_on(&runtime, async {
        let target = Target::resolve(&load).await?;
        anyhow::Ok(Run::new(target, &load).until_it_ends().await)
    })?;

    let table = Table::of(&run, &ending);
    match load.output {
        Output::Human => write!(io::stdout(), "{table}").context("standard output")?,
        Output::Json => writeln!(io::stdout(), "{}", table.json()).context("standard output")?,
    }
    if let Some((file, opened)) = plot
        && table.tally.sent > 0
    {
        draw(&table, opened).with_context(|| file.display().to_string())?;
    }
    match ending {
        Ending::Done if table.failed == 0 => Ok(()),
        Ending::Done => Err(anyhow::anyhow!("{} of {} requests failed", table.failed, table.done()).into()),
        // As a shell tells it of a program that has left the signal to the system.
        Ending::Interrupted => Err(Failure::Told(130)),
        Ending::GaveUp(why) => Err(why.into()),
    }
}

/// Opens a file for a picture. What is in it stays until there is another one.
fn opened(file: &Path) -> Result<File, Failure> {
    let opened = File::options().write(true).create(true).truncate(false).open(file);
    opened.map_err(|error| Failure::Wrong(format!("error: --plot {}: {error}", file.display())))
}

fn draw(table: &Table<'_>, mut file: File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(plot::svg(table).as_bytes())
}
