//! The cases: which contestants, which keys, and what is to be found of them.

use anyhow::{Context as _, bail};

use super::{
    Extent,
    check::{Address, Checked},
    contestants::{Allowance, Batched, Contestant, Contestants, Ours, Telling, governor},
    keys::{Draw, Numbered, Ready, drawn},
    measure::{ROUNDS, fill, medians, resident_bytes, time},
    part,
    table::Table,
};

const MILLION: u64 = 1_000_000;

/// Keys that are all in the store, drawn uniformly and by Zipf's law, by one thread and by two.
pub(crate) fn live_keys<K: Contestants>(table: &mut Table, extent: Extent, label: &str) -> anyhow::Result<()> {
    let keys = number_of_keys(label)?;
    {
        // All of them are gone before each is opened again, alone.
        let mut stores = Vec::new();
        for entry in K::contestants() {
            let store = (entry.open)(keys, Allowance::Plenty);
            fill::<K>(&*store, 0..keys)?;
            stores.push((entry.name, store));
        }
        for draw in [Draw::Uniform, Draw::Zipf] {
            let sequence = drawn::<K>(draw, keys, ROUNDS * extent.decisions());
            for threads in [1, 2] {
                let times = medians(&stores, |store, round| {
                    let keys = sequence.chunks(extent.decisions()).nth(round).unwrap_or_default();
                    time(&**store, keys, 1, threads, keys.len())
                })?;
                table.times(&format!("{}_{label}_{}_{threads}t", K::NAME, draw.name()), &times);
            }
        }
    }
    // Fewer do not fill the pages of what they come with.
    if keys >= MILLION { bytes_a_key::<K>(table, extent, label) } else { Ok(()) }
}

/// What each contestant takes, filled to its rated capacity in a process of its own: memory that others have freed would
/// come back in its growth.
fn bytes_a_key<K: Contestants>(table: &mut Table, extent: Extent, label: &str) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for entry in K::contestants() {
        let alone = part::run(&format!("alone_{}_{label}_{}", K::NAME, entry.name), extent)?;
        let of_entry = alone.kept("bytes").context("a contestant alone tells its bytes")?;
        bytes.push((entry.name, of_entry));
        if (K::NAME, label) == ("str24", "1m")
            && let Some(given_up) = alone.kept("given_up_share")
        {
            table.keep("bytes_per_counter", of_entry);
            table.keep("given_up_share", given_up);
        }
    }
    table.bytes(&format!("{}_{label}_bytes", K::NAME), &bytes);
    Ok(())
}

/// One contestant filled to its rated capacity.
pub(crate) fn alone<K: Contestants>(table: &mut Table, label: &str, contestant: &str) -> anyhow::Result<()> {
    let keys = number_of_keys(label)?;
    let entry = K::contestants().into_iter().find(|entry| entry.name == contestant).context("no such contestant")?;
    // Its code comes into memory with its first use.
    fill::<K>(&*(entry.open)(1_000, Allowance::Plenty), 0..1_000)?;
    let before = resident_bytes()?;
    let store = (entry.open)(keys, Allowance::Plenty);
    fill::<K>(&*store, 0..keys)?;
    table.keep("bytes", (resident_bytes()? - before) as f64 / keys as f64);
    if let Some(given_up) = store.given_up() {
        table.keep("given_up_share", given_up as f64 / keys as f64);
    }
    Ok(())
}

/// One key that has used up its allowance. It is near, as its counter is: a list of nothing but this key, as long as what is
/// asked, would have every contestant wait for the list.
pub(crate) fn hot_key<K: Contestants>(table: &mut Table, extent: Extent, case: &str) -> anyhow::Result<()> {
    const AT_ONCE: usize = 100;
    let keys = vec![K::numbered(0); AT_ONCE];
    let mut stores = Vec::new();
    for entry in K::contestants() {
        let store = (entry.open)(1_000, Allowance::Two);
        for _ in 0..2 {
            fill::<K>(&*store, 0..1)?;
        }
        stores.push((entry.name, store));
    }
    let times = medians(&stores, |store, _| time(&**store, &keys, extent.decisions() / AT_ONCE, 2, 0))?;
    table.times(case, &times);
    Ok(())
}

