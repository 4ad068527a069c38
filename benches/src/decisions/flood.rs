//! What an attacker gets who invents keys, a hundred times as many as the store is rated for: whether anybody who had used
//! up his limit is let in again, what memory it takes, and what it does to the slowest decisions.

use anyhow::ensure;
use tollgate::{key::Key, quota::Algorithm};

use super::{contestants::Ours, histogram::Histogram, keys::Numbered, measure::resident_bytes, table::Table};

/// As many clients as the store is rated for.
const CLIENTS: u64 = 100_000;
const LIMIT: usize = 5;
/// After so many invented keys always the same one is asked about.
const REPEATED_EVERY: u64 = 100_000;
const REPEATED: u64 = u64::MAX;
/// The flood comes in turns, and before each of them decisions of another store are timed, which stands as the flooded one did
/// before. Of each the turn counts that was least disturbed: a virtual machine can be held up for 2 µs every 80 µs, which is one
/// decision in a thousand of either, or not.
const TURNS: usize = 10;
const INVENTED_A_TURN: u64 = 10 * CLIENTS;
const INVENTED: u64 = TURNS as u64 * INVENTED_A_TURN;
const CALM: u64 = 200_000;

pub(crate) fn run(table: &mut Table) -> anyhow::Result<()> {
    let (calm, _) = used_up()?;
    let (store, used_up) = used_up()?;
    let mut turns = [[0.0; 2]; TURNS];
    // The first reading of /proc before memory is measured.
    resident_bytes()?;
    let bytes_before = resident_bytes()? as f64;

    let (mut invented_admitted, mut repeated_admitted) = (0, 0);
    let mut next = CLIENTS;
    for turn in &mut turns {
        let mut timed = [Histogram::new(), Histogram::new()];
        // What the flood has put into the caches is none of this one's.
        (0..CLIENTS).for_each(|client| _ = calm.allows(&key(client)));
        for i in 0..CALM {
            let client = key(u64::numbered(!i) % CLIENTS);
            timed[0].time(|| calm.allows(&client));
        }
        for number in next..next + INVENTED_A_TURN {
            let invented = key(number);
            invented_admitted += u64::from(timed[1].time(|| store.allows(&invented)));
            if number % REPEATED_EVERY == 0 && store.allows(&key(REPEATED)) {
                repeated_admitted += 1;
            }
        }
        next += INVENTED_A_TURN;
        *turn = timed.each_ref().map(|timed| timed.all_but_one_in(1_000));
    }
    let growth = resident_bytes()? as f64 / bytes_before - 1.0;

    let denied = (0..CLIENTS).filter(|client| !store.allows(&key(*client))).count();
    let still_denied = denied as f64 / CLIENTS as f64;
    let [before, during] = [0, 1].map(|which| turns.iter().map(|turn| turn[which]).fold(f64::INFINITY, f64::min));
    println!(
        "flood: {used_up} of {CLIENTS} clients used up their {LIMIT}, {denied} are still denied after {INVENTED} invented \
         keys; of those {invented_admitted} were admitted, and {repeated_admitted} times one that came again and again"
    );
    println!(
        "flood: p99.9 {before:.0} ns before and {during:.0} ns during, memory {:+.3} % of {:.1} MB",
        growth * 100.0,
        bytes_before / 1e6
    );
    table.keep("flood_still_denied_share", still_denied);
    table.keep("flood_repeated_admitted", f64::from(repeated_admitted));
    table.keep("flood_memory_growth", growth);
    table.keep("flood_p999_over_before", during / before);
    Ok(())
}

/// A store that is full of clients who have used up their limit, and how many of them could.
fn used_up() -> anyhow::Result<(Ours<1>, u64)> {
    let store = Ours::with(CLIENTS, ["a"], &format!("{LIMIT}/hour"), Algorithm::FixedWindow);
    let mut used_up = 0;
    for client in 0..CLIENTS {
        let admitted = (0..=LIMIT).filter(|_| store.allows(&key(client))).count();
        ensure!(admitted <= LIMIT, "client {client} was admitted {admitted} times");
        // With bad luck he found no room, and was denied too early.
        used_up += u64::from(admitted == LIMIT);
    }
    Ok((store, used_up))
}

fn key(number: u64) -> Key {
    Key::of([u64::numbered(number).to_be_bytes()])
}
