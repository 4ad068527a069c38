//! `match`, `except` and what chooses an override: conditions on a request.

use super::{
    Context,
    proxies::{is_header_name, subnets},
    read::{Field, Fields},
    spelling::did_you_mean,
};
use crate::{
    policy::{Conditions, PathPattern, Pattern, ValueTest},
    request::Source,
};

/// A list of exceptions, each of which must say something.
pub(super) fn exceptions(field: Field<'_>, context: &Context<'_>) -> Option<Vec<Conditions>> {
    field.list_or_one(|item| {
        let mut fields = item.fields("an exception")?;
        let conditions = conditions(&mut fields, context);
        let is_empty = fields.has_only(&[]);
        fields.finish();
        if is_empty { item.expected("an exception with at least one condition") } else { Some(conditions) }
    })
}

/// The conditions of `match`, which alone can ask for the rest.
pub(super) fn matcher(field: Field<'_>, context: &Context<'_>) -> Option<Conditions> {
    let mut fields = field.fields("a match")?;
    let mut conditions = conditions(&mut fields, context);
    conditions.rest = fields.optional("rest").and_then(Field::boolean);
    fields.finish();
    Some(conditions)
}

/// Every condition that stands among these fields. One that is mistaken is left out: the mistake keeps the file from being
/// used.
pub(super) fn conditions(fields: &mut Fields<'_>, context: &Context<'_>) -> Conditions {
    let mut values = Vec::new();
    if let Some(headers) = fields.optional("header") {
        values.extend(tests(headers, |name| is_header_name(name).then(|| Source::header(name))));
    }
    if let Some(parameters) = fields.optional("query") {
        values.extend(tests(parameters, |name| Some(Source::Query(name.into()))));
    }
    if let Some(cookies) = fields.optional("cookie") {
        values.extend(tests(cookies, |name| Some(Source::Cookie(name.into()))));
    }
    Conditions {
        listener: fields.optional("listener").and_then(|field| listeners(field, context)),
        path: fields.optional("path").and_then(|field| one_or_more(field, path)),
        method: fields.optional("method").and_then(|field| one_or_more(field, method)),
        host: fields.optional("host").and_then(|field| one_or_more(field, host)),
        values,
        content_type: fields.optional("content_type").and_then(|field| one_or_more(field, content_type)),
        client: fields.optional("client").and_then(|field| subnets(field, context.surroundings)),
        user: fields.optional("user").and_then(|field| user(field, context)),
        rest: None,
    }
}

fn one_or_more<'a, T>(field: Field<'a>, read: impl FnMut(Field<'a>) -> Option<T>) -> Option<Vec<T>> {
    let items = field.list_or_one(read)?;
    if items.is_empty() { field.expected("at least one value") } else { Some(items) }
}

fn path(field: Field<'_>) -> Option<PathPattern> {
    let why =
        "a path has no query and no fragment, expected a pattern without ? and #; for the query there is match.query";
    glob(field, |text| text.contains(['?', '#']), why, PathPattern::new)
}

fn host(field: Field<'_>) -> Option<Pattern> {
    let why = "expected the name alone, without scheme, port and path, an IPv6 address in brackets";
    let never_fits = |text: &str| {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        bracketed.map_or(text, |(_, after)| after).contains([':', '/'])
    };
    glob(field, never_fits, why, Pattern::lower_case)
}

fn content_type(field: Field<'_>) -> Option<Pattern> {
    let why = "expected a media type without parameters, such as application/json";
    glob(field, |text| text.contains(';'), why, Pattern::lower_case)
}

/// A pattern for what never holds some characters. A regular expression may need them.
fn glob<P, E: std::fmt::Display>(
    field: Field<'_>,
    never_fits: impl Fn(&str) -> bool,
    why: &str,
    read: impl Fn(&str) -> Result<P, E>,
) -> Option<P> {
    let text = field.text()?;
    if !text.starts_with('~') && never_fits(text) {
        field.wrong(why);
        return None;
    }
    pattern(field, read)
}

fn pattern<P, E: std::fmt::Display>(field: Field<'_>, read: impl Fn(&str) -> Result<P, E>) -> Option<P> {
    let pattern = read(field.text()?);
    if let Err(error) = &pattern {
        field.mistakes.at(field.place(), error.to_string());
    }
    pattern.ok()
}

fn method(field: Field<'_>) -> Option<String> {
    let method = field.text()?;
    if is_header_name(method) {
        return Some(method.to_ascii_uppercase());
    }
    field.wrong("expected a method such as GET");
    None
}

fn listeners(field: Field<'_>, context: &Context<'_>) -> Option<Vec<String>> {
    one_or_more(field, |item| {
        let name = item.text()?;
        // A file without `listen` is for replays and libraries, which know no listeners.
        if let Some(listeners) = context.listeners {
            let names: Vec<&str> = listeners.iter().filter_map(|listener| listener.name.as_deref()).collect();
            if !names.contains(&name) {
                match did_you_mean(name, names.iter().copied()) {
                    Some(close) => item.wrong(format_args!("no listener has this name, did you mean \"{close}\"?")),
                    None => item.wrong("no listener has this name"),
                }
                return None;
            }
        }
        Some(name.to_owned())
    })
}

fn user(field: Field<'_>, context: &Context<'_>) -> Option<bool> {
    let user = field.boolean()?;
    if !context.tells_users {
        field
            .mistakes
            .at(field.place(), "user: nothing tells users from guests, expected `user:` at the top of the file");
    }
    Some(user)
}

/// The entries of `header`, `query` or `cookie`: what each may be.
fn tests(field: Field<'_>, source: impl Fn(&str) -> Option<Source>) -> Vec<(Source, Vec<ValueTest>)> {
    let read = |named: super::read::NamedField<'_>| {
        let tests = one_or_more(named.field, value_test);
        let Some(source) = source(named.field.name) else {
            named.field.mistakes.at(named.key_place, format!("{:?} is not the name of a header", named.field.name));
            return None;
        };
        Some((source, tests?))
    };
    let entries = field.entries();
    if entries.as_ref().is_some_and(Vec::is_empty) {
        field.expected::<()>("at least one name");
    }
    entries.into_iter().flatten().filter_map(read).collect()
}

fn value_test(field: Field<'_>) -> Option<ValueTest> {
    match field.node.literal_bool() {
        Some(present) => Some(ValueTest::Present(present)),
        None => pattern(field, Pattern::new).map(ValueTest::Fits),
    }
}
