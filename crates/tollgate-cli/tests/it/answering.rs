//! A server of which a test says what it answers to which request, and that remembers what it was asked and when.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tollgate::clock::{Clock, Timestamp};

/// What a request is answered.
pub(crate) enum Reply {
    /// This text, and the connection goes on.
    Keep(String),
    /// This text, and the connection is closed without having said so.
    Close(String),
}

/// 200 and a body.
pub(crate) fn ok() -> Reply {
    Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned())
}

/// Another status, with these header lines.
pub(crate) fn status(code: u16, headers: &str) -> Reply {
    Reply::Keep(format!("HTTP/1.1 {code} x\r\nContent-Length: 0\r\n{headers}\r\n"))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Timestamp,
    /// Its head and body.
    pub(crate) text: String,
}

/// The server, for as long as the tests run.
#[derive(Clone)]
pub(crate) struct Answering {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// When the answer to which request was written.
    answered: Arc<Mutex<HashMap<usize, Timestamp>>>,
    connections: Arc<AtomicUsize>,
}

impl Answering {
    /// Answers the n-th request, counted from 0, with `reply(n)`.
    pub(crate) fn start(reply: impl Fn(usize) -> Reply + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = Self {
            address,
            clock: Clock::system(),
            asked: Arc::default(),
            answered: Arc::default(),
            connections: Arc::default(),
        };
        let accepting = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let (server, reply) = (accepting.clone(), reply.clone());
                thread::spawn(move || server.answer(stream, reply));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The requests so far, in the order in which they came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no thread panicked").clone()
    }

    /// When the n-th of them had its answer, or could have read it.
    pub(crate) fn answered(&self, n: usize) -> Timestamp {
        self.answered.lock().expect("no thread panicked")[&n]
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn answer(&self, mut stream: TcpStream, reply: impl Fn(usize) -> Reply) {
        let mut requests = BufReader::new(stream.try_clone().expect("a second handle"));
        while let Some(text) = read_request(&mut requests) {
            let number = {
                let mut asked = self.asked.lock().expect("no thread panicked");
                asked.push(Asked { at: self.clock.now(), text });
                asked.len() - 1
            };
            let reply = reply(number);
            let (Reply::Keep(answer) | Reply::Close(answer)) = &reply;
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            self.answered.lock().expect("no thread panicked").insert(number, self.clock.now());
            if matches!(reply, Reply::Close(_)) {
                return;
            }
        }
    }
}

fn read_request(requests: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut text, mut length) = (String::new(), 0);
    while !text.ends_with("\r\n\r\n") {
        let begin = text.len();
        if requests.read_line(&mut text).ok()? == 0 {
            return None;
        }
        if let Some(value) = text[begin..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    requests.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8(body).expect("the tests send text"))
}
