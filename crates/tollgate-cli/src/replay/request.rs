//! One recorded request: a line of JSON, read without copying what it holds.

use std::{borrow::Cow, fmt, net::IpAddr};

use anyhow::{anyhow, ensure};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use tollgate::{
    clock::Timestamp,
    request::{Headers, Request},
};

/// A request with its time, as the engine will see it.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    pub(super) time: Timestamp,
    pub(super) status: u16,
    peer: IpAddr,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    headers: HeaderFields<'a>,
}

#[derive(Deserialize)]
#[serde(expecting = "a request as a JSON object")]
struct Line<'a> {
    time: Time,
    #[serde(borrow)]
    peer: Text<'a>,
    #[serde(borrow)]
    method: Option<Text<'a>>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    headers: Option<HeaderFields<'a>>,
    status: Option<u16>,
}

impl<'a> Recorded<'a> {
    pub(super) fn read(line: &'a [u8]) -> anyhow::Result<Self> {
        let Line { time: Time(time), peer, method, path, headers, status } =
            serde_json::from_slice(line).map_err(|error| anyhow!("{}", without_line(&error)))?;
        let address = peer.0.parse().ok();
        let peer = address.ok_or_else(|| anyhow!("peer {:?}: expected an IP address", start_of(&peer.0)))?;
        let path = path.map_or(Cow::Borrowed("/"), |path| path.0);
        ensure!(path.starts_with('/') || path == "*", "path {:?}: expected it to start with \"/\"", start_of(&path));
        Ok(Self {
            time,
            status: status.unwrap_or(200),
            peer,
            method: method.map_or(Cow::Borrowed("GET"), |method| method.0),
            path,
            headers: headers.unwrap_or_default(),
        })
    }

    pub(super) fn request(&self) -> Request<'_> {
        let host = self.headers.0.iter().find(|(field, _)| field.eq_ignore_ascii_case("host"));
        Request {
            peer: Some(self.peer),
            listener: None,
            method: &self.method,
            host: host.map(|(_, value)| &**value),
            target: &self.path,
            headers: &self.headers,
            ..Request::default()
        }
    }
}

/// What is wrong and where in the line; the line's number in the input is the caller's to say.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    match error.classify() {
        serde_json::error::Category::Data => what.to_owned(),
        _ => format!("not a JSON object in one line: {what} at column {}", error.column()),
    }
}

/// Enough of a text to recognise it: a line can be megabytes.
fn start_of(text: &str) -> &str {
    let end = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// A text that is borrowed from the line unless it has escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Unix seconds, or a text as RFC 3339 has it.
struct Time(Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;

        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in Unix seconds or RFC 3339")
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Time, E> {
                unix_micros(seconds.checked_mul(1_000_000)).ok_or_else(|| E::custom(OUT_OF_RANGE))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Time, E> {
                Err(E::custom(OUT_OF_RANGE))
            }

            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "what does not fit saturates, and is refused"
            )]
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Time, E> {
                let micros =
                    Some(seconds).filter(|seconds| *seconds >= 0.0).map(|seconds| (seconds * 1e6).round() as u64);
                unix_micros(micros).ok_or_else(|| E::custom(OUT_OF_RANGE))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                let time: jiff::Timestamp = text.parse().map_err(|_| {
                    E::custom(format_args!("time {:?}: expected Unix seconds or RFC 3339", start_of(text)))
                })?;
                unix_micros(u64::try_from(time.as_microsecond()).ok()).ok_or_else(|| E::custom(OUT_OF_RANGE))
            }
        }

        deserializer.deserialize_any(TimeVisitor)
    }
}

const OUT_OF_RANGE: &str = "the time is out of range, expected the years 1970 to 9999";

fn unix_micros(micros: Option<u64>) -> Option<Time> {
    /// 10000-01-01T00:00:00Z
    const END: u64 = 253_402_300_800_000_000;
    micros.filter(|micros| *micros < END).map(|micros| Time(Timestamp::from_micros(micros)))
}

/// Field lines in order; a list of values is as many lines.
#[derive(Debug, Default)]
struct HeaderFields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Headers for HeaderFields<'_> {
    fn each<'a>(&'a self, name: &str, show: &mut dyn FnMut(&'a [u8])) {
        let lines = self.0.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.for_each(|(_, value)| show(value.as_bytes()));
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for HeaderFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = HeaderFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as a map of names to a text or a list of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut lines = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    let Values(values) = map.next_value()?;
                    let Some((last, values)) = values.split_last() else { continue };
                    lines.extend(values.iter().map(|value| (name.clone(), value.clone())));
                    lines.push((name, last.clone()));
                }
                Ok(HeaderFields(lines))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The value or values of one header.
struct Values<'a>(Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;

        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = Values<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Values(vec![text.into()]))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Values(vec![text.to_owned().into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Text(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }

        deserializer.deserialize_any(ValuesVisitor)
    }
}
