//! The table as it grows, and the lines for scripts at its end.

use std::collections::BTreeMap;

/// In the order of the columns.
const CONTESTANTS: [&str; 3] = ["governor", "throttlecrab", "tollgate"];
/// What scripts read, in this order; whatever was not measured is left out. Ratios to governor, higher is better, where
/// the name is a case.
const NAMES: [&str; 18] = [
    "str24_1m_uniform_1t",
    "str24_1m_uniform_2t",
    "u64_1m_uniform_1t",
    "u64_1m_uniform_2t",
    "str24_1m_zipf_2t",
    "str24_10m_uniform_2t",
    "str24_1k_uniform_2t",
    "hot_denied_2t",
    "new_str24",
    "batch16_str24_1m_2t",
    "bytes_per_counter",
    "given_up_share",
    "three_rules_over_one",
    "check_three_rules_ns",
    "flood_still_denied_share",
    "flood_repeated_admitted",
    "flood_memory_growth",
    "flood_p999_over_before",
];

/// One figure for each contestant that took part.
type Figures = [(&'static str, f64)];

/// Prints each row as it comes, and keeps what the last lines tell.
#[derive(Default)]
pub(crate) struct Table {
    kept: BTreeMap<String, f64>,
}

pub(crate) fn print_head() {
    println!("ns a decision (× governor, higher is better); limitador is left out: its tree of crates is too heavy\n");
    println!("{:<22}{}", "", CONTESTANTS.map(|name| format!("{name:>18}")).concat());
}

impl Table {
    /// Nanoseconds a decision, with their ratios to governor.
    pub(crate) fn times(&mut self, case: &str, times: &Figures) {
        let ratio = |ns: f64| of("governor", times).map_or(f64::NAN, |governor| governor / ns);
        print_row(case, times, |ns| format!("{ns:.0} (×{:.2})", ratio(ns)));
        if let Some(ours) = of("tollgate", times) {
            self.keep(case, ratio(ours));
        }
    }

    /// Bytes a key.
    pub(crate) fn bytes(&self, case: &str, bytes: &Figures) {
        print_row(case, bytes, |bytes| format!("{bytes:.1}"));
    }

    /// A figure for the last lines.
    pub(crate) fn keep(&mut self, name: &str, value: f64) {
        self.kept.insert(name.to_owned(), value);
    }

    /// What was kept by this name.
    pub(crate) fn kept(&self, name: &str) -> Option<f64> {
        self.kept.get(name).copied()
    }

    /// All that was kept.
    pub(crate) fn all_kept(&self) -> impl Iterator<Item = (&str, f64)> {
        self.kept.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Adds what another has kept.
    pub(crate) fn add(&mut self, other: Self) {
        self.kept.extend(other.kept);
    }

    /// Prints the lines for scripts.
    pub(crate) fn print_last(&self) {
        println!();
        for (name, value) in NAMES.iter().filter_map(|name| Some((name, self.kept(name)?))) {
            let decimals = if name.ends_with("_share") || name.ends_with("_growth") { 6 } else { 2 };
            println!("{name} {value:.decimals$}");
        }
    }
}

fn print_row(case: &str, figures: &Figures, cell: impl Fn(f64) -> String) {
    let cells = CONTESTANTS.map(|name| format!("{:>18}", of(name, figures).map_or("–".to_owned(), &cell)));
    println!("{case:<22}{}", cells.concat());
}

fn of(name: &str, figures: &Figures) -> Option<f64> {
    figures.iter().find(|(other, _)| *other == name).map(|(_, figure)| *figure)
}
