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
    check::{Address, Checked},
    contestants::{Allowance, Batched, Contestant, Contestants as _, Ours, Telling},
    keys::{Numbered, Ready},
};

/// All in a processor's cache, and in the store before they are counted unless the case says otherwise.
const KEYS: usize = 1_000;
/// Enough that what comes and goes around the decisions, such as calibrating a clock, is an instruction each or less.
const ROUNDS: usize = 300;

pub(crate) fn run() -> anyhow::Result<()> {
    let installed = Command::new("valgrind").arg("--version").output();
    ensure!(installed.is_ok_and(|output| output.status.success()), "valgrind is needed: apt-get install valgrind");
    let folder = tempfile::tempdir()?;
    for case in ["allowed", "denied", "new", "told", "batch16", "key", "check"] {
        for contestant in ["governor", "tollgate"] {
            if contestant == "governor" && ["told", "batch16", "key", "check"].contains(&case) {
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
/// as many keys that nobody has seen. Or statuses are told as well. Or not the decisions, but making the keys for them; or the whole check of a policy
/// with three rules, which each make a key of their own.
pub(crate) fn run_part(contestant: &str, case: &str, rounds: &str) -> anyhow::Result<()> {
    let rounds = rounds.parse::<usize>()?;
    let allowance = if case == "denied" { Allowance::Two } else { Allowance::Plenty };
    // As many without the decisions.
    let counters = if case == "new" { KEYS * (ROUNDS + 1) } else { 3 * KEYS };
    let store: Box<dyn Contestant<Ready<String>>> = match (contestant, case) {
        ("tollgate", "check") => {
            return decide(&Checked::open(counters as u64)?, &numbered::<Address>(KEYS), rounds, KEYS);
        }
        ("tollgate", "batch16") => Box::new(Batched(Ours::open(counters as u64, ["a"], allowance))),
        ("tollgate", "told") => Box::new(Telling(Ours::open(counters as u64, ["a"], allowance))),
        ("tollgate", "key") => Box::new(KeysAlone),
        _ => {
            let entry = Ready::<String>::contestants().into_iter().find(|entry| entry.name == contestant);
            (entry.context("no such contestant")?.open)(counters as u64, allowance)
        }
    };
    match case {
        "allowed" | "told" | "batch16" | "key" => decide(&*store, &numbered(KEYS), rounds, KEYS),
        "denied" => decide(&*store, &vec![Ready::numbered(0); KEYS], rounds, 0),
        "new" => decide(&*store, &numbered(counters), rounds, KEYS),
        _ => bail!("no case {case:?}, expected allowed, denied, new, told, batch16, key or check"),
    }
}

/// Goes over the first keys once, and then so many rounds over those that follow, until it begins with the first again.
fn decide<K>(store: &dyn Contestant<K>, keys: &[K], rounds: usize, expected: usize) -> anyhow::Result<()> {
    store.allowed(&keys[..KEYS]);
    for keys in keys.chunks(KEYS).cycle().skip(1).take(rounds) {
        let allowed = store.allowed(keys);
        ensure!(allowed == expected, "{allowed} of {KEYS} decisions allowed, expected {expected}");
    }
    Ok(())
}

fn numbered<K: Numbered>(keys: usize) -> Vec<K> {
    (0..keys as u64).map(K::numbered).collect()
}

/// What comes before a decision about somebody whose key is not at hand.
struct KeysAlone;

impl Contestant<Ready<String>> for KeysAlone {
    fn allowed(&self, keys: &[Ready<String>]) -> usize {
        keys.iter().filter(|key| black_box(Key::of([&key.plain])) == key.key).count()
    }
}
