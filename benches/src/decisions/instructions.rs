//! How many instructions one decision takes, as valgrind counts them: a figure that no other process disturbs.
//!
//! This program runs itself under callgrind twice, the first time without the decisions; what the second run adds, over
//! their number, is what one takes. (Twice as many decisions against once would double what the seeds of the hashes do.)
//! Reading the clock is left out: under valgrind all contestants, governor too, ask the kernel for the time, and what
//! happens there is not counted.

use std::{fs, hint::black_box, path::Path, process::Command};

use anyhow::{Context as _, bail, ensure};
use tollgate::key::Key;

use super::{
    contestants::{Allowance, Batched, Contestant, Contestants as _, Ours},
    keys::{Numbered as _, Ready},
};

/// All in a processor's cache, and in the store before they are counted unless the case says otherwise.
const KEYS: usize = 1_000;
/// Enough that what comes and goes around the decisions, such as calibrating a clock, is an instruction each or less.
const ROUNDS: usize = 300;

pub(crate) fn run() -> anyhow::Result<()> {
    let installed = Command::new("valgrind").arg("--version").output();
    ensure!(installed.is_ok_and(|output| output.status.success()), "valgrind is needed: apt-get install valgrind");
    let folder = tempfile::tempdir()?;
    for case in ["allowed", "denied", "new", "batch16", "key"] {
        for contestant in ["governor", "tollgate"] {
            if contestant == "governor" && ["batch16", "key"].contains(&case) {
                continue;
            }
            let without = counted(folder.path(), contestant, case, 0)?;
            let with = counted(folder.path(), contestant, case, ROUNDS)?;
            let each = (with - without) as f64 / (KEYS * ROUNDS) as f64;
            println!("instructions_{contestant}_{case} {each:.1}");
        }
    }
    Ok(())
}

/// The instructions of a whole run with so many rounds.
fn counted(folder: &Path, contestant: &str, case: &str, rounds: usize) -> anyhow::Result<u64> {
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

/// What is counted: so many rounds over all keys, which are allowed, or over as many requests of one key that is not, or over
/// as many keys that nobody has seen. Or not the decisions, but making the keys for them.
pub(crate) fn run_part(contestant: &str, case: &str, rounds: &str) -> anyhow::Result<()> {
    let rounds = rounds.parse::<usize>()?;
    let (allowance, keys) = match case {
        "allowed" | "batch16" | "key" => (Allowance::Plenty, numbered(KEYS)),
        "denied" => (Allowance::Two, vec![Ready::numbered(0); KEYS]),
        // As many without the decisions.
        "new" => (Allowance::Plenty, numbered(KEYS * (ROUNDS + 1))),
        _ => bail!("no case {case:?}, expected allowed, denied, new, batch16 or key"),
    };
    let store: Box<dyn Contestant<Ready<String>>> = match (contestant, case) {
        ("tollgate", "batch16") => Box::new(Batched(Ours::open(KEYS as u64, ["a"], allowance))),
        ("tollgate", "key") => Box::new(KeysAlone),
        _ => {
            let entry = Ready::<String>::contestants().into_iter().find(|entry| entry.name == contestant);
            (entry.context("no such contestant")?.open)(keys.len() as u64, allowance)
        }
    };
    store.allowed(&keys[..KEYS]);
    for round in 1..=rounds {
        let keys = keys.chunks(KEYS).cycle().nth(round).unwrap_or_default();
        let allowed = store.allowed(keys);
        let expected = if case == "denied" { 0 } else { keys.len() };
        ensure!(allowed == expected, "{allowed} of {KEYS} decisions allowed, expected {expected}");
    }
    Ok(())
}

/// What comes before a decision about somebody whose key is not at hand.
struct KeysAlone;

impl Contestant<Ready<String>> for KeysAlone {
    fn allowed(&self, keys: &[Ready<String>]) -> usize {
        keys.iter().filter(|key| black_box(Key::of([&key.plain])) == key.key).count()
    }
}

fn numbered(keys: usize) -> Vec<Ready<String>> {
    (0..keys as u64).map(Ready::numbered).collect()
}
