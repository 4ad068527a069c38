//! A lease: a share of a window's quota that this instance has taken in one trip and spends by itself, and those who wait for more of it.
//!
//! It is charged in the server when it is taken, so that nothing is ever admitted twice; what is not spent when the window ends is
//! lost. When that is, is reckoned from before the trip, so that nobody here spends from a window that has ended there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;
use tollgate::{
    algorithm::{Outcome, Status, Verdict},
    clock::Timestamp,
    quota::Quota,
};

use crate::{
    ask::{Counter, Name, Want},
    error::RedisError,
    queue::MAX_WAITING,
};

/// The share of one counter, and those who wait for more of it.
#[derive(Debug)]
pub(crate) struct Lease {
    of: Name,
    /// The key of the counter in the store, for trips.
    key: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    share: Share,
    /// Those for whom there was too little, in the order in which they came.
    waiting: VecDeque<Waiting>,
    /// Whether somebody is on his way for them.
    travels: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The largest amount that it was taken by: so much of the window can be charged. Whoever is given less has to ask whether that is used.
    amount: u64,
    left: u64,
    /// What was left in the server, for others.
    elsewhere: u64,
    /// Since when it is held, by the clock of the server.
    server_since: Timestamp,
    /// When the window ends, by the clock of this process.
    ends: Timestamp,
    /// The same by the server's: it names the window.
    server_ends: Timestamp,
}

/// Somebody for whom there was too little.
#[derive(Debug)]
struct Waiting {
    quota: Quota,
    cost: u64,
    /// What he would take at once.
    lease: u64,
    reply: oneshot::Sender<Handed>,
}

/// What somebody is handed who has waited. None: there is too little left to be leased.
pub(crate) type Handed = Result<Option<Portion>, RedisError>;

/// What becomes of somebody who wants to spend of a lease.
pub(crate) enum Turn {
    Spends(Portion),
    /// What is held is for larger amounts than his.
    Asks,
    /// Somebody is on his way, also for him.
    Waits(oneshot::Receiver<Handed>),
    /// He waits, and somebody has to make the trip.
    Travels(oneshot::Receiver<Handed>),
}

/// What a trip has brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brought {
    pub(crate) leased: u64,
    pub(crate) quota: Quota,
    /// What the counter says of itself after it.
    pub(crate) status: Status,
    pub(crate) server_now: Timestamp,
}

/// What was spent of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    cost: u64,
    /// The amount of whoever spent it, and what remains of it.
    amount: u64,
    remaining: u64,
    /// How long the window lasts from then on, and when it ends by the clock of the server.
    until_end: Duration,
    server_ends: Timestamp,
}

impl Spent {
    /// The outcome, and when it was spent by the clock of the server.
    pub(crate) fn outcome(&self) -> (Outcome, Timestamp) {
        let status = Status {
            limit: self.amount,
            remaining: self.remaining,
            refill_after: Some(self.until_end),
            reset_after: self.until_end,
        };
        (Outcome { verdict: Verdict::Allow, status, retry_after: None }, earlier(self.server_ends, self.until_end))
    }
}

/// What was spent of a lease for one request. Unless it is kept, it is put back, also when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Portion {
    spent: Spent,
    /// None: it is kept.
    of: Option<Arc<Lease>>,
}

impl Portion {
    /// What stays spent.
    pub(crate) fn keep(&mut self) -> Spent {
        self.of = None;
        self.spent
    }

    /// What is put back, as the counter stands then.
    pub(crate) fn undo(self) -> Spent {
        let Spent { cost, amount, remaining, .. } = self.spent;
        Spent { remaining: remaining.saturating_add(cost).min(amount), ..self.spent }
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if let Some(lease) = &self.of {
            lease.put_back(&self.spent);
        }
    }
}

impl Lease {
    pub(crate) fn new(want: &Want<'_>, prefix: &str) -> Self {
        Self { of: want.name(), key: want.key(prefix), state: Mutex::default() }
    }

