//! What operators change of frameworks and agents while they run: roles, what is taken and where,
//! activation, downtime, the list of agents that are offered.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::fact::{Effect, Fact, FrameworkOptions};
use proffer_model::framework::{CONSTRAINTS_MAX, constraint_count};
use proffer_model::{
    AgentId, Amount, Bundle, FrameworkId, OfferId, Reason, Remedy, Resources, RoleName, Terms, code,
};

use crate::action::Reply;
use crate::book::Ending;
use crate::constraint::Constraints;
use crate::event::{AgentChange, FrameworkChange, Ticket};
use crate::handles::ClientId;
use crate::machine::Core;

/// Compiled constraints by role.
pub(crate) type RoleConstraints = BTreeMap<RoleName, Constraints>;

/// Compiles what a framework says where it may be.
pub(crate) fn compile(options: &FrameworkOptions) -> Result<RoleConstraints, Reason> {
    let mut compiled = RoleConstraints::new();
    for rules in &options.rules {
        if constraint_count(&rules.constraints) > CONSTRAINTS_MAX {
            let text = format!("a role has at most {CONSTRAINTS_MAX} constraints");
            return Err(Reason::new(code::LIMIT, Remedy::Denied, text));
        }
        if rules.constraints.is_empty() {
            continue;
        }
        let constraints = Constraints::new(&rules.constraints)
            .map_err(|problem| Reason::new(code::INVALID, Remedy::Mend, problem))?;
        compiled.insert(rules.role.clone(), constraints);
    }
    Ok(compiled)
}

impl Core {
    pub(crate) fn framework_change_asked(
        &mut self,
        ticket: Ticket,
        name: &str,
        change: FrameworkChange,
    ) {
        let done = self
            .find_framework(name)
            .and_then(|framework| self.change_framework(framework, change));
        match done {
            Ok(()) => self.reply(ticket, Reply::Done),
            Err(why) => self.reply(ticket, Reply::Refused(why)),
        }
    }

