//! What of a client every grant to it is judged by. No grant changes it, so it is looked up once a
//! judgement, and lies together.

use proffer_model::{FrameworkId, RoleName};

use crate::handles::ClientId;
use crate::machine::Core;

/// How a client stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) framework: FrameworkId,
    /// The framework takes offers, and does under the role.
    pub(super) takes_part: bool,
    pub(super) takes_gpus: bool,
    /// No agent is out of bounds.
    pub(super) goes_anywhere: bool,
    /// What is worth an offer to it is its own affair.
    pub(super) has_minimum: bool,
    /// Its offers are its subtree's, whose own policy gives them on.
    pub(super) for_tenant: bool,
}

/// Clients by handle, as far as they were looked up.
#[derive(Debug, Default)]
pub(super) struct Standings(Vec<Option<(Standing, RoleName)>>);

impl Standings {
    /// A client's standing; none: there is no such client.
    pub(super) fn of(&mut self, core: &Core, client: ClientId) -> Option<Standing> {
        let index = client.0 as usize;
        if let Some(Some((standing, _))) = self.0.get(index) {
            return Some(*standing);
        }
        let (standing, role) = core.standing_of(client)?;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some((standing, role));
        Some(standing)
    }

    /// Of a client that was looked up.
    pub(super) fn role(&self, client: ClientId) -> Option<&RoleName> {
        let known = self.0.get(client.0 as usize)?.as_ref();
        known.map(|(_, role)| role)
    }
}

impl Core {
    fn standing_of(&self, client: ClientId) -> Option<(Standing, RoleName)> {
        let (framework, role) = self.handles.owner(client)?;
        let fw = self.frameworks.get(framework);
        let options = fw.map(|fw| &fw.options);
        let standing = Standing {
            framework: *framework,
            takes_part: fw.is_some_and(|fw| {
                fw.takes_offers() && !fw.suppressed.contains(role) && fw.clients.contains_key(role)
            }),
            takes_gpus: fw.is_some_and(|fw| fw.record.gpus),
            goes_anywhere: fw.is_some_and(|fw| !fw.constraints.contains_key(role))
                && (self.config.region.is_empty()
                    || options.is_some_and(|options| options.region_aware)),
            has_minimum: options.is_some_and(|options| {
                let own = options.rules.iter().find(|rules| rules.role == *role);
                own.is_some_and(|rules| rules.least.is_some())
            }),
            for_tenant: self.is_for_tenant(role),
        };
        Some((standing, role.clone()))
    }
}
