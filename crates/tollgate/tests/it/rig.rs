//! What every subject's tests stand on: a limiter from the text of a policy file, and requests in one line.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tollgate::{
    algorithm::Verdict,
    clock::{ManualClock, Timestamp},
    config::{Surroundings, read},
    decision::Decision,
    limiter::{Answered, Limiter},
    policy::Policy,
    quota::{Algorithm, Limits, Quota},
    request::{Headers, Protocol, Request},
    store::memory::MemoryStore,
};

/// 2023-11-14 22:13:20, as good as any.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A limiter, and the clock it counts by.
pub(crate) struct Rig {
    pub(crate) limiter: Limiter,
    pub(crate) clock: ManualClock,
}

/// A limiter by the policy file `source`, whose indentation may be that of the test.
pub(crate) fn rig(source: &str) -> Rig {
    rig_at(START, source)
}

pub(crate) fn rig_at(start: Timestamp, source: &str) -> Rig {
    let clock = ManualClock::new(start);
    Rig { limiter: Limiter::new(policy(source), MemoryStore::new(10_000, clock.clone().into())), clock }
}

pub(crate) fn policy(source: &str) -> Policy {
    match read(source, &Surroundings::none()) {
        Ok((config, _)) => config.policy,
        Err(mistakes) => panic!("{source}\n{mistakes:#?}"),
    }
}

/// Whether a policy file is refused, and why.
pub(crate) fn mistakes(source: &str) -> Vec<String> {
    let mistakes = read(source, &Surroundings::none()).map(|_| Vec::new()).unwrap_or_else(|mistakes| mistakes);
    mistakes.into_iter().map(|mistake| mistake.message).collect()
}

impl Rig {
    pub(crate) fn check(&self, request: &Call) -> Decision {
        self.limiter.check_now(&request.shown())
    }

    pub(crate) fn allows(&self, request: &Call) -> bool {
        self.check(request).verdict() == Verdict::Allow
    }

    /// How many of `n` such requests pass.
    pub(crate) fn admitted(&self, n: usize, request: &Call) -> usize {
        (0..n).filter(|_| self.allows(request)).count()
    }

    /// Decides a request and answers it with this status code if it passes.
    pub(crate) fn answered(&self, status_code: u16, request: &Call) -> Decision {
        let decision = self.check(request);
        self.limiter.settle_now(&decision, Answered::Status(status_code));
        decision
    }

    /// What the request is answered if it is denied.
    pub(crate) fn answer(&self, request: &Call) -> Option<Reply> {
        Reply::of(&self.check(request), request)
    }

    pub(crate) fn seconds(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// A request that owns its parts. `GET /` from 203.0.113.7 unless said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    protocol: Protocol,
    peer: Option<String>,
    method: String,
    host: Option<String>,
    listener: Option<String>,
    target: String,
    headers: Fields,
}

/// The whole answer to a denied request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status_code: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) close: bool,
}

impl Reply {
    pub(crate) fn of(decision: &Decision, request: &Call) -> Option<Self> {
        let answer = decision.answer(request.headers())?;
        let headers = answer.headers();
        let tollgate::answer::Answer { status_code, body, close, .. } = answer;
        Some(Self { status_code, headers, body, close })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

pub(crate) fn get(target: &str) -> Call {
    Call {
        protocol: Protocol::Http,
        peer: Some("203.0.113.7".to_owned()),
        method: "GET".to_owned(),
        host: None,
        listener: None,
        target: target.to_owned(),
        headers: Fields::default(),
    }
}

/// A TCP connection from 203.0.113.7.
pub(crate) fn connection() -> Call {
    Call { protocol: Protocol::Tcp, ..get("/") }
}

impl Call {
    pub(crate) fn peer(self, peer: &str) -> Self {
        Self { peer: Some(peer.to_owned()), ..self }
    }

    pub(crate) fn nobody(self) -> Self {
        Self { peer: None, ..self }
    }

    pub(crate) fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    pub(crate) fn host(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }

    pub(crate) fn listener(self, listener: &str) -> Self {
        Self { listener: Some(listener.to_owned()), ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.0.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn headers(&self) -> &Fields {
        &self.headers
    }

    pub(crate) fn shown(&self) -> Request<'_> {
        Request {
            protocol: self.protocol,
            peer: self.peer.as_ref().map(|peer| peer.parse().expect("tests name addresses")),
            listener: self.listener.as_deref(),
            method: &self.method,
            host: self.host.as_deref(),
            target: &self.target,
            headers: &self.headers,
            ..Request::default()
        }
    }
}

/// Field lines, as many and as odd as a test likes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, Vec<u8>)>);

impl Headers for Fields {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        let lines = self.0.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.for_each(|(_, value)| show(value));
    }
}

pub(crate) fn quota(limit: &str, algorithm: Algorithm) -> Quota {
    let limits: Limits = limit.parse().unwrap_or_else(|error| panic!("{error}"));
    Quota::new(limits.as_slice()[0], algorithm).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs what is ready at once, as everything is that the memory store does.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store never waits"),
    }
}
