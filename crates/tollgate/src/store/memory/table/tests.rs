//! The protocol step by step, with keys of chosen places: what threads do to each other by chance is tried in `interleavings`.

use std::{iter, sync::Arc};

use shuttle::{
    Config,
    scheduler::{Schedule, Scheduler, Task, TaskId},
};

use super::*;
use crate::{
    algorithm::{Verdict, packed::Packed},
    clock::Timestamp,
    policy::Quotas,
    quota::Algorithm,
    store::memory::counters::Counters,
};

#[test]
fn what_a_counter_begins_with_is_asked_after_its_slots_were_looked_at() {
    let settle = || {
        let table = Table::new(4);
        let place = table.place(0x1234_5678_9ABC_DEF0);
        let Room::In(slot, found) = table.room(&place, |_| Owes::<u8>::TooMuch) else { panic!("it is empty") };
        let reservation = Table::reserve(&place, slot, found).expect("nobody else is there");
        // If they were looked at after this, another's counter would be found.
        let word = Word::settled(place.tag, 0, Packed { instant: 0, count: 1 });
        let settle_another = || {
            let free = |_, _, other: Slot<'_>, found| match slot.goes_before(other) && other.swap(found, word) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            table.each(&place, free).is_break()
        };
        assert!(table.settle(&place, (slot, reservation), word, settle_another));
    };
    shuttle::check_random(settle, 1);
}

/// Three buckets. In the first are three counters that nobody may give up, in the second two, in the third four.
struct Stage {
    counters: Counters,
    quotas: Quotas,
}

impl Stage {
    fn new() -> Self {
        let quotas = Quotas::new("api", &"2/hour".parse().unwrap(), Some(Algorithm::FixedWindow)).unwrap();
        let stage = Self { counters: Counters::new(RATED, START), quotas };
        for (bucket, taken) in [(0, 3), (1, 2), (2, 4)] {
            for n in 0..taken {
                let hash = hash_at([bucket; 3], n);
                assert!(stage.allows(hash) && stage.allows(hash));
            }
        }
        stage
    }

    fn allows(&self, hash: u64) -> bool {
        let (id, quota) = self.quotas.only().unwrap();
        let counter = self.counters.counter(self.counters.registered(id, quota).unwrap(), hash);
        iter::repeat_with(|| self.counters.take(&counter, 1, START)).find_map(|taken| taken) == Some(Verdict::Allow)
    }

    /// Lets a key come to the second bucket, and others take what is left there and then its slot.
    fn bring_and_give_up(&self, hash: u64) -> u64 {
        let was_allowed = self.allows(hash);
        assert!([(); 2].iter().all(|()| self.allows(hash_at([1; 3], 2))));
        self.allows(hash_at([1, 2, 2], 0));
        was_allowed.into()
    }
}

const RATED: usize = 8;
const START: Timestamp = Timestamp::from_micros(1_000_000_000);

/// The hash of one of the keys that can stand in these buckets only.
fn hash_at(buckets: [usize; 3], n: usize) -> u64 {
    let table = Table::new(RATED);
    let number = |bucket: &Bucket| (bucket.as_ptr().addr() - table.slots[table.first..].as_ptr().addr()) / LINE;
    let is_at = |hash: &u64| {
        let Place { usual: [one, two], third, .. } = table.place(*hash);
        [one, two, table.bucket(third)].map(number) == buckets
    };
    (1..).map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).filter(is_at).nth(n).unwrap()
}

#[test]
fn what_a_newcomer_owes_is_asked_after_his_slots_were_looked_at() {
    let meet = || {
        let (stage, key) = (Arc::new(Stage::new()), hash_at([0, 1, 2], 0));
        let other = shuttle::thread::spawn({
            let stage = stage.clone();
            move || stage.bring_and_give_up(key)
        });
        let admitted = [(); 2].map(|()| u64::from(stage.allows(key))).iter().sum::<u64>();
        assert!(admitted + other.join().expect("no thread panics") <= 2);
    };
    shuttle::Runner::new(OneSwitch::default(), Config::default()).run(meet);
}

/// Of two threads, lets the first take so many steps, then the other all of its own: by chance that hardly ever happens.
#[derive(Default)]
struct OneSwitch {
    at: usize,
    steps: usize,
}

impl Scheduler for OneSwitch {
    fn new_execution(&mut self) -> Option<Schedule> {
        /// More than the first thread takes.
        const MOST: usize = 100;
        (self.at, self.steps) = (self.at + 1, 0);
        (self.at <= MOST).then(|| Schedule::new(0))
    }

    fn next_task(&mut self, runnable: &[&Task], _: Option<TaskId>, _: bool) -> Option<TaskId> {
        let ids = || runnable.iter().map(|task| task.id());
        self.steps += usize::from(runnable.len() > 1);
        if self.steps <= self.at { ids().min() } else { ids().max() }
    }

    fn next_u64(&mut self) -> u64 {
        0
    }
}

#[test]
fn a_counter_behind_a_slot_that_was_left_is_found() {
    let seek = || {
        let table = Table::new(4);
        let place = table.place(0x1234_5678_9ABC_DEF0);
        let [left, taken, ..] = place.usual[0].each_ref().map(Slot);
        let word = Word::settled(place.tag, 0, Packed { instant: 0, count: 1 });
        assert!(left.swap(Word::EMPTY, Word::VACANT) && taken.swap(Word::EMPTY, word));
        assert!(matches!(table.seek(&place), Sought::Settled(_, found) if found == word));
    };
    shuttle::check_random(seek, 1);
}
