//! What the host calls in an allocation policy.

use proffer_model::policy::{Changes, Cycle, Feeds, Finding, Place, Proposal, Question, Section};

/// An allocation policy: it keeps a picture from [`Policy::apply`] and proposes in
/// [`Policy::decide`]. Proposing changes nothing; only `apply` says what is.
///
/// The same trait is implemented by what runs natively in the host and by what is built into a
/// component. An author who wants the picture kept writes a [`crate::Decision`] instead.
pub trait Policy {
    /// First, and again for a new config.
    ///
    /// # Errors
    /// Refuses the config, in words for whoever wrote it; the old one stands.
    fn configure(&mut self, config: &str) -> Result<Feeds, String>;

    /// The snapshot in its parts, then before each [`Policy::decide`] what has changed.
    fn apply(&mut self, changes: &Changes);

    /// Whom to offer what, from whom to take back.
    fn decide(&mut self, cycle: &Cycle) -> Proposal;

    /// Why each of these agents is not granted to this client now. Changes nothing.
    fn explain(&self, question: &Question) -> Vec<Finding>;

    /// Roles and clients in the order in which they would be served. Changes nothing.
    fn places(&self) -> Vec<Place>;

    /// What a successor can start from.
    fn carry(&self) -> Vec<Section>;

    /// A predecessor's memory, after the snapshot and before the first decide. Answers the names of
    /// the sections that were used.
    ///
    /// # Errors
    /// Nothing could be used: a cold start, not a failed swap.
    fn adopt(&mut self, sections: &[Section]) -> Result<Vec<String>, String>;
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn configure(&mut self, config: &str) -> Result<Feeds, String> {
        (**self).configure(config)
    }

    fn apply(&mut self, changes: &Changes) {
        (**self).apply(changes);
    }

    fn decide(&mut self, cycle: &Cycle) -> Proposal {
        (**self).decide(cycle)
    }

    fn explain(&self, question: &Question) -> Vec<Finding> {
        (**self).explain(question)
    }

    fn places(&self) -> Vec<Place> {
        (**self).places()
    }

    fn carry(&self) -> Vec<Section> {
        (**self).carry()
    }

    fn adopt(&mut self, sections: &[Section]) -> Result<Vec<String>, String> {
        (**self).adopt(sections)
    }
}
