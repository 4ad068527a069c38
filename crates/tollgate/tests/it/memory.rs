//! The memory store keeps the contract of stores, also under threads and under floods.

use std::{sync::Barrier, thread, time::Duration};

use tollgate::{
    algorithm::Verdict,
    clock::ManualClock,
    key::Key,
    policy::{Mode, Quotas},
    quota::Algorithm,
    store::{Charge, memory::MemoryStore},
    testing::conformance::conformance,
};

use crate::rig::{START, at_once};

#[test]
fn keeps_the_contract_of_stores() {
    at_once(conformance(|clock| MemoryStore::new(10_000, clock.into())));
}

#[test]
fn keeps_the_contract_with_many_shards() {
    at_once(conformance(|clock| MemoryStore::new(1_000_000, clock.into())));
}

const THREADS: usize = 8;
const DECISIONS: usize = 1_500;

/// How many charges of 1 pass on each of three keys when eight threads charge them at one instant.
fn admitted_by_threads(quotas: &[(&str, Quotas)]) -> [usize; 3] {
    let store = MemoryStore::new(10_000, ManualClock::new(START).into());
    let keys = ["a", "b", "c"].map(|part| Key::of([part]));
    let barrier = Barrier::new(THREADS);
    let of_thread = || {
        let mut admitted = [0; 3];
        barrier.wait();
        for n in 0..DECISIONS {
            let key = &keys[n % 3];
            let mut charges: Vec<Charge<'_>> = quotas
                .iter()
                .map(|(rule, quotas)| Charge { rule, mode: Mode::Enforce, key, quotas, cost: 1 })
                .collect();
            // Whatever the order, two threads must not wait for each other.
            if n % 2 == 0 {
                charges.reverse();
            }
            let taken = store.take_now(&charges);
            admitted[n % 3] += usize::from(taken.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow));
        }
        admitted
    };
    let sums = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(of_thread)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .fold([0; 3], |sum, admitted| [sum[0] + admitted[0], sum[1] + admitted[1], sum[2] + admitted[2]])
    });
    for key in &keys {
        for (rule, quotas) in quotas {
            let asked = store.look_now(&[Charge { rule, mode: Mode::Enforce, key, quotas, cost: 0 }]);
            let least = quotas.iter().map(|(_, quota)| quota.capacity()).min().unwrap();
            let used: Vec<u64> = asked.outcomes.iter().map(|o| o.status.limit - o.status.remaining).collect();
            // All or none: every counter has paid for what passed, and for nothing else.
            assert!(used.iter().all(|used| *used == sums[0] as u64), "{rule}: {used:?}, at most {least}");
        }
    }
    sums
}

#[test]
fn eight_threads_admit_exactly_the_quota() {
    for algorithm in Algorithm::ALL {
        let quotas = Quotas::new("api", &"700/hour".parse().unwrap(), Some(algorithm)).unwrap();
        assert_eq!(admitted_by_threads(&[("api", quotas)]), [700; 3], "{algorithm}");
    }
}

#[test]
fn eight_threads_charge_all_rules_or_none() {
    for algorithm in Algorithm::ALL {
        let rules = [("wide", "900/hour; 5000/day"), ("narrow", "450/day"), ("narrower", "400/hour; 500/hour")];
        let rules =
            rules.map(|(name, limits)| (name, Quotas::new(name, &limits.parse().unwrap(), Some(algorithm)).unwrap()));
        assert_eq!(admitted_by_threads(&rules), [400; 3], "{algorithm}");
    }
}

/// A store of one rule, `api`, and its clock.
struct Flooded {
    store: MemoryStore,
    clock: ManualClock,
    quotas: Quotas,
}

impl Flooded {
    fn new(counters: usize, limits: &str, algorithm: Algorithm) -> Self {
        let clock = ManualClock::new(START);
        let quotas = Quotas::new("api", &limits.parse().unwrap(), Some(algorithm)).unwrap();
        Self { store: MemoryStore::new(counters, clock.clone().into()), clock, quotas }
    }

