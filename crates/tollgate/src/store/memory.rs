//! Counters in this process: a table of fixed size that takes no lock, and beside it maps for what fits no slot.
//!
//! See `together` for how the counters of a request are charged all or none, `table` for how threads agree on a counter, and
//! `counters` and `overflow` for what happens when it is full.

mod counters;
#[cfg(test)]
mod interleavings;
mod overflow;
mod registry;
mod secret;
mod shard;
mod table;
mod together;
mod wide;
mod word;

use std::{convert::Infallible, fmt, ptr};

use self::{
    counters::{Counter, Counters},
    registry::Registered,
    secret::Secret,
    table::{Table, fetch},
    together::{Ask, Seat, taken},
    wide::Wide,
};
use super::{Charge, GiveBack, Outcomes, Store, Taken};
use crate::{
    algorithm::{Outcome, Verdict},
    clock::{Clock, Timestamp},
    policy::Quotas,
};

/// How many counters a store holds unless told otherwise.
pub const DEFAULT_COUNTERS: usize = 1_000_000;

/// How many requests of a batch are on their way from memory at the same time.
const AT_ONCE: usize = 16;
/// What a counter outside the table takes, with its share of the map.
const BYTES_PER_WIDE_COUNTER: usize = 200;

/// Counters in this process.
///
/// It holds as many as it is rated for, takes the memory for them once, and never more: [`bytes`](Self::bytes) says how much.
/// A counter that counts no more makes room for a new one. If there is none in the few slots where a new one can stand, the
/// one that owes least is given up, but none that owes more than the new one will, and never one that has nothing left:
/// inventing keys frees nobody. What is given up stays on the bill of its quota, in a few counters that all newcomers share
/// for as long as it counts. So nobody gets more than his quota, but in a full store a newcomer can be denied for what others
/// did; clearing and giving back do not reach those shared counters.
///
/// `sliding-log` and amounts too large for a slot are counted beside the table, with nothing shared: there too, nobody who has
/// nothing left is given up, but who is given up with something left begins anew.
///
/// Keys are told apart by a hash with a secret of this process, 32 bits of it beside their place: a new key is taken for
/// another less than twice in 10⁹ times when the store is full.
///
/// ```
/// use tollgate::{clock::Clock, store::memory::MemoryStore};
///
/// let store = MemoryStore::new(100_000, Clock::system());
/// assert_eq!(store.statistics().in_use, 0);
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    secret: Secret,
    counters: Counters,
    wide: Wide,
}

/// How full a store is, and what it had to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Counters in the table now, whether they still count or not.
    pub in_use: u64,
    /// Counters the table is rated for. It can hold some more.
    pub capacity: u64,
    /// Counters beside the table: logs, and amounts too large for a slot.
    pub wide: u64,
    /// Counters since the start that took the place of one that counted no more.
    pub reused: u64,
    /// Counters given up since the start although they still counted, and charges that found no room.
    pub given_up: u64,
}

/// More counters than there is memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    counters: usize,
    bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counters, bytes } = self;
        write!(f, "{counters} counters take {} MB, which the system does not give: expected fewer", bytes / 1_000_000)
    }
}

impl std::error::Error for OutOfMemory {}

impl MemoryStore {
    /// The same as [`new`](Self::new), for a number of counters that somebody else has chosen.
    ///
    /// # Errors
    ///
    /// The system does not give so much memory.
    pub fn try_new(counters: usize, clock: Clock) -> Result<Self, OutOfMemory> {
        let bytes = Table::bytes_for(counters);
        match Vec::<u8>::new().try_reserve_exact(bytes) {
            Ok(()) => Ok(Self::new(counters, clock)),
            Err(_) => Err(OutOfMemory { counters, bytes }),
        }
    }

    /// A store for `counters` counters (1 at the least) that reads the time from `clock`. It needs 24 bytes for each, and ends
    /// the process if the system does not give them, as every allocation does.
    pub fn new(counters: usize, clock: Clock) -> Self {
        let table = Counters::new(counters, clock.now());
        let wide = Wide::new(table.bytes() / BYTES_PER_WIDE_COUNTER);
        Self { clock, secret: Secret::random(), counters: table, wide }
    }

    /// The memory that the counters take at most: those in the table and those that newcomers share. About once more as much
    /// goes to `sliding-log` and to amounts too large for a slot, if there are any and unless their keys are long.
    pub fn bytes(&self) -> usize {
        self.counters.bytes()
    }

    /// The time by its clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many counters it is rated for.
    pub fn capacity(&self) -> usize {
        self.counters.rated()
    }

    /// How full it is.
    pub fn statistics(&self) -> Statistics {
        let (wide, given_up) = self.wide.sizes();
        let table = self.counters.statistics();
        Statistics { wide: wide as u64, given_up: table.given_up + given_up, ..table }
    }

