//! A policy in plain words.

use std::fmt::{Display, Write as _};

use serde_json::json;
use tollgate::{
    answer::OnLimit,
    config::{Config, Listener, SharedStore},
    headers::Dialects,
    policy::{Conditions, Cost, Count, Mode, OnStoreError, Place, Policy, Quotas, Rule, Sharing, ValueTest},
    quota::{Algorithm, Limit, Quota},
    request::Source,
};
use tollgate_redis::StoreUrl;

/// `3 rules, 1 of them in shadow`
pub(crate) fn count_of_rules(policy: &Policy) -> String {
    let rules = policy.rules().len();
    let shadow = policy.rules().iter().filter(|rule| rule.mode == Mode::Shadow).count();
    let plural = if rules == 1 { "" } else { "s" };
    match shadow {
        0 => format!("{rules} rule{plural}"),
        _ => format!("{rules} rule{plural}, {shadow} of them in shadow"),
    }
}

/// What stands above the rules: where it listens, whom it trusts, and whom no rule sees.
pub(crate) fn surroundings(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |word: &str, said: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {word:<9} {said}");
    };
    for each in &config.listeners {
        line("listens", listener(each));
    }
    for proxy in config.policy.proxies().entries() {
        let vouched = proxy.vouches.iter().map(|header| format!(", and for {header}")).collect::<String>();
        line("trusts", format!("{} for the client in {}{vouched}", proxy.from, proxy.header));
    }
    if let Some(user) = config.policy.user() {
        line("users", format!("are those with {user}, everybody else is a guest"));
    }
    for except in config.policy.except() {
        line("spares", conditions(except));
    }
    let counters = config.store.counters;
    line(
        "counts",
        match &config.store.shared {
            None => format!("in memory, {counters} counters"),
            Some(shared) => {
                let (url, timeout) = (shared_url(shared), shared.timeout.as_millis());
                format!(
                    "in {url}, asked for {timeout} ms at most; while it does not answer, in memory, {counters} counters"
                )
            }
        },
    );
    text
}

fn listener(listener: &Listener) -> String {
    let Listener { name, address, upstream, proxy_protocol, send_proxy_protocol, .. } = listener;
    let name = name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    let protocol = listener.protocol().name();
    let upstream = upstream.as_ref().map_or("answered here".to_owned(), ToString::to_string);
    let takes = if *proxy_protocol { ", taking PROXY headers of trusted proxies" } else { "" };
    let sends = send_proxy_protocol.map(|version| format!(", sending PROXY {}", version.name())).unwrap_or_default();
    format!("{name}{protocol}://{address} → {upstream}{takes}{sends}")
}

/// A rule: its name, and a line for everything it says.
pub(crate) fn rule(rule: &Rule) -> String {
    let mut text = format!("{}\n", rule.name);
    let mut line = |word: &str, said: &dyn Display| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {word:<9} {said}");
    };
    line("concerns", &conditions(&rule.matcher));
    for except in &rule.except {
        line("but not", &conditions(except));
    }
    match rule.quotas.is_empty() {
        true => line("allows", &"everything"),
        false => line("allows", &format_args!("{} to {}", quotas(&rule.quotas), counted_apart(rule))),
    }
    for other in &rule.overrides {
        line("instead", &format_args!("{} to {}", quotas(&other.quotas), conditions(&other.conditions)));
    }
    if !rule.quotas.is_empty() {
        line("counted", &format_args!("by {}: {}", rule.quotas.algorithm(), how(rule.quotas.algorithm())));
    }
    match &rule.cost {
        Cost::Fixed(1) => {}
        Cost::Fixed(cost) => line("cost", &format_args!("{cost} units a request")),
        Cost::Header { name, default } => line("cost", &format_args!("what {name} says, at least 1, else {default}")),
    }
    if let Count::Status(codes) = &rule.count {
        line("count", &format_args!("only requests that are answered with {}", any_of(codes)));
    }
    if let Some(answer) = answer(&rule.on_limit) {
        line("answers", &answer);
    }
    if rule.dialects != Dialects::default() {
        line("headers", &rule.dialects);
    }
    if let Some(sharing) = sharing(&rule.sharing) {
        line("store", &sharing);
    }
    if rule.mode == Mode::Shadow {
        line("shadow", &"it reports what it would deny, and denies nothing");
    }
    text
}

/// Without user and password.
fn shared_url(shared: &SharedStore) -> String {
    shared.url.parse::<StoreUrl>().map_or_else(|_| "a store".to_owned(), |url| url.to_string())
}

