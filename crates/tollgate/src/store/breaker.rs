//! A circuit breaker: who does not answer is left alone for a while, so that requests do not wait for him one after the other.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::Timestamp;

/// So many failures in a row are no accident.
const MAX_FAILURES: u32 = 3;
/// How long a store is left alone at first, and at most: a store that is back is found within a second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether a store may be asked. After some failures in a row not for a pause, which grows; then it is tried once.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

/// Whether somebody may ask a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayAsk {
    Yes,
    /// To find out whether it answers again.
    Try,
    No,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    pause: Duration,
    /// Until when nobody asks. Only after [`MAX_FAILURES`].
    until: Timestamp,
    /// Somebody has asked after that.
    trying: bool,
    /// When the last one has asked who was answered.
    answered: Timestamp,
}

impl Breaker {
    /// Whether somebody may ask now. Who may after a pause is the one who tries: the others wait for as long again, so that
    /// nothing is lost if he gives up and no answer is ever told.
    pub(super) fn may_ask(&self, now: Timestamp) -> MayAsk {
        let mut state = self.state();
        if state.failures < MAX_FAILURES {
            return MayAsk::Yes;
        }
        if now < state.until {
            return MayAsk::No;
        }
        state.until = now + state.pause;
        state.trying = true;
        MayAsk::Try
    }

    /// The store has answered what it was asked then.
    pub(super) fn answered(&self, asked_at: Timestamp) {
        let mut state = self.state();
        *state = State { answered: state.answered.max(asked_at), ..State::default() };
    }

    /// The store has not answered what it was asked then. If it has answered somebody who has asked later, it is there, and nobody else is kept
    /// from it: it is one server of several that does not answer.
    pub(super) fn failed(&self, asked_at: Timestamp, now: Timestamp) {
        let mut state = self.state();
        if asked_at < state.answered {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        // Of all who had asked before it was clear that nobody answers, only the first makes the pause longer.
        if state.failures == MAX_FAILURES || (state.failures > MAX_FAILURES && state.trying) {
            state.trying = false;
            state.pause = (state.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            state.until = now + state.pause;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // It holds numbers, which are right at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    /// A question that fails as soon as it is asked.
    fn failed(breaker: &Breaker, now: Timestamp) {
        breaker.failed(now, now);
    }

    #[test]
    fn leaves_a_store_alone_for_growing_pauses_that_one_request_ends() {
        let breaker = Breaker::default();
        for now in 0..2 {
            failed(&breaker, at(now));
            assert_eq!(breaker.may_ask(at(now)), MayAsk::Yes, "{now}: that can happen");
        }
        failed(&breaker, at(10));
        let mut now = 10;
        for pause in [100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(breaker.may_ask(at(now + pause - 1)), MayAsk::No, "{pause} ms have not passed");
            now += pause;
            assert_eq!(breaker.may_ask(at(now)), MayAsk::Try, "{pause} ms have passed");
            assert_eq!(breaker.may_ask(at(now)), MayAsk::No, "somebody tries already");
            now += 50;
            failed(&breaker, at(now));
        }
        breaker.answered(at(now));
        assert_eq!([breaker.may_ask(at(now)), breaker.may_ask(at(now))], [MayAsk::Yes; 2]);
    }

    #[test]
    fn tries_again_when_the_request_that_tried_was_given_up() {
        let breaker = Breaker::default();
        (0..3).for_each(|now| failed(&breaker, at(now)));
        let asked = [102, 201, 202].map(|now| breaker.may_ask(at(now)));
        assert_eq!(asked, [MayAsk::Try, MayAsk::No, MayAsk::Try]);
    }

    #[test]
    fn many_who_fail_at_once_count_for_one_pause() {
        let breaker = Breaker::default();
        (0..500).for_each(|_| failed(&breaker, at(5)));
        assert_eq!([104, 105].map(|now| breaker.may_ask(at(now))), [MayAsk::No, MayAsk::Try]);
    }

    /// One silent master of a Cluster kept everybody from the others: those who had waited for it failed at the same moment, three in a row.
    #[test]
    fn who_is_not_answered_while_others_are_keeps_nobody_from_asking() {
        let breaker = Breaker::default();
        for now in 20..70 {
            breaker.answered(at(now));
            (0..3).for_each(|_| breaker.failed(at(now - 20), at(now)));
            assert_eq!(breaker.may_ask(at(now)), MayAsk::Yes, "{now}");
        }
        (0..3).for_each(|_| breaker.failed(at(70), at(90)));
        assert_eq!(breaker.may_ask(at(90)), MayAsk::No, "nobody was answered who asked later");
    }
}
