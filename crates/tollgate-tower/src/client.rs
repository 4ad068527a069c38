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
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

pub use asked::asked_to_wait;
use http::{Request, Response, Uri};
use tokio::time::{Instant, sleep};
use tollgate::{
    clock::Clock,
    quota::{Limits, LimitsError},
    throttle::{Denied, Throttle},
};
use tower_layer::Layer;
use tower_service::Service;

/// How many services are remembered that asked to wait; those that may be called again are forgotten first.
const MAX_SERVICES: usize = 1_000;
/// No service is left alone for longer, for what it said may have been a mistake.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

/// Holds calls back while a service has asked to wait, by `Retry-After` or because nothing remains of its `RateLimit`, and calls
/// at no more than a pace of one's own. Services are told apart by scheme, host and port; clones share what they know.
///
/// A call that was refused is not sent again: that is for whoever knows whether it may be. Calls that are held back for the same
/// reason go at the same time; with a pace, one after the other. No service is left alone for more than a day, whatever it asks for.
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
        let start = Instant::now();
        let left = || self.at_most.saturating_sub(start.elapsed());
        self.wait_as_asked(service, left()).await?;
        if let Some(pace) = &self.pace {
            pace.wait(service, left(), sleep).await.map_err(PaceError::Pace)?;
            // Meanwhile another call can have been asked to wait.
            self.wait_as_asked(service, left()).await?;
        }
        Ok(())
    }

    async fn wait_as_asked<E>(&self, service: &str, at_most: Duration) -> Result<(), PaceError<E>> {
        let start = Instant::now();
        loop {
            let until = self.asked().get(service).copied();
            let wait = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                return Ok(());
            }
            if wait > at_most.saturating_sub(start.elapsed()) {
                return Err(PaceError::Asked(wait));
            }
            sleep(wait).await;
        }
    }

    fn note<B>(&self, service: &str, response: &Response<B>) {
        let Some(wait) = asked_to_wait(response.status(), response.headers(), self.clock.now()) else { return };
        let until = Instant::now() + wait.min(MAX_WAIT);
        let mut asked = self.asked();
        if asked.len() >= MAX_SERVICES && !asked.contains_key(service) {
            asked.retain(|_, until| *until > Instant::now());
            // Whoever asks for the longest wait may be one who wants the others forgotten.
            let longest = asked.iter().max_by_key(|(_, until)| **until).map(|(service, _)| service.clone());
            if let Some(longest) = longest.filter(|_| asked.len() >= MAX_SERVICES) {
                asked.remove(&longest);
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

impl<E: std::error::Error + 'static> std::error::Error for PaceError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Asked(_) | Self::Pace(_) => None,
            Self::Call(error) => error.source(),
        }
    }
}

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

    /// Always ready: a call that is held back must not hold a place in the inner service, so that one is asked afterwards.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(async move {
            let service = service_of(request.uri());
            layer.wait(&service).await?;
            poll_fn(|context| inner.poll_ready(context)).await.map_err(PaceError::Call)?;
            let response = inner.call(request).await.map_err(PaceError::Call)?;
            layer.note(&service, &response);
            Ok(response)
        })
    }
}

/// Scheme, host and port, the usual one left out.
fn service_of(uri: &Uri) -> String {
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |host| host.as_str()));
    let host = authority.rsplit('@').next().unwrap_or(authority).to_ascii_lowercase();
    let usual = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(&host))
}
