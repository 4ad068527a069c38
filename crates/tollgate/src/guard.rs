//! A limiter as a web framework's middleware asks it, with what the application's own code says of each request.
//!
//! The adapters for tower and actix are this and the translation of requests and answers, so that both have the same words.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::{
    algorithm::Verdict,
    decision::Decision,
    key::Key,
    limiter::{Answered, Limiter, Undecided},
    policy::{KeyTerm, Terms},
    quota::Limits,
    request::Request,
    store::Stores,
};

/// Asks the application's code about a framework's request or answer.
type Ask<Q, A> = Arc<dyn Fn(&Q) -> A + Send + Sync>;

/// The same about a request that was denied.
type AskOfDenied<Q, A> = Arc<dyn Fn(&Decision, &Q) -> A + Send + Sync>;

/// A limiter and the application's own word: `Q` is the framework's request, `R` its response.
///
/// Nothing set, the rules alone decide.
pub struct Guard<Q, R> {
    limiter: Limiter<Stores>,
    exempt: Option<Ask<Q, bool>>,
    peer: Option<Ask<Q, Option<IpAddr>>>,
    user: Option<Ask<Q, Option<String>>>,
    key: Option<Ask<Q, Option<Key>>>,
    cost: Option<Ask<Q, u64>>,
    limits: Option<Ask<Q, Option<Limits>>>,
    count: Option<Ask<R, bool>>,
    on_denied: Option<AskOfDenied<Q, ()>>,
    respond: Option<AskOfDenied<Q, R>>,
}

impl<Q, R> Clone for Guard<Q, R> {
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
            exempt: self.exempt.clone(),
            peer: self.peer.clone(),
            user: self.user.clone(),
            key: self.key.clone(),
            cost: self.cost.clone(),
            limits: self.limits.clone(),
            count: self.count.clone(),
            on_denied: self.on_denied.clone(),
            respond: self.respond.clone(),
        }
    }
}

impl<Q, R> fmt::Debug for Guard<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl<Q, R> Guard<Q, R> {
    /// Decides by this limiter.
    pub fn new(limiter: impl Into<Limiter<Stores>>) -> Self {
        Self {
            limiter: limiter.into(),
            exempt: None,
            peer: None,
            user: None,
            key: None,
            cost: None,
            limits: None,
            count: None,
            on_denied: None,
            respond: None,
        }
    }

    /// The limiter it asks.
    pub fn limiter(&self) -> &Limiter<Stores> {
        &self.limiter
    }

    /// Requests of which `exempt` is true are neither limited nor counted.
    pub fn set_exempt(&mut self, exempt: impl Fn(&Q) -> bool + Send + Sync + 'static) {
        self.exempt = Some(Arc::new(exempt));
    }

    /// Where the address at the other end of the socket is known from, if not from where the adapter looks.
    pub fn set_peer(&mut self, peer: impl Fn(&Q) -> Option<IpAddr> + Send + Sync + 'static) {
        self.peer = Some(Arc::new(peer));
    }

    /// Who is signed in, whatever the policy's `user` would find. None, or nothing: a guest.
    pub fn set_user(&mut self, user: impl Fn(&Q) -> Option<String> + Send + Sync + 'static) {
        self.user = Some(Arc::new(user));
    }

    /// What a request is counted by. None: what the rules say, apart from all keys that others are given.
    pub fn set_key(&mut self, key: impl Fn(&Q) -> Option<Key> + Send + Sync + 'static) {
        self.key = Some(Arc::new(key));
    }

    /// What a request costs; at 0 it passes always and takes nothing.
    pub fn set_cost(&mut self, cost: impl Fn(&Q) -> u64 + Send + Sync + 'static) {
        self.cost = Some(Arc::new(cost));
    }

    /// How much may pass. None: what the rules say.
    pub fn set_limits(&mut self, limits: impl Fn(&Q) -> Option<Limits> + Send + Sync + 'static) {
        self.limits = Some(Arc::new(limits));
    }

    /// Requests with answers of which `count` is false are given back.
    pub fn set_count(&mut self, count: impl Fn(&R) -> bool + Send + Sync + 'static) {
        self.count = Some(Arc::new(count));
    }

    /// Told of every denial.
    pub fn set_on_denied(&mut self, on_denied: impl Fn(&Decision, &Q) + Send + Sync + 'static) {
        self.on_denied = Some(Arc::new(on_denied));
    }

    /// Answers denied requests, in place of what the rules say.
    pub fn set_respond(&mut self, respond: impl Fn(&Decision, &Q) -> R + Send + Sync + 'static) {
        self.respond = Some(Arc::new(respond));
    }

    /// [Begins](Limiter::begin) to decide about a request, which the adapter shows as its own and as the engine's. None: it is exempt.
    pub fn begin(&self, own: &Q, shown: Request<'_>) -> Option<Result<Decision, Undecided>> {
        if self.exempt.as_ref().is_some_and(|exempt| exempt(own)) {
            return None;
        }
        let user = self.user.as_ref().map(|user| user(own).unwrap_or_default());
        let peer = self.peer.as_ref().map_or(shown.peer, |peer| peer(own));
        let request = Request { peer, user: user.as_deref().or(shown.user), ..shown };
        let terms = Terms {
            key: match &self.key {
                None => KeyTerm::Rule,
                Some(key) => key(own).map_or(KeyTerm::Missing, KeyTerm::Key),
            },
            cost: self.cost.as_ref().map(|cost| cost(own)),
            limits: self.limits.as_ref().and_then(|limits| limits(own)),
        };
        Some(self.limiter.begin(&request, &terms))
    }

    /// Tells the application of a decision, if it wants to know. Call it once a decision.
    pub fn tell(&self, decision: &Decision, own: &Q) {
        if let (Verdict::Deny, Some(on_denied)) = (decision.verdict(), &self.on_denied) {
            on_denied(decision, own);
        }
    }

    /// The application's own answer to a denied request, if it has one.
    pub fn response(&self, decision: &Decision, own: &Q) -> Option<R> {
        self.respond.as_ref().map(|respond| respond(decision, own))
    }

    /// Whether it depends on the answer to a request that was allowed what of it counts. If not, nobody has to tell how it was
    /// [answered](Self::answered), nor to [settle](Limiter::settle).
    pub fn settles(&self, decision: &Decision) -> bool {
        self.count.is_some() || decision.counts_some_answers()
    }

    /// How a request that was allowed was answered, for [`settle`](Limiter::settle): with this response and its status code.
    pub fn answered(&self, response: &R, status_code: u16) -> Answered {
        match self.count.as_ref().is_none_or(|count| count(response)) {
            true => Answered::Status(status_code),
            false => Answered::Uncounted,
        }
    }
}
