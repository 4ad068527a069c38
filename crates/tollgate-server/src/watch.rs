//! What the operator is told while the server runs, once a minute and never for a single request: what each rule denied,
//! whose forwarding headers are not believed, and what the store had to give up.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tollgate::{
    decision::Decision,
    limiter::Limiter,
    policy::Mode,
    store::Stores,
    tally::{Frequent, Tally},
};
use tracing::{info, warn};

use crate::hop;

/// What the workers saw of one policy, whose rules it knows by their places, since the last report, each in its own place so that none waits for another.
#[derive(Debug)]
pub(crate) struct Watch {
    workers: Vec<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    tally: Tally,
    /// Untrusted peers that sent a forwarding header, and which.
    forwarding: Frequent<(IpAddr, &'static str)>,
}

impl Watch {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| Mutex::default()).collect() }
    }

    /// Takes note of one decision, in the place of worker `worker`, about what came with headers of these names.
    pub(crate) fn note<'a>(&self, worker: usize, decision: &Decision, names: impl Iterator<Item = &'a str>) {
        let Some(seen) = self.workers.get(worker) else { return };
        let mut seen = lock(seen);
        seen.requests += 1;
        seen.tally.add(decision);
        let client = decision.client();
        if let (Some(peer), false) = (client.peer(), client.peer_is_trusted())
            && let Some(name) = hop::forwarding_header(names)
        {
            seen.forwarding.add(&(peer, name), 1);
        }
    }

    /// Reports what was seen since the last time.
    pub(crate) fn report(&self, limiter: &Limiter<Stores>, told: &mut Told) {
        let seen = self.take();
        report_rules(&seen.tally, limiter);
        told.untrusted_proxies(&seen);
        told.store(limiter);
    }

    fn take(&self) -> Seen {
        let taken = self.workers.iter().map(|worker| std::mem::take(&mut *lock(worker)));
        taken.fold(Seen::default(), |mut sum, seen| {
            sum.requests += seen.requests;
            sum.tally.merge(seen.tally);
            sum.forwarding.merge(seen.forwarding);
            sum
        })
    }
}

pub(crate) fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics half-way under these locks; and a count that is a little off is better than none.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was told already.
#[derive(Debug, Default)]
pub(crate) struct Told {
    untrusted: Vec<IpAddr>,
    given_up: u64,
}

impl Told {
    /// Proxies that nobody trusts make one client each of all of theirs. Said once, until others do so.
    fn untrusted_proxies(&mut self, seen: &Seen) {
        /// As many as fit a line, and as many as one would add by hand.
        const NAMED: usize = 8;
        let proxies = seen.forwarding.most();
        let forwarded: u64 = proxies.iter().map(|(_, times)| times).sum();
        let mut named: Vec<IpAddr> = proxies.iter().take(NAMED).map(|((peer, _), _)| *peer).collect();
        named.sort_unstable();
        let Some(((_, header), _)) = proxies.first() else { return };
        if forwarded * 2 <= seen.requests || named == self.untrusted {
            return;
        }
        let from = named.iter().map(ToString::to_string).collect::<Vec<_>>().join("\", \"");
        warn!(
            header,
            forwarded,
            requests = seen.requests,
            "{forwarded} of {} requests carry {header} but do not come from a trusted proxy, so all clients of each such \
             peer count as one; if these are your proxies, add to the policy: trusted_proxies: \
             [{{ from: [\"{from}\"], header: {header} }}]",
            seen.requests,
        );
        self.untrusted = named;
    }

    fn store(&mut self, limiter: &Limiter<Stores>) {
        let statistics = limiter.store().memory().statistics();
        let lately = statistics.given_up.saturating_sub(self.given_up);
        self.given_up = statistics.given_up;
        if lately > 0 {
            let enough = statistics.capacity.saturating_add(lately);
            warn!(
                given_up = lately,
                enough,
                "the memory store gave up {lately} counters that still counted, since it was full; this would have held \
                 them: store: {{ memory: {{ counters: {enough} }} }}"
            );
        }
    }
}

/// One line for each rule that denied or, in shadow, would have.
fn report_rules(tally: &Tally, limiter: &Limiter<Stores>) {
    for (index, rule) in limiter.policy().rules().iter().enumerate() {
        let Some(counts) = tally.rule(index).filter(|counts| counts.denied > 0) else { continue };
        let denied = match rule.mode {
            Mode::Enforce => "denied",
            Mode::Shadow => "would be denied",
        };
        let most_denied = counts.most_denied.most();
        let (most, times) = most_denied.first().map_or((String::new(), 0), |(key, times)| (key.to_string(), *times));
        info!(
            rule = rule.name,
            mode = rule.mode.name(),
            seen = counts.seen,
            denied = counts.denied,
            most,
            most_denied = times,
            "{} {} seen, {} {denied}, most {most}: {times}",
            rule.name,
            counts.seen,
            counts.denied,
        );
    }
}
