//! `rules`: one rule of the file.

use std::{collections::HashMap, num::NonZeroU64};

use super::{
    Context, answer, conditions, dialects,
    excerpt::quoted,
    mistake::Place,
    node::Value,
    proxies::header_name,
    read::{Field, Fields},
};
use crate::{
    key::Part,
    policy::{self, Cost, Count, Mode, OnStoreError, Override, Quotas, RULE_NAME, Rule, Sharing, is_rule_name},
    quota::{Algorithm, Limits, MAX_AMOUNT},
    request::Source,
};

/// A rule, and where of it stands what a warning can be about.
pub(super) struct ReadRule {
    pub(super) rule: Rule,
    pub(super) place: Place,
    pub(super) limit_place: Place,
}

pub(super) fn rule(field: Field<'_>, context: &Context<'_>) -> Option<ReadRule> {
    let mut fields = field.fields("a rule")?;
    let name_field = fields.required("name");
    let name = name_field.and_then(rule_name);
    let match_field = fields.optional("match");
    let matcher = match_field.and_then(|field| conditions::matcher(field, context)).unwrap_or_default();
    let except = fields.optional("except").and_then(|field| conditions::exceptions(field, context));
    let by = fields.optional("by").map(|field| parts(field, match_field, context));
    let limit_field = fields.required("limit");
    let limits = limit_field.and_then(limits);
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let algorithm = fields.optional("algorithm").and_then(|field| field.one_of(&algorithms));
    let algorithm = algorithm.or_else(|| limits.as_ref().map(Limits::default_algorithm));
    let rule_name = name.unwrap_or_default();
    let quotas = |field: Field<'_>, limits: Option<Limits>| quotas(field, rule_name, &limits?, algorithm);
    let own_quotas = limit_field.and_then(|field| quotas(field, limits));
    let overrides =
        fields.optional("overrides").and_then(|field| field.list(|item| one_override(item, context, &quotas)));
    let cost = fields.optional("cost").map(cost);
    let count = fields.optional("count").map(count);
    let modes = [Mode::Enforce, Mode::Shadow].map(|mode| (mode.name(), mode));
    let mode_field = fields.optional("mode");
    let mode = mode_field.map(|field| field.one_of(&modes));
    let sharing = sharing(&mut fields, algorithm);
    let dialects = fields.optional("headers").map(dialects);
    let on_limit = fields.optional("on_limit").map(|field| answer::on_limit(field, context.surroundings));
    fields.finish();

    let count = count.unwrap_or(Some(Count::All));
    let mode = mode.unwrap_or(Some(Mode::Enforce));
    if let (Some(Count::Status(_)), Some(Mode::Shadow), Some(field)) = (&count, mode, mode_field) {
        let why = "mode: a rule in shadow cannot count by status, since nothing is given back to it";
        field.mistakes.at(field.place(), why);
    }
    Some(ReadRule {
        rule: Rule {
            name: name?.to_owned(),
            matcher,
            except: except.unwrap_or_default(),
            by: by.unwrap_or_else(|| Some(vec![Part::Client(Default::default())]))?,
            quotas: own_quotas?,
            overrides: overrides.unwrap_or_default(),
            cost: cost.unwrap_or(Some(Cost::Fixed(1)))?,
            count: count?,
            mode: mode?,
            sharing: sharing?,
            dialects: dialects.unwrap_or(Some(context.dialects))?,
            on_limit: on_limit.flatten().unwrap_or_default().over(&context.on_limit),
        },
        place: name_field?.place(),
        limit_place: limit_field?.place(),
    })
}

/// `store`, `on_store_error` and `lease`.
fn sharing(fields: &mut Fields<'_>, algorithm: Option<Algorithm>) -> Option<Sharing> {
    let place = fields.optional("store").map(|field| field.one_of(&[("memory", policy::Place::Memory)]));
    let answers = OnStoreError::ALL.map(|answer| (answer.name(), answer));
    let on_store_error = fields.optional("on_store_error").map(|field| field.one_of(&answers));
    let lease_field = fields.optional("lease");
    let lease = lease_field.map(|field| field.integer(1..=MAX_AMOUNT).and_then(NonZeroU64::new));
    let is_leasable = |algorithm| matches!(algorithm, Algorithm::FixedWindow | Algorithm::CalendarWindow);
    if let (Some(field), Some(algorithm)) = (lease_field, algorithm)
        && !is_leasable(algorithm)
    {
        let why = format!("lease: {algorithm} has no windows to share out, expected fixed-window or calendar-window");
        field.mistakes.at(field.place(), why);
    }
    Some(Sharing {
        place: place.unwrap_or(Some(policy::Place::Shared))?,
        on_store_error: on_store_error.unwrap_or(Some(OnStoreError::Local))?,
        lease: lease.map_or(Some(None), |lease| lease.map(Some))?,
    })
}

