//! What an attacker gets who invents keys, a hundred times as many as the store is rated for: whether anybody who had used
//! up his limit is let in again, what memory it takes, and what it does to the slowest decisions.

use anyhow::ensure;
use tollgate::{key::Key, quota::Algorithm};

use super::{contestants::Ours, histogram::Histogram, keys::Numbered, measure::resident_bytes, table::Table};

/// As many clients as the store is rated for.
const CLIENTS: u64 = 100_000;
const LIMIT: usize = 5;
const INVENTED: u64 = 100 * CLIENTS;
/// After so many invented keys always the same one is asked about.
const REPEATED_EVERY: usize = 100_000;
const REPEATED: u64 = u64::MAX;
/// Decisions that are timed before the flood.
const BEFORE: u64 = 200_000;

pub(crate) fn run(table: &mut Table) -> anyhow::Result<()> {
    let store = Ours::with(CLIENTS, ["a"], &format!("{LIMIT}/hour"), Algorithm::FixedWindow);
    let mut used_up = 0;
    for client in 0..CLIENTS {
        let admitted = (0..=LIMIT).filter(|_| store.allows(&key(client))).count();
        ensure!(admitted <= LIMIT, "client {client} was admitted {admitted} times");
        // With bad luck he found no room, and was denied too early.
        used_up += u64::from(admitted == LIMIT);
    }

    // Both, and the first reading of /proc, before memory is measured.
    let (mut before, mut during) = (Histogram::new(), Histogram::new());
    resident_bytes()?;
    for i in 0..BEFORE {
        let client = key(u64::numbered(!i) % CLIENTS);
        before.time(|| store.allows(&client));
    }
    let bytes_before = resident_bytes()? as f64;

    let (mut invented_admitted, mut repeated_admitted) = (0, 0);
    for (i, invented) in (CLIENTS..CLIENTS + INVENTED).enumerate() {
        let invented = key(invented);
        invented_admitted += u64::from(during.time(|| store.allows(&invented)));
        if i % REPEATED_EVERY == 0 && store.allows(&key(REPEATED)) {
            repeated_admitted += 1;
        }
    }
    let growth = resident_bytes()? as f64 / bytes_before - 1.0;

    let denied = (0..CLIENTS).filter(|client| !store.allows(&key(*client))).count();
    let still_denied = denied as f64 / CLIENTS as f64;
    let (ns_before, ns_during) = (before.all_but_one_in(1_000), during.all_but_one_in(1_000));
    println!(
        "flood: {used_up} of {CLIENTS} clients used up their {LIMIT}, {denied} are still denied after {INVENTED} invented \
         keys; of those {invented_admitted} were admitted, and {repeated_admitted} times one that came again and again"
    );
    println!(
        "flood: p99.9 {ns_before:.0} ns before and {ns_during:.0} ns during, memory {:+.3} % of {:.1} MB",
        growth * 100.0,
        bytes_before / 1e6
    );
    table.keep("flood_still_denied_share", still_denied);
    table.keep("flood_repeated_admitted", f64::from(repeated_admitted));
    table.keep("flood_memory_growth", growth);
    table.keep("flood_p999_over_before", ns_during / ns_before);
    Ok(())
}

fn key(number: u64) -> Key {
    Key::of([u64::numbered(number).to_be_bytes()])
}
