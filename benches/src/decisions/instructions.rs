//! How many instructions one decision takes, as valgrind counts them: a figure that no other process disturbs.
//!
//! This program runs itself under callgrind twice, the first time without the decisions; what the second run adds, over
//! their number, is what one takes. (Twice as many decisions against once would double what the seeds of the hashes do.)
//! Reading the clock is left out: under valgrind all contestants, governor too, ask the kernel for the time, and what
//! happens there is not counted.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail, ensure};

use super::{
    contestants::{Allowance, Contestants as _},
    keys::Numbered as _,
};

/// All in a processor's cache, and in the store before they are counted.
const KEYS: u64 = 1_000;
/// Enough that what comes and goes around the decisions, such as calibrating a clock, is less than an instruction each.
const ROUNDS: u64 = 1_000;

pub(crate) fn run() -> anyhow::Result<()> {
    let installed = Command::new("valgrind").arg("--version").output();
    ensure!(installed.is_ok_and(|output| output.status.success()), "valgrind is needed: apt-get install valgrind");
    let folder = tempfile::tempdir()?;
    for (case, ending) in [("allowed", ""), ("denied", "_denied")] {
        for contestant in ["governor", "tollgate"] {
            let without = counted(folder.path(), contestant, case, 0)?;
            let with = counted(folder.path(), contestant, case, ROUNDS)?;
            let each = (with - without) as f64 / (KEYS * ROUNDS) as f64;
            println!("instructions_{contestant}{ending} {each:.1}");
        }
    }
    Ok(())
}

/// The instructions of a whole run with so many rounds.
fn counted(folder: &Path, contestant: &str, case: &str, rounds: u64) -> anyhow::Result<u64> {
    let counts = folder.join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", counts.display())])
        .arg(std::env::current_exe()?)
        .args(["instructions", "--part", contestant, case, &rounds.to_string()])
        .output()?;
    ensure!(output.status.success(), "{contestant} failed under valgrind: {}", String::from_utf8_lossy(&output.stderr));
    let counts = fs::read_to_string(counts)?;
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")).context("callgrind tells no totals")?;
    Ok(total.trim().parse()?)
}

/// What is counted: so many rounds over all keys, which are allowed, or over as many requests of one key that is not.
pub(crate) fn run_part(contestant: &str, case: &str, rounds: &str) -> anyhow::Result<()> {
    let (allowance, keys, expected) = match case {
        "allowed" => (Allowance::Plenty, (0..KEYS).map(String::numbered).collect(), KEYS),
        "denied" => (Allowance::Two, vec![String::numbered(0); usize::try_from(KEYS)?], 0),
        _ => bail!("no case {case:?}, expected allowed or denied"),
    };
    let entry = String::contestants().into_iter().find(|entry| entry.name == contestant);
    let store = (entry.context("no such contestant")?.open)(KEYS, allowance);
    store.allowed(&keys);
    for _ in 0..rounds.parse::<u64>()? {
        let allowed = store.allowed(&keys) as u64;
        ensure!(allowed == expected, "{allowed} of {KEYS} decisions allowed, expected {expected}");
    }
    Ok(())
}
