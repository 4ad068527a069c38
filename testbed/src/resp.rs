//! As much of the Redis protocol (RESP2) as tests need, independent of the client under test.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// A server that is silent for this long is not going to answer. More than any failover takes.
const SILENCE: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// There is no such thing.
    Nil,
    /// A number.
    Integer(i64),
    /// A string of either kind.
    Bytes(Vec<u8>),
    /// A refusal, beginning with its code: `MOVED 7 127.0.0.1:7001`.
    Error(String),
    /// Several answers.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a string.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match self {
            Self::Bytes(bytes) => str::from_utf8(bytes).unwrap_or_else(|_| panic!("expected text, got {self:?}")),
            _ => panic!("expected a string, got {self:?}"),
        }
    }

    /// The number.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[must_use]
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(integer) => *integer,
            _ => panic!("expected an integer, got {self:?}"),
        }
    }

    /// The answers in it.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[must_use]
    #[track_caller]
    pub fn array(&self) -> &[Reply] {
        match self {
            Self::Array(replies) => replies,
            _ => panic!("expected an array, got {self:?}"),
        }
    }

    /// The text of a refusal.
    ///
    /// # Panics
    ///
    /// When it is anything else.
    #[must_use]
    #[track_caller]
    pub fn error(&self) -> &str {
        match self {
            Self::Error(error) => error,
            _ => panic!("expected an error, got {self:?}"),
        }
    }
}

/// A connection to a server, for one command after the other.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects, and signs in if there is a password.
    ///
    /// # Errors
    ///
    /// When nobody listens, or the password is wrong.
    pub fn open(address: SocketAddr, password: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, SILENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut connection = Self { stream: BufReader::new(stream) };
        if let Some(password) = password
            && let Reply::Error(error) = connection.command(&["AUTH", password])?
        {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
        }
        Ok(connection)
    }

    /// Sends a command and reads the answer, which may be a refusal.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer.
    pub fn command(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.send(words)?;
        self.reply()
    }

    /// Sends a command whose answer nobody waits for: the server does it before what it is sent later.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)
    }

    /// Reads the answer to a command that was sent.
    ///
    /// # Errors
    ///
    /// When the connection ends before the answer.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| not_resp(&line))?;
        let number = || rest.parse::<i64>().map_err(|_| not_resp(&line));
        // A negative length is that of nothing.
        let length = || number().map(|length| usize::try_from(length).ok());
        Ok(match kind {
            "+" => Reply::Bytes(rest.into()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => match length()? {
                None => Reply::Nil,
                Some(length) => Reply::Bytes(self.bytes(length)?),
            },
            "*" => match length()? {
                None => Reply::Nil,
                Some(length) => Reply::Array((0..length).map(|_| self.reply()).collect::<io::Result<_>>()?),
            },
            _ => return Err(not_resp(&line)),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length + "\r\n".len()];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn not_resp(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an answer in RESP2: {line:?}"))
}
