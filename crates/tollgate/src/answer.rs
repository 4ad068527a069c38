//! What a denied request is answered: status code, headers, media type and body, as data.
//!
//! The Accept header chooses among a problem document (RFC 9457), a page and a plain text; a caller by gRPC gets its own
//! status. Bodies of one's own replace these one by one. Nothing of the request is ever echoed.

mod accept;
mod template;

use std::borrow::Cow;

pub use template::Template;

use crate::{
    decision::{Counted, Decision},
    headers::whole_seconds,
    request::Headers,
};

/// Registered by draft-ietf-httpapi-ratelimit-headers-11, section 10.2.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// The same, section 10.3.
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
/// RESOURCE_EXHAUSTED and UNAVAILABLE, <https://grpc.io/docs/guides/status-codes>.
const GRPC_RESOURCE_EXHAUSTED: &str = "8";
const GRPC_UNAVAILABLE: &str = "14";

/// A finished answer to a denied request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code, 429 unless the rule says otherwise.
    pub status_code: u16,
    /// Every header of the answer but its length.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body; an answer to HEAD has none.
    pub body: String,
    /// Whether to close the connection after it.
    pub close: bool,
}

/// What a rule says about its answer; what it does not say is left to the file, and then to Tollgate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnLimit {
    /// The status code.
    pub status_code: Option<u16>,
    /// The body for `text/plain`.
    pub plain: Option<Template>,
    /// The body for `application/json`.
    pub json: Option<Template>,
    /// The body for `text/html`.
    pub html: Option<Template>,
    /// Which body answers when the Accept header fits none.
    pub default: Option<Media>,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Whether to close the connection after the answer.
    pub close: Option<bool>,
}

impl OnLimit {
    /// This, and where it says nothing, `base`.
    #[must_use]
    pub fn over(self, base: &Self) -> Self {
        let is_ours = |name: &str| self.headers.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(name));
        let inherited: Vec<_> = base.headers.iter().filter(|(name, _)| !is_ours(name)).cloned().collect();
        Self {
            status_code: self.status_code.or(base.status_code),
            plain: self.plain.or_else(|| base.plain.clone()),
            json: self.json.or_else(|| base.json.clone()),
            html: self.html.or_else(|| base.html.clone()),
            default: self.default.or(base.default),
            headers: inherited.into_iter().chain(self.headers).collect(),
            close: self.close.or(base.close),
        }
    }
}

/// A kind of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/problem+json`, or `application/json` with a body of one's own.
    Json,
    /// `text/html`
    Html,
    /// `text/plain`
    Plain,
}

impl Media {
    /// All of them; where the Accept header likes several alike, the first.
    pub const ALL: [Self; 3] = [Self::Json, Self::Html, Self::Plain];

    /// Its name in a policy file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Html => "html",
            Self::Plain => "plain",
        }
    }
}

impl Decision {
    /// The answer to a denied request that came with these headers; none to one that may pass.
    pub fn answer(&self, request: &dyn Headers) -> Option<Answer> {
        let media = |default| {
            let accept: Vec<&[u8]> = (0..).map_while(|n| request.nth("accept", n)).collect();
            accept::choose(&accept, default)
        };
        // Whoever is denied for want of a store is not told that he did too much.
        if self.unavailable_by().next().is_some() {
            let mut answer = match is_grpc(request) {
                true => grpc_answer(GRPC_UNAVAILABLE, UNAVAILABLE),
                false => unavailable(media(Media::Json), self.retry_after_secs()),
            };
            self.add_headers(&mut answer);
            return Some(answer);
        }
        let shown = self.denying().next().and_then(|_| self.shown())?;
        let on_limit = &shown.rule.on_limit;
        let mut answer = match is_grpc(request) {
            true => grpc_answer(GRPC_RESOURCE_EXHAUSTED, &detail(&shown)),
            false => self.http_answer(&shown, media(on_limit.default.unwrap_or(Media::Json))),
        };
        self.add_headers(&mut answer);
        for (name, value) in &on_limit.headers {
            answer.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            answer.headers.push((name.clone().into(), value.clone()));
        }
        answer.close = on_limit.close.unwrap_or(false);
        Some(answer)
    }

