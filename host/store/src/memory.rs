//! A store that forgets when the process ends, for tests and for clusters that are thrown away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use proffer_model::fact::Fact;

use crate::components;
use crate::etcd::apply_writes;
use crate::{ComponentError, FrameworkStates, Recovered, Store, WriteStoreError};

/// The in-memory backend. Clones share one store, so that a test can "restart" a host on it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    facts: Vec<Fact>,
    states: FrameworkStates,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Memory {
    /// What a restart would find.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        let kept = self.kept();
        Recovered {
            facts: kept.facts.clone(),
            states: kept.states.clone(),
        }
    }

    /// Every critical section leaves whole values behind, so a poisoned lock holds nothing broken.
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::StepCommitted(step) => {
                apply_writes(&mut self.states, step.framework, &step.writes);
            }
            Fact::FrameworkRemoved { framework } => {
                self.states.remove(framework);
            }
            _ => {}
        }
    }
}

fn without_writes(fact: &Fact) -> Fact {
    let mut fact = fact.clone();
    if let Fact::StepCommitted(step) = &mut fact {
        step.writes = Vec::new();
    }
    fact
}

impl Store for Memory {
    fn append(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError> {
        let mut kept = self.kept();
        for fact in facts {
            kept.apply(fact);
            kept.facts.push(without_writes(fact));
        }
        Ok(())
    }

    fn snapshot(&mut self, facts: &[Fact]) -> Result<(), WriteStoreError> {
        self.kept().facts = facts.iter().map(without_writes).collect();
        Ok(())
    }

    fn journal_len(&self) -> u64 {
        self.kept().facts.len() as u64
    }

    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), ComponentError> {
        components::check_digest(digest)?;
        components::check(digest, bytes)?;
        self.kept()
            .blobs
            .insert(digest.to_owned(), bytes.to_owned());
        Ok(())
    }

    fn get_blob(&self, digest: &str) -> Result<Vec<u8>, ComponentError> {
        components::check_digest(digest)?;
        self.kept()
            .blobs
            .get(digest)
            .cloned()
            .ok_or_else(|| ComponentError::Unknown {
                digest: digest.to_owned(),
            })
    }

    fn remove_blob(&self, digest: &str) -> Result<(), ComponentError> {
        components::check_digest(digest)?;
        self.kept().blobs.remove(digest);
        Ok(())
    }
}
