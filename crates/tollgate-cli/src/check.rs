//! `tollgate check`: what a policy means, what would change by it, or what is wrong with it.

use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use tollgate::{
    config::{Mistake, Severity},
    policy::{Count, Quotas, Rule},
};

use crate::{
    Failure,
    args::{Check, Output},
    changes, describe,
    policy_file::{self, Loaded, Mistaken},
};

pub(crate) fn run(check: &Check) -> Result<(), Failure> {
    let old = check.against.as_deref().map(policy_file::read).transpose()?;
    let (old, new) = match (old, policy_file::read(&check.file)?) {
        (Some(Ok(old)), new) => (Some(old), new),
        (Some(Err(mistaken)), _) => (None, Err(mistaken)),
        (None, new) => (None, new),
    };
    let new = new.map(|mut new| {
        new.warnings.extend(old.as_ref().and_then(|old| listens_nowhere(old, &new)));
        new
    });
    let (text, result) = match (new, check.output) {
        (Ok(loaded), Output::Human) => (human(&loaded, old.as_ref()), Ok(())),
        (Ok(loaded), Output::Json) => (format!("{}\n", meaning(&loaded, old.as_ref())), Ok(())),
        (Err(mistaken), Output::Human) => return Err(Failure::Wrong(mistaken.show())),
        (Err(Mistaken { mistakes, .. }), Output::Json) => {
            let mistakes: Vec<_> = mistakes.iter().map(PlacedMistake::from).collect();
            (format!("{}\n", json!({ "mistakes": mistakes })), Err(Failure::Told(2)))
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("standard output")?;
    result
}

/// A server that was told where to listen by its file alone refuses a file which does not say it.
fn listens_nowhere(old: &Loaded, new: &Loaded) -> Option<Mistake> {
    let is_lost = !old.config.listeners.is_empty() && new.config.listeners.is_empty();
    is_lost.then(|| Mistake {
        severity: Severity::Warning,
        line: 1,
        column: 1,
        message: "it says nowhere to listen: only a server that was started with --listen or --upstream takes it"
            .to_owned(),
        help: Some("add `listen:` with an address".to_owned()),
    })
}

fn human(loaded: &Loaded, old: Option<&Loaded>) -> String {
    let mut text = match old {
        Some(old) => changes::lines(&changes::between(&old.config, &loaded.config)),
        None => in_words(loaded),
    };
    for warning in &loaded.warnings {
        text.push('\n');
        text.push_str(&loaded.source.show(warning));
        text.push('\n');
    }
    text
}

fn in_words(loaded: &Loaded) -> String {
    let policy = &loaded.config.policy;
    let mut text = format!("{}: {}\n", loaded.source.name, describe::count_of_rules(policy));
    text.push_str(&describe::surroundings(&loaded.config));
    for rule in policy.rules() {
        text.push('\n');
        text.push_str(&describe::rule(rule));
    }
    text
}

fn meaning(loaded: &Loaded, old: Option<&Loaded>) -> serde_json::Value {
    let warnings: Vec<_> = loaded.warnings.iter().map(PlacedMistake::from).collect();
    if let Some(old) = old {
        let changes = changes::between(&old.config, &loaded.config).into_iter().map(|said| said.object);
        return json!({ "changes": changes.collect::<Vec<_>>(), "warnings": warnings });
    }
    json!({ "rules": loaded.config.policy.rules().iter().map(rule).collect::<Vec<_>>(), "warnings": warnings })
}

fn rule(rule: &Rule) -> serde_json::Value {
    let overrides = rule.overrides.iter().map(|other| json!({ "quotas": quotas(&other.quotas) }));
    let count = match &rule.count {
        Count::All => json!("all"),
        Count::Status(codes) => json!({ "status": codes }),
    };
    json!({
        "name": rule.name,
        "mode": rule.mode.name(),
        "by": rule.by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "algorithm": rule.quotas.algorithm().name(),
        "quotas": quotas(&rule.quotas),
        "overrides": overrides.collect::<Vec<_>>(),
        "cost": describe::cost(&rule.cost),
        "count": count,
    })
}

fn quotas(quotas: &Quotas) -> Vec<serde_json::Value> {
    let quota = |(_, quota): (_, &tollgate::quota::Quota)| {
        let limit = quota.limit();
        json!({
            "amount": limit.amount(),
            "window_ms": u64::try_from(limit.window().as_millis()).ok(),
            "n": limit.n(),
            "unit": limit.unit().name(),
            "burst": limit.burst(),
        })
    };
    quotas.iter().map(quota).collect()
}

#[derive(Serialize)]
struct PlacedMistake<'a> {
    severity: &'static str,
    line: usize,
    column: usize,
    message: &'a str,
    help: Option<&'a str>,
}

impl<'a> From<&'a Mistake> for PlacedMistake<'a> {
    fn from(mistake: &'a Mistake) -> Self {
        Self {
            severity: match mistake.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            line: mistake.line,
            column: mistake.column,
            message: &mistake.message,
            help: mistake.help.as_deref(),
        }
    }
}