    fn allows(&self, key: &str) -> bool {
        let key = Key::of([key]);
        let charge = Charge { rule: "api", mode: Mode::Enforce, key: &key, quotas: &self.quotas, cost: 1 };
        self.store.take_now(&[charge]).outcomes[0].verdict == Verdict::Allow
    }

    fn used(&self, key: &str) -> u64 {
        let key = Key::of([key]);
        let ask = Charge { rule: "api", mode: Mode::Enforce, key: &key, quotas: &self.quotas, cost: 0 };
        let status = self.store.look_now(&[ask]).outcomes[0].status;
        status.limit - status.remaining
    }

    fn flood(&self, newcomers: usize, name: &str) {
        for n in 0..newcomers {
            self.allows(&format!("{name}-{n}"));
        }
    }
}

#[test]
fn a_flood_of_new_keys_neither_overflows_the_store_nor_pardons_a_debtor() {
    for counters in [1_000, 5_000] {
        let flooded = Flooded::new(counters, "5/hour", Algorithm::FixedWindow);
        assert!((0..5).all(|_| flooded.allows("debtor")));
        for round in 0..10 {
            flooded.flood(counters, &format!("round-{round}"));
            assert!(!flooded.allows("debtor"), "after {round} floods of {counters}");
        }
        let statistics = flooded.store.statistics();
        assert!(statistics.in_use <= statistics.capacity, "{statistics:?}");
        assert!(statistics.capacity <= counters + counters / 10, "{statistics:?}");
        assert!(statistics.given_up >= 8 * counters as u64, "{statistics:?}");
    }
}

#[test]
fn a_newcomer_to_a_full_store_is_counted_too() {
    let flooded = Flooded::new(1, "2/hour", Algorithm::FixedWindow);
    flooded.flood(3, "others");
    let allowed: Vec<bool> = (0..3).map(|_| flooded.allows("newcomer")).collect();
    assert_eq!(allowed, [true, true, false]);
    assert_eq!(flooded.store.statistics().in_use, 1);
}

#[test]
fn what_counts_no_more_makes_room_before_anything_is_given_up() {
    let flooded = Flooded::new(1_000, "5/minute", Algorithm::FixedWindow);
    for round in 0..10 {
        flooded.flood(900, &format!("round-{round}"));
        flooded.clock.advance(Duration::from_secs(60));
    }
    let statistics = flooded.store.statistics();
    assert_eq!(statistics.given_up, 0, "{statistics:?}");
}

#[test]
fn asking_at_cost_0_takes_no_room() {
    let flooded = Flooded::new(10, "1/hour", Algorithm::FixedWindow);
    assert!(flooded.allows("debtor"));
    for n in 0..100 {
        let key = Key::of([format!("asker-{n}")]);
        let ask = Charge { rule: "api", mode: Mode::Enforce, key: &key, quotas: &flooded.quotas, cost: 0 };
        flooded.store.take_now(&[ask]);
    }
    assert_eq!(flooded.store.statistics().in_use, 1);
    assert!(!flooded.allows("debtor"));
}

#[test]
fn logs_take_room_by_their_length() {
    let flooded = Flooded::new(1_000, "400/hour", Algorithm::SlidingLog);
    // Each of 50 clients makes 400 requests at different times: in all, five times what there is room for.
    for _ in 0..400 {
        flooded.clock.advance(Duration::from_micros(1));
        flooded.flood(50, "client");
    }
    let statistics = flooded.store.statistics();
    let remembered: u64 = (0..50).map(|n| flooded.used(&format!("client-{n}"))).sum();
    assert!(
        statistics.in_use + usize::try_from(remembered).expect("it fits") / 4 <= statistics.capacity,
        "{remembered}, {statistics:?}"
    );
    assert!(statistics.given_up > 0, "{statistics:?}");
}

#[test]
fn a_log_of_charges_at_one_instant_is_one_entry() {
    let flooded = Flooded::new(10, "10000/hour", Algorithm::SlidingLog);
    assert!(flooded.allows("other"));
    for _ in 0..10_000 {
        assert!(flooded.allows("client"));
    }
    assert!(!flooded.allows("client"));
    assert_eq!(flooded.store.statistics().given_up, 0);
}
