//! The memory store keeps the contract of stores, also under threads and under floods.

use std::{collections::HashMap, sync::Barrier, thread, time::Duration};

use tollgate::{
    algorithm::Verdict,
    clock::ManualClock,
    key::Key,
    policy::{Mode, Quotas},
    quota::Algorithm,
    store::{Charge, memory::MemoryStore},
    testing::conformance::conformance,
};

use crate::rig::{START, at_once, get, rig};

#[test]
fn keeps_the_contract_of_stores() {
    at_once(conformance(|clock| MemoryStore::new(10_000, clock.into())));
}

#[test]
fn keeps_the_contract_when_it_is_large() {
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
fn a_flood_of_new_keys_pardons_nobody_and_takes_no_memory() {
    for (limits, algorithm) in [
        ("5/hour", Algorithm::FixedWindow),
        ("5/day", Algorithm::CalendarWindow),
        ("5/hour", Algorithm::SlidingWindow),
        ("5/week", Algorithm::TokenBucket),
    ] {
        let counters = 1_000;
        let flooded = Flooded::new(counters, limits, algorithm);
        let debtors: Vec<String> = (0..counters).map(|n| format!("debtor-{n}")).collect();
        for debtor in &debtors {
            (0..5).for_each(|_| _ = flooded.allows(debtor));
            assert!(!flooded.allows(debtor), "{algorithm}");
        }
        let mut repeated = 0;
        for round in 0..100 {
            flooded.flood(counters, &format!("round-{round}"));
            repeated += usize::from(flooded.allows("again and again"));
            flooded.clock.advance(Duration::from_millis(1));
        }
        let pardoned = debtors.iter().filter(|debtor| flooded.allows(debtor)).count();
        assert_eq!(pardoned, 0, "{algorithm}");
        assert!(repeated <= 5, "{algorithm}: {repeated}");
        let statistics = flooded.store.statistics();
        assert!(statistics.in_use <= 1_432, "{algorithm}: {statistics:?}");
        assert!(statistics.given_up > 0, "{algorithm}: {statistics:?}");
    }
}

/// Whatever is asked in whatever order, a full store admits to no key more than its quota, though it forgets who is who.
#[test]
fn a_store_far_too_small_admits_nobody_twice() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        for seed in 0..20 {
            let flooded = Flooded::new(2, "5/week", algorithm);
            let mut admitted = HashMap::<u64, u32>::new();
            for throw in 0..2_000 {
                let key = dice(seed, throw) % 40;
                *admitted.entry(key).or_default() += u32::from(flooded.allows(&key.to_string()));
            }
            assert!(admitted.values().all(|times| *times <= 5), "{algorithm}, seed {seed}: {admitted:?}");
        }
    }
}

/// Any numbers that have no order.
fn dice(seed: u64, throw: u64) -> u64 {
    blake3::hash(&[seed.to_le_bytes(), throw.to_le_bytes()].concat()).as_bytes()[0].into()
}

#[test]
fn a_newcomer_without_a_slot_is_counted_too() {
    let flooded = Flooded::new(1, "2/hour", Algorithm::FixedWindow);
    for debtor in ["a", "b", "c", "d"] {
        assert_eq!([(); 3].map(|()| flooded.allows(debtor)), [true, true, false], "{debtor}");
    }
    let newcomer = [(); 3].map(|()| flooded.allows("newcomer"));
    assert_eq!(newcomer, [true, true, false]);
    assert_eq!(flooded.store.statistics().in_use, 4);
    flooded.clock.advance(Duration::from_secs(3_600));
    assert_eq!([(); 3].map(|()| flooded.allows("newcomer")), [true, true, false]);
    assert_eq!(flooded.store.statistics().reused, 1);
}

#[test]
fn a_client_who_asks_for_everything_at_once_takes_no_place_of_one_who_is_denied() {
    let flooded = Flooded::new(1, "2/hour", Algorithm::TokenBucket);
    for debtor in ["a", "b", "c", "d"] {
        assert_eq!([(); 3].map(|()| flooded.allows(debtor)), [true, true, false], "{debtor}");
    }
    for n in 0..1_000 {
        let key = Key::of([format!("greedy-{n}")]);
        let charge = Charge { rule: "api", mode: Mode::Enforce, key: &key, quotas: &flooded.quotas, cost: 2 };
        flooded.store.take_now(&[charge]);
    }
    assert!(["a", "b", "c", "d"].iter().all(|debtor| !flooded.allows(debtor)));
}

