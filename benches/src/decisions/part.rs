//! A part of the measurements in a process of its own: this program again, told which. It prints its rows, and what it
//! keeps for the last lines it reports in lines that begin with a tab.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{Extent, table::Table};

/// Runs a part: prints its rows as they come, and gives what it kept.
pub(crate) fn run(part: &str, extent: Extent) -> anyhow::Result<Table> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["decisions", "--part", part]);
    if extent == Extent::Quick {
        command.arg("--quick");
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut table = Table::default();
    for line in BufReader::new(child.stdout.take().context("its output is piped")?).lines() {
        let line = line?;
        match line.strip_prefix('\t').and_then(|report| report.split_once(' ')) {
            Some((name, value)) => table.keep(name, value.parse()?),
            None => println!("{line}"),
        }
    }
    ensure!(child.wait()?.success(), "part {part} failed");
    Ok(table)
}

/// Reports what was kept to the process that runs this part.
pub(crate) fn report(table: &Table) {
    for (name, value) in table.all_kept() {
        println!("\t{name} {value}");
    }
}