    /// Takes all the enforced charges or none: what [`Store::take`] does, for callers without a runtime.
    pub fn take_now(&self, charges: &[Charge<'_>]) -> Taken {
        // What most requests come to, without room for several counters.
        if let [charge] = charges
            && let Some(counter) = self.only_counter(charge)
        {
            let at = self.clock.now();
            if let Some(outcome) = self.counters.take(&counter, charge.cost, at) {
                return Taken::of_one(at, outcome);
            }
        }
        self.take_together(charges, &self.asked(charges), None)
    }

    /// Takes the charge of a request that places no other, and tells no more than whether it fitted: what
    /// [`take_now`](Self::take_now) does, for two thirds of the price, since nobody works out how the counter stands. All
    /// that `mode` would change is who is denied, so here it says nothing.
    ///
    /// ```
    /// use tollgate::{algorithm::Verdict, clock::Clock, key::Key, policy::{Mode, Quotas}, store::{Charge, memory::MemoryStore}};
    ///
    /// let store = MemoryStore::new(100_000, Clock::system());
    /// let quotas = Quotas::new("api", &"1/minute".parse()?, None)?;
    /// let key = Key::of(["ann"]);
    /// let charge = Charge { rule: "api", mode: Mode::Enforce, key: &key, quotas: &quotas, cost: 1 };
    /// assert_eq!(store.take_one_now(&charge), Verdict::Allow);
    /// assert_eq!(store.take_one_now(&charge), Verdict::Deny);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_one_now(&self, charge: &Charge<'_>) -> Verdict {
        let taken = self.only_counter(charge).and_then(|counter| {
            let at = self.clock.now();
            self.counters.take(&counter, charge.cost, at)
        });
        taken.unwrap_or_else(|| self.take_several(charge))
    }

