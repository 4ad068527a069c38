//! A request as the rules see it: who is asking, which headers are believed, values decoded, the path normalised once.

use std::{borrow::Cow, cell::OnceCell};

use smallvec::SmallVec;

use super::{Request, Source, field_lines, first_line, path, path::Readings};
use crate::client::{Client, Proxies};

/// A request together with its client, as matchers and keys ask about it.
pub(crate) struct Seen<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) client: &'a Client,
    proxies: &'a Proxies,
    user: Option<&'a Source>,
    path: OnceCell<&'a str>,
    paths: OnceCell<Readings<'a>>,
    respelled_paths: OnceCell<Readings<'a>>,
    query: OnceCell<Vec<Parameter<'a>>>,
    cookies: OnceCell<Vec<Cookie<'a>>>,
}

/// A parameter of the query, decoded.
struct Parameter<'a> {
    name: Cow<'a, [u8]>,
    value: Cow<'a, [u8]>,
}

/// A cookie as it came, and what it says.
struct Cookie<'a> {
    name: &'a [u8],
    raw: &'a [u8],
    value: Cow<'a, [u8]>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(
        request: &'a Request<'a>,
        client: &'a Client,
        proxies: &'a Proxies,
        user: Option<&'a Source>,
    ) -> Self {
        Self {
            request,
            client,
            proxies,
            user,
            path: OnceCell::new(),
            paths: OnceCell::new(),
            respelled_paths: OnceCell::new(),
            query: OnceCell::new(),
            cookies: OnceCell::new(),
        }
    }

    /// The path as it came.
    pub(crate) fn path(&self) -> &'a str {
        self.path.get_or_init(|| self.request.path())
    }

    /// What routers make of the path.
    pub(crate) fn paths(&self) -> &Readings<'a> {
        self.paths.get_or_init(|| Readings::decoded(self.path()))
    }

    /// The same with only the unreserved characters decoded.
    pub(crate) fn respelled_paths(&self) -> &Readings<'a> {
        self.respelled_paths.get_or_init(|| Readings::respelled(self.path()))
    }

    /// The host in lower case, without port and final dot, and without a user's name, which no server looks at.
    pub(crate) fn host(&self) -> Option<Cow<'a, [u8]>> {
        let host = self.request.host?;
        // As most are: nothing has to be searched for or copied.
        if host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')) {
            return Some(Cow::Borrowed(without_final_dot(host).as_bytes()));
        }
        let host = host.rsplit('@').next().unwrap_or(host);
        let port = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
        let name = without_final_dot(&host[..port.unwrap_or(host.len())]);
        Some(Cow::Owned(name.to_ascii_lowercase().into_bytes()))
    }

    /// Whether any value of `source` fits: a cookie's as it came or as it is understood.
    pub(crate) fn any(&self, source: &Source, fits: impl Fn(&[u8]) -> bool) -> bool {
        match source {
            Source::Header(name) => self.header(name.lower()).any(fits),
            Source::Query(_) => self.values(source).iter().any(|value| fits(value)),
            Source::Cookie(name) => self.cookies_named(name).any(|cookie| fits(cookie.raw) || fits(&cookie.value)),
        }
    }

    /// The value of `source` if it has exactly one: two of them name nobody.
    pub(crate) fn single(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        if let Source::Header(name) = source
            && name.lower() != "authorization"
        {
            // Without room for several, since most requests are counted by one.
            let is_believed = self.proxies.believes(self.client, name.lower());
            let (first, lines) = first_line(self.request.headers, name.lower());
            return first.filter(|_| is_believed && lines == 1).map(Cow::Borrowed);
        }
        let mut values = self.values(source);
        values.pop().filter(|_| values.is_empty())
    }

    /// The values of `source` as they are understood, whatever their spelling.
    fn values<'s>(&'s self, source: &Source) -> SmallVec<[Cow<'s, [u8]>; 2]> {
        match source {
            Source::Header(name) if name.lower() == "authorization" => {
                self.header(name.lower()).map(|value| Cow::Owned(credentials(value))).collect()
            }
            Source::Header(name) => self.header(name.lower()).map(|value| -> Cow<'s, [u8]> { value.into() }).collect(),
            Source::Query(name) => {
                let named = self.query().iter().filter(|parameter| *parameter.name == *name.as_bytes());
                named.map(|parameter| Cow::Borrowed(&*parameter.value)).collect()
            }
            Source::Cookie(name) => self.cookies_named(name).map(|cookie| Cow::Borrowed(&*cookie.value)).collect(),
        }
    }

    fn query(&self) -> &[Parameter<'a>] {
        self.query.get_or_init(|| {
            let parameters = self.request.query().unwrap_or_default().split('&');
            let pairs = parameters.filter(|parameter| !parameter.is_empty());
            let pairs = pairs.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
            pairs.map(|(name, value)| Parameter { name: form_decode(name), value: form_decode(value) }).collect()
        })
    }

    fn cookies_named(&self, name: &str) -> impl Iterator<Item = &Cookie<'a>> {
        let cookies = self.cookies.get_or_init(|| {
            let pairs = self.header("cookie").flat_map(|line| line.split(|byte| *byte == b';'));
            let pairs = pairs.filter_map(|pair| split_once(pair, b'='));
            let cookie = |(name, raw): (&'a [u8], &'a [u8])| {
                let raw = raw.trim_ascii();
                Cookie { name: name.trim_ascii(), raw, value: cookie_value(raw) }
            };
            pairs.map(cookie).collect()
        });
        cookies.iter().filter(move |cookie| cookie.name == name.as_bytes())
    }

    /// Whether the request says that somebody is signed in.
    pub(crate) fn has_user(&self) -> bool {
        match self.request.user {
            Some(user) => !user.is_empty(),
            None => self.user.is_some_and(|user| self.any(user, |value| !value.is_empty())),
        }
    }

    /// Who is signed in, if exactly one is named.
    pub(crate) fn user(&self) -> Option<Cow<'_, [u8]>> {
        let user = match self.request.user {
            Some(user) => Cow::Borrowed(user.as_bytes()),
            None => self.single(self.user?)?,
        };
        Some(user).filter(|user| !user.is_empty())
    }

    /// The believed field lines of a header: one that only a proxy may send is absent when somebody else sends it.
    pub(crate) fn header(&self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let is_believed = self.proxies.believes(self.client, name);
        let lines = if is_believed { field_lines(self.request.headers, name) } else { SmallVec::new() };
        lines.into_iter()
    }
}

fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Decodes a query name or value: percent, and `+` for a space, as forms write it.
fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(path::decode(text.replace('+', " ").as_bytes()))
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// What servers make of a cookie's value: quotes and the escapes inside them undone, then percent-decoded, so that one
/// session is not as many as its spellings.
fn cookie_value(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.iter().any(|byte| matches!(byte, b'"' | b'%')) {
        return Cow::Borrowed(raw);
    }
    let quoted = raw.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    Cow::Owned(path::decode(&quoted.map_or_else(|| raw.to_vec(), unescape)))
}

/// Undoes `\ooo` and `\c`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit);
        (rest, _) = match rest {
            [b'\\', a @ b'0'..=b'3', b, c, tail @ ..] if octal(b) && octal(c) => {
                (tail, plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')))
            }
            [b'\\', escaped, tail @ ..] => (tail, plain.push(*escaped)),
            _ => (tail, plain.push(*first)),
        };
    }
    plain
}

/// `Authorization` in one spelling: the scheme ignores case, and any white space parts it from the rest.
fn credentials(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let mut spelled = value[..end].to_ascii_lowercase();
    let is_basic = spelled == b"basic";
    spelled.push(b' ');
    spelled.extend(value[end..].trim_ascii_start());
    // Padding of base64 that servers do not miss.
    while is_basic && spelled.last() == Some(&b'=') {
        spelled.pop();
    }
    spelled
}
