//! The store's thread: one durable transaction after the other.
//!
//! Group commit happens by itself: while one transaction is being written, the loop gathers the
//! facts of the next.

use std::thread;

use proffer_core::Snapshot;
use proffer_model::fact::Fact;
use proffer_store::{Store, WriteStoreError};
use tokio::sync::mpsc;

/// What the thread is to write. One at a time: the loop gives the next when this is done.
#[derive(Debug)]
pub(crate) enum Job {
    Append(Vec<Fact>),
    Snapshot(Snapshot),
}

/// The loop's end of the store's thread.
#[derive(Debug)]
pub(crate) struct Persister {
    jobs: Option<mpsc::Sender<Job>>,
    written: mpsc::Receiver<Result<u64, WriteStoreError>>,
    thread: Option<thread::JoinHandle<()>>,
    busy: bool,
}

impl Persister {
    pub(crate) fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let (jobs, work) = mpsc::channel(1);
        let (done, written) = mpsc::channel(1);
        let thread = thread::Builder::new()
            .name("proffer-store".to_owned())
            .spawn(move || write_all(store, work, &done))?;
        Ok(Self {
            jobs: Some(jobs),
            written,
            thread: Some(thread),
            busy: false,
        })
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Gives the thread its next job. It is idle, so there is room.
    pub(crate) fn give(&mut self, job: Job) {
        self.busy = true;
        if let Some(jobs) = &self.jobs
            && jobs.try_send(job).is_err()
        {
            tracing::error!("the store's thread is gone");
        }
    }

    /// Waits for the job under way and ends the thread. On a thread for waiting: the store's calls to etcd
    /// need the runtime's own, of which a small machine has one.
    pub(crate) async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || drop(self));
        if ended.await.is_err() {
            tracing::error!("the store's thread was not waited for");
        }
    }

    /// What became of the job: how many facts were written. Cancel-safe.
    pub(crate) async fn written(&mut self) -> Option<Result<u64, WriteStoreError>> {
        let written = self.written.recv().await;
        self.busy = false;
        written
    }
}

impl Drop for Persister {
    fn drop(&mut self) {
        // Without a sender the thread ends after its current job.
        self.jobs = None;
        self.written.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn write_all(
    mut store: Box<dyn Store>,
    mut work: mpsc::Receiver<Job>,
    done: &mpsc::Sender<Result<u64, WriteStoreError>>,
) {
    while let Some(job) = work.blocking_recv() {
        let (facts, written) = match job {
            Job::Append(facts) => {
                let written = store.append(&facts);
                (facts, written)
            }
            Job::Snapshot(snapshot) => {
                let facts = snapshot.into_facts();
                let written = store.snapshot(&facts);
                (facts, written)
            }
        };
        // Said before they are dropped: a million take their time.
        let written = written.map(|()| facts.len() as u64);
        let failed = written.is_err();
        if done.blocking_send(written).is_err() || failed {
            return;
        }
    }
}
