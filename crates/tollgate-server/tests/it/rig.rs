//! What every test needs: a proxy in this process, upstreams that do exactly what they are told, and a client that sees
//! every byte. The sockets are blocking ones with a deadline, so a test that would hang fails instead.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockRef, Type};
use testbed::wait_for;
use tollgate::{
    client::{Proxies, Subnets, TrustedProxy},
    clock::Clock,
    config::{Listener, ListenerLimits, ProxyVersion, Surroundings, Timeouts, Upstream as Target, read},
    limiter::Limiter,
    policy::{PathPattern, Policy, Rule},
    request::Protocol,
    store::memory::MemoryStore,
};
use tollgate_server::{Reloader, Server, Stopper};

/// How the proxy of a test is set up.
pub(crate) struct Setup {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) proxy_protocol: bool,
    pub(crate) send_proxy_protocol: Option<ProxyVersion>,
    pub(crate) clock: Clock,
    pub(crate) rules: Vec<Rule>,
    pub(crate) trusted_proxies: Vec<TrustedProxy>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: ListenerLimits,
}

impl Setup {
    pub(crate) fn to(upstream: SocketAddr) -> Self {
        Self { upstream: Some(upstream), ..Self::alone() }
    }

    /// Without upstream.
    pub(crate) fn alone() -> Self {
        let second = Duration::from_secs(1);
        Self {
            address: "127.0.0.1:0".parse().unwrap(),
            protocol: Protocol::Http,
            upstream: None,
            proxy_protocol: false,
            send_proxy_protocol: None,
            clock: Clock::system(),
            rules: Vec::new(),
            trusted_proxies: Vec::new(),
            // None of them rings unless a test shortens it, or something hangs.
            timeouts: Timeouts {
                headers: 20 * second,
                connect: 20 * second,
                first_byte: 20 * second,
                idle: 20 * second,
            },
            limits: ListenerLimits { header_bytes: 64 * 1024, headers: 100, connections: 10_000 },
        }
    }

    /// In front of an upstream that speaks whatever its clients speak.
    pub(crate) fn tcp(upstream: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, ..Self::to(upstream) }
    }

    /// With the rules of a policy file.
    pub(crate) fn with(mut self, rules: &str) -> Self {
        let (config, _) = read(&format!("rules: [{rules}]"), &Surroundings::none()).expect("a valid policy");
        self.rules.extend_from_slice(config.policy.rules());
        self
    }

    /// Behind this machine's proxies, which say in a PROXY header who is calling.
    pub(crate) fn proxied(self) -> Self {
        Self { proxy_protocol: true, ..self.trusting() }
    }

    /// With a rule that denies every request below `/denied`.
    pub(crate) fn denying(mut self) -> Self {
        self.rules.push(rule("none", "/denied/**", "0/hour"));
        self
    }

    /// With this machine trusted to name clients, and to say who `X-User` is.
    pub(crate) fn trusting(mut self) -> Self {
        let mut from = Subnets::default();
        from.add("127.0.0.0/8".parse().unwrap());
        self.trusted_proxies.push(TrustedProxy {
            from,
            header: "x-forwarded-for".to_owned(),
            vouches: vec!["x-user".to_owned()],
        });
        self
    }

    pub(crate) fn start(self) -> Proxy {
        let clock = self.clock.clone();
        let (listener, policy) = self.into_parts();
        let limiter = Limiter::new(policy, MemoryStore::new(10_000, clock));
        let server = Server::bind(vec![listener], limiter).unwrap();
        let (address, stopper, reloader) = (server.addresses()[0], server.stopper(), server.reloader());
        Proxy { address, stopper, reloader, thread: Some(thread::spawn(move || server.run())) }
    }

    fn into_parts(self) -> (Listener, Policy) {
        let policy = Policy::new(Proxies::new(self.trusted_proxies), None, Vec::new(), self.rules).unwrap();
        let listener = Listener {
            name: Some("web".to_owned()),
            upstream: self.upstream.map(|address| Target {
                protocol: self.protocol,
                host: address.ip().to_string(),
                port: address.port(),
            }),
            proxy_protocol: self.proxy_protocol,
            send_proxy_protocol: self.send_proxy_protocol,
            timeouts: self.timeouts,
            limits: self.limits,
            ..Listener::new(self.address)
        };
        (listener, policy)
    }
}

pub(crate) fn rule(name: &str, path: &str, limit: &str) -> Rule {
    let mut rule = Rule::new(name, &limit.parse().unwrap(), None).unwrap();
    rule.matcher.path = Some(vec![PathPattern::new(path).unwrap()]);
    rule
}

/// A running proxy, ended with the test.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    reloader: Reloader,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Proxy {
    pub(crate) fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).unwrap())
    }

    /// A connection on which this is said at once.
    pub(crate) fn connect_with(&self, said: &str) -> Wire {
        let wire = self.connect();
        wire.write(said);
        wire
    }

    /// A connection from one of the many addresses that this machine has for itself.
    pub(crate) fn connect_from(&self, address: &str) -> Wire {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::new(address.parse().unwrap(), 0);
        socket.bind(&from.into()).unwrap();
        let to = SocketAddr::new([127, 0, 0, 1].into(), self.address.port());
        socket.connect(&to.into()).unwrap();
        Wire::new(socket.into())
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> Answer {
        let mut wire = self.connect();
        wire.write(request);
        wire.answer()
    }

    /// The same once there is a place: whoever has just been served, or is not read from, is idle only a moment later.
    pub(crate) fn ask_for_a_place(&self, request: &str) -> (Wire, Answer) {
        wait_for("a place", PATIENCE, || {
            let mut wire = self.connect_with(request);
            let answer = wire.try_answer()?;
            Some((wire, answer))
        })
    }

    /// Goes on as if it had been set up like this, but for the clock.
    pub(crate) fn reload(&self, setup: Setup) {
        let (listener, policy) = setup.into_parts();
        self.reloader.reload(vec![listener], policy).unwrap();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until it has ended by itself.
    pub(crate) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopper.abort();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the server does not panic").unwrap();
            }
        }
    }
}

/// A server that does with each of its connections what the test says.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Runs `serve` for every connection, with its number from 0.
    pub(crate) fn new(serve: impl Fn(&mut Wire, usize) + Send + Sync + 'static) -> Self {
        let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // More than a test has at once, so that nobody is turned away while this is busy.
        listener.listen(1024).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let serve = Arc::new(serve);
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let n = count.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(&mut Wire::new(stream.unwrap()), n));
            }
        });
        Self { address, connections }
    }

    /// Answers every request with what it got.
    pub(crate) fn echo() -> Self {
        Self::new(|wire, _| {
            while let Some(request) = wire.request() {
                let body = format!("{}{}", request.head, String::from_utf8_lossy(&request.body));
                wire.write(&ok(&body));
            }
        })
    }

    /// Gives every connection these bytes for an answer, and closes it.
    pub(crate) fn saying(answer: &'static str) -> Self {
        Self::new(move |wire, _| {
            if wire.request().is_some() {
                wire.write(answer);
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A 200 with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

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

/// Whether this is so in one of a few attempts, where real time is the very thing that is tested: a busy machine can be late, and has
/// so many times as long the next time. What the code does wrong is never so.
pub(crate) fn in_time(attempt: impl FnMut(u32) -> bool) -> bool {
    [1, 1, 2, 4, 8].into_iter().any(attempt)
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

/// Far longer than anything takes here, on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