/// An override whose amount fits no slot is counted where the rule's other amounts are: the counter stays the same.
#[test]
fn amounts_of_one_rule_share_a_counter_however_large() {
    let rig = rig("rules:
          - { name: api, limit: 5/hour, overrides: [{ path: /bulk, limit: 2000000000/hour }] }");
    let remaining =
        |path| rig.check(&get(path)).counted().map(|counted| counted.status().remaining).collect::<Vec<_>>();
    assert_eq!(remaining("/bulk"), [1_999_999_999]);
    assert_eq!(remaining("/"), [3]);
    assert_eq!(remaining("/bulk"), [1_999_999_997]);
}

#[test]
fn a_batch_answers_as_one_after_the_other_would() {
    let (batch, single) =
        (Flooded::new(100, "2/hour", Algorithm::TokenBucket), Flooded::new(100, "2/hour", Algorithm::TokenBucket));
    let keys: Vec<Key> = (0..70).map(|n| Key::of([format!("{}", n % 20)])).collect();
    let charge = |key| [Charge { rule: "api", mode: Mode::Enforce, key, quotas: &single.quotas, cost: 1 }];
    let requests: Vec<_> = keys.iter().map(charge).collect();
    let answers = batch.store.take_batch_now(&requests);
    for (answer, request) in answers.iter().zip(&requests) {
        assert_eq!(answer.outcomes, single.store.take_now(request).outcomes);
    }
}

#[test]
fn a_verdict_alone_is_the_one_of_the_whole_answer() {
    let check = |limits: &str, algorithm| {
        let [told, one, each] = [(); 3].map(|()| Flooded::new(100, limits, algorithm));
        let keys: Vec<Key> = (0..20).map(|n| Key::of([n.to_string()])).collect();
        let mut verdicts = Vec::new();
        for round in 0..20 {
            // Costs that fit, that do not, and none at all, in batches of another length each time.
            let charge = |n: usize| Charge {
                rule: "api",
                mode: if n.is_multiple_of(7) { Mode::Shadow } else { Mode::Enforce },
                key: &keys[n * n % 20],
                quotas: &told.quotas,
                cost: (n + round) as u64 % 4,
            };
            let charges: Vec<_> = (0..30 + round).map(charge).collect();
            verdicts.clear();
            each.store.take_each_now(&charges, &mut verdicts);
            for (charge, verdict) in charges.iter().zip(&verdicts) {
                let outcomes = told.store.take_now(&[*charge]).outcomes;
                let denied = outcomes.iter().any(|outcome| outcome.verdict == Verdict::Deny);
                let expected = if denied { Verdict::Deny } else { Verdict::Allow };
                assert_eq!((*verdict, one.store.take_one_now(charge)), (expected, expected), "{limits} {algorithm}");
            }
            [&told, &one, &each].iter().for_each(|flooded| flooded.clock.advance(Duration::from_secs(427)));
        }
    };
    for algorithm in Algorithm::ALL {
        check("7/hour", algorithm);
        check("3/hour; 11/day", algorithm);
    }
}

#[test]
fn each_of_a_batch_is_counted_by_its_own_rule() {
    let flooded = Flooded::new(100, "1/hour", Algorithm::TokenBucket);
    let others = Quotas::new("other", &"3/hour".parse().unwrap(), None).unwrap();
    let key = Key::of(["ann"]);
    let charge = |rule, quotas| Charge { rule, mode: Mode::Enforce, key: &key, quotas, cost: 1 };
    let charges = [charge("api", &flooded.quotas), charge("other", &others)].repeat(4);
    let mut verdicts = Vec::new();
    flooded.store.take_each_now(&charges, &mut verdicts);
    let admitted = |rule: &str| {
        let pairs = charges.iter().zip(&verdicts);
        pairs.filter(|(charge, verdict)| charge.rule == rule && **verdict == Verdict::Allow).count()
    };
    assert_eq!([admitted("api"), admitted("other")], [1, 3]);
}

#[test]
fn a_full_store_has_a_slot_for_nearly_every_counter_that_it_is_rated_for() {
    let flooded = Flooded::new(100_000, "5/minute", Algorithm::FixedWindow);
    flooded.flood(100_000, "key");
    let statistics = flooded.store.statistics();
    // About one in 2,000 has none. Without the third bucket it would be 300 of these, and 600 without the choice of the emptier.
    assert!(statistics.given_up <= 100, "{statistics:?}");
}

#[test]
fn what_counts_no_more_makes_room_before_anything_is_given_up() {
    let flooded = Flooded::new(1_000, "5/minute", Algorithm::FixedWindow);
    for round in 0..10 {
        flooded.flood(800, &format!("round-{round}"));
        flooded.clock.advance(Duration::from_secs(60));
    }
    let statistics = flooded.store.statistics();
    // Of a thousand at most one finds no room in its few slots, even when they are all live.
    assert!(statistics.given_up <= 8, "{statistics:?}");
    assert!(statistics.reused > 6_000, "{statistics:?}");
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
fn a_full_store_gives_up_no_log_that_denies() {
    let flooded = Flooded::new(2_000, "5/hour", Algorithm::SlidingLog);
    let debtors: Vec<String> = (0..50).map(|n| format!("debtor-{n}")).collect();
    for debtor in &debtors {
        (0..5).for_each(|_| _ = flooded.allows(debtor));
    }
    flooded.flood(20_000, "others");
    assert!(debtors.iter().all(|debtor| !flooded.allows(debtor)));
    // With logs alone that deny, a newcomer has to wait.
    let full = Flooded::new(2_000, "1/hour", Algorithm::SlidingLog);
    full.flood(20_000, "others");
    assert!(!full.allows("newcomer"));
    assert_eq!(full.store.statistics().given_up, 0);
    full.clock.advance(Duration::from_secs(3_600));
    assert!(full.allows("newcomer"));
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
    let counters = statistics.wide + remembered / 4;
    assert!(counters * 200 <= flooded.store.bytes() as u64, "{remembered}, {statistics:?}");
    assert!(statistics.given_up > 0, "{statistics:?}");
}

#[test]
fn a_log_of_charges_at_one_instant_is_one_entry() {
    let flooded = Flooded::new(1_000, "10000/hour", Algorithm::SlidingLog);
    assert!(flooded.allows("other"));
    for _ in 0..10_000 {
        assert!(flooded.allows("client"));
    }
    assert!(!flooded.allows("client"));
    assert_eq!(flooded.store.statistics().given_up, 0);
}
