//! Heads of messages, written as hyper writes them: with names in lower case.

use std::{
    cell::RefCell,
    time::{Duration, UNIX_EPOCH},
};

use tollgate::clock::Timestamp;

/// The head of a message, and what comes behind it.
pub(crate) struct Head(Vec<u8>);

impl Head {
    /// Begins with this line, given in pieces.
    pub(crate) fn new(line: &[&[u8]], room: usize) -> Self {
        let mut head = Self(Vec::with_capacity(room));
        head.put(line);
        head.put(&[END_OF_LINE]);
        head
    }

    pub(crate) fn header(&mut self, name: &str, value: &[u8]) {
        let start = self.0.len();
        self.put(&[name.as_bytes()]);
        self.0[start..].make_ascii_lowercase();
        self.put(&[b": ", value, END_OF_LINE]);
    }

    /// When it was written.
    pub(crate) fn date(&mut self, at: Timestamp) {
        thread_local!(static DATE: RefCell<Date> = RefCell::default());
        DATE.with_borrow_mut(|date| self.header("date", date.at(at).as_bytes()));
    }

    /// All of it, with this much of a body.
    pub(crate) fn before(mut self, body: &[u8]) -> Vec<u8> {
        self.put(&[END_OF_LINE, body]);
        self.0
    }

    fn put(&mut self, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
    }
}

const END_OF_LINE: &[u8] = b"\r\n";

/// A time as answers tell it, written anew when it is another second.
#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn at(&mut self, at: Timestamp) -> &str {
        /// The end of the year 9999, after which there are no dates.
        const LAST: u64 = 253_402_300_799;
        let second = (at.as_micros() / 1_000_000).min(LAST);
        if self.text.is_empty() || self.second != second {
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            self.second = second;
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_its_second() {
        let mut date = Date::default();
        for (micros, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777_000_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777_999_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778_000_000, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date.at(Timestamp::from_micros(micros)), expected);
        }
    }
}
