//! Counters that several instances share: the store's answer is some time on its way, or does not come.

use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use actix_web::{
    Error, HttpMessage as _, HttpResponse,
    dev::{Service, ServiceRequest, ServiceResponse, Transform as _, fn_service},
    error::ErrorUnauthorized,
    test::TestRequest,
};
use tokio::time::{Instant, pause, sleep};
use tollgate::{
    client::Proxies,
    limiter::Limiter,
    policy::{OnStoreError, Policy, Rule, Sharing},
    store::{Charge, GiveBack, Store, Stores, Taken, memory::MemoryStore},
};
use tollgate_actix::{Limited, RateLimit};

use crate::rig::{clock, header, rule};

/// A store that takes its time, and can be told to fail then. Clones are one store.
#[derive(Clone)]
struct Slow(Arc<Inside>);

struct Inside {
    counters: MemoryStore,
    fails: AtomicBool,
}

const WAY: Duration = Duration::from_millis(40);

#[derive(Debug)]
struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("down")
    }
}

impl std::error::Error for Down {}

impl Slow {
    fn new() -> Self {
        Self(Arc::new(Inside { counters: MemoryStore::new(1_000, clock().into()), fails: AtomicBool::new(false) }))
    }

    async fn counters(&self) -> Result<&MemoryStore, Down> {
        sleep(WAY).await;
        if self.0.fails.load(Ordering::Relaxed) { Err(Down) } else { Ok(&self.0.counters) }
    }
}

impl Store for Slow {
    type Error = Down;

