//! A `tollgate serve` that runs as long as a test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use crate::command::tollgate;

/// Nothing here takes longer, on the busiest machine, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tollgate serve`, ended with the test.
pub(crate) struct Serving {
    child: Child,
    /// A line each.
    log: Mutex<mpsc::Receiver<String>>,
    pub(crate) address: SocketAddr,
}

impl Serving {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(tollgate().arg("serve").args(arguments))
    }

    /// Starts it, and reads in the log where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut server = Self::begin(command);
        server.address = server.listens();
        server
    }

    /// Starts it, and waits for nothing.
    pub(crate) fn begin(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("the binary is built");
        let written = BufReader::new(child.stderr.take().expect("it is piped"));
        let (line, log) = mpsc::channel();
        thread::spawn(move || written.lines().map_while(Result::ok).all(|read| line.send(read).is_ok()));
        Self { child, log: Mutex::new(log), address: SocketAddr::from(([0, 0, 0, 0], 0)) }
    }

    /// Waits for a line with this in it: that line.
    pub(crate) fn says(&self, text: &str) -> String {
        self.until(text).1
    }

    /// Waits for a line with this in it: the lines before.
    pub(crate) fn hears(&self, text: &str) -> Vec<String> {
        self.until(text).0
    }

    fn until(&self, text: &str) -> (Vec<String>, String) {
        let mut said = Vec::new();
        let log = self.log.lock().expect("no test has failed in it");
        while let Ok(line) = log.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return (said, line);
            }
            said.push(line);
        }
        panic!("{text:?} is not in the log: {said:#?}");
    }

    /// Waits until it listens somewhere, or somewhere else: where.
    pub(crate) fn listens(&self) -> SocketAddr {
        let line = self.says("listening on ");
        let listening = line.split("listening on ").nth(1).and_then(|rest| rest.split("://").nth(1));
        let address = listening.and_then(|rest| rest.split([' ', ',', '"']).next());
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("an address in {line}"))
    }

    /// One request on its own connection: the whole answer.
    pub(crate) fn get(&self, path: &str, headers: &str) -> String {
        let mut stream = connect(self.address);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n")
            .expect("it can be asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
        assert!(kill.expect("kill is there").success());
    }

    /// Waits for its end: how it ended, and the rest of its log.
    pub(crate) fn ends(mut self) -> (ExitStatus, String) {
        let log: String =
            self.log.get_mut().expect("no test has failed in it").iter().map(|line| line + "\n").collect();
        (self.child.wait().expect("it ends"), log)
    }

    /// Ends it by a signal: how it ended, and the rest of its log.
    pub(crate) fn end(self, signal: &str) -> (ExitStatus, String) {
        self.signal(signal);
        self.ends()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    stream
}
