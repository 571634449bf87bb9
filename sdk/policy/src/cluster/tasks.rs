//! Tasks, for decisions that say whom they would end.

use proffer_model::policy::Tasks;

use super::Cluster;

/// A task that holds resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its handle.
    pub handle: u32,
    /// Whose it is.
    pub client: u32,
    /// Where it is.
    pub agent: u32,
    /// The framework's own: lower goes first.
    pub priority: i32,
    /// When it was launched, ms.
    pub started: u64,
    /// Between TERM and KILL, ms.
    pub grace: u32,
    /// Terms, kind and thousandths of what it holds.
    pub pieces: Vec<(u32, u32, i64)>,
}

impl Task {
    fn holds(&self, terms: u32, kind: u32) -> i64 {
        let of_pile = (self.pieces.iter()).filter(|piece| (piece.0, piece.1) == (terms, kind));
        of_pile.fold(0, |sum, piece| sum.saturating_add(piece.2))
    }
}

impl Cluster {
    /// A task, if the policy asked to be told of tasks.
    #[must_use]
    pub fn task(&self, handle: u32) -> Option<&Task> {
        self.tasks.get(handle)
    }

    /// A client's tasks on an agent, by handle.
    pub fn tasks_of(&self, agent: u32, client: u32) -> impl Iterator<Item = &Task> {
        let there = self.agents.get(agent).into_iter();
        let handles = there.flat_map(|agent| agent.tasks());
        let tasks = handles.filter_map(|&handle| self.tasks.get(handle));
        tasks.filter(move |task| task.client == client)
    }

    /// Which of a client's tasks on an agent would end so that this much comes free there, by terms and
    /// kind: the lowest priority first, then who has the least to lose, having run for the shortest time.
    /// Not enough, if the rest is held by something else.
    #[must_use]
    pub fn tasks_to_end(
        &self,
        (agent, client): (u32, u32),
        wanted: impl IntoIterator<Item = (u32, u32, i64)>,
    ) -> Vec<u32> {
        let mut tasks: Vec<&Task> = self.tasks_of(agent, client).collect();
        tasks.sort_by_key(|task| (task.priority, std::cmp::Reverse(task.started), task.handle));
        let mut wanted: Vec<(u32, u32, i64)> = wanted.into_iter().collect();
        let mut chosen = Vec::new();
        for task in tasks {
            let missing = wanted.iter().filter(|(_, _, missing)| *missing > 0);
            let helps = missing.clone().any(|(t, k, _)| task.holds(*t, *k) > 0);
            if !helps {
                continue;
            }
            chosen.push(task.handle);
            for (terms, kind, missing) in &mut wanted {
                *missing = missing.saturating_sub(task.holds(*terms, *kind));
            }
        }
        chosen
    }

    pub(super) fn put_tasks(&mut self, tasks: &Tasks) {
        let rows = tasks.handle.len();
        let pieces =
            (tasks.pieces.iter()).fold(0_usize, |sum, &count| sum.saturating_add(count as usize));
        let equal = [
            tasks.client.len(),
            tasks.agent.len(),
            tasks.priority.len(),
            tasks.started.len(),
            tasks.grace.len(),
            tasks.pieces.len(),
        ] == [rows; 6]
            && [tasks.terms.len(), tasks.kind.len(), tasks.amount.len()] == [pieces; 3];
        if !equal {
            return self.ignore(rows.max(1));
        }
        let mut next = 0;
        for row in 0..rows {
            let end = next + tasks.pieces[row] as usize;
            let held = (next..end).map(|at| (tasks.terms[at], tasks.kind[at], tasks.amount[at]));
            let task = Task {
                handle: tasks.handle[row],
                client: tasks.client[row],
                agent: tasks.agent[row],
                priority: tasks.priority[row],
                started: tasks.started[row],
                grace: tasks.grace[row],
                pieces: held.collect(),
            };
            next = end;
            self.put_task(task);
        }
    }

    fn put_task(&mut self, task: Task) {
        let sound = task.pieces.iter().all(|piece| piece.2 >= 0);
        let (handle, agent) = (task.handle, task.agent);
        if !sound || self.clients.get(task.client).is_none() || self.agents.get(agent).is_none() {
            return self.ignore(1);
        }
        self.remove_task(handle);
        match self.tasks.place(handle) {
            Some(place) => *place = Some(task),
            None => return self.ignore(1),
        }
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.put_task(handle);
        }
    }

    pub(super) fn remove_task(&mut self, handle: u32) {
        if let Some(task) = self.tasks.remove(handle)
            && let Some(agent) = self.agents.get_mut(task.agent)
        {
            agent.remove_task(handle);
        }
    }
}
