//! The policy file read again while `serve` runs: on SIGHUP and, with `--watch`, when it has changed. What it says takes over
//! as a whole, or nothing does and the log says why.

use std::{
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, TrySendError},
    thread,
};

use anyhow::Context as _;
use tollgate::config::Config;
use tollgate_server::{ReloadError, Reloader};
use tracing::{error, info, warn};

use crate::{
    Failure,
    args::Serve,
    changes,
    policy_file::Reading,
    serve::{self, Read},
    watched::{LOOKED_EVERY, Retry, Watched, have_changed},
};

/// Begins to watch, if that is asked for. What comes back is to be called on SIGHUP.
pub(crate) fn start(
    serve: Serve,
    running: Running,
    reloader: Reloader,
) -> Result<impl FnMut() + Send + 'static, Failure> {
    // One wish is as good as many.
    let (wish, wishes) = mpsc::sync_channel(1);
    let mut reload = Reload { serve, running, reloader, retry: None, told: None };
    let work = move || {
        while let Some(cause) = wait(&wishes, &mut reload) {
            reload.try_once(cause);
        }
    };
    thread::Builder::new().name("reload".to_owned()).spawn(work).context("the thread that reloads")?;
    Ok(move || match wish.try_send(()) {
        Ok(()) | Err(TrySendError::Full(())) => {}
        Err(TrySendError::Disconnected(())) => error!("SIGHUP: nobody is left who could read the policy again"),
    })
}

/// Why the policy is to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    HangUp,
    Changed,
    /// It could not be read.
    Retry,
}

/// Why there is to be a reload, once there is; none when nobody can want one any more.
fn wait(wishes: &mpsc::Receiver<()>, reload: &mut Reload) -> Option<Cause> {
    if !reload.serve.watch {
        return wishes.recv().ok().map(|()| Cause::HangUp);
    }
    loop {
        match wishes.recv_timeout(LOOKED_EVERY) {
            Ok(()) => return Some(Cause::HangUp),
            Err(RecvTimeoutError::Timeout) if have_changed(&mut reload.running.files) => return Some(Cause::Changed),
            Err(RecvTimeoutError::Timeout) if reload.retry.as_mut().is_some_and(Retry::is_due) => {
                return Some(Cause::Retry);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// What is in force, and what it was read from.
pub(crate) struct Running {
    pub(crate) config: Config,
    /// What looks wrong in it, and has been told.
    pub(crate) warnings: Vec<String>,
    pub(crate) files: Vec<Watched>,
}

struct Reload {
    serve: Serve,
    running: Running,
    reloader: Reloader,
    /// Under way if a file could not be read.
    retry: Option<Retry>,
    /// Why the last reload failed.
    told: Option<String>,
}

impl Reload {
    fn try_once(&mut self, cause: Cause) {
        let why = self.once().err().and_then(|failure| failure.reason());
        let is_unreadable = self.running.files.iter().any(|file| file.could_not_be_read);
        let before = self.retry.take().filter(|_| cause == Cause::Retry);
        self.retry = is_unreadable.then(|| Retry::after(before.as_ref()));
        if let Some(why) = &why
            && (cause != Cause::Retry || self.told.as_ref() != Some(why))
        {
            error!("not reloaded, everything stays as it was: {why}");
        }
        self.told = why;
    }

    fn once(&mut self) -> Result<(), Failure> {
        if self.serve.limit.is_some() {
            return Err(Failure::Wrong("SIGHUP, but with --limit there is no policy file to read again".to_owned()));
        }
        if self.serve.file.as_deref() == Some(Path::new("-")) {
            return Err(Failure::Wrong("SIGHUP, but standard input cannot be read again".to_owned()));
        }
        let (files, read) = serve::read(&self.serve, Reading::Again);
        // A mistake is told once, and again when there is another file.
        self.running.files = files;
        let Read { config, warnings, .. } = read?;
        let changes = changes::between(&self.running.config, &config);

        match self.reloader.reload(config.listeners.clone(), config.policy.clone()) {
            Ok(()) => {}
            Err(ReloadError::Ending) => return Ok(()),
            Err(ReloadError::Bind(error)) => return Err(Failure::CouldNot(error.into())),
        }
        info!(changes = changes.len(), "reloaded: {}", changes::sentence(&changes));
        for warning in warnings.iter().filter(|warning| !self.running.warnings.contains(warning)) {
            warn!("{warning}");
        }
        if config.listeners != self.running.config.listeners {
            serve::make_room_for_connections(&config.listeners);
        }
        // The store is the one that was opened at the start.
        let store = self.running.config.store.clone();
        (self.running.config, self.running.warnings) = (Config { store, ..config }, warnings);
        Ok(())
    }
}
