//! `on_limit`: what a denied request is answered.

use super::{
    Surroundings, file_text,
    node::Value,
    proxies::is_header_name,
    read::{Field, NamedField},
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
    Some(code)
}

/// A plain string is the body for `text/plain`, and the default.
fn bodies(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<OnLimit> {
    if !matches!(field.node.value, Value::Map(_)) {
        let plain = Template::new(field.text()?);
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
    let Value::Map(entries) = &field.node.value else {
        return field.text().map(Template::new);
    };
    let mut fields = field.fields("a body")?;
    if entries.contains_key("file") && !entries.contains_key("inline") {
        return file_text(fields, surroundings).map(|text| Template::new(&text));
    }
    let inline = fields.required("inline");
    fields.finish();
    inline?.text().map(Template::new)
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
    let value = field.text()?;
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\t') {
        return field.expected("a header value in printable ASCII");
    }
    Some((field.name.to_owned(), value.to_owned()))
}
