//! The other side of a limit: a client that does as it is asked.
//!
//! ```
//! # async fn send(request: http::Request<String>) -> Result<http::Response<String>, std::convert::Infallible> {
//! #     Ok(http::Response::new(request.into_body()))
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tollgate_tower::client::PaceLayer;
//! use tower::{Service, ServiceExt, layer::Layer, service_fn};
//!
//! // `send` is whatever sends requests: reqwest, hyper, a mock.
//! let mut service = PaceLayer::new(Duration::from_secs(30)).pace("100/second")?.layer(service_fn(send));
//! let request = http::Request::get("https://api.example.com/orders").body(String::new())?;
//! let response = service.ready().await?.call(request).await?;
//! # Ok(())
//! # }
//! ```

mod asked;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

pub use asked::asked_to_wait;
use http::{Request, Response, Uri};
use tokio::time::{Instant, sleep, sleep_until};
use tollgate::{
    clock::Clock,
    quota::{Limits, LimitsError},
    throttle::{Denied, Throttle},
};
use tower_layer::Layer;
use tower_service::Service;

/// How many services are remembered that asked to wait; those that may be called again are forgotten first.
const MAX_SERVICES: usize = 1_000;

/// Holds calls back while a service has asked to wait, by `Retry-After` or because nothing remains of its `RateLimit`, and calls
/// at no more than a pace of one's own. Services are told apart by scheme, host and port; clones share what they know.
///
/// A call that was refused is not sent again: that is for whoever knows whether it may be.
#[derive(Clone)]
pub struct PaceLayer {
    at_most: Duration,
    pace: Option<Throttle>,
    asked: Arc<Mutex<HashMap<String, Instant>>>,
    clock: Clock,
}

impl PaceLayer {
    /// Holds calls back for `at_most`; a call that would have to wait longer fails at once.
    pub fn new(at_most: Duration) -> Self {
        Self { at_most, pace: None, asked: Arc::default(), clock: Clock::system() }
    }

    /// Calls each service no faster than this: with a bucket of `burst 1`, evenly.
    ///
    /// # Errors
    ///
    /// A limit string that is none, or that no algorithm counts.
    pub fn pace<L>(mut self, limits: L) -> Result<Self, LimitsError>
    where
        L: TryInto<Limits>,
        LimitsError: From<L::Error>,
    {
        self.pace = Some(Throttle::new(limits)?);
        Ok(self)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        // Nothing in it can be half done.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the service may be called.
    async fn wait<E>(&self, service: &str) -> Result<(), PaceError<E>> {
        let (start, give_up) = (Instant::now(), Instant::now() + self.at_most);
        // While it waits, another call can be asked to wait longer.
        loop {
            let asked = self.asked().get(service).copied();
            let Some(until) = asked.filter(|until| *until > Instant::now()) else { break };
            if until > give_up {
                return Err(PaceError::Asked(until - Instant::now()));
            }
            sleep_until(until).await;
        }
        if let Some(pace) = &self.pace {
            let left = self.at_most.saturating_sub(start.elapsed());
            pace.wait(service, left, sleep).await.map_err(PaceError::Pace)?;
        }
        Ok(())
    }

    fn note<B>(&self, service: &str, response: &Response<B>) {
        let Some(wait) = asked_to_wait(response.status(), response.headers(), self.clock.now()) else { return };
        let now = Instant::now();
        // A century is as good as for ever.
        let until = now.checked_add(wait).unwrap_or(now + Duration::from_secs(100 * 365 * 86_400));
        let mut asked = self.asked();
        if asked.len() >= MAX_SERVICES && !asked.contains_key(service) {
            asked.retain(|_, until| *until > now);
            if asked.len() >= MAX_SERVICES {
                return;
            }
        }
        let known = asked.entry(service.to_owned()).or_insert(until);
        *known = (*known).max(until);
    }
}

impl fmt::Debug for PaceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaceLayer").field("at_most", &self.at_most).field("pace", &self.pace).finish_non_exhaustive()
    }
}

/// Why a call has no response.
#[derive(Debug)]
pub enum PaceError<E = Infallible> {
    /// The service has asked to wait for so long, which is longer than the call may.
    Asked(Duration),
    /// The client's own pace would hold the call back for longer than it may wait.
    Pace(Denied),
    /// It was made, and failed.
    Call(E),
}

impl<E: fmt::Display> fmt::Display for PaceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(wait) => write!(f, "the service asks to wait for another {} s", wait.as_secs_f64().ceil()),
            Self::Pace(denied) => denied.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for PaceError<E> {}

impl<S> Layer<S> for PaceLayer {
    type Service = Pace<S>;

    fn layer(&self, inner: S) -> Pace<S> {
        Pace { inner, layer: self.clone() }
    }
}

/// A client whose calls are held back, as [`PaceLayer`] makes it.
#[derive(Clone, Debug)]
pub struct Pace<S> {
    inner: S,
    layer: PaceLayer,
}

impl<S, Q, B> Service<Request<Q>> for Pace<S>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Q: Send + 'static,
    B: Send,
{
    type Response = Response<B>;
    type Error = PaceError<S::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, PaceError<S::Error>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(PaceError::Call)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        // The one that is ready is called; its clone gets ready for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let service = service_of(request.uri());
            layer.wait(&service).await?;
            let response = inner.call(request).await.map_err(PaceError::Call)?;
            layer.note(&service, &response);
            Ok(response)
        })
    }
}

/// Scheme, host and port.
fn service_of(uri: &Uri) -> String {
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |host| host.as_str()));
    format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or(authority).to_ascii_lowercase())
}
