//! What the operator is told while the server runs, once a minute and never for a single request: what each rule denied,
//! whose forwarding headers are not believed, and what the store had to give up.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tollgate::{
    decision::Decision,
    limiter::Limiter,
    policy::Mode,
    request::Headers,
    tally::{Frequent, Tally},
};
use tracing::{info, warn};

const EVERY: Duration = Duration::from_secs(60);

/// Headers in which proxies name a client, the most usual first.
const FORWARDING: [&str; 5] = ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip"];

/// What the workers saw since the last report, each in its own place so that none waits for another.
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

    /// Takes note of one decision, in the place of worker `worker`.
    pub(crate) fn note(&self, worker: usize, decision: &Decision, headers: &dyn Headers) {
        let Some(seen) = self.workers.get(worker) else { return };
        let mut seen = lock(seen);
        seen.requests += 1;
        seen.tally.add(decision);
        let client = decision.client();
        if let (Some(peer), false) = (client.peer(), client.peer_is_trusted())
            && let Some(name) = FORWARDING.into_iter().find(|name| headers.nth(name, 0).is_some())
        {
            seen.forwarding.add(&(peer, name), 1);
        }
    }

    /// Reports once a minute, for ever.
    pub(crate) async fn report_regularly(&self, limiter: &Limiter) {
        let mut report = Report::default();
        let mut every = tokio::time::interval(EVERY);
        every.tick().await; // The first is at once.
        loop {
            every.tick().await;
            report.write(self.take(), limiter);
        }
    }

    /// Reports what was seen since the last minute, when the server ends.
    pub(crate) fn report_the_rest(&self, limiter: &Limiter) {
        report_rules(&self.take().tally, limiter);
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

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Counting does not panic half-way; and a count that is a little off is better than none.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was told already.
#[derive(Debug, Default)]
struct Report {
    untrusted: Option<IpAddr>,
    given_up: u64,
}

impl Report {
    fn write(&mut self, seen: Seen, limiter: &Limiter) {
        report_rules(&seen.tally, limiter);
        self.untrusted_proxy(&seen);
        self.store(limiter);
    }

    /// A proxy that nobody trusts makes one client of all of its clients. Said once, until another one does so.
    fn untrusted_proxy(&mut self, seen: &Seen) {
        let Some(((peer, header), times)) = seen.forwarding.most().into_iter().next() else { return };
        if times * 2 <= seen.requests || self.untrusted == Some(*peer) {
            return;
        }
        self.untrusted = Some(*peer);
        warn!(
            "{peer} sends {header} and {times} of {} requests, but is not a trusted proxy: all its clients count as one; \
             if it is your proxy, add to the policy: trusted_proxies: [{{ from: \"{peer}\", header: {header} }}]",
            seen.requests
        );
    }

    fn store(&mut self, limiter: &Limiter) {
        let statistics = limiter.store().statistics();
        let lately = statistics.given_up.saturating_sub(self.given_up);
        self.given_up = statistics.given_up;
        if lately > 0 {
            let enough = u64::try_from(statistics.capacity).unwrap_or(u64::MAX).saturating_add(lately);
            warn!(
                "the memory store gave up {lately} counters that still counted, since it was full; this would have held \
                 them: store: {{ memory: {{ counters: {enough} }} }}"
            );
        }
    }
}

/// One line for each rule that denied or, in shadow, would have.
fn report_rules(tally: &Tally, limiter: &Limiter) {
    for (index, rule) in limiter.policy().rules().iter().enumerate() {
        let Some(counts) = tally.rule(index).filter(|counts| counts.denied > 0) else { continue };
        let denied = match rule.mode {
            Mode::Enforce => "denied",
            Mode::Shadow => "would be denied",
        };
        let most = counts.most_denied.most().first().map(|(key, times)| format!(", most {key}: {times}"));
        info!("{} {} seen, {} {denied}{}", rule.name, counts.seen, counts.denied, most.unwrap_or_default());
    }
}
