//! What is left behind, and the test process that is killed before it can clean up.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, test_kill_process};
use testbed::{Server, wait_for};

/// A guard needs as long as a shell that is scheduled late.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether there is such a process, dead or alive.
pub(crate) fn exists(pid: u32) -> bool {
    let pid = Pid::from_raw(pid.try_into().expect("a process number")).expect("it is not 0");
    test_kill_process(pid).is_ok()
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = Server::redis();
    let (pid, folder) = (server.pid().expect("it runs"), server.folder().to_owned());
    assert!(exists(pid) && folder.exists());
    drop(server);
    assert!(!exists(pid), "process {pid} is there");
    assert!(!folder.exists(), "{} is there", folder.display());
}

#[test]
fn a_test_that_panics_leaves_nothing() {
    let server = Server::redis();
    let pid = server.pid().expect("it runs");
    let panicked = thread::spawn(move || {
        server.pause();
        panic!("as this test wants it");
    });
    panicked.join().expect_err("it panics");
    assert!(!exists(pid), "process {pid} is there");
}

#[test]
fn test_processes_that_are_killed_leave_nothing_and_do_not_collide() {
    let mut processes = [TestProcess::start(), TestProcess::start()];
    let [one, two] = &processes;
    assert!(exists(one.server) && exists(two.server));
    assert_ne!(one.port, two.port);
    for process in &mut processes {
        process.child.kill().expect("it is our child");
        process.child.wait().expect("it is our child");
        wait_for("the server to go", LIMIT, || (!runs(process.server)).then_some(()));
        wait_for("its folder to go", LIMIT, || (!process.folder.exists()).then_some(()));
    }
}

/// An orphan that has ended is there until the system's first process looks after it, which in a container may be
/// never.
fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    exists(pid) && !state.is_ok_and(|state| state.contains(") Z "))
}

/// This test binary once more, running [`starts_a_server_and_waits`].
struct TestProcess {
    child: Child,
    server: u32,
    port: u16,
    folder: PathBuf,
}

impl TestProcess {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().expect("this program has a file"))
            .args(["--exact", "left::starts_a_server_and_waits", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let started = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("started ")?.1.to_owned()))
            .expect("it starts a server");
        let mut words = started.splitn(3, ' ');
        let mut word = || words.next().expect("it prints three");
        let server = word().parse().expect("a process number");
        let port = word().parse().expect("a port");
        Self { child, server, port, folder: word().into() }
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "it is the process that others kill"]
fn starts_a_server_and_waits() {
    let server = Server::redis();
    println!("started {} {} {}", server.pid().expect("it runs"), server.port(), server.folder().display());
    let _ = std::io::stdin().read_line(&mut String::new());
}
