//! What differs between two policy files, for the log of a reload and for `check --against`: of the rules as the engine tells
//! it, and of what stands around them.

use serde_json::json;
use tollgate::{
    config::{Config, Listener},
    policy::{Change, Counters, changes},
};

/// As many as somebody reads in one line of a log.
const NAMED_AT_MOST: usize = 40;

/// What is said when nothing differs.
const NOTHING: &str = "nothing changed";

/// One difference.
pub(crate) struct Said {
    /// In words, to stand among others in one sentence.
    pub(crate) words: String,
    /// For machines.
    pub(crate) object: serde_json::Value,
}

/// What changes for whoever runs by the one file and is given the other.
pub(crate) fn between(old: &Config, new: &Config) -> Vec<Said> {
    // Another store takes a restart.
    let of_policy = changes(&old.policy, &new.policy, old.store.shared.is_some());
    let of_policy = of_policy.iter().map(|change| Said { words: change.to_string(), object: object(change) });
    let mut said: Vec<Said> = of_policy.collect();
    said.extend(of_listeners(&old.listeners, &new.listeners));
    if old.store != new.store {
        // Without the URL, which can hold a password.
        let words = "store changed, which takes a restart".to_owned();
        let object = json!({ "what": "store", "change": "changed", "takes_restart": true, "says": words });
        said.push(Said { words, object });
    }
    said
}

/// All of it in one sentence, which ends where nobody would read on.
pub(crate) fn sentence(changes: &[Said]) -> String {
    let named = changes.iter().take(NAMED_AT_MOST).map(|said| said.words.as_str()).collect::<Vec<_>>().join(", ");
    match changes.len().checked_sub(NAMED_AT_MOST) {
        _ if changes.is_empty() => NOTHING.to_owned(),
        None | Some(0) => named,
        Some(more) => format!("{named}, and {more} more"),
    }
}

/// A line for each.
pub(crate) fn lines(changes: &[Said]) -> String {
    match changes {
        [] => format!("{NOTHING}\n"),
        changes => changes.iter().map(|said| format!("{}\n", said.words)).collect(),
    }
}

fn object(change: &Change) -> serde_json::Value {
    let says = change.to_string();
    match change {
        Change::Added { rule } => json!({ "what": "rule", "name": rule, "change": "added", "says": says }),
        Change::Removed { rule } => json!({ "what": "rule", "name": rule, "change": "removed", "says": says }),
        Change::Changed { rule, differences, counters } => {
            let differences = differences.iter().map(|difference| {
                let (old, new) = difference.values.clone().unzip();
                json!({ "key": difference.key, "old": old, "new": new })
            });
            let counters = match counters {
                Counters::None => None,
                Counters::Kept => Some("kept"),
                Counters::KeptWhereSame(_) | Counters::Partly { .. } => Some("partly"),
                Counters::Anew => Some("anew"),
            };
            let differences: Vec<_> = differences.collect();
            json!({
                "what": "rule", "name": rule, "change": "changed", "differences": differences, "counters": counters,
                "says": says,
            })
        }
        Change::Reordered => json!({ "what": "rules", "change": "reordered", "says": says }),
        Change::Above(difference) => json!({ "what": difference.key, "change": "changed", "says": says }),
    }
}

/// A listener is known by its address, as the server knows it.
fn of_listeners(old: &[Listener], new: &[Listener]) -> Vec<Said> {
    let mut left: Vec<&Listener> = old.iter().collect();
    let mut said = Vec::new();
    let mut say = |listener: &Listener, change: &str, how: &str| {
        let words = format!("listener {} {how}", listener.address);
        let address = listener.address.to_string();
        let object = json!({ "what": "listener", "address": address, "change": change, "says": words });
        said.push(Said { words, object });
    };
    for listener in new {
        match left.iter().position(|old| old.address == listener.address) {
            None => say(listener, "added", "added"),
            Some(at) => {
                let differences = differences(left.remove(at), listener);
                if !differences.is_empty() {
                    say(listener, "changed", &differences.join(" and "));
                }
            }
        }
    }
    left.into_iter().for_each(|listener| say(listener, "removed", "removed"));
    said
}

fn differences(old: &Listener, new: &Listener) -> Vec<String> {
    let upstream =
        |listener: &Listener| listener.upstream.as_ref().map_or("answered here".to_owned(), ToString::to_string);
    let mut differences = Vec::new();
    if old.upstream != new.upstream {
        differences.push(format!("{} → {}", upstream(old), upstream(new)));
    }
    let others = [
        ("name", old.name != new.name),
        ("proxy_protocol", old.proxy_protocol != new.proxy_protocol),
        ("send_proxy_protocol", old.send_proxy_protocol != new.send_proxy_protocol),
        ("timeouts", old.timeouts != new.timeouts),
        ("limits", old.limits != new.limits),
    ];
    differences.extend(others.iter().filter(|(_, differ)| *differ).map(|(key, _)| format!("{key} changed")));
    differences
}
