//! Bytes that nobody thought of: no request and no answer, however mangled, makes a worker panic or the proxy stop.

use std::{
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    early::both_ways,
    rig::{Setup, Upstream, in_time},
};

#[test]
fn mangled_requests() {
    let panics = count_panics_of_workers();
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address).denying();
    setup.timeouts.idle = Duration::from_millis(300);
    setup.timeouts.headers = Duration::from_millis(300);
    let proxy = setup.start();
    let mut chance = Chance(0x5EED);
    for n in 0..ROUNDS {
        let bytes = chance.mangle(REQUESTS[n % REQUESTS.len()].as_bytes());
        let mut wire = proxy.connect();
        wire.write_bytes(&bytes);
        wire.end_writing();
        let _ = wire.rest();
        assert_eq!(panics.load(Ordering::SeqCst), 0, "{:?}", String::from_utf8_lossy(&bytes));
    }
    // Whoever is held up before he has asked is not waited for.
    assert!(in_time(|_| {
        let answer = proxy.connect_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n").try_answer();
        answer.is_some_and(|answer| answer.status == 200)
    }));
}

/// A request behind an empty line is read as if there were none, but never decided early.
#[test]
fn mangled_requests_are_answered_alike_early_and_late() {
    let upstream = Upstream::echo();
    let mut setup = Setup::to(upstream.address).denying();
    setup.timeouts.idle = Duration::from_millis(300);
    setup.timeouts.headers = Duration::from_millis(300);
    let proxy = setup.start();
    let answers = |bytes: &[u8]| {
        let mut wire = proxy.connect();
        wire.write_bytes(bytes);
        thread::sleep(Duration::from_millis(1)); // until it is read
        wire.write("GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let text = String::from_utf8_lossy(&wire.rest().0).into_owned();
        text.lines().filter(|line| !line.starts_with("date: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut chance = Chance(0xD1FF);
    for n in 0..ROUNDS {
        let bytes = chance.mangle(PLAIN[n % PLAIN.len()].as_bytes());
        let late = [b"\r\n", &bytes[..]].concat();
        // On a busy machine the time for a head, or for a whole request, can be over in the midst of it.
        assert!(in_time(|_| answers(&bytes) == answers(&late)), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// What is asked by a plain request may be answered without hyper.
#[test]
fn mangled_answers_are_passed_on_alike_to_all_requests() {
    let answer = Arc::new(Mutex::new(Vec::new()));
    let of_upstream = Arc::clone(&answer);
    let upstream = Upstream::new(move |wire, _| {
        if wire.request().is_some() {
            wire.write_bytes(&of_upstream.lock().unwrap());
        }
    });
    let proxy = Setup::to(upstream.address).with("{ name: many, limit: 100000/hour, headers: [ietf] }").start();
    // What breaks off may do so before its head is out.
    let told = |request: &str| {
        let (first, mut headers, body) = proxy.connect_with(request).try_answer()?.parts();
        headers.retain(|line| !["date: ", "ratelimit: "].iter().any(|name| line.starts_with(name)));
        Some((first, headers, body))
    };
    let mut chance = Chance(0xA11CE);
    for n in 0..ROUNDS {
        let bytes = chance.mangle(ANSWERS[n % ANSWERS.len()].as_bytes());
        answer.lock().unwrap().clone_from(&bytes);
        let [plain, other] = both_ways("/", "Host: a\r\n").map(|request| told(&request));
        assert_eq!(plain, other, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn mangled_answers() {
    let panics = count_panics_of_workers();
    let chance = Mutex::new(Chance(0xF00D));
    let upstream = Upstream::new(move |wire, n| {
        while wire.request().is_some() {
            let bytes = chance.lock().unwrap().mangle(ANSWERS[n % ANSWERS.len()].as_bytes());
            wire.write_bytes(&bytes);
            if n % 2 == 0 {
                return;
            }
        }
    });
    let mut setup = Setup::to(upstream.address);
    setup.timeouts.first_byte = Duration::from_millis(100);
    setup.timeouts.idle = Duration::from_millis(100);
    let proxy = setup.start();
    let asking = |request: &str| {
        let mut wire = proxy.connect();
        for _ in 0..3 {
            wire.write(request);
            if wire.head().is_none() {
                return;
            }
        }
        let _ = wire.rest();
    };
    thread::scope(|scope| {
        for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", UPGRADE] {
            scope.spawn(move || {
                for _ in 0..ROUNDS / 8 {
                    asking(request);
                }
            });
        }
    });
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    assert!(proxy.is_running());
}

/// tokio catches what a connection's task panics with, so only the hook sees it. Any test's worker counts.
fn count_panics_of_workers() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        if thread::current().name().is_some_and(|name| name.starts_with("worker-")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(panicked);
    }));
    &PANICS
}

/// The same mischief on every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    /// Changes a few bytes, and sometimes doubles or drops a piece.
    fn mangle(&mut self, bytes: &[u8]) -> Vec<u8> {
        const LIKELY: &[u8] = b"\r\n\0 :;,/*?#%\t0159azHT\x7f\x80\xff-+\"{}";
        let mut mangled = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let place = self.below(mangled.len());
            let piece = place..(place + 1 + self.below(12)).min(mangled.len());
            match self.below(4) {
                0 => mangled[place] = LIKELY[self.below(LIKELY.len())],
                1 => mangled.insert(place, LIKELY[self.below(LIKELY.len())]),
                2 if piece.len() < mangled.len() => _ = mangled.drain(piece),
                _ => {
                    let doubled = mangled[piece].to_vec();
                    mangled.splice(place..place, doubled);
                }
            }
        }
        mangled
    }
}

const ROUNDS: usize = 400;
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const REQUESTS: [&str; 7] = [
    "GET /a/b?c=d HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-A\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
    "GET http://a.example/x?y HTTP/1.1\r\nHost: b\r\nConnection: close, X-A\r\nX-A: b\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
    "POST /denied/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    UPGRADE,
];
const PLAIN: [&str; 3] = [
    "GET /denied/b?c=d HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "GET /a/b?c=d HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
    "GET /denied/x HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nAccept: text/html, */*;q=0.5\r\n\r\n",
];
const ANSWERS: [&str; 7] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-RateLimit-Remaining: 3\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
    "HTTP/1.0 200 Fine\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: X-A\r\nX-A: b\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello",
    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 3\r\n\r\n",
    "HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\n\r\nuntil the end",
];
