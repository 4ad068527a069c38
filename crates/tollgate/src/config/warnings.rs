//! What is valid in a policy file and looks wrong all the same.

use std::time::Duration;

use super::{Context, Listener, read::Field, rule::ReadRule};
use crate::{
    key::Part,
    policy::{Cost, OnStoreError, Place, Quotas, Rule, Sharing},
    quota::{Algorithm, Unit},
    request::{HeaderName, Protocol, Source},
};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn warn(rules: &[ReadRule], field: Field<'_>, context: &Context<'_>) {
    let mut everything_fitted_by: Option<&str> = None;
    for read in rules {
        let rule = &read.rule;
        let about = |text: String| field.mistakes.warn(read.place, format!("rule {}: {text}", rule.name));
        if let (Some(true), Some(earlier)) = (rule.matcher.rest, everything_fitted_by) {
            about(format!("it can never fit, since {earlier} before it fits every request"));
        }
        if can_only_meet_tcp(rule, context) && (rule.matcher.ask_of_http() || rule.by.iter().any(Part::is_of_http)) {
            about("it can never fit, since it asks for parts of HTTP requests, and its listeners speak TCP".to_owned());
        }
        if rule.matcher.fits_everything() && rule.except.is_empty() {
            everything_fitted_by.get_or_insert(&rule.name);
        }
        if let Some(name) = claims_of_clients(read, context) {
            about(format!(
                "any client can set the header {name}, although proxies are trusted for others: name it in `vouches`"
            ));
        }
        if let Cost::Header { name: Source::Header(name), .. } = &rule.cost
            && !is_vouched(name, context)
        {
            about(format!(
                "any client can say in {name} what its requests cost: name it in `vouches` of a trusted proxy"
            ));
        }
        for quotas in std::iter::once(&rule.quotas).chain(rule.overrides.iter().map(|other| &other.quotas)) {
            let about = |text: &str| field.mistakes.warn(read.limit_place, format!("rule {}: {text}", rule.name));
            warn_of_quotas(quotas, &rule.cost, pardon(&rule.sharing, context), about);
        }
        if rule.sharing.lease.is_some() && context.store.shared.is_none() {
            about("a lease says nothing without a store that instances share".to_owned());
        }
    }
}

/// What happens to the long windows of a rule, if anything does.
fn pardon(sharing: &Sharing, context: &Context<'_>) -> Option<&'static str> {
    match (&context.store.shared, sharing) {
        (Some(_), Sharing { place: Place::Shared, on_store_error: OnStoreError::Local, .. }) => Some(
            "a window of a day or more: an outage of the store grants a fresh quota in each instance, write \
             `on_store_error: deny` if that is too much",
        ),
        (Some(_), Sharing { place: Place::Shared, .. }) => None,
        _ => Some("a window of a day or more is counted in memory only: a restart pardons everybody"),
    }
}

/// Whether all listeners that the rule is for speak TCP.
fn can_only_meet_tcp(rule: &Rule, context: &Context<'_>) -> bool {
    let is_its = |listener: &&Listener| match &rule.matcher.listener {
        Some(names) => listener.name.as_ref().is_some_and(|name| names.contains(name)),
        None => true,
    };
    let listeners = context.listeners.unwrap_or_default();
    let mut protocols = listeners.iter().filter(is_its).map(Listener::protocol).peekable();
    protocols.peek().is_some() && protocols.all(|protocol| protocol == Protocol::Tcp)
}

fn warn_of_quotas(quotas: &Quotas, cost: &Cost, pardon: Option<&str>, about: impl Fn(&str)) {
    for (_, quota) in quotas.iter() {
        let limit = quota.limit();
        if limit.unit() == Unit::Month && quota.algorithm() != Algorithm::CalendarWindow {
            about("a month is 30 days from first use; for months of the calendar choose calendar-window");
        }
        if let Some(pardon) = pardon.filter(|_| limit.window() >= DAY) {
            about(pardon);
        }
        match cost {
            Cost::Fixed(cost) if *cost > quota.capacity() && quota.amount() > 0 => {
                about(&format!("it can never let anything pass, since a request costs {cost} and {limit} allows less"));
            }
            Cost::Fixed(_) | Cost::Header { .. } => {}
        }
    }
}

/// A header that the rule relies on and that no proxy vouches for, while some proxies are trusted to speak for clients.
fn claims_of_clients(read: &ReadRule, context: &Context<'_>) -> Option<String> {
    if context.proxies.entries().is_empty() {
        return None;
    }
    let rule = &read.rule;
    let conditions = std::iter::once(&rule.matcher).chain(&rule.except);
    let conditions = conditions.chain(rule.overrides.iter().map(|other| &other.conditions));
    let matched = conditions.clone().flat_map(|conditions| conditions.values.iter().map(|(source, _)| source));
    let counted = rule.by.iter().filter_map(|part| match part {
        Part::Value(source) => Some(source),
        Part::User => context.user.as_ref(),
        _ => None,
    });
    let users = conditions.filter(|conditions| conditions.user.is_some()).filter_map(|_| context.user.as_ref());
    matched.chain(counted).chain(users).find_map(|source| match source {
        Source::Header(name) if !is_vouched(name, context) => Some(name.to_string()),
        _ => None,
    })
}

fn is_vouched(name: &HeaderName, context: &Context<'_>) -> bool {
    context.proxies.entries().iter().any(|proxy| proxy.speaks_in(name.lower()))
}
