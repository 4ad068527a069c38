//! `on_limit`: what a denied request is answered.

use super::{
    Surroundings, file_text,
    node::Value,
    proxies::is_header_name,
    read::{Field, NamedField},
    spelling::did_you_mean,
};
use crate::answer::{Media, OnLimit, Template};

pub(super) fn on_limit(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<OnLimit> {
    let mut fields = field.fields("an answer")?;
    let status_code = fields.optional("status").and_then(status_code);
    let body = fields.optional("body").and_then(|field| bodies(field, surroundings)).unwrap_or_default();
    let media = Media::ALL.map(|media| (media.name(), media));
    let default = fields.optional("default").and_then(|field| field.one_of(&media));
    let headers = fields.optional("headers").and_then(Field::entries).into_iter().flatten().filter_map(header);
    let headers = headers.collect();
    let close = fields.optional("close").and_then(Field::boolean);
    fields.finish();
    Some(OnLimit { status_code, default: default.or(body.default), headers, close, ..body })
}

/// Any final answer that can have a body.
fn status_code(field: Field<'_>) -> Option<u16> {
    let code = field.integer(200..=599).and_then(|code| u16::try_from(code).ok())?;
    if matches!(code, 204 | 205 | 304) {
        return field.expected("a status code of an answer with a body");
    }
    if code < 400 {
        let why = format!("status {code}: clients take the denial for a success, expected 400 or more, such as 429");
        field.mistakes.warn(field.place(), why);
    }
    Some(code)
}

/// A plain string is the body for `text/plain`, and the default.
fn bodies(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<OnLimit> {
    if !matches!(field.node.value, Value::Map(_)) {
        let plain = template(field, field.text()?);
        return Some(OnLimit { plain: Some(plain), default: Some(Media::Plain), ..OnLimit::default() });
    }
    let mut fields = field.fields("a body")?;
    let mut read = |key| fields.optional(key).and_then(|field| body(field, surroundings));
    let bodies = OnLimit { plain: read("plain"), json: read("json"), html: read("html"), ..OnLimit::default() };
    fields.finish();
    Some(bodies)
}

/// A string, `{ inline: … }` or `{ file: … }`.
fn body(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<Template> {
    if !matches!(field.node.value, Value::Map(_)) {
        return field.text().map(|text| template(field, text));
    }
    let mut fields = field.fields("a body")?;
    if field.has("file") && !field.has("inline") {
        return file_text(fields, surroundings).map(|(name, text)| template(name, &text));
    }
    let inline = fields.required("inline");
    fields.finish();
    let inline = inline?;
    inline.text().map(|text| template(inline, text))
}

/// Any text is a body; a word in braces that is nearly a placeholder is a slip of the hand.
fn template(field: Field<'_>, text: &str) -> Template {
    let words = text.split('{').skip(1).filter_map(|after| after.split_once('}')).map(|(word, _)| word);
    for word in words.filter(|word| !Template::placeholders().any(|name| name == *word)) {
        if let Some(close) = did_you_mean(word, Template::placeholders()) {
            let why = format!("{}: {{{word}}} stays as it is, did you mean {{{close}}}?", field.name);
            field.mistakes.warn(field.place(), why);
        }
    }
    Template::new(text)
}

fn header(named: NamedField<'_>) -> Option<(String, String)> {
    let NamedField { key_place, field } = named;
    if !is_header_name(field.name) {
        field.mistakes.at(key_place, format!("{:?} is not the name of a header", field.name));
        return None;
    }
    let framing = ["content-length", "transfer-encoding", "connection", "upgrade", "trailer"];
    if framing.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
        field.mistakes.at(key_place, format!("header {}: the connection sets it, expected another", field.name));
        return None;
    }
    let ours = ["retry-after", "content-type", "ratelimit", "ratelimit-policy", "cache-control"];
    if ours.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
        let why = format!("header {}: it replaces what tollgate says itself", field.name);
        field.mistakes.warn(key_place, why);
    }
    let value = field.text()?;
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t') {
        return field.expected("a header value in printable ASCII");
    }
    Some((field.name.to_owned(), value.to_owned()))
}