/// Keys that no store has seen, into stores opened for as many.
pub(crate) fn new_keys(table: &mut Table, extent: Extent) -> anyhow::Result<()> {
    let keys: Vec<Ready<String>> = (0..extent.decisions() as u64).map(Ready::numbered).collect();
    let entries: Vec<_> = Ready::<String>::contestants().into_iter().map(|entry| (entry.name, entry)).collect();
    let times = medians(&entries, |entry, _| {
        let store = (entry.open)(keys.len() as u64, Allowance::Plenty);
        time(&*store, &keys, 1, 1, keys.len())
    })?;
    table.times("new_str24", &times);
    Ok(())
}

/// Our store asked about 16 requests a call, beside governor, which knows only one by one.
pub(crate) fn batches(table: &mut Table, extent: Extent) -> anyhow::Result<()> {
    let (governor, batched) =
        (governor(MILLION, Allowance::Plenty), Batched(Ours::open(MILLION, ["a"], Allowance::Plenty)));
    let stores: [(&str, &dyn Contestant<Ready<String>>); 2] = [("governor", &*governor), ("tollgate", &batched)];
    let times = about_a_million(&stores, extent)?;
    table.times("batch16_str24_1m_2t", &times);
    Ok(())
}

/// Nanoseconds a decision of two threads about a million strings that the stores know.
fn about_a_million(
    stores: &[(&'static str, &dyn Contestant<Ready<String>>)],
    extent: Extent,
) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let sequence = drawn::<Ready<String>>(Draw::Uniform, MILLION, ROUNDS * extent.decisions());
    for (_, store) in stores {
        fill(*store, 0..MILLION)?;
    }
    medians(stores, |store, round| {
        let keys = sequence.chunks(extent.decisions()).nth(round).unwrap_or_default();
        time(*store, keys, 1, 2, keys.len())
    })
}

/// What three rules cost that count the same million clients, over what one costs, statuses included.
pub(crate) fn three_rules(table: &mut Table, extent: Extent) -> anyhow::Result<()> {
    let one = Telling(Ours::open(MILLION, ["a"], Allowance::Plenty));
    let three = Telling(Ours::open(3 * MILLION, ["a", "b", "c"], Allowance::Plenty));
    let stores: [(&str, &dyn Contestant<Ready<String>>); 2] = [("one rule", &one), ("three rules", &three)];
    let times = about_a_million(&stores, extent)?;
    let [(_, one), (_, three)] = times[..] else { bail!("two contestants, two figures") };
    println!("three rules over a million strings, two threads: {three:.0} ns, one rule {one:.0} ns");
    table.keep("three_rules_over_one", three / one);
    Ok(())
}

/// From a parsed request to the headers of its answer, on one thread.
pub(crate) fn whole_check(table: &mut Table, extent: Extent) -> anyhow::Result<()> {
    for (clients, label) in [(1_000, "a thousand"), (MILLION, "a million")] {
        let sequence = drawn::<Address>(Draw::Uniform, clients, ROUNDS * extent.decisions());
        let checked = Checked::open(3 * clients)?;
        fill(&checked, 0..clients)?;
        let times = medians(&[("tollgate", &checked)], |checked, round| {
            let clients = sequence.chunks(extent.decisions()).nth(round).unwrap_or_default();
            time(*checked, clients, 1, 1, clients.len())
        })?;
        let (_, ns) = times[0];
        println!("check of three rules with headers, {label} clients, one thread: {ns:.0} ns");
        // The last one stands: what a million clients' counters cost in cache misses is part of a check.
        table.keep("check_three_rules_ns", ns);
    }
    Ok(())
}

fn number_of_keys(label: &str) -> anyhow::Result<u64> {
    match label {
        "1k" => Ok(1_000),
        "1m" => Ok(MILLION),
        "10m" => Ok(10 * MILLION),
        _ => bail!("{label:?} keys, expected 1k, 1m or 10m"),
    }
}
