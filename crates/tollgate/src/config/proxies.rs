//! `trusted_proxies`, and sets of addresses wherever they stand.

use ipnet::IpNet;

use super::{Surroundings, excerpt::quoted, file_text, node::Value, read::Field};
use crate::client::{Proxies, Subnet, Subnets, TrustedProxy};

pub(super) fn proxies(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<Proxies> {
    let entries = field.list(|item| {
        let mut fields = item.fields("a trusted proxy")?;
        let from = fields.required("from").and_then(|field| subnets(field, surroundings));
        let header = fields.required("header").and_then(header_name);
        let vouches = fields.optional("vouches").and_then(|field| field.list_or_one(header_name));
        fields.finish();
        Some(TrustedProxy { from: from?, header: header?, vouches: vouches.unwrap_or_default() })
    })?;
    Some(Proxies::new(entries))
}

/// The name of a header, in lower case.
pub(super) fn header_name(field: Field<'_>) -> Option<String> {
    let name = field.text()?;
    if is_header_name(name) {
        return Some(name.to_ascii_lowercase());
    }
    field.wrong("expected the name of a header: letters, digits and any of !#$%&'*+-.^_`|~");
    None
}

/// A token of RFC 9110, section 5.6.2.
pub(super) fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// Addresses, subnets, `all`, `{ file: NAME }`, or a list of them.
pub(super) fn subnets(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<Subnets> {
    let sets = field.list_or_one(|item| match &item.node.value {
        Value::Map(_) => address_file(item, surroundings),
        _ => subnet(item).map(|subnet| vec![subnet]),
    })?;
    if sets.is_empty() {
        return field.expected("at least one address, subnet or all");
    }
    Some(sets.into_iter().flatten().collect())
}

fn subnet(field: Field<'_>) -> Option<Subnet> {
    let text = field.text()?;
    let Ok(subnet) = text.parse::<Subnet>() else {
        field.wrong("expected an address (192.0.2.1, 2001:db8::1), a subnet (192.0.2.0/24) or all");
        return None;
    };
    warn_of_dropped_bits(field, text, subnet);
    Some(subnet)
}

fn warn_of_dropped_bits(field: Field<'_>, text: &str, subnet: Subnet) {
    if text.parse::<IpNet>().is_ok_and(|net| net != net.trunc()) {
        field.mistakes.warn(field.place(), format!("{text} has bits beyond its prefix and means {subnet}"));
    }
}

/// One address or subnet a line; `#` starts a comment.
fn address_file(field: Field<'_>, surroundings: &Surroundings<'_>) -> Option<Vec<Subnet>> {
    /// Enough to see what is wrong with all of them.
    const MAX_SHOWN: usize = 5;
    let (name, text) = file_text(field.fields("a file of addresses")?, surroundings)?;
    let (mut subnets, mut bad) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or(line).trim();
        if entry.is_empty() {
            continue;
        }
        match entry.parse::<Subnet>() {
            Ok(subnet) => {
                warn_of_dropped_bits(name, entry, subnet);
                subnets.push(subnet);
            }
            Err(_) => bad.push((index + 1, entry)),
        }
    }
    if bad.is_empty() {
        return Some(subnets);
    }
    let shown = bad.iter().take(MAX_SHOWN).map(|(line, entry)| format!("line {line} has {}", quoted(entry)));
    let more = bad.len().checked_sub(MAX_SHOWN + 1).map(|more| format!("and {} more lines are none", more + 1));
    let found = shown.chain(more).collect::<Vec<_>>().join(", ");
    name.wrong(format_args!("expected an address, a subnet or all in every line, {found}"));
    None
}
