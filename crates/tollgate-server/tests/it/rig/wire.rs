//! One end of a connection as tests have it, and what they read there: every byte, and what the kernel has of it. The sockets are
//! blocking ones with a deadline, so a test that would hang fails instead.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use socket2::SockRef;
use testbed::wait_for;

use super::PATIENCE;

/// One end of a connection, seen as bytes.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// The other end may have closed already, which reading will tell.
    pub(crate) fn write(&self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    pub(crate) fn write_bytes(&self, bytes: &[u8]) {
        let _ = self.stream().write_all(bytes);
    }

    /// Waits until the other end, which is in this process, has read all that was written.
    pub(crate) fn until_read(&self) {
        let is_unread = || {
            let (near, far) = self.in_kernel();
            near.is_some_and(|near| near.unacknowledged > 0) || far.is_some_and(|far| far.unread > 0)
        };
        wait_for("everything to be read", PATIENCE, || (!is_unread()).then_some(()));
    }

    /// Waits until the other end, which is in this process, has closed, whatever it still has to send.
    pub(crate) fn until_let_go(&self) {
        let is_held = || self.in_kernel().1.is_some_and(|far| far.is_established);
        wait_for("the other end to close", PATIENCE, || (!is_held()).then_some(()));
    }

    /// This end and the other one as the kernel has them, which sees what no program is told.
    fn in_kernel(&self) -> (Option<Socket>, Option<Socket>) {
        let Ok(table) = std::fs::read_to_string("/proc/net/tcp") else {
            // Another system. Most often this is enough.
            thread::sleep(Duration::from_millis(200));
            return (None, None);
        };
        let (near, far) = (self.stream().local_addr().unwrap(), self.stream().peer_addr());
        // Not connected any more.
        let Ok(far) = far else { return (None, None) };
        let find = |local, remote| table.lines().find_map(|line| Socket::read(line, local, remote));
        (find(near, far), find(far, near))
    }

    pub(crate) fn end_writing(&self) {
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Ends as a program does that crashes: the other end sees an error.
    pub(crate) fn fail(&mut self) {
        let socket = SockRef::from(self.stream());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The next line with its end, or `None` if there is none.
    pub(crate) fn line(&mut self) -> Option<String> {
        self.try_line().ok().flatten()
    }

    /// The same, where it matters whether the other end has closed with an error.
    pub(crate) fn try_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line)?;
        Ok((count > 0).then_some(line))
    }

    /// The next request, or `None` at the end of the connection.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let head = self.head()?;
        let (body, trailers) = self.body(&head, false).ok()?;
        Some(Message { head, body, trailers })
    }

    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            match self.reader.read_line(&mut head) {
                Ok(0) | Err(_) => return None,
                Ok(_) if head.ends_with("\r\n\r\n") => return Some(head),
                Ok(_) => {}
            }
        }
    }

    /// The next answer, which must be whole.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).expect("a whole answer")
    }

    /// The same, or `None` where the connection ends before it or in it.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        self.try_answer_to("GET")
    }

    fn try_answer_to(&mut self, method: &str) -> Option<Answer> {
        let head = self.head()?;
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
        let is_bare = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let (body, trailers) = if is_bare { Default::default() } else { self.body(&head, true).ok()? };
        Some(Answer { status, message: Message { head, body, trailers } })
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything until the other end closes, with the error if it does so with one.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let result = self.reader.read_to_end(&mut bytes).map(|_| ());
        (bytes, result)
    }

    /// Whether the other end has closed, with nothing more to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        let (rest, result) = self.rest();
        rest.is_empty() && result.err().is_none_or(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    fn body(&mut self, head: &str, until_end: bool) -> io::Result<(Vec<u8>, String)> {
        let mut body = Vec::new();
        if header(head, "transfer-encoding").is_some() {
            return self.chunks();
        }
        match header(head, "content-length") {
            Some(length) => {
                body.resize(length.parse().unwrap(), 0);
                self.reader.read_exact(&mut body)?;
            }
            None if until_end => _ = self.reader.read_to_end(&mut body)?,
            None => {}
        }
        Ok((body, String::new()))
    }

    fn chunks(&mut self) -> io::Result<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            if size == 0 {
                break;
            }
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.reader.read_exact(&mut body[start..])?;
            body.truncate(start + size);
        }
        let mut trailers = String::new();
        while !trailers.ends_with("\r\n\r\n") && trailers != "\r\n" {
            if self.reader.read_line(&mut trailers)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok((body, trailers))
    }
}

pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    message: Message,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.message.head, name)
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        headers(&self.message.head, name).collect()
    }

    pub(crate) fn head(&self) -> &str {
        &self.message.head
    }

    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.message.body).unwrap()
    }

    /// Its first line, its headers in a fixed order, its body.
    pub(crate) fn parts(&self) -> (String, Vec<String>, String) {
        let mut lines = self.head().lines().map(str::to_owned);
        let first = lines.next().unwrap();
        let mut headers: Vec<_> = lines.collect();
        headers.sort_unstable();
        (first, headers, String::from_utf8_lossy(&self.message.body).into_owned())
    }

    pub(crate) fn trailers(&self) -> &str {
        &self.message.trailers
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    headers(head, name).next()
}

pub(crate) fn headers<'a>(head: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A line of the kernel's table of sockets.
#[derive(Clone, Copy)]
struct Socket {
    is_established: bool,
    unacknowledged: u32,
    unread: u32,
}

impl Socket {
    /// `sl local_address rem_address st tx_queue:rx_queue …`, if it is this one.
    fn read(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        let shown = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
            SocketAddr::V6(_) => unreachable!("tests listen on 127.0.0.1"),
        };
        let mut fields = line.split_whitespace().skip(1);
        if fields.next()? != shown(local) || fields.next()? != shown(remote) {
            return None;
        }
        let (state, queues) = (fields.next()?, fields.next()?);
        let (unacknowledged, unread) = queues.split_once(':')?;
        let count = |hex| u32::from_str_radix(hex, 16).ok();
        Some(Self { is_established: state == "01", unacknowledged: count(unacknowledged)?, unread: count(unread)? })
    }
}
