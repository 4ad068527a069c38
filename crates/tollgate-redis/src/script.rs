//! The scripts: one for every set of algorithms that a call needs, put together from a file for each.

use std::sync::OnceLock;

use tollgate::quota::Algorithm;

const DECIDE: &str = include_str!("script/decide.lua");
const ARITHMETIC: &str = include_str!("script/arithmetic.lua");
const WINDOWS: &str = include_str!("script/windows.lua");
const RUN: &str = include_str!("script/run.lua");
const ONE: &str = include_str!("script/one.lua");

/// A set of algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Algorithms(u8);

impl Algorithms {
    const COUNT: usize = 1 << Algorithm::ALL.len();

    pub(crate) fn insert(&mut self, algorithm: Algorithm) {
        self.0 |= 1 << number(algorithm);
    }

    fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & 1 << number(algorithm) != 0
    }

    fn contains_any(self, algorithms: &[Algorithm]) -> bool {
        algorithms.iter().any(|algorithm| self.contains(*algorithm))
    }
}

/// What a kind of charge calls its algorithm, as the scripts do.
pub(crate) const fn number(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::FixedWindow => 0,
        Algorithm::CalendarWindow => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::TokenBucket => 4,
    }
}

const fn source(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::FixedWindow => include_str!("script/fixed_window.lua"),
        Algorithm::CalendarWindow => include_str!("script/calendar_window.lua"),
        Algorithm::SlidingWindow => include_str!("script/sliding_window.lua"),
        Algorithm::SlidingLog => include_str!("script/sliding_log.lua"),
        Algorithm::TokenBucket => include_str!("script/token_bucket.lua"),
    }
}

/// A script as a server knows it: its text, and the hash that stands for it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) text: String,
    pub(crate) sha1: String,
}

/// The script that runs a program with these algorithms, or takes one charge; each is put together once.
pub(crate) fn script(algorithms: Algorithms, takes_one: bool) -> &'static Script {
    type Scripts = [OnceLock<Script>; Algorithms::COUNT];
    static RUNNING: Scripts = [const { OnceLock::new() }; Algorithms::COUNT];
    static TAKING: Scripts = [const { OnceLock::new() }; Algorithms::COUNT];
    let (scripts, last) = if takes_one { (&TAKING, ONE) } else { (&RUNNING, RUN) };
    scripts[usize::from(algorithms.0) % Algorithms::COUNT].get_or_init(|| Script::of(algorithms, last))
}

impl Script {
    fn of(algorithms: Algorithms, last: &'static str) -> Self {
        let mut parts = vec![DECIDE];
        if algorithms.contains_any(&[Algorithm::SlidingWindow, Algorithm::TokenBucket]) {
            parts.insert(0, ARITHMETIC);
        }
        if algorithms.contains_any(&[Algorithm::FixedWindow, Algorithm::CalendarWindow]) {
            parts.push(WINDOWS);
        }
        parts.extend(Algorithm::ALL.into_iter().filter(|algorithm| algorithms.contains(*algorithm)).map(source));
        parts.push(last);
        let text = without_comments(&parts.concat());
        let sha1 = redis::Script::new(&text).get_hash().to_owned();
        Self { text, sha1 }
    }
}

/// Whoever reads `MONITOR` or a slow log has enough to read.
fn without_comments(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("--") && !line.trim().is_empty();
    text.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect()
}