    pub(crate) fn is_for(&self, want: &Want<'_>) -> bool {
        want.is_of(&self.of)
    }

    /// What is left of the window it was taken of, whether that lasts or not.
    pub(crate) fn left(&self) -> u64 {
        lock(&self.state).share.left
    }

    /// What can still be spent.
    pub(crate) fn held(&self, now: Timestamp) -> u64 {
        let share = lock(&self.state).share;
        if now < share.ends { share.left } else { 0 }
    }

    pub(crate) fn spend(&self, want: &Want<'_>, now: Timestamp) -> Option<Spent> {
        lock(&self.state).share.spend(want.quota, want.charge.cost, now)
    }

    /// Spends a cost of what is held, or has it wait for what a trip brings.
    pub(crate) fn spend_or_wait(self: &Arc<Self>, want: &Want<'_>, now: Timestamp) -> Result<Turn, RedisError> {
        let (quota, cost, lease) = (*want.quota, want.charge.cost, want.lease());
        let mut state = lock(&self.state);
        if let Some(spent) = state.share.spend(&quota, cost, now) {
            return Ok(Turn::Spends(self.portion(spent)));
        }
        if state.share.is_for_more(&quota, now) {
            return Ok(Turn::Asks);
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(RedisError::Busy);
        }
        let (reply, handed) = oneshot::channel();
        state.waiting.push_back(Waiting { quota, cost, lease, reply });
        Ok(if std::mem::replace(&mut state.travels, true) { Turn::Waits(handed) } else { Turn::Travels(handed) })
    }

    /// What the next trip is for, and for how many it is; none if nobody waits, and then nobody travels any more.
    ///
    /// It is for a lease, and besides for what others than the first one wait for: that is handed to them as soon as it is here, so that no more
    /// than a lease is held afterwards.
    pub(crate) fn next_trip(&self) -> Option<(Counter, usize)> {
        let mut state = lock(&self.state);
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        state.travels = !state.waiting.is_empty();
        let mut of_all = state.waiting.iter();
        let Waiting { quota, cost, lease, .. } = of_all.next()?;
        let others = of_all.filter(|other| other.quota.amount() >= quota.amount());
        let lease = others.fold(*lease, |lease, other| lease.saturating_add(other.cost));
        let counter = Counter { key: self.key.clone(), quota: *quota, cost: *cost, lease, group: 0 };
        Some((counter, state.waiting.len()))
    }

    /// Hands out what a trip has brought that was begun at `asked_at` for so many, in the order in which they came. Those who came meanwhile are
    /// given what is there, and else wait for the next one.
    pub(crate) fn hand_out(
        self: &Arc<Self>,
        brought: Result<Option<Brought>, RedisError>,
        asked_for: usize,
        asked_at: Timestamp,
        now: Timestamp,
    ) {
        let mut handed = Vec::new();
        let mut state = lock(&self.state);
        let (nothing, mut without) = match brought {
            // There was enough for the first one. If he cannot have it, its window is over already.
            Ok(Some(brought)) => {
                state.share.hold(&brought, asked_at);
                (Ok(()), 1)
            }
            Ok(None) => (Ok(()), asked_for),
            Err(error) => (Err(error), asked_for),
        };
        while let Some(&Waiting { quota, cost, .. }) = state.waiting.front() {
            let answer = match state.share.spend(&quota, cost, now) {
                Some(spent) => Ok(Some(self.portion(spent))),
                None if state.share.is_for_more(&quota, now) => Ok(None),
                None if without > 0 => nothing.clone().map(|()| None),
                None => break,
            };
            without = without.saturating_sub(1);
            handed.extend(state.waiting.pop_front().map(|waiting| (waiting.reply, answer)));
        }
        // A portion that nobody waits for any more is put back.
        drop(state);
        for (reply, answer) in handed {
            let _ = reply.send(answer);
        }
    }