    fn add_headers(&self, answer: &mut Answer) {
        let lines = self.headers(&()).into_iter();
        answer.headers.extend(lines.map(|line| (line.name.into(), line.value)));
    }

    fn http_answer(&self, shown: &Counted<'_>, media: Media) -> Answer {
        let on_limit = &shown.rule.on_limit;
        let status_code = on_limit.status_code.unwrap_or(429);
        let custom = match media {
            Media::Json => &on_limit.json,
            Media::Html => &on_limit.html,
            Media::Plain => &on_limit.plain,
        };
        let content_type = match media {
            Media::Json if custom.is_some() => "application/json",
            media => content_type(media),
        };
        let body = match custom {
            Some(template) => template.fill(shown, media),
            None => match media {
                Media::Json => self.problem(shown, status_code),
                Media::Html => page("Too many requests", &detail(shown)),
                Media::Plain => format!("{}\n", detail(shown)),
            },
        };
        Answer { status_code, headers: vec![("Content-Type".into(), content_type.to_owned())], body, close: false }
    }

    /// Names and numbers alone, so that nothing needs escaping.
    fn problem(&self, shown: &Counted<'_>, status_code: u16) -> String {
        let violated: Vec<String> = self.denying().map(|counted| format!("\"{}\"", counted.name())).collect();
        let violated = violated.join(",");
        let retry_after = match self.retry_after() {
            Some(wait) => whole_seconds(wait).to_string(),
            None => "null".to_owned(),
        };
        let detail = detail(shown).replace('"', "\\\"");
        format!(
            "{{\"type\":\"{QUOTA_EXCEEDED}\",\"title\":\"Quota exceeded\",\"status\":{status_code},\
             \"detail\":\"{detail}\",\"violated-policies\":[{violated}],\"retry_after\":{retry_after}}}\n"
        )
    }
}

fn is_grpc(request: &dyn Headers) -> bool {
    request
        .nth("content-type", 0)
        .is_some_and(|value| value.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc")))
}

fn detail(shown: &Counted<'_>) -> String {
    let (name, limit) = (&shown.rule.name, shown.quota.limit());
    match shown.outcome.retry_after {
        Some(wait) => format!("{name} allows {limit}, try again in {} s", whole_seconds(wait)),
        None => format!("{name} allows {limit}, which this request can never meet"),
    }
}

fn page(title: &str, text: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <h1>{title}</h1>\n<p>{text}.</p>\n</html>\n"
    )
}

const UNAVAILABLE: &str = "the limit of this request cannot be checked at the moment";

/// What is answered for want of a store: nobody's rule is broken, so none has its own words for it.
fn unavailable(media: Media, retry_after_secs: Option<u64>) -> Answer {
    let retry_after = retry_after_secs.unwrap_or(1);
    let body = match media {
        Media::Json => format!(
            "{{\"type\":\"{REDUCED_CAPACITY}\",\"title\":\"Temporary reduced capacity\",\"status\":503,\
             \"detail\":\"{UNAVAILABLE}, try again in {retry_after} s\",\"retry_after\":{retry_after}}}\n"
        ),
        Media::Html => page("Temporary reduced capacity", &format!("{UNAVAILABLE}, try again in {retry_after} s")),
        Media::Plain => format!("{UNAVAILABLE}, try again in {retry_after} s\n"),
    };
    let headers = vec![("Content-Type".into(), content_type(media).to_owned())];
    Answer { status_code: 503, headers, body, close: false }
}

/// A gRPC answer is a success of HTTP whose trailers are its headers; the message is percent-encoded.
fn grpc_answer(status: &str, message: &str) -> Answer {
    let headers = vec![
        ("Content-Type".into(), "application/grpc".to_owned()),
        ("Grpc-Status".into(), status.to_owned()),
        ("Grpc-Message".into(), message.replace('%', "%25")),
    ];
    Answer { status_code: 200, headers, body: String::new(), close: false }
}

fn content_type(media: Media) -> &'static str {
    match media {
        Media::Json => "application/problem+json",
        Media::Html => "text/html; charset=utf-8",
        Media::Plain => "text/plain; charset=utf-8",
    }
}
