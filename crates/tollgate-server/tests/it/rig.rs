//! What every test needs: a proxy in this process, upstreams that do exactly what they are told, and a client that sees
//! every byte.

mod wire;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
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

pub(crate) use self::wire::{Answer, Wire, header, headers};

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
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
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
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
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

/// Whether this is so in one of a few attempts, where real time is the very thing that is tested: a busy machine can be late, and has
/// so many times as long the next time. What the code does wrong is never so.
pub(crate) fn in_time(attempt: impl FnMut(u32) -> bool) -> bool {
    [1, 1, 2, 4, 8].into_iter().any(attempt)
}

/// Far longer than anything takes here, on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