    /// Lets those go who wait: whoever was on his way for them does not come back.
    pub(crate) fn abandon(&self) {
        let mut state = lock(&self.state);
        state.travels = false;
        state.waiting.clear();
    }

    pub(crate) fn portion(self: &Arc<Self>, spent: Spent) -> Portion {
        Portion { spent, of: Some(self.clone()) }
    }

    pub(crate) fn give_back(&self, cost: u64, at: Timestamp) -> bool {
        let share = &mut lock(&self.state).share;
        let is_held = (share.server_since..share.server_ends).contains(&at);
        if is_held {
            share.left = share.left.saturating_add(cost);
        }
        is_held
    }

    /// Puts back what was spent of a window, if that is still the one.
    pub(crate) fn put_back(&self, spent: &Spent) {
        let share = &mut lock(&self.state).share;
        if spent.server_ends == share.server_ends {
            share.left = share.left.saturating_add(spent.cost);
        }
    }
}

impl Share {
    fn spend(&mut self, quota: &Quota, cost: u64, now: Timestamp) -> Option<Spent> {
        if now >= self.ends || self.left < cost || quota.amount() < self.amount {
            return None;
        }
        self.left -= cost;
        let amount = quota.amount();
        let remaining = self.left.saturating_add(self.elsewhere).min(amount);
        Some(Spent { cost, amount, remaining, until_end: self.ends.since(now), server_ends: self.server_ends })
    }

    /// Whether what is held is for larger amounts than this one.
    fn is_for_more(&self, quota: &Quota, now: Timestamp) -> bool {
        now < self.ends && quota.amount() < self.amount
    }

    fn hold(&mut self, brought: &Brought, asked_at: Timestamp) {
        let Brought { leased, quota, status, server_now } = brought;
        let server_ends = *server_now + status.reset_after;
        let same_window = server_ends == self.server_ends;
        *self = Share {
            amount: if same_window { self.amount.max(quota.amount()) } else { quota.amount() },
            left: if same_window { self.left.saturating_add(*leased) } else { *leased },
            elsewhere: status.remaining,
            server_since: if same_window { self.server_since } else { *server_now },
            ends: asked_at + status.reset_after,
            server_ends,
        };
    }
}

fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Timestamp::from_micros(at.as_micros().saturating_sub(span))
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers that are right at any time.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use tollgate::{
        key::Key,
        policy::{Mode, Quotas},
        quota::{Algorithm, Limits},
        store::Charge,
    };

    use super::*;
    use crate::ask::wants;

    #[test]
    fn what_was_spent_of_a_window_is_put_back_into_it_and_into_no_other() {
        const WINDOW: Duration = Duration::from_secs(1);
        let limits = Limits::per_second(10);
        let quotas = Quotas::new("r", &limits, Some(Algorithm::FixedWindow)).expect("it can be counted");
        let key = Key::of(["client"]);
        let charge = Charge { rule: "r", mode: Mode::Enforce, key: &key, quotas: &quotas, cost: 4 };
        let want = wants(slice::from_ref(&charge)).next().expect("there is a quota");
        let lease = Lease::new(&want, "prefix");
        let status = Status { limit: 10, remaining: 0, refill_after: None, reset_after: WINDOW };
        let hold = |server_now| {
            let brought = Brought { leased: 10, quota: *want.quota, status, server_now };
            lock(&lease.state).share.hold(&brought, server_now);
        };
        let first = Timestamp::from_micros(0);
        hold(first);
        let spent = lease.spend(&want, first).expect("there is enough");
        assert_eq!(lease.left(), 6);
        lease.put_back(&spent);
        assert_eq!(lease.left(), 10);
        let spent = lease.spend(&want, first).expect("there is enough");
        hold(first + WINDOW);
        lease.put_back(&spent);
        assert_eq!(lease.left(), 10);
    }
}
