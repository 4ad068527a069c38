//! Counters that several instances share: the store's answer is some time on its way, or does not come.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tollgate::{
    client::Proxies,
    limiter::Limiter,
    policy::{OnStoreError, Policy, Rule, Sharing},
    store::{Charge, GiveBack, Store, Stores, Taken, memory::MemoryStore},
};
use tollgate_tower::{Limited, RateLimit, RateLimitLayer};
use tower::{Layer as _, Service, ServiceExt as _, limit::ConcurrencyLimit};

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

fn layer(store: &Slow, rule: Rule) -> RateLimitLayer<String> {
    RateLimitLayer::from(limiter(store, vec![rule]))
}

/// A service that counts its calls, each of which wants it to be ready first. A clone has yet to become so.
#[derive(Default)]
struct Inner {
    calls: Arc<AtomicUsize>,
    is_ready: bool,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), is_ready: false }
    }
}

/// Bodies need not be clones.
struct Body1;

impl Service<Request<Body1>> for Inner {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body1>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        assert!(request.extensions().get::<Limited>().is_some() || request.uri() == "/health");
        self.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(Response::new("done".to_owned())))
    }
}

/// A service behind a limit, and how often it was called.
fn limited(layer: RateLimitLayer<String>) -> (RateLimit<Inner, String>, Arc<AtomicUsize>) {
    let inner = Inner::default();
    let calls = inner.calls.clone();
    (layer.layer(inner), calls)
}

fn request() -> Request<Body1> {
    Request::new(Body1)
}

/// The response, and how long it took.
async fn send(service: &mut RateLimit<Inner, String>, request: Request<Body1>) -> (Response<String>, Duration) {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let start = Instant::now();
    let Ok(service) = service.ready().await;
    let Ok(response) = is_send(service.call(request)).await;
    (response, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_store_and_is_then_passed_on_once_or_denied() {
    let (mut service, calls) = limited(layer(&Slow::new(), rule("api", "2/minute")));
    for n in 1..=2 {
        let (response, took) = send(&mut service, request()).await;
        assert_eq!((response.status().as_u16(), took), (200, WAY), "nothing to settle");
        assert_eq!(header(&response, "x-ratelimit-remaining"), Some(["1", "0"][n - 1]));
        assert!(response.extensions().get::<Limited>().is_some());
        assert_eq!(calls.load(Ordering::Relaxed), n);
    }
    let (response, took) = send(&mut service, request()).await;
    assert_eq!((response.status().as_u16(), took), (429, WAY));
    assert_eq!(header(&response, "retry-after"), Some("60"));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn instances_share_the_limit_and_exempt_requests_do_not_wait() {
    let store = Slow::new();
    let [(mut one, _), (mut two, _)] =
        [(); 2].map(|()| limited(layer(&store, rule("api", "1/minute")).exempt(|parts| parts.uri.path() == "/health")));
    assert_eq!(send(&mut one, request()).await.0.status(), 200);
    assert_eq!(send(&mut two, request()).await.0.status(), 429);
    let mut health = request();
    *health.uri_mut() = http::Uri::from_static("/health");
    let (response, took) = send(&mut two, health).await;
    assert_eq!((response.status().as_u16(), took), (200, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_does_not_answer_each_rule_has_its_own_word() {
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
        let layer = layer(&store, rule).on_denied(move |_, _| _ = tell.fetch_add(1, Ordering::Relaxed));
        let (mut service, calls) = limited(layer);
        for code in codes {
            assert_eq!(send(&mut service, request()).await.0.status(), code, "{on_store_error:?}");
        }
        let allowed = codes.iter().filter(|code| **code == 200).count();
        assert_eq!((calls.load(Ordering::Relaxed), told.load(Ordering::Relaxed)), (allowed, 3 - allowed));
        assert_eq!(send(&mut service, request()).await.1, Duration::ZERO, "the store is left alone");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_count_is_given_back_in_the_store_before_it_goes_out() {
    let store = Slow::new();
    let limiter = limiter(&store, vec![rule("login", "1/minute")]);
    let layer = RateLimitLayer::from(limiter).count(|response: &Response<String>| response.status() == 401);
    let (mut service, calls) = limited(layer);
    for n in 1..=3 {
        let (response, took) = send(&mut service, request()).await;
        assert_eq!((response.status().as_u16(), took), (200, 2 * WAY));
        assert_eq!(header(&response, "x-ratelimit-remaining"), Some("0"), "as it was charged");
        assert_eq!((response.body().as_str(), calls.load(Ordering::Relaxed)), ("done", n));
    }
    // Where it cannot be given back, it stays charged, and the answer goes out all the same.
    let Ok(ready) = service.ready().await;
    let answered = ready.call(request());
    let fails = async {
        sleep(WAY + WAY / 2).await;
        store.0.fails.store(true, Ordering::Relaxed);
    };
    let (Ok(response), ()) = tokio::join!(answered, fails);
    assert_eq!(response.status(), 200);
    store.0.fails.store(false, Ordering::Relaxed);
    assert_eq!(send(&mut service, request()).await.0.status(), 429);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cancelled_while_the_store_is_asked_is_not_passed_on_and_leaves_nothing_behind() {
    let store = Slow::new();
    let held = Arc::new(());
    let holds = held.clone();
    let layer = layer(&store, rule("api", "1/minute")).exempt(move |_| Arc::strong_count(&holds) == 0);
    let (mut service, calls) = limited(layer);
    let Ok(ready) = service.ready().await;
    let mut asking = Box::pin(ready.call(request()));
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(asking);
    sleep(10 * WAY).await;
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    drop(service);
    assert_eq!((Arc::strong_count(&held), Arc::strong_count(&calls)), (1, 1), "nothing holds the layer any more");
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_inner_service_is_held_while_the_store_is_asked_and_no_longer() {
    let store = Slow::new();
    let mut service = layer(&store, rule("api", "1/minute")).layer(ConcurrencyLimit::new(Inner::default(), 1));
    let is_free = |service: &mut RateLimit<_, _>| {
        Service::<Request<Body1>>::poll_ready(service, &mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(is_free(&mut service));
    let asking = service.call(request());
    assert!(!is_free(&mut service));
    drop(asking);
    for code in [200, 429] {
        let Ok(ready) = service.ready().await;
        let Ok(response) = ready.call(request()).await;
        assert_eq!(response.status(), code);
        assert!(is_free(&mut service), "after {code}");
    }
}
