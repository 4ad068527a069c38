//! A process that does not outlive its owner, however the owner ends.

use std::{
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// What the guard does: it waits for the end of a pipe whose other end only we hold, which is our own end, and cleans
/// up behind us. An interrupt from the keyboard reaches it as well, and must not end it before.
const GUARD: &str = r#"trap "" HUP INT TERM; read -r _; kill -9 "$1"; rm -rf "$2""#;

/// A running process, killed when dropped. Should this process be killed first, a guard kills it and removes its
/// folder.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Child,
    paused: bool,
}

impl Process {
    pub(crate) fn start(command: &mut Command, folder: &Path) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &child.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match guard {
            Ok(guard) => Ok(Self { child, guard, paused: false }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended by itself, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    pub(crate) fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.paused = false;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child and not yet waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: once the child has been waited for, its number may be another's.
        end(&mut self.guard);
        end(&mut self.child);
    }
}

/// Kills it, and waits until it is gone. There is nothing to do if it is gone already, and nobody to tell while a test
/// panics.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
