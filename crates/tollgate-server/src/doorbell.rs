//! The doorbell of an upstream connection's task, which can be held while something rings it for nothing.
//!
//! hyper rings for each piece of a body that is taken, since there may be room for another one. After the last piece there
//! is nothing more to do, and to find that out takes the task as long as half a request.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

/// See the file's opening. All who ring are on the task's own thread, so that none of them rings while another holds it.
#[derive(Default)]
pub(crate) struct Doorbell {
    task: OnceLock<Waker>,
    is_held: AtomicBool,
    was_rung: AtomicBool,
}

impl Doorbell {
    /// Where it rings, from the first time on: a task has the same waker all its life.
    pub(crate) fn belongs_to(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    /// Holds it meanwhile, and says whether it would have rung.
    pub(crate) fn held<T>(&self, act: impl FnOnce() -> T) -> (T, bool) {
        self.is_held.store(true, Ordering::Relaxed);
        let done = act();
        self.is_held.store(false, Ordering::Relaxed);
        (done, self.was_rung.swap(false, Ordering::Relaxed))
    }

    pub(crate) fn ring(&self) {
        if self.is_held.load(Ordering::Relaxed) {
            self.was_rung.store(true, Ordering::Relaxed);
        } else if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn rings_but_not_while_it_is_held() {
        let (bell, task) = (Doorbell::default(), Arc::new(Count::default()));
        bell.belongs_to(&Waker::from(Arc::clone(&task)));
        assert!(bell.held(|| bell.ring()).1);
        assert!(!bell.held(|| ()).1);
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
        bell.ring();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
    }
}