    async fn take(&self, charges: &[Charge<'_>]) -> Result<Taken, Down> {
        Ok(self.counters().await?.take_now(charges))
    }

    async fn look(&self, charges: &[Charge<'_>]) -> Result<Taken, Down> {
        Ok(self.counters().await?.look_now(charges))
    }

    async fn give_back(&self, given: &[GiveBack<'_>]) -> Result<(), Down> {
        self.counters().await?.give_back_now(given);
        Ok(())
    }

    async fn clear(&self, charges: &[Charge<'_>]) -> Result<(), Down> {
        self.counters().await?.clear_now(charges);
        Ok(())
    }
}

fn limiter(store: &Slow, rules: Vec<Rule>) -> Limiter<Stores> {
    let policy = Policy::new(Proxies::default(), None, Vec::new(), rules).expect("tests write good rules");
    Limiter::new(policy, Stores::sharing(store.clone(), MemoryStore::new(100, clock().into()), |_| {}))
}

fn limit(store: &Slow, rule: Rule) -> RateLimit {
    RateLimit::from(limiter(store, vec![rule]))
}

/// A service behind a limit, and how often it was called. It fails at `/fails`.
struct Behind {
    service: Box<dyn Fn(TestRequest) -> Answering>,
    calls: Rc<Cell<usize>>,
}

type Answering = Pin<Box<dyn Future<Output = Result<ServiceResponse, Error>>>>;

async fn behind(limit: RateLimit) -> Behind {
    let calls = Rc::new(Cell::new(0));
    let called = calls.clone();
    let inner = fn_service(move |request: ServiceRequest| {
        called.set(called.get() + 1);
        assert!(request.extensions().get::<Limited>().is_some() || request.path() == "/health");
        async move {
            match request.path() {
                "/fails" => Err(ErrorUnauthorized("wrong password")),
                _ => Ok(request.into_response(HttpResponse::Ok().finish())),
            }
        }
    });
    let service = limit.new_transform(inner).await.expect("it cannot fail");
    Behind { service: Box::new(move |request| Box::pin(service.call(request.to_srv_request()))), calls }
}

/// The response as actix-web would write it, and how often it was on the way to the store.
async fn send(service: &Behind, target: &str) -> (HttpResponse, usize) {
    let start = Instant::now();
    let response = match (service.service)(TestRequest::with_uri(target)).await {
        Ok(response) => response.into(),
        Err(error) => error.error_response(),
    };
    (response, ways(start))
}

/// A timer can be late by a millisecond.
fn ways(start: Instant) -> usize {
    (0..).take_while(|ways| start.elapsed() >= WAY * (*ways + 1)).count()
}

#[actix_web::test]
async fn a_request_waits_for_the_store_and_is_then_passed_on_once_or_denied() {
    pause();
    let service = behind(limit(&Slow::new(), rule("api", "2/minute"))).await;
    for n in 1..=2 {
        let (response, ways) = send(&service, "/").await;
        assert_eq!((response.status().as_u16(), ways), (200, 1), "nothing to settle");
        assert_eq!(header(&response, "x-ratelimit-remaining"), Some(["1", "0"][n - 1]));
        assert!(response.extensions().get::<Limited>().is_some());
        assert_eq!(service.calls.get(), n);
    }
    let (response, ways) = send(&service, "/").await;
    assert_eq!((response.status().as_u16(), ways), (429, 1));
    assert_eq!(header(&response, "retry-after"), Some("60"));
    assert_eq!(service.calls.get(), 2);
}

#[actix_web::test]
async fn instances_share_the_limit_and_exempt_requests_do_not_wait() {
    pause();
    let store = Slow::new();
    let limit = || limit(&store, rule("api", "1/minute")).exempt(|request| request.path() == "/health");
    let (one, two) = (behind(limit()).await, behind(limit()).await);
    assert_eq!(send(&one, "/").await.0.status(), 200);
    assert_eq!(send(&two, "/").await.0.status(), 429);
    let (response, ways) = send(&two, "/health").await;
    assert_eq!((response.status().as_u16(), ways), (200, 0));
}

#[actix_web::test]
async fn while_the_store_does_not_answer_each_rule_has_its_own_word() {
    pause();
    for (on_store_error, codes) in [
        (OnStoreError::Local, [200, 429, 429]),
        (OnStoreError::Allow, [200, 200, 200]),
        (OnStoreError::Deny, [503, 503, 503]),
    ] {
        let store = Slow::new();
        store.0.fails.store(true, Ordering::Relaxed);
        let rule = rule("api", "1/minute").sharing(Sharing { on_store_error, ..Sharing::default() });
        let told = Arc::new(AtomicUsize::new(0));
        let tell = told.clone();
        let limit = limit(&store, rule).on_denied(move |_, _| _ = tell.fetch_add(1, Ordering::Relaxed));
        let service = behind(limit).await;
        for code in codes {
            assert_eq!(send(&service, "/").await.0.status(), code, "{on_store_error:?}");
        }
        let allowed = codes.iter().filter(|code| **code == 200).count();
        assert_eq!((service.calls.get(), told.load(Ordering::Relaxed)), (allowed, 3 - allowed));
        assert_eq!(send(&service, "/").await.1, 0, "the store is left alone");
    }
}

#[actix_web::test]
async fn an_answer_that_does_not_count_is_given_back_in_the_store_before_it_goes_out() {
    pause();
    let store = Slow::new();
    let limit = limit(&store, rule("login", "1/minute")).count(|response| response.status() == 401);
    let service = behind(limit).await;
    for n in 1..=3 {
        let (response, ways) = send(&service, "/").await;
        assert_eq!((response.status().as_u16(), ways), (200, 2));
        assert_eq!(header(&response, "x-ratelimit-remaining"), Some("0"), "as it was charged");
        assert_eq!(service.calls.get(), n);
    }
    // Where it cannot be given back, it stays charged, and the answer goes out all the same.
    let fails = async {
        sleep(WAY + WAY / 2).await;
        store.0.fails.store(true, Ordering::Relaxed);
    };
    let ((response, _), ()) = tokio::join!(send(&service, "/"), fails);
    assert_eq!(response.status(), 200);
    store.0.fails.store(false, Ordering::Relaxed);
    assert_eq!(send(&service, "/").await.0.status(), 429);
}

#[actix_web::test]
async fn an_error_that_does_not_count_is_given_back_and_goes_on_as_an_error() {
    pause();
    let limit = limit(&Slow::new(), rule("api", "1/minute")).count(|response| response.status() != 401);
    let service = behind(limit).await;
    for _ in 0..2 {
        let start = Instant::now();
        let error = (service.service)(TestRequest::with_uri("/fails")).await.expect_err("the inner service fails");
        assert_eq!((error.to_string().as_str(), ways(start)), ("wrong password", 2));
        assert_eq!(header(&error.error_response(), "x-ratelimit-remaining"), Some("0"));
    }
    assert_eq!(send(&service, "/").await.0.status(), 200);
}

#[actix_web::test]
async fn a_request_that_is_cancelled_while_the_store_is_asked_is_not_passed_on_and_leaves_nothing_behind() {
    pause();
    let held = Arc::new(());
    let holds = held.clone();
    let limit = limit(&Slow::new(), rule("api", "1/minute")).exempt(move |_| Arc::strong_count(&holds) == 0);
    let service = behind(limit).await;
    let mut asking = (service.service)(TestRequest::get());
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(asking);
    sleep(10 * WAY).await;
    assert_eq!(service.calls.get(), 0);
    drop(service.service);
    assert_eq!(
        (Arc::strong_count(&held), Rc::strong_count(&service.calls)),
        (1, 1),
        "nothing holds the limit any more"
    );
}
