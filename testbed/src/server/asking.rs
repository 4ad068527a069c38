//! What a set of servers asks its members.

use super::Server;
use crate::resp::Reply;

impl Server {
    /// Sends one command that is part of setting up.
    ///
    /// # Panics
    ///
    /// When the server refuses or does not answer.
    #[track_caller]
    pub(crate) fn tell(&self, words: &[impl AsRef<[u8]>]) -> Reply {
        match self.command(words) {
            Reply::Error(error) => panic!("the server at {}: {error}", self.addr()),
            reply => reply,
        }
    }

    /// Whether it runs and knows that it is a master.
    pub(crate) fn is_master(&self) -> bool {
        self.ask_role().is_some_and(|role| role[0].text() == "master")
    }

    /// Whether it runs, and is a replica that has its master's keys and follows it.
    pub(crate) fn is_connected_replica(&self) -> bool {
        let role = self.ask_role();
        role.is_some_and(|role| role[0].text() == "slave" && role[3].text() == "connected")
    }

    /// No answer is none: sentinels cut everybody's connections when they give a server another role.
    fn ask_role(&self) -> Option<Vec<Reply>> {
        match self.ask(&["ROLE"])? {
            Reply::Array(role) => Some(role),
            _ => None,
        }
    }

    /// Sends one command to a server that may be away. It is not asked if it does not run, and a refusal is no answer.
    pub(crate) fn ask(&self, words: &[impl AsRef<[u8]>]) -> Option<Reply> {
        let reply = self.runs().then(|| self.try_command(words))?.ok()?;
        (!matches!(reply, Reply::Error(_))).then_some(reply)
    }
}
