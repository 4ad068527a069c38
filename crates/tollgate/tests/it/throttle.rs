//! Limits for any action: what runs, what is given back, and how long one waits.

use std::{
    cell::RefCell,
    future::{Future, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use tollgate::{
    clock::{ManualClock, Timestamp},
    limiter::{Answered, Limiter},
    policy::{Policy, Rule},
    quota::Limits,
    request::Request,
    store::memory::MemoryStore,
    throttle::{AttemptError, Throttle},
};

fn throttle(limits: &str) -> (Throttle, ManualClock) {
    let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
    (Throttle::on_clock(limits, clock.clone().into()).expect("tests write good limits"), clock)
}

/// What a future comes to that has nothing to wait for.
fn at_once<F: Future>(future: F) -> F::Output {
    let std::task::Poll::Ready(output) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits")
    };
    output
}

#[test]
fn an_action_runs_as_often_as_it_may_and_no_more() {
    let (mails, clock) = throttle("2/hour");
    let mut sent = 0;
    for _ in 0..5 {
        let _ = mails.attempt("ann", || sent += 1);
    }
    assert_eq!(sent, 2);
    assert_eq!(mails.attempt("bob", || false), Ok(false), "a falsy value is no denial");
    let denied = mails.attempt("ann", || ()).unwrap_err();
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!(denied.to_string(), "default allows 2/hour, try again in 3600 s");
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(mails.attempt("ann", || 7), Ok(7));
}

#[test]
fn an_action_that_comes_to_no_good_end_is_given_back_unless_told_otherwise() {
    let (mails, _) = throttle("9/hour");
    assert_eq!(mails.attempt("ann", || Err::<(), _>("down")), Ok(Err("down")), "a failure is a value");
    assert_eq!(mails.remaining("ann"), 8);
    assert_eq!(mails.try_attempt("ann", || Err::<(), _>("down")), Err(AttemptError::Failed("down")));
    let panics = catch_unwind(AssertUnwindSafe(|| mails.attempt("ann", || panic!("as it must"))));
    assert!(panics.is_err());
    let failed = at_once(mails.try_attempt_async("ann", ready(Err::<(), _>("down"))));
    assert_eq!(failed, Err(AttemptError::Failed("down")));
    {
        let mut cancelled = pin!(mails.attempt_async("ann", pending::<()>()));
        assert!(cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(mails.remaining("ann"), 7, "while it runs");
    }
    assert_eq!(mails.remaining("ann"), 8);
    assert_eq!(at_once(mails.attempt_async("ann", ready(5))), Ok(5));
    assert_eq!(mails.remaining("ann"), 7);

    let strict = mails.keeping_failures();
    assert!(strict.try_attempt("ann", || Err::<(), _>("down")).is_err());
    assert_eq!(strict.remaining("ann"), 6);
}

#[test]
fn a_denied_action_is_not_even_begun() {
    let (mails, _) = throttle("0/hour");
    let denied = mails.attempt("ann", || panic!("it must not run")).map(|(): ()| ());
    assert_eq!(denied.unwrap_err().retry_after(), None);
    let polled = async { panic!("it must not be polled") };
    assert!(at_once(mails.attempt_async("ann", polled)).map(|(): ()| ()).is_err());
}

#[test]
fn what_was_taken_can_be_asked_given_back_and_cleared() {
    let (calls, clock) = throttle("5/minute; 7/hour");
    let calls = calls.costing(2);
    let admission = calls.check("ann").expect("it fits");
    assert_eq!((admission.status().limit, admission.status().remaining), (5, 3));
    assert_eq!(calls.peek("ann").map(|status| status.remaining), Ok(1), "as it would stand");
    assert_eq!(calls.remaining("ann"), 3);
    assert_eq!(calls.reset_after("ann"), Duration::from_secs(3_600), "of all its quotas");
    calls.give_back(admission);
    assert_eq!(calls.remaining("ann"), 5);
    assert!(calls.check("ann").is_ok() && calls.check("ann").is_ok() && calls.check("ann").is_err());
    assert_eq!(calls.peek("ann").unwrap_err().retry_after(), Some(Duration::from_secs(60)));
    clock.advance(Duration::from_secs(60));
    assert_eq!(calls.remaining("ann"), 3, "of the hour");
    calls.clear("ann");
    assert_eq!((calls.remaining("ann"), calls.reset_after("ann")), (5, Duration::ZERO));
}

#[test]
fn waiting_takes_as_long_as_it_must_and_no_longer_than_it_may() {
    let (calls, clock) = throttle("1/10 seconds");
    let slept = RefCell::new(Vec::new());
    let sleep = |span| {
        slept.borrow_mut().push(span);
        clock.advance(span);
        ready(())
    };
    assert!(at_once(calls.wait("ann", Duration::ZERO, sleep)).is_ok());
    assert!(at_once(calls.wait("ann", Duration::from_secs(10), sleep)).is_ok());
    let denied = at_once(calls.wait("ann", Duration::from_secs(9), sleep)).unwrap_err();
    assert_eq!(denied.retry_after(), Some(Duration::from_secs(10)));
    assert_eq!(*slept.borrow(), [Duration::from_secs(10)], "whoever will be denied anyway does not sleep");
    assert!(calls.wait_now("bob", Duration::ZERO).is_ok());
    assert!(calls.wait_now("bob", Duration::ZERO).is_err());
}

#[test]
fn whoever_is_overtaken_while_he_waits_waits_no_longer_than_he_may() {
    let (calls, clock) = throttle("1/second");
    calls.check("ann").expect("it is new");
    let sleeps = RefCell::new(0);
    let sleep = |span| {
        *sleeps.borrow_mut() += 1;
        // The timer is late, and somebody else has been faster.
        clock.advance(span + Duration::from_millis(500));
        calls.check("ann").expect("it fits");
        ready(())
    };
    assert!(at_once(calls.wait("ann", Duration::from_secs(3), sleep)).is_err());
    assert_eq!(*sleeps.borrow(), 2);
}

#[test]
fn unlimited_is_no_limit() {
    let free = Throttle::new(Limits::unlimited()).expect("limits");
    for _ in 0..100 {
        assert!(free.check("ann").is_ok());
    }
    assert_eq!(free.remaining("ann"), u64::MAX);
}

#[test]
fn a_rules_counters_are_those_of_its_requests() {
    let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
    let rules = vec![Rule::of("login", "5/hour").expect("a rule"), Rule::of("api", "9/hour").expect("a rule")];
    let policy = Policy::new(Default::default(), None, Vec::new(), rules).expect("a policy");
    let limiter = Limiter::new(policy, MemoryStore::new(100, clock.into()));
    let client = std::net::IpAddr::from([203, 0, 113, 7]);
    let request = Request { peer: Some(client), ..Request::default() };
    for _ in 0..3 {
        limiter.check_now(&request);
    }
    let logins = limiter.throttle("LOGIN").expect("a rule");
    assert_eq!(logins.remaining(client), 2);
    logins.clear(client);
    let decision = limiter.check_now(&request);
    let remaining: Vec<_> = decision.counted().map(|counted| counted.status().remaining).collect();
    assert_eq!(remaining, [4, 5]);
    limiter.settle_now(&decision, Answered::Uncounted);
    assert_eq!(logins.remaining(client), 5);
    assert_eq!(
        limiter.throttle("logins").unwrap_err().to_string(),
        "there is no rule \"logins\", expected one of: login, api"
    );
}

#[test]
fn limits_made_in_code_cannot_be_wrong() {
    assert_eq!(Limits::per_second(1).and(Limits::per_hour(2)).to_string(), "1/second; 2/hour");
    assert_eq!(Limits::per_seconds(300, 30).to_string(), "300/30 seconds");
    assert_eq!(Limits::per_seconds(3, 0).to_string(), "3/second");
    assert_eq!(Limits::per_minute(0).burst(5).to_string(), "0/minute");
    assert_eq!(Limits::per_minute(6).burst(0).to_string(), "6/minute burst 1");
    let longest = Limits::per_day(1).burst(u32::MAX);
    assert_eq!(longest.to_string(), "1/day burst 36500");
    for limits in [longest, Limits::per_second(u32::MAX).burst(u32::MAX), Limits::per_day(0)] {
        assert!(limits.to_string().parse::<Limits>().is_ok(), "{limits}");
        assert!(Throttle::new(limits).is_ok());
    }
    let many = (0..100).fold(Limits::unlimited(), |all, n| all.and(Limits::per_day(n)));
    let error = Throttle::new(many).expect_err("none is left out");
    assert_eq!(error.to_string(), "100 limits, expected at most 64");
}
