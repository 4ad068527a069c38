//! One redis-server or valkey-server: its process, and what it is told at its start.

mod asking;

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    options::{Options, Tls},
    patience::wait_for,
    port::Port,
    process::Process,
    resp::{Connection, Reply},
};

/// A server is ready within some 20 ms; on a machine that is busy with everything else, it may take a while.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often we try another port, should a stranger take ours between our look and the start.
const START_ATTEMPTS: u32 = 5;

/// A server on 127.0.0.1, at a port and in a folder of its own, that keeps nothing on disk. It is killed when this is
/// dropped.
///
/// It may be shared by threads: one tests while another kills.
#[derive(Debug)]
pub struct Server {
    // First, since it is to end before its ports are another's and its folder is gone.
    process: Mutex<Option<Process>>,
    options: Options,
    role: Role,
    port: Port,
    tls_port: Option<Port>,
    folder: TempDir,
}

impl Server {
    /// A Redis with nothing special.
    ///
    /// # Panics
    ///
    /// When there is no redis-server in `PATH`; the message says what to install.
    #[must_use]
    pub fn redis() -> Self {
        Self::start(Options::redis())
    }

    /// A Valkey with nothing special, where there is one.
    #[must_use]
    pub fn valkey() -> Option<Self> {
        Options::valkey().map(Self::start)
    }

    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start; the message holds what it wrote.
    #[must_use]
    pub fn start(options: Options) -> Self {
        Self::start_as(Role::Store, options)
    }

    /// A sentinel that watches nothing yet. It speaks TLS if it is to watch servers that do.
    pub(crate) fn sentinel(program: PathBuf, tls: Option<Tls>) -> Self {
        Self::start_as(Role::Sentinel, Options { tls, ..Options::of(program) })
    }

    /// The port at which other servers reach it.
    pub(crate) fn peer_port(&self) -> u16 {
        self.tls_port.as_ref().unwrap_or(&self.port).number()
    }

    fn start_as(role: Role, options: Options) -> Self {
        for _ in 1..START_ATTEMPTS {
            let server = Self::down(role, options.clone());
            if server.try_start().is_ok() {
                return server;
            }
            assert!(server.log().contains("Address already in use"), "{}", server.why_not());
        }
        let server = Self::down(role, options);
        server.restart();
        server
    }

    /// With all it needs, but not started.
    fn down(role: Role, options: Options) -> Self {
        Self {
            role,
            port: Port::take(),
            tls_port: options.tls.as_ref().map(|_| Port::take()),
            process: Mutex::new(None),
            folder: TempDir::with_prefix("testbed-").expect("a temporary folder can be made"),
            options,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port at which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where it speaks TLS, if it was asked to.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_port.as_ref().map(Port::addr)
    }

    /// Its Unix socket, if it was asked for one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.options.unix_socket.then(|| self.folder.path().join("socket"))
    }

    /// How it was started.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The number of its process, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Whether it runs: it is neither killed nor paused.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process().as_ref().is_some_and(|process| !process.is_paused())
    }

    /// The folder it works in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has written since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// A connection of its own, signed in.
    ///
    /// # Errors
    ///
    /// When the server is down.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.addr(), self.options.password.as_deref())
    }

    /// Sends one command on a connection of its own. A refusal is an answer: [`Reply::Error`].
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    #[track_caller]
    pub fn command(&self, words: &[impl AsRef<[u8]>]) -> Reply {
        self.try_command(words).unwrap_or_else(|error| panic!("the server at {}: {error}", self.addr()))
    }

    /// The same for a server that may be down.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn try_command(&self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.connect()?.command(words)
    }

    /// Stops its process where it stands. Connections stay, and nothing is answered until [`resume`](Self::resume).
    pub fn pause(&self) {
        if let Some(process) = &mut *self.process() {
            process.pause();
        }
    }

    /// Goes on after a [`pause`](Self::pause).
    pub fn resume(&self) {
        if let Some(process) = &mut *self.process() {
            process.resume();
        }
    }

    /// Kills it, with all it knows. Its port stays reserved for [`restart`](Self::restart).
    pub fn kill9(&self) {
        *self.process() = None;
    }

    /// Starts it anew at the same port, and waits until it answers. A node of a cluster remembers who it is; counters
    /// and all else are gone.
    ///
    /// # Panics
    ///
    /// When it does not start; the message holds what it wrote.
    #[track_caller]
    pub fn restart(&self) {
        self.kill9();
        if self.try_start().is_err() {
            panic!("{}", self.why_not());
        }
    }

    /// Starts the process and waits until it answers, or ends.
    fn try_start(&self) -> Result<(), Ended> {
        let mut process = self.process();
        *process = Some(
            Process::start(&mut self.to_start(), self.folder.path())
                .unwrap_or_else(|error| panic!("{}: {error}", self.options.program.display())),
        );
        let process = process.as_mut().expect("it was put there");
        wait_for("a server to start", START_LIMIT, || match process.ended() {
            Some(_) => Some(Err(Ended)),
            None => self.is(process.id()).then_some(Ok(())),
        })
    }

    /// Whether it is this process that answers at our port, and not that of a stranger who was faster.
    fn is(&self, pid: u32) -> bool {
        match self.try_command(&["INFO", "server"]) {
            Ok(Reply::Bytes(info)) => {
                String::from_utf8_lossy(&info).lines().any(|line| line == format!("process_id:{pid}"))
            }
            _ => false,
        }
    }

    fn to_start(&self) -> Command {
        let log = File::create(self.log_file()).expect("the folder is ours");
        let mut command = Command::new(&self.options.program);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a file can be shared")).stdout(log);
        if self.role == Role::Sentinel {
            command.arg(self.sentinel_file()).arg("--sentinel");
        }
        command.args(["--bind", "127.0.0.1", "--port", &self.port().to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.folder.path());
        if let Some(password) = &self.options.password {
            // The second is for those that are, or become, somebody's replica.
            command.args(["--requirepass", password, "--masterauth", password]);
        }
        if let Some(socket) = self.unix_socket() {
            command.arg("--unixsocket").arg(socket);
        }
        if let (Some(tls), Some(port)) = (&self.options.tls, &self.tls_port) {
            command.args(["--tls-port", &port.number().to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(&tls.certificate).arg("--tls-key-file").arg(&tls.key);
            // Servers speak it to each other as well, and then the ports that they name to clients are those.
            command.arg("--tls-ca-cert-file").arg(&tls.certificate).args(["--tls-replication", "yes"]);
        }
        command.args(&self.options.arguments);
        command
    }

    /// Where a sentinel writes down what it is told and learns, so that it knows it after a restart.
    fn sentinel_file(&self) -> PathBuf {
        let file = self.folder.path().join("sentinel.conf");
        File::options().create(true).append(true).open(&file).expect("the folder is ours");
        file
    }

    fn why_not(&self) -> String {
        format!("{} ended at its start. It wrote:\n{}", self.options.program.display(), self.log())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // After a panic it is as good as before: either there is a process or there is none.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the program is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Store,
    Sentinel,
}

/// A server ended instead of answering.
struct Ended;
