//! Tasks of a case.

use proffer_model::policy::Tasks;
use proffer_policy::Policy;

use super::Case;

impl<P: Policy> Case<P> {
    /// A client runs a task on an agent; what it holds there is not told by that. Answers its handle.
    pub(crate) fn task(
        &mut self,
        (agent, client): (u32, u32),
        (terms, resources): (u32, &str),
        (priority, started): (i32, u64),
    ) -> u32 {
        let pieces = self.pieces(terms, resources);
        let handle = self.tasks;
        self.tasks += 1;
        let Tasks {
            handle: handles,
            client: clients,
            agent: agents,
            priority: priorities,
            started: starts,
            grace,
            pieces: counts,
            terms,
            kind,
            amount,
        } = &mut self.pending.tasks;
        handles.push(handle);
        clients.push(client);
        agents.push(agent);
        priorities.push(priority);
        starts.push(started);
        grace.push(5_000);
        counts.push(u32::try_from(pieces.len()).unwrap());
        for piece in pieces {
            terms.push(piece.terms);
            kind.push(piece.kind);
            amount.push(piece.amount.milli());
        }
        handle
    }
}
