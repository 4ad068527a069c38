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

    /// The store has answered.
    pub(super) fn answered(&self) {
        *self.state() = State::default();
    }

    /// The store has not answered.
    pub(super) fn failed(&self, now: Timestamp) {
        let mut state = self.state();
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

    #[test]
    fn leaves_a_store_alone_for_growing_pauses_that_one_request_ends() {
        let breaker = Breaker::default();
        for now in 0..2 {
            breaker.failed(at(now));
            assert_eq!(breaker.may_ask(at(now)), MayAsk::Yes, "{now}: that can happen");
        }
        breaker.failed(at(10));
        let mut now = 10;
        for pause in [100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(breaker.may_ask(at(now + pause - 1)), MayAsk::No, "{pause} ms have not passed");
            now += pause;
            assert_eq!(breaker.may_ask(at(now)), MayAsk::Try, "{pause} ms have passed");
            assert_eq!(breaker.may_ask(at(now)), MayAsk::No, "somebody tries already");
            now += 50;
            breaker.failed(at(now));
        }
        breaker.answered();
        assert_eq!([breaker.may_ask(at(now)), breaker.may_ask(at(now))], [MayAsk::Yes; 2]);
    }

    #[test]
    fn tries_again_when_the_request_that_tried_was_given_up() {
        let breaker = Breaker::default();
        (0..3).for_each(|now| breaker.failed(at(now)));
        let asked = [102, 201, 202].map(|now| breaker.may_ask(at(now)));
        assert_eq!(asked, [MayAsk::Try, MayAsk::No, MayAsk::Try]);
    }

    #[test]
    fn many_who_fail_at_once_count_for_one_pause() {
        let breaker = Breaker::default();
        (0..500).for_each(|_| breaker.failed(at(5)));
        assert_eq!([104, 105].map(|now| breaker.may_ask(at(now))), [MayAsk::No, MayAsk::Try]);
    }
}
