//! Conditions on a request: every one given must hold; inside one, a list means any of them.

use crate::{
    client::Subnets,
    key::Fitted,
    policy::{PathPattern, Pattern},
    request::{Protocol, Seen, Source},
};

/// What `match`, `except` and `overrides` say of a request. Nothing given fits every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Names of listeners.
    pub listener: Option<Vec<String>>,
    /// Patterns for the path.
    pub path: Option<Vec<PathPattern>>,
    /// Methods; `GET` includes `HEAD`.
    pub method: Option<Vec<String>>,
    /// Patterns for the host in lower case, without port.
    pub host: Option<Vec<Pattern>>,
    /// Headers, parameters of the query and cookies, each with what it may be; all of them must hold.
    pub values: Vec<(Source, Vec<ValueTest>)>,
    /// Patterns for the media type of the body in lower case, without parameters.
    pub content_type: Option<Vec<Pattern>>,
    /// Where the client comes from.
    pub client: Option<Subnets>,
    /// Whether somebody is signed in.
    pub user: Option<bool>,
    /// Whether no earlier rule fitted.
    pub rest: Option<bool>,
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueTest {
    /// There is one, whatever it is; or there is none.
    Present(bool),
    /// One that fits.
    Fits(Pattern),
}

/// Which readings of a path a pattern must fit.
#[derive(Clone, Copy)]
enum Demand {
    /// Any, or the path as it came: no spelling escapes a rule.
    Any,
    /// All, and the path as it came: no spelling sneaks into an exception.
    AllAndAsItCame,
    /// All: no spelling chooses another limit than its place has.
    All,
}

impl Conditions {
    /// Whether they leave no request out.
    pub fn fits_everything(&self) -> bool {
        let Self { listener, path, method, host, values, content_type, client, user, rest } = self;
        listener.is_none()
            && path.is_none()
            && method.is_none()
            && host.is_none()
            && values.is_empty()
            && content_type.is_none()
            && client.is_none()
            && user.is_none()
            && rest.is_none()
    }

    /// Whether they ask for a part of an HTTP request, so that they hold for no other call.
    pub(crate) fn ask_of_http(&self) -> bool {
        let Self { listener: _, path, method, host, values, content_type, client: _, user, rest: _ } = self;
        path.is_some()
            || method.is_some()
            || host.is_some()
            || !values.is_empty()
            || content_type.is_some()
            || user.is_some()
    }

    /// As the `match` of a rule: whether they fit, and what of them `by` can count by.
    pub(crate) fn fit<'a>(&'a self, seen: &Seen<'_>, earlier_fitted: bool) -> Option<Fitted<'a>> {
        let rest_holds = self.rest.is_none_or(|rest| rest != earlier_fitted);
        if rest_holds { self.fit_path(seen, Demand::Any) } else { None }
    }

    /// As an `except`: whether they spare the request.
    pub(crate) fn spare(&self, seen: &Seen<'_>) -> bool {
        self.fit_path(seen, Demand::AllAndAsItCame).is_some()
    }

    /// As an override: whether they choose its limit.
    pub(crate) fn choose(&self, seen: &Seen<'_>) -> bool {
        self.fit_path(seen, Demand::All).is_some()
    }

    fn fit_path<'a>(&'a self, seen: &Seen<'_>, demand: Demand) -> Option<Fitted<'a>> {
        if seen.request.protocol != Protocol::Http && self.ask_of_http() {
            return None;
        }
        let mut fitted = Fitted::default();
        if let Some(patterns) = &self.path {
            let fits = |pattern: &&PathPattern| match demand {
                Demand::Any => pattern.fits_as_it_came(seen.path().as_bytes()) || pattern.fits_any(seen),
                Demand::AllAndAsItCame => pattern.fits_as_it_came(seen.path().as_bytes()) && pattern.fits_all(seen),
                Demand::All => pattern.fits_all(seen),
            };
            fitted.route = Some(patterns.iter().find(fits)?.as_str());
        }
        if let Some(subnets) = &self.client {
            fitted.subnets = Some(subnets).filter(|subnets| subnets.longest_of(seen.client.address()).is_some());
            fitted.subnets?;
        }
        self.others_fit(seen).then_some(fitted)
    }

    fn others_fit(&self, seen: &Seen<'_>) -> bool {
        // Where listeners are unknown, as in a replay, a rule for one concerns every request.
        let listener = |names: &Vec<String>| seen.request.listener.is_none_or(|name| names.iter().any(|n| n == name));
        let method = |methods: &Vec<String>| methods.iter().any(|method| method_fits(method, seen.request.method));
        let host = |patterns: &Vec<Pattern>| {
            seen.host().is_some_and(|host| patterns.iter().any(|pattern| pattern.fits(&host)))
        };
        let content_type = |patterns: &Vec<Pattern>| {
            seen.header("content-type").map(media_type).any(|media| patterns.iter().any(|pattern| pattern.fits(&media)))
        };
        self.listener.as_ref().is_none_or(listener)
            && self.method.as_ref().is_none_or(method)
            && self.host.as_ref().is_none_or(host)
            && self.values.iter().all(|(source, tests)| tests.iter().any(|test| value_fits(seen, source, test)))
            && self.content_type.as_ref().is_none_or(content_type)
            && self.user.is_none_or(|user| user == seen.has_user())
    }
}

fn method_fits(wanted: &str, method: &str) -> bool {
    wanted.eq_ignore_ascii_case(method) || (wanted.eq_ignore_ascii_case("GET") && method.eq_ignore_ascii_case("HEAD"))
}

fn value_fits(seen: &Seen<'_>, source: &Source, test: &ValueTest) -> bool {
    match test {
        ValueTest::Present(wanted) => *wanted == seen.any(source, |_| true),
        ValueTest::Fits(pattern) => seen.any(source, |value| pattern.fits(value)),
    }
}

/// The media type without parameters, in lower case.
fn media_type(value: &[u8]) -> Vec<u8> {
    let media = value.split(|byte| *byte == b';').next().unwrap_or(value);
    media.trim_ascii().to_ascii_lowercase()
}