    #[inline(never)]
    fn take_several(&self, charge: &Charge<'_>) -> Verdict {
        let charges = std::slice::from_ref(charge);
        let taken = self.take_together(charges, &self.asked(charges), None);
        match taken.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Allow) {
            true => Verdict::Allow,
            false => Verdict::Deny,
        }
    }

    /// The counter of a charge of one quota, whose memory is on its way. None: it has several, or is not in the table.
    #[inline(always)]
    fn only_counter<'a>(&'a self, charge: &Charge<'a>) -> Option<Counter<'a>> {
        let (id, quota) = charge.quotas.only()?;
        if let Seat::Table(counter) = self.seat(charge, id, quota) { Some(counter) } else { None }
    }

    /// Takes the charges of many requests, of each all or none: what [`take_now`](Self::take_now) does for each in turn, while
    /// the memory of the next is on its way. The clock is read once for several of them.
    ///
    /// ```
    /// use tollgate::{clock::Clock, key::Key, policy::{Mode, Quotas}, store::{Charge, memory::MemoryStore}};
    ///
    /// let store = MemoryStore::new(100_000, Clock::system());
    /// let quotas = Quotas::new("api", &"5/minute".parse()?, None)?;
    /// let keys = ["ann", "bob"].map(|name| Key::of([name]));
    /// let requests = keys.each_ref().map(|key| [Charge { rule: "api", mode: Mode::Enforce, key, quotas: &quotas, cost: 1 }]);
    /// let taken = store.take_batch_now(&requests);
    /// assert_eq!(taken[1].outcomes[0].status.remaining, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_batch_now<'a, C: AsRef<[Charge<'a>]>>(&self, requests: &[C]) -> Vec<Taken> {
        let (mut taken, mut asked) = (Vec::with_capacity(requests.len()), Vec::with_capacity(AT_ONCE));
        for requests in requests.chunks(AT_ONCE) {
            asked.clear();
            for charge in requests.iter().flat_map(AsRef::as_ref) {
                asked.extend(charge.quotas.iter().map(|(id, quota)| self.ask(charge, id, quota)));
            }
            let (at, mut rest) = (self.clock.now(), asked.as_slice());
            for request in requests {
                let charges = request.as_ref();
                let (asked, others) = rest.split_at(charges.iter().map(|charge| charge.quotas.len()).sum());
                rest = others;
                let outcome = match asked {
                    [Ask { seat: Seat::Table(counter), cost, .. }] => self.counters.take(counter, *cost, at),
                    _ => None,
                };
                match outcome {
                    Some(outcome) => {
                        // Where it stays, for it is large.
                        taken.push(Taken::new(at, Outcomes::new()));
                        taken.last_mut().into_iter().for_each(|taken| taken.outcomes.push(outcome));
                    }
                    None => taken.push(self.take_together(charges, asked, Some(at))),
                }
            }
        }
        taken
    }

    /// Takes the charges of many requests that place one each, every one by itself: adds the verdict of each to `verdicts`.
    /// What [`take_one_now`](Self::take_one_now) does for each in turn, while the memory of the next is on its way.
    ///
    /// ```
    /// use tollgate::{algorithm::Verdict, clock::Clock, key::Key, policy::{Mode, Quotas}, store::{Charge, memory::MemoryStore}};
    ///
    /// let store = MemoryStore::new(100_000, Clock::system());
    /// let quotas = Quotas::new("api", &"1/minute".parse()?, None)?;
    /// let keys = ["ann", "bob", "ann"].map(|name| Key::of([name]));
    /// let charges = keys.each_ref().map(|key| Charge { rule: "api", mode: Mode::Enforce, key, quotas: &quotas, cost: 1 });
    /// let mut verdicts = Vec::new();
    /// store.take_each_now(&charges, &mut verdicts);
    /// assert_eq!(verdicts, [Verdict::Allow, Verdict::Allow, Verdict::Deny]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_each_now(&self, charges: &[Charge<'_>], verdicts: &mut Vec<Verdict>) {
        for charges in charges.chunks(AT_ONCE) {
            charges.iter().for_each(|charge| fetch(charge.key));
            let mut counters = [None; AT_ONCE];
            // Nearly all are of the same rule.
            let mut last: Option<(&Quotas, Option<&Registered>)> = None;
            for (counter, Charge { key, quotas, .. }) in counters.iter_mut().zip(charges) {
                let registered = match last {
                    Some((last, registered)) if ptr::eq(last, *quotas) => registered,
                    _ => quotas.only().and_then(|(id, quota)| self.registered(quotas, id, quota)),
                };
                last = Some((quotas, registered));
                *counter = registered.map(|registered| {
                    self.counters.counter(registered, self.secret.hash(registered.id.as_u64(), key.as_bytes()))
                });
            }
            let at = self.clock.now();
            verdicts.extend(charges.iter().zip(&counters).map(|(charge, counter)| {
                let taken = counter.as_ref().and_then(|counter| self.counters.take(counter, charge.cost, at));
                taken.unwrap_or_else(|| self.take_several(charge))
            }));
        }
    }

    /// Tells what [`take_now`](Self::take_now) would answer, and takes nothing.
    pub fn look_now(&self, charges: &[Charge<'_>]) -> Taken {
        let asked = self.asked(charges);
        let mut wide = self.lock(&asked);
        let at = self.clock.now();
        let mut outcomes: Outcomes = asked.iter().map(|asked| self.look(asked, asked.cost, &mut wide, at).0).collect();
        let taken = taken(charges, &outcomes);
        self.uncharge(&asked, &taken, &mut outcomes, &mut wide, at);
        Taken::new(at, outcomes)
    }

    /// Takes charges off again, as far as they still count.
    pub fn give_back_now(&self, given: &[GiveBack<'_>]) {
        for GiveBack { charge, at, .. } in given {
            let asked = self.asked(std::slice::from_ref(charge));
            let mut wide = self.lock(&asked);
            let now = self.clock.now();
            for asked in &asked {
                match &asked.seat {
                    Seat::Table(counter) => self.counters.give_back(counter, asked.cost, *at, now),
                    Seat::Wide(key) => wide.shard(key).give_back(key, asked.quota, asked.cost, *at, now),
                }
            }
        }
    }

    /// Makes the counters of these charges as new.
    pub fn clear_now(&self, charges: &[Charge<'_>]) {
        let asked = self.asked(charges);
        let mut wide = self.lock(&asked);
        for asked in &asked {
            match &asked.seat {
                Seat::Table(counter) => self.counters.clear(counter),
                Seat::Wide(key) => wide.shard(key).remove(key),
            }
        }
    }
}

impl Taken {
    #[inline(always)]
    fn of_one(at: Timestamp, outcome: Outcome) -> Self {
        let mut outcomes = Outcomes::new();
        outcomes.push(outcome);
        Self::new(at, outcomes)
    }
}

/// Where another thread can come in between, shuttle lets it when this is tested.
fn interleave() {
    #[cfg(test)]
    shuttle::thread::yield_now();
}

impl Store for MemoryStore {
    type Error = Infallible;

    async fn take(&self, charges: &[Charge<'_>]) -> Result<Taken, Infallible> {
        Ok(self.take_now(charges))
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Result<Taken, Infallible> {
        Ok(self.look_now(charges))
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) -> Result<(), Infallible> {
        self.give_back_now(given);
        Ok(())
    }

    async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), Infallible> {
        self.clear_now(charges);
        Ok(())
    }
}