/// Names are unique in the file ignoring case: the second of two is the mistake.
pub(super) fn check_names(rules: Option<Field<'_>>) {
    let Some(rules) = rules else { return };
    let Value::List(items) = &rules.node.value else { return };
    let mut seen: HashMap<String, Place> = HashMap::new();
    for item in items {
        let Value::Map(entries) = &item.value else { continue };
        let Some(entry) = entries.get("name") else { continue };
        let Value::Scalar(name) = &entry.node.value else { continue };
        if let Some(first) = seen.insert(name.text.to_ascii_lowercase(), entry.node.place) {
            let why = format!(
                "name {}: the rule in line {} has it too, expected unique names",
                entry.node.found(),
                first.line
            );
            rules.mistakes.at(entry.node.place, why);
        }
    }
}

fn rule_name(field: Field<'_>) -> Option<&str> {
    let name = field.text()?;
    if is_rule_name(name) {
        return Some(name);
    }
    field.wrong(format_args!("expected {RULE_NAME}"));
    None
}

/// A limit string, whose mistakes are shown at their character.
fn limits(field: Field<'_>) -> Option<Limits> {
    if let (Value::List(_), Some(limits)) = (&field.node.value, field.node.texts()) {
        return field.expected_with_help("text", format!("write {}", quoted(&limits.join("; "))));
    }
    match field.text()?.parse::<Limits>() {
        Ok(limits) => Some(limits),
        Err(error) => {
            let place = field.place();
            let Value::Scalar(scalar) = &field.node.value else { return None };
            if scalar.shown() != scalar.text {
                field.wrong("no limit string once its variables are replaced");
                return None;
            }
            let quote = usize::from(!scalar.plain);
            field.mistakes.at(Place { column: place.column + quote + error.offset(), ..place }, error.to_string());
            None
        }
    }
}

fn quotas(field: Field<'_>, rule: &str, limits: &Limits, algorithm: Option<Algorithm>) -> Option<Quotas> {
    let quotas = Quotas::new(rule, limits, algorithm);
    if let Err(error) = &quotas {
        field.mistakes.at(field.place(), error.to_string());
    }
    quotas.ok()
}

fn one_override(
    field: Field<'_>,
    context: &Context<'_>,
    quotas: &impl Fn(Field<'_>, Option<Limits>) -> Option<Quotas>,
) -> Option<Override> {
    let mut fields = field.fields("an override")?;
    let conditions = conditions::conditions(&mut fields, context);
    let limit = fields.required("limit");
    let is_unconditional = fields.has_only(&["limit"]);
    fields.finish();
    let limit = limit?;
    if is_unconditional {
        return field.expected("an override with at least one condition");
    }
    Some(Override { conditions, quotas: quotas(limit, limits(limit))? })
}

fn parts(field: Field<'_>, match_field: Option<Field<'_>>, context: &Context<'_>) -> Option<Vec<Part>> {
    field.list_or_one(|item| {
        let part = match item.text()?.parse::<Part>() {
            Ok(part) => part,
            Err(error) => {
                item.mistakes.at(item.place(), format!("by {error}"));
                return None;
            }
        };
        let matches = |condition| match_field.is_some_and(|field| field.has(condition));
        if part == Part::Subnet && !matches("client") {
            item.wrong("counts by the entry of match.client that fitted, expected a match.client");
        }
        if part == Part::Route && !matches("path") {
            item.wrong("counts by the pattern of match.path that fitted, expected a match.path");
        }
        if part == Part::User && !context.tells_users {
            item.wrong("nothing tells who is signed in, expected `user:` at the top of the file");
        }
        Some(part)
    })
}

fn cost(field: Field<'_>) -> Option<Cost> {
    if !matches!(field.node.value, Value::Map(_)) {
        return field.integer(1..=MAX_AMOUNT).map(Cost::Fixed);
    }
    let mut fields = field.fields("a cost")?;
    let name = fields.required("header").filter(|field| header_name(*field).is_some()).and_then(Field::text);
    let default = fields.required("default").and_then(|field| field.integer(1..=MAX_AMOUNT));
    fields.finish();
    Some(Cost::Header { name: Source::header(name?), default: default? })
}

fn count(field: Field<'_>) -> Option<Count> {
    if !matches!(field.node.value, Value::Map(_)) {
        let codes = field.node.texts().filter(|codes| codes.iter().all(|code| code.parse::<u16>().is_ok()));
        if let Some(codes) = codes {
            return field.expected_with_help("all or a map", format!("write {{ status: [{}] }}", codes.join(", ")));
        }
        field.one_of(&[("all", ())])?;
        return Some(Count::All);
    }
    let mut fields = field.fields("a count")?;
    let status = fields.required("status");
    fields.finish();
    let codes = status?.list_or_one(|item| item.integer(100..=599).and_then(|code| u16::try_from(code).ok()))?;
    if codes.is_empty() {
        return status?.expected("at least one status code");
    }
    Some(Count::Status(codes))
}