/// What is particular about where a rule counts.
fn sharing(sharing: &Sharing) -> Option<String> {
    let mut said = Vec::new();
    said.extend((sharing.place == Place::Memory).then(|| "in the memory of each instance".to_owned()));
    said.extend(sharing.lease.map(|lease| format!("in shares of {lease} for each instance")));
    said.extend(match sharing.on_store_error {
        OnStoreError::Local => None,
        OnStoreError::Allow => Some("left out while it does not answer".to_owned()),
        OnStoreError::Deny => Some("everything denied while it does not answer".to_owned()),
    });
    (!said.is_empty()).then(|| said.join(", "))
}

/// The cost as a policy file writes it.
pub(crate) fn cost(cost: &Cost) -> serde_json::Value {
    match cost {
        Cost::Fixed(cost) => json!(cost),
        Cost::Header { name: Source::Header(name), default } => {
            json!({ "header": name.to_string(), "default": default })
        }
        Cost::Header { name, default } => json!({ "from": name.to_string(), "default": default }),
    }
}

/// What is particular about the answer to a denial.
fn answer(on_limit: &OnLimit) -> Option<String> {
    let OnLimit { status_code, plain, json, html, default, headers, close } = on_limit;
    let bodies = [("plain", plain.is_some()), ("json", json.is_some()), ("html", html.is_some())];
    let bodies: Vec<&str> = bodies.iter().filter(|(_, is_custom)| *is_custom).map(|(name, _)| *name).collect();
    let mut said = Vec::new();
    said.extend(status_code.map(|code| code.to_string()));
    said.extend((!bodies.is_empty()).then(|| format!("its own {} body", bodies.join(" and "))));
    said.extend(default.map(|media| format!("{} by default", media.name())));
    said.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    said.extend(close.filter(|close| *close).map(|_| "and closes the connection".to_owned()));
    (!said.is_empty()).then(|| said.join(", "))
}

fn counted_apart(rule: &Rule) -> String {
    match rule.by.as_slice() {
        [] => "everybody together".to_owned(),
        parts => format!("each {}", parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")),
    }
}

fn quotas(quotas: &Quotas) -> String {
    if quotas.is_empty() {
        return "everything".to_owned();
    }
    let quota = |(_, quota): (_, &Quota)| {
        let (limit, burst) = (quota.limit(), quota.capacity());
        match quota.algorithm() {
            Algorithm::TokenBucket => format!("{} per {}, up to {burst} at once", limit.amount(), window(limit)),
            _ => format!("{} per {}", limit.amount(), window(limit)),
        }
    };
    quotas.iter().map(quota).collect::<Vec<_>>().join(" and ")
}

fn window(limit: &Limit) -> String {
    match limit.n() {
        1 => limit.unit().name().to_owned(),
        n => format!("{n} {}s", limit.unit().name()),
    }
}

fn how(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::FixedWindow => "a window opens with the first request",
        Algorithm::CalendarWindow => "windows follow the calendar in UTC",
        Algorithm::SlidingWindow => "the window before fades as this one passes",
        Algorithm::SlidingLog => "never more in any window, every request remembered",
        Algorithm::TokenBucket => "a bucket that refills steadily",
    }
}

fn conditions(conditions: &Conditions) -> String {
    if conditions.fits_everything() {
        return "every request".to_owned();
    }
    let Conditions { listener, path, method, host, values, content_type, client, user, rest } = conditions;
    let mut said = Vec::new();
    said.extend(method.as_ref().map(|methods| any_of(methods)));
    said.extend(path.as_ref().map(|paths| format!("path {}", any_of(paths))));
    said.extend(host.as_ref().map(|hosts| format!("host {}", any_of(hosts))));
    said.extend(listener.as_ref().map(|listeners| format!("listener {}", any_of(listeners))));
    said.extend(values.iter().map(|(source, tests)| value(source, tests)));
    said.extend(content_type.as_ref().map(|types| format!("content type {}", any_of(types))));
    said.extend(client.as_ref().map(|subnets| format!("client in {subnets}")));
    said.extend(user.map(|user| if user { "signed-in users" } else { "guests" }.to_owned()));
    said.extend(
        rest.map(|rest| if rest { "whatever no rule above fits" } else { "whatever a rule above fits" }.to_owned()),
    );
    said.join(", ")
}

fn value(source: &Source, tests: &[ValueTest]) -> String {
    let test = |test: &ValueTest| match test {
        ValueTest::Present(true) => "present".to_owned(),
        ValueTest::Present(false) => "absent".to_owned(),
        ValueTest::Fits(pattern) => pattern.to_string(),
    };
    format!("{source} {}", any_of(&tests.iter().map(test).collect::<Vec<_>>()))
}

fn any_of<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
