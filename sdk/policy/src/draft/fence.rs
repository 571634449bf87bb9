//! A fence through the pool: which agents are for which clients, whatever is free there.

/// Parts of the pool. An agent and a client that are in one part may meet; whoever is in none meets
/// nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// By agent handle.
    agents: Vec<Option<u32>>,
    /// By client handle.
    clients: Vec<Option<u32>>,
}

impl Fence {
    /// Parts by agent handle and by client handle.
    #[must_use]
    pub fn new(agents: Vec<Option<u32>>, clients: Vec<Option<u32>>) -> Self {
        Self { agents, clients }
    }

    /// The part that an agent is in.
    #[must_use]
    pub fn part_of_agent(&self, agent: u32) -> Option<u32> {
        self.agents.get(agent as usize).copied().flatten()
    }

    /// The part that a client is in.
    #[must_use]
    pub fn part_of_client(&self, client: u32) -> Option<u32> {
        self.clients.get(client as usize).copied().flatten()
    }

    /// Whether a client may be granted anything of an agent.
    #[must_use]
    pub fn admits(&self, client: u32, agent: u32) -> bool {
        let part = self.part_of_agent(agent);
        part.is_some() && part == self.part_of_client(client)
    }
}
