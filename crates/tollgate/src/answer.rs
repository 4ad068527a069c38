//! What a denied request is answered: status code, headers, media type and body, as data.
//!
//! The Accept header chooses among a problem document (RFC 9457), a page and a plain text; a caller by gRPC gets its own
//! status. Bodies of one's own replace these one by one. Nothing of the request is ever echoed.

mod accept;
mod template;

pub use template::Template;

use crate::{
    algorithm::Verdict,
    decision::{Counted, Decision},
    headers::whole_seconds,
    request::{Headers, field_lines},
};

/// A problem document up to its status code. Its type is registered by draft-ietf-httpapi-ratelimit-headers-11, section 10.2.
const PROBLEM_START: &str = "{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
                             \"title\":\"Quota exceeded\",\"status\":";
/// The same draft, section 10.3.
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
/// RESOURCE_EXHAUSTED and UNAVAILABLE, <https://grpc.io/docs/guides/status-codes>.
const GRPC_RESOURCE_EXHAUSTED: &str = "8";
const GRPC_UNAVAILABLE: &str = "14";
/// Room for the problem document of some rules.
const PROBLEM_BYTES: usize = 384;

/// A finished answer to a denied request: its status code and body, and with [`Answer::tell`] its headers.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The status code, 429 unless the rule says otherwise.
    pub status_code: u16,
    /// The body; an answer to HEAD has none.
    pub body: String,
    /// Whether to close the connection after it.
    pub close: bool,
    content_type: &'static str,
    grpc: Option<GrpcStatus>,
    decision: &'a Decision,
    /// The rule's own headers.
    own: &'a [(String, String)],
}

/// What a gRPC answer says of itself.
#[derive(Clone, Debug)]
struct GrpcStatus {
    code: &'static str,
    message: String,
}

impl Answer<'_> {
    /// Every header but the length, one by one: name, value, and whether it takes the place of such headers that are there.
    /// Without an allocation.
    pub fn tell<'s>(&'s self, mut tell: impl FnMut(&'s str, &str, bool)) {
        tell("Content-Type", self.content_type, true);
        if let Some(GrpcStatus { code, message }) = &self.grpc {
            tell("Grpc-Status", code, true);
            tell("Grpc-Message", message, true);
        }
        self.decision.tell(&(), |name, value, replaces| tell(name, value, replaces));
        for (name, value) in self.own {
            tell(name, value, true);
        }
    }

    /// Whether the rule adds headers of its own, which can take the place of others.
    pub fn has_own_headers(&self) -> bool {
        !self.own.is_empty()
    }

    /// The same as a list, each name once.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        self.tell(|name, value, _| {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            headers.push((name.to_owned(), value.to_owned()));
        });
        headers
    }
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
    pub fn answer(&self, request: &dyn Headers) -> Option<Answer<'_>> {
        if self.verdict() == Verdict::Allow {
            return None;
        }
        let media = |default| accept::choose(&field_lines(request, "accept"), default);
        // Whoever is denied for want of a store is not told that he did too much.
        if self.unavailable_by().next().is_some() {
            return Some(match is_grpc(request) {
                true => self.grpc_answer(GRPC_UNAVAILABLE, UNAVAILABLE.to_owned()),
                false => self.unavailable(media(Media::Json)),
            });
        }
        let shown = self.shown()?;
        let on_limit = &shown.rule.on_limit;
        let answer = match is_grpc(request) {
            true => self.grpc_answer(GRPC_RESOURCE_EXHAUSTED, detail(&shown, &mut itoa::Buffer::new()).concat()),
            false => self.http_answer(&shown, media(on_limit.default.unwrap_or(Media::Json))),
        };
        Some(Answer { own: &on_limit.headers, close: on_limit.close.unwrap_or(false), ..answer })
    }

    fn http_answer(&self, shown: &Counted<'_>, media: Media) -> Answer<'_> {
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
        let mut digits = itoa::Buffer::new();
        let body = match custom {
            Some(template) => template.fill(shown, media),
            None => match media {
                Media::Json => self.problem(shown, status_code),
                Media::Html => page("Too many requests", &detail(shown, &mut digits).concat()),
                Media::Plain => detail(shown, &mut digits).concat() + "\n",
            },
        };
        self.answered(status_code, content_type, body)
    }

    /// What is answered for want of a store: nobody's rule is broken, so none has its own words for it.
    fn unavailable(&self, media: Media) -> Answer<'_> {
        let retry_after = self.retry_after_secs().unwrap_or(1);
        let body = match media {
            Media::Json => format!(
                "{{\"type\":\"{REDUCED_CAPACITY}\",\"title\":\"Temporary reduced capacity\",\"status\":503,\
                 \"detail\":\"{UNAVAILABLE}, try again in {retry_after} s\",\"retry_after\":{retry_after}}}\n"
            ),
            Media::Html => page("Temporary reduced capacity", &format!("{UNAVAILABLE}, try again in {retry_after} s")),
            Media::Plain => format!("{UNAVAILABLE}, try again in {retry_after} s\n"),
        };
        self.answered(503, content_type(media), body)
    }

    /// A gRPC answer is a success of HTTP whose trailers are its headers; the message is percent-encoded.
    fn grpc_answer(&self, code: &'static str, message: String) -> Answer<'_> {
        let grpc = Some(GrpcStatus { code, message: message.replace('%', "%25") });
        Answer { grpc, ..self.answered(200, "application/grpc", String::new()) }
    }

    fn answered(&self, status_code: u16, content_type: &'static str, body: String) -> Answer<'_> {
        Answer { status_code, body, close: false, content_type, grpc: None, decision: self, own: &[] }
    }

    /// Names and numbers alone, so that nothing needs escaping. Put together piece by piece, since whoever is flooded writes
    /// little else, and a format string costs several times as much.
    fn problem(&self, shown: &Counted<'_>, status_code: u16) -> String {
        let mut digits = itoa::Buffer::new();
        let mut body = String::with_capacity(PROBLEM_BYTES);
        body.extend([PROBLEM_START, digits.format(status_code), ",\"detail\":\""]);
        body.extend(detail(shown, &mut digits));
        body.push_str("\",\"violated-policies\":[");
        for (place, counted) in self.denying().enumerate() {
            body.extend([if place == 0 { "" } else { "," }, &counted.members.name]);
        }
        // Of those that refused, the one to tell about has the longest wait.
        let wait = shown.outcome.retry_after.map_or("null", |wait| digits.format(whole_seconds(wait)));
        body.extend(["],\"retry_after\":", wait, "}\n"]);
        body
    }
}

/// Who allows how much, and when to try again, in pieces.
fn detail<'a>(shown: &Counted<'a>, digits: &'a mut itoa::Buffer) -> [&'a str; 4] {
    let allowance = &*shown.members.allowance;
    match shown.outcome.retry_after {
        Some(wait) => [allowance, ", try again in ", digits.format(whole_seconds(wait)), " s"],
        None => [allowance, ", which this request can never meet", "", ""],
    }
}

fn is_grpc(request: &dyn Headers) -> bool {
    field_lines(request, "content-type")
        .first()
        .is_some_and(|value| value.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc")))
}

fn page(title: &str, text: &str) -> String {
    let start = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>";
    [start, title, "</title>\n<h1>", title, "</h1>\n<p>", text, ".</p>\n</html>\n"].concat()
}

const UNAVAILABLE: &str = "the limit of this request cannot be checked at the moment";

fn content_type(media: Media) -> &'static str {
    match media {
        Media::Json => "application/problem+json",
        Media::Html => "text/html; charset=utf-8",
        Media::Plain => "text/plain; charset=utf-8",
    }
}
