//! What one decision costs in this process, beside the limiters that people use instead.
//!
//! Every case is measured in rounds over all contestants, so that whatever else the machine does meets all of them; a
//! figure is the median of its rounds. All keys are in the store beforehand and all decisions allow, unless the case says
//! otherwise. Time is wall time over the decisions of all threads together: perfect scaling halves it with two. Two parts
//! ask for more than time: what a flood of invented keys does, and whether many threads at few keys are counted right.
//!
//! Each part runs in a process of its own, with a heap that no other part has left its holes in, and gives all its memory
//! back. The stores of one part live side by side, since rounds need all of them: about 4 GB with 10 million strings.

mod cases;
mod check;
mod contestants;
mod flood;
mod histogram;
pub(crate) mod instructions;
mod keys;
mod measure;
mod part;
mod stress;
mod table;

use anyhow::bail;

use self::{keys::Ready, table::Table};

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every number of keys, in about six minutes.
    Full,
    /// The cases with a million keys, in less than a minute.
    Quick,
}

impl Extent {
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[
                "str24_1k",
                "u64_1k",
                "str24_1m",
                "u64_1m",
                "str24_10m",
                "u64_10m",
                "hot",
                "new",
                "batch",
                "rules",
                "check",
                "flood",
                "stress",
            ],
            Self::Quick => &["str24_1m", "u64_1m", "hot", "new", "batch", "rules", "check", "flood"],
        }
    }

    /// Decisions of one contestant in one round.
    fn decisions(self) -> usize {
        match self {
            Self::Full => 1_000_000,
            Self::Quick => 300_000,
        }
    }
}

/// Measures everything, one part after the other.
pub(crate) fn run(extent: Extent) -> anyhow::Result<()> {
    let mut table = Table::default();
    table::print_head();
    for part in extent.parts() {
        table.add(part::run(part, extent)?);
    }
    table.print_last();
    Ok(())
}

/// Measures one part, in this process.
pub(crate) fn run_part(part: &str, extent: Extent) -> anyhow::Result<()> {
    let mut table = Table::default();
    match part.split('_').collect::<Vec<_>>()[..] {
        ["str24", keys] => cases::live_keys::<Ready<String>>(&mut table, extent, keys)?,
        ["u64", keys] => cases::live_keys::<Ready<u64>>(&mut table, extent, keys)?,
        ["alone", "str24", keys, contestant] => cases::alone::<Ready<String>>(&mut table, keys, contestant)?,
        ["alone", "u64", keys, contestant] => cases::alone::<Ready<u64>>(&mut table, keys, contestant)?,
        ["hot"] => {
            cases::hot_key::<Ready<u64>>(&mut table, extent, "hot_denied_2t")?;
            cases::hot_key::<Ready<String>>(&mut table, extent, "str24_hot_denied_2t")?;
        }
        ["new"] => cases::new_keys(&mut table, extent)?,
        ["batch"] => cases::batches(&mut table, extent)?,
        ["rules"] => cases::three_rules(&mut table, extent)?,
        ["check"] => cases::whole_check(&mut table, extent)?,
        ["flood"] => flood::run(&mut table)?,
        ["stress"] => stress::run()?,
        _ => bail!("no part {part:?}, expected one of: {}", Extent::Full.parts().join(", ")),
    }
    part::report(&table);
    Ok(())
}
