//! Frameworks and agents played by hand: the same ledger, filters and cycles, without steps and
//! tasks. What is in use this way is what agents reported beside tasks.

use std::collections::BTreeSet;

use proffer_model::{AgentId, Attribute, FrameworkId, Reason, Remedy, Resources, RoleName, code};

use crate::account::Part;
use crate::action::Reply;
use crate::allocation::Scope;
use crate::event::{HoldingChange, Play, Ticket};
use crate::handles::ClientId;
use crate::machine::Core;
use crate::reservations::{Conversion, conversion_for};

impl Core {
    pub(crate) fn played(&mut self, ticket: Ticket, play: Play) {
        let done = match play {
            Play::Hold {
                framework,
                role,
                agent,
                change,
            } => self.change_holding(&framework, &role, agent, change),
            Play::Report {
                agent,
                grown,
                uses,
                again,
            } => self.use_reported(agent, &grown, uses, again),
            Play::Tell {
                agent,
                total,
                attributes,
            } => self.agent_told(agent, total, attributes),
            Play::Want {
                framework,
                roles,
                wanted,
            } => self.want(&framework, roles, wanted),
            Play::AnswerInverse {
                framework,
                agent,
                accept,
                refuse,
            } => self.named(&framework).and_then(|framework| {
                if self.settle_inverse(agent, framework, accept, refuse) {
                    Ok(())
                } else {
                    Err("it has no open inverse offer there".to_owned())
                }
            }),
            Play::Cycle { agents } => {
                self.allocation.wanted = agents.map_or(Scope::Everything, Scope::Agents);
                Ok(())
            }
        };
        match done {
            Ok(()) => self.reply(ticket, Reply::Done),
            Err(text) => {
                let why = Reason::new(code::INVALID, Remedy::Mend, text);
                self.reply(ticket, Reply::Refused(why));
            }
        }
    }

    fn named(&self, framework: &str) -> Result<FrameworkId, String> {
        let known = self.names.get(framework).or(self.expected.get(framework));
        known
            .copied()
            .ok_or_else(|| format!("there is no framework named '{framework}'"))
    }

    fn change_holding(
        &mut self,
        framework: &str,
        role: &RoleName,
        agent: AgentId,
        change: HoldingChange,
    ) -> Result<(), String> {
        let id = self.named(framework)?;
        let client = self
            .handles
            .find_client(id, role)
            .ok_or_else(|| format!("{framework} has nothing under {role}"))?;
        let (offered, used) = self.holding(framework, role, agent);
        let lacking = |what: &Resources, held: &Resources, how: &str| {
            let short = what.minus_down_to_zero(held);
            Err(format!(
                "{short} of it is not {how} for {framework} under {role} on {agent}"
            ))
        };
        match change {
            HoldingChange::Use(what) => {
                if !offered.contains(&what) {
                    return lacking(&what, &offered, "on offer");
                }
                self.shrink_offers(agent, client, &what, |_| {});
                self.with_account(agent, client, |account| account.use_offered(client, &what));
                self.reported_mut(agent, client, |reported| reported.add(&what));
            }
            HoldingChange::Finish(what) => {
                if !used.contains(&what) {
                    return lacking(&what, &used, "in use");
                }
                self.with_account(agent, client, |account| account.release(client, &what));
                self.reported_mut(agent, client, |reported| {
                    *reported = reported.minus_down_to_zero(&what);
                });
                self.agent_has_more(agent);
            }
            HoldingChange::Return(what, refuse) => {
                if !offered.contains(&what) {
                    return lacking(&what, &offered, "on offer");
                }
                self.shrink_offers(agent, client, &what, |_| {});
                self.with_account(agent, client, |account| account.withdraw(client, &what));
                self.refuse(agent, client, what, refuse);
                self.agent_has_more(agent);
            }
            HoldingChange::Convert { from, to } => {
                self.convert_holding(agent, client, &Conversion { from, to }, (&offered, &used))?;
            }
            HoldingChange::Reserve(resources, change) => {
                let held = offered.plus(&used);
                let made = conversion_for(&resources, change, role, &held)?;
                self.convert_holding(agent, client, &made, (&offered, &used))?;
            }
        }
        self.forget_lapsed(id);
        Ok(())
    }

