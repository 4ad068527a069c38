//! A `tollgate serve` that runs as long as a test.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::command::tollgate;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `tollgate serve`, ended with the test.
pub(crate) struct Serving {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Serving {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(tollgate().arg("serve").args(arguments))
    }

    /// Starts it, and reads in the log where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("the binary is built");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("the log can be read") > 0, "it ended before it listened");
            let listening = line.split("listening on ").nth(1).and_then(|rest| rest.split("://").nth(1));
            if let Some(address) = listening.and_then(|rest| rest.split([' ', ',', '"']).next()) {
                break address.parse().expect("an address");
            }
        };
        Self { child, log, address }
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

    pub(crate) fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill is there").success());
    }

    /// Ends it by a signal: how it ended, and the rest of its log.
    pub(crate) fn end(mut self, signal: &str) -> (ExitStatus, String) {
        self.signal(signal);
        let mut log = String::new();
        self.log.read_to_string(&mut log).expect("the log can be read");
        (self.child.wait().expect("it ends"), log)
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