    fn change_framework(
        &mut self,
        framework: FrameworkId,
        change: FrameworkChange,
    ) -> Result<(), Reason> {
        let FrameworkChange {
            roles,
            suppressed,
            gpus,
            options,
        } = change;
        if let Some(roles) = &roles {
            self.roles_refused(roles)?;
        }
        if let Some(options) = options {
            self.set_options(framework, options)?;
        }
        if let Some(roles) = roles {
            self.set_roles(framework, roles);
        }
        if let Some(suppressed) = suppressed {
            self.set_suppressed(framework, &suppressed);
        }
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return Ok(());
        };
        fw.record.gpus = gpus.unwrap_or(fw.record.gpus);
        let (record, clients) = (fw.record.clone(), fw.clients.clone());
        self.facts.push(Fact::FrameworkSet(Box::new(record)));
        for client in clients.into_values() {
            self.feed.client_changed(client);
        }
        self.demands_changed(framework);
        self.everything_wanted_in_events();
        Ok(())
    }

    /// Puts options in place; live and in recovery alike.
    pub(crate) fn put_options(
        &mut self,
        framework: FrameworkId,
        options: FrameworkOptions,
    ) -> Result<(), Reason> {
        let constraints = compile(&options)?;
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.options = options;
            fw.constraints = constraints;
            let clients: Vec<ClientId> = fw.clients.values().copied().collect();
            for client in clients {
                self.feed.client_changed(client);
                self.feed.masks_changed(client);
            }
        }
        Ok(())
    }

    fn set_options(
        &mut self,
        framework: FrameworkId,
        options: FrameworkOptions,
    ) -> Result<(), Reason> {
        let before = self
            .frameworks
            .get(&framework)
            .is_some_and(|fw| fw.options.active);
        let active = options.active;
        self.put_options(framework, options.clone())?;
        self.facts.push(Fact::FrameworkShaped {
            framework,
            options: Box::new(options),
        });
        if active && !before {
            self.everything_wanted();
        } else if before && !active {
            let clients = self.clients_of(framework);
            for client in clients {
                self.drop_client_filters(client);
            }
        }
        Ok(())
    }

    fn clients_of(&self, framework: FrameworkId) -> Vec<ClientId> {
        let fw = self.frameworks.get(&framework);
        fw.map(|fw| fw.clients.values().copied().collect())
            .unwrap_or_default()
    }

    fn set_roles(&mut self, framework: FrameworkId, roles: Vec<RoleName>) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.record.roles.clone_from(&roles);
        let left: Vec<(RoleName, ClientId)> = fw
            .clients
            .iter()
            .filter(|(role, _)| !roles.contains(role))
            .map(|(role, client)| (role.clone(), *client))
            .collect();
        for (role, client) in left {
            self.leave_role(framework, &role, client);
        }
        for role in roles {
            let client = self.client_of(framework, &role);
            if let Some(fw) = self.frameworks.get_mut(&framework) {
                fw.lapsed.remove(&client);
            }
            self.feed.masks_changed(client);
        }
        self.forget_lapsed(framework);
    }

    fn leave_role(&mut self, framework: FrameworkId, role: &RoleName, client: ClientId) {
        if self.config.rescinds {
            let why = Reason::new(
                code::ROLE_DENIED,
                Remedy::Denied,
                "the framework has left the role",
            );
            let offers: Vec<OfferId> = self
                .offers
                .iter()
                .filter(|(_, open)| open.client == client)
                .map(|(id, _)| *id)
                .collect();
            for id in offers {
                self.end_offer(id, &Ending::Rescinded(why.clone()));
            }
        }
        self.drop_client_filters(client);
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.clients.remove(role);
        fw.lapsed.insert(client);
        let demands: Vec<String> = fw
            .demands
            .iter()
            .filter(|(_, standing)| standing.demand.role == *role)
            .map(|(key, _)| key.clone())
            .collect();
        for key in demands {
            let effect = Effect::DemandCleared { key };
            self.apply_effect(framework, &effect);
            self.facts.push(Fact::Changed { framework, effect });
        }
        self.feed.client_changed(client);
    }

    /// Clients of roles that a framework has left go when they hold nothing any more.
    pub(crate) fn forget_lapsed(&mut self, framework: FrameworkId) {
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        for client in fw.lapsed.clone() {
            let holds = self
                .agents
                .values()
                .any(|agent| agent.account.held_by(client).is_some());
            if !holds {
                self.feed.forget_client(client);
                self.handles.remove_client(client);
                if let Some(fw) = self.frameworks.get_mut(&framework) {
                    fw.lapsed.remove(&client);
                }
            }
        }
    }

    /// Roles that are not suppressed any more lose their filters.
    pub(crate) fn set_suppressed(&mut self, framework: FrameworkId, wanted: &BTreeSet<RoleName>) {
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let revived: Vec<RoleName> = fw.suppressed.difference(wanted).cloned().collect();
        let suppressed: Vec<RoleName> = wanted.difference(&fw.suppressed).cloned().collect();
        for role in &revived {
            if let Some(client) = self.handles.find_client(framework, role) {
                self.release_client_filters(client);
            }
        }
        let mut effects = Vec::new();
        if !revived.is_empty() {
            effects.push(Effect::Revived { roles: revived });
        }
        if !suppressed.is_empty() {
            effects.push(Effect::Suppressed { roles: suppressed });
        }
        for effect in effects {
            self.apply_effect(framework, &effect);
            self.facts.push(Fact::Changed { framework, effect });
        }
        for client in self.clients_of(framework) {
            self.feed.client_changed(client);
        }
        self.demands_changed(framework);
    }

    pub(crate) fn agent_change_asked(&mut self, ticket: Ticket, id: AgentId, change: AgentChange) {
        if !self.agents.contains_key(&id) {
            let why = Reason::new(
                code::UNKNOWN,
                Remedy::ChooseAnew,
                format!("there is no {id}"),
            );
            return self.reply(ticket, Reply::Refused(why));
        }
        match change {
            AgentChange::Activate => self.set_deactivated(id, false),
            AgentChange::Deactivate => self.set_deactivated(id, true),
            AgentChange::Down(down) => {
                if self.config.rescinds {
                    let why = Reason::new(
                        code::AGENT_DRAINING,
                        Remedy::ChooseAnew,
                        "the agent's downtime is planned",
                    );
                    self.rescind_agent_offers(id, &why);
                }
                self.plan_downtime(id, down);
                self.note_shape(id);
                self.agent_came(id);
            }
        }
        self.reply(ticket, Reply::Done);
    }

    fn set_deactivated(&mut self, id: AgentId, deactivated: bool) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.deactivated = deactivated;
        }
        self.feed.agents.insert(id);
        self.note_shape(id);
        self.agent_has_more(id);
    }

    pub(crate) fn agents_allowed(&mut self, ticket: Ticket, agents: Option<BTreeSet<AgentId>>) {
        self.facts.push(Fact::AgentsAllowed {
            agents: agents
                .as_ref()
                .map(|agents| agents.iter().copied().collect()),
        });
        self.allowed = agents;
        self.feed.agents.extend(self.agents.keys().copied());
        self.everything_wanted_in_events();
        self.reply(ticket, Reply::Done);
    }

    /// Whether a client may have resources under these terms at all.
    pub(crate) fn may_have(&self, client: ClientId, terms: &Terms) -> bool {
        if terms.is_plain() {
            return true;
        }
        let Some((framework, role)) = self.handles.owner(client) else {
            return false;
        };
        let Some(options) = self.frameworks.get(framework).map(|fw| &fw.options) else {
            return false;
        };
        (options.revocable || !terms.marks.revocable)
            && (options.shared || !terms.marks.shared)
            && (options.refined || terms.reserved.len() < 2)
            && terms.is_open_to(role)
    }

    /// Whether resources are worth an offer to a client, summed over all piles.
    pub(crate) fn reaches_minimum(&self, client: ClientId, what: &Resources) -> bool {
        let own = self.handles.owner(client).and_then(|(framework, role)| {
            let rules = &self.frameworks.get(framework)?.options.rules;
            rules
                .iter()
                .find(|rules| rules.role == *role)?
                .least
                .as_ref()
        });
        reaches_any(what, own.unwrap_or(&self.config.min_offer))
    }
}

/// Whether resources reach one of the smallest amounts; with none given, anything does.
pub(crate) fn reaches_any(what: &Resources, least: &[Bundle]) -> bool {
    least.is_empty() || least.iter().any(|least| reaches(what, least))
}

/// Ranges and sets are counted.
fn reaches(what: &Resources, least: &Bundle) -> bool {
    if least.ports.is_empty() && least.other.is_empty() {
        let sum = |amount: fn(&Bundle) -> Amount| -> Amount {
            let amounts = what.piles().map(|(_, bundle)| amount(bundle));
            amounts.fold(Amount::ZERO, |sum, amount| sum + amount)
        };
        return sum(|bundle| bundle.cpus) >= least.cpus
            && sum(|bundle| bundle.mem) >= least.mem
            && sum(|bundle| bundle.disk) >= least.disk
            && sum(|bundle| bundle.gpus) >= least.gpus;
    }
    let total = what.total();
    least.amounts().all(|(kind, wanted)| {
        total
            .amounts()
            .any(|(other, amount)| other == kind && amount >= wanted)
    })
}