    /// What is on offer first.
    fn convert_holding(
        &mut self,
        agent: AgentId,
        client: ClientId,
        made: &Conversion,
        (offered, used): (&Resources, &Resources),
    ) -> Result<(), String> {
        if offered.contains(&made.from) {
            self.rewrite_offers(agent, client, made);
            self.convert_held(agent, client, Part::Offered, made);
            return Ok(());
        }
        if !used.contains(&made.from) {
            let short = made.from.minus_down_to_zero(offered);
            return Err(format!("{short} of it is not held on {agent}"));
        }
        self.convert_held(agent, client, Part::Used, made);
        self.reported_mut(agent, client, |reported| {
            *reported = reported.minus_down_to_zero(&made.from);
            reported.add(&made.to);
        });
        Ok(())
    }

    fn reported_mut(
        &mut self,
        agent: AgentId,
        client: ClientId,
        change: impl FnOnce(&mut Resources),
    ) {
        let Some(agent) = self.agents.get_mut(&agent) else {
            return;
        };
        let reported = agent.reported.entry(client).or_default();
        change(reported);
        if reported.is_empty() {
            agent.reported.remove(&client);
        }
    }

    fn use_reported(
        &mut self,
        id: AgentId,
        grown: &Resources,
        uses: Vec<((String, RoleName), Resources)>,
        again: bool,
    ) -> Result<(), String> {
        let agent = self
            .agents
            .get(&id)
            .ok_or_else(|| format!("there is no {id}"))?;
        if !grown.is_empty() {
            let total = agent.account.total().plus(grown);
            self.with_total(id, total);
            self.note_shape(id);
        }
        for ((framework, role), what) in uses {
            let client = self.holder(&framework, &role);
            let known = self
                .agents
                .get(&id)
                .and_then(|agent| agent.reported.get(&client))
                .cloned()
                .unwrap_or_default();
            let what = if again {
                what.minus_down_to_zero(&known)
            } else {
                what
            };
            if what.is_empty() {
                continue;
            }
            self.with_account(id, client, |account| account.occupy(client, &what));
            self.reported_mut(id, client, |reported| reported.add(&what));
        }
        Ok(())
    }

    /// The client of a framework that may not have been added yet, and need not have the role.
    fn holder(&mut self, framework: &str, role: &RoleName) -> ClientId {
        let id = match self.named(framework) {
            Ok(id) => id,
            Err(_) => {
                let id = FrameworkId(self.next_framework);
                self.next_framework = self.next_framework.saturating_add(1);
                self.expected.insert(framework.into(), id);
                id
            }
        };
        let client = self.handles.client(id, role);
        self.feed.client_changed(client);
        client
    }

    fn agent_told(
        &mut self,
        id: AgentId,
        total: Option<Resources>,
        attributes: Option<Vec<Attribute>>,
    ) -> Result<(), String> {
        let agent = self
            .agents
            .get_mut(&id)
            .ok_or_else(|| format!("there is no {id}"))?;
        let total = total.filter(|total| total != agent.account.total());
        let attributes =
            attributes.filter(|attributes| *attributes != agent.record.info.attributes);
        if total.is_none() && attributes.is_none() {
            return Ok(());
        }
        if let Some(attributes) = attributes {
            let mut info = (*agent.record.info).clone();
            info.attributes = attributes;
            agent.record.info = std::sync::Arc::new(info);
            self.feed.agents.insert(id);
            self.drop_agent_filters(id);
        }
        if let Some(total) = total {
            self.with_total(id, total);
            self.note_shape(id);
        }
        self.agent_came(id);
        Ok(())
    }

    fn want(&mut self, framework: &str, roles: Vec<RoleName>, wanted: bool) -> Result<(), String> {
        let id = self.named(framework)?;
        let fw = self
            .frameworks
            .get(&id)
            .ok_or_else(|| format!("{framework} has not been added"))?;
        let named: BTreeSet<RoleName> = if roles.is_empty() {
            fw.clients.keys().cloned().collect()
        } else {
            roles.into_iter().collect()
        };
        let suppressed: BTreeSet<RoleName> = if wanted {
            fw.suppressed.difference(&named).cloned().collect()
        } else {
            fw.suppressed.union(&named).cloned().collect()
        };
        self.set_suppressed(id, &suppressed);
        if wanted {
            for role in &named {
                if let Some(client) = self.handles.find_client(id, role) {
                    self.release_client_filters(client);
                }
            }
            self.drop_inverse_refusals(id);
            self.everything_wanted();
        }
        Ok(())
    }
}
