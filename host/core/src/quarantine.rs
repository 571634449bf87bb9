//! Quarantine: the framework steps no more, its tasks run and its queue stays. The ways out are an
//! upgrade, a word that it is to try again, or that the event at which it fails is passed over.

use proffer_model::fact::{BlamedEvent, Effect, Fact, FrameworkStanding, SkippedEvent};
use proffer_model::framework::{Event as Told, Standing};
use proffer_model::{FrameworkId, Reason, Remedy, code};

use crate::action::{Action, Reply};
use crate::event::Ticket;
use crate::framework::{Framework, Item};
use crate::machine::Core;

/// Of an event's content as many characters are told: enough to know it again, not to fill a screen.
const CONTENT_CHARS_MAX: usize = 160;
/// Skipped events that are remembered for `framework show`: the oldest go first.
pub(crate) const SKIPPED_MAX: usize = 16;
/// The life-cycle event's id: there is at most one.
const STARTED: &str = "started";

impl Core {
    /// It steps no more; tasks and queue stay. `blamed` is the event that it fails at, if it is one.
    pub(crate) fn quarantine(
        &mut self,
        framework: FrameworkId,
        fault: &Reason,
        blamed: Option<BlamedEvent>,
    ) {
        let Some(fw) = self
            .frameworks
            .get_mut(&framework)
            .filter(|fw| fw.is_active())
        else {
            return;
        };
        fw.record.standing = FrameworkStanding::Quarantined(fault.clone());
        let (record, clients) = (fw.record.clone(), fw.clients.clone());
        self.facts.push(Fact::FrameworkSet(Box::new(record)));
        self.blame(framework, blamed);
        let why = Reason::new(
            code::FRAMEWORK_INACTIVE,
            Remedy::ChooseAnew,
            "the framework is in quarantine",
        );
        self.rescind_framework_offers(framework, &why);
        for client in clients.into_values() {
            self.drop_client_filters(client);
            self.feed.client_changed(client);
        }
        self.demands_changed(framework);
        self.refuse_requests(framework, "the framework is in quarantine");
        self.emit(Action::StopFramework { framework });
        let text = format!("quarantined: {}", fault.text);
        self.note(
            Some(framework),
            Reason {
                text,
                ..fault.clone()
            },
        );
    }

    fn blame(&mut self, framework: FrameworkId, blamed: Option<BlamedEvent>) {
        let effect = Effect::EventBlamed { event: blamed };
        self.apply_effect(framework, &effect);
        self.facts.push(Fact::Changed { framework, effect });
    }

    /// An event of a queue by a name that is the same after a restart of the host, and in words.
    pub(crate) fn describe(&self, framework: FrameworkId, item: &Item) -> BlamedEvent {
        let fw = self.frameworks.get(&framework);
        let (id, what) = match item {
            Item::Started(cause) => (
                STARTED.to_owned(),
                format!("started: {cause:?}").to_lowercase(),
            ),
            Item::Update { update, .. } => (
                format!("update:{}:{}", update.task, update.sequence),
                format!(
                    "update {} of task {}: {}, {}",
                    update.sequence,
                    update.task,
                    update.state.name(),
                    update.why
                ),
            ),
            Item::Durable(number) => {
                let event = fw.and_then(|fw| fw.durable.get(number));
                let what = event.map_or_else(|| "an event".to_owned(), in_words);
                (format!("event:{number}"), what)
            }
            Item::Timer(id, _) => (format!("timer:{id}"), format!("timer {id}")),
            Item::Request(id) => {
                let request = self.requests.get(id).map(|waiting| &waiting.request);
                let what = request.map_or_else(String::new, |r| format!("{} {}", r.method, r.path));
                (format!("request:{}", id.0), format!("request {what}"))
            }
            Item::Offer(id) => (format!("offer:{}", id.0), format!("offer {}", id.0)),
            Item::Rescinded(gone) => (
                format!("rescinded:{}", gone.id),
                format!("offer {} rescinded: {}", gone.id, gone.why),
            ),
            Item::Told(event) => ("answer".to_owned(), in_words(event)),
        };
        BlamedEvent {
            id,
            what: what.chars().take(CONTENT_CHARS_MAX).collect(),
        }
    }

    /// An operator wants the event that a quarantined framework fails at passed over, for good.
    pub(crate) fn event_skip_asked(&mut self, ticket: Ticket, name: &str, id: &str) {
        match self.skip_event(name, id) {
            Ok(()) => self.reply(ticket, Reply::Done),
            Err(why) => self.reply(ticket, Reply::Refused(why)),
        }
    }

    fn skip_event(&mut self, name: &str, id: &str) -> Result<(), Reason> {
        let conflict = |text: String| Reason::new(code::INVALID, Remedy::ChooseAnew, text);
        let framework = self.find_framework(name)?;
        let fw = self.frameworks.get_mut(&framework);
        let Some(fw) = fw.filter(|fw| fw.is_quarantined() && fw.upgrade.is_none()) else {
            let text = format!("{name} is not in quarantine, so nothing of it is passed over");
            return Err(conflict(text));
        };
        let Some(blamed) = fw.blamed.clone() else {
            return Err(conflict(format!(
                "no single event keeps {name} in quarantine; `framework resume {name}` has it try again"
            )));
        };
        if blamed.id != id {
            return Err(conflict(format!(
                "{name} fails at '{}' ({}), not at '{id}'",
                blamed.id, blamed.what
            )));
        }
        let items: Vec<Item> = fw.queue.iter().cloned().collect();
        let found = items
            .iter()
            .position(|item| self.describe(framework, item).id == id);
        let mut effects = Vec::new();
        match found {
            Some(index) => self.take_item(framework, &items[index], &mut effects),
            None if id == STARTED => self.apply_now(framework, Effect::Started, &mut effects),
            // An agent keeps it, or a timer brings it.
            None => {
                let text = format!("'{id}' has not been told again since this host began");
                return Err(Reason::new(code::UNKNOWN, Remedy::Retry, text));
            }
        }
        if let (Some(fw), Some(index)) = (self.frameworks.get_mut(&framework), found) {
            fw.queue.remove(index);
        }
        let skipped = SkippedEvent {
            id: blamed.id,
            what: blamed.what,
            at: self.now,
        };
        self.apply_now(
            framework,
            Effect::EventSkipped(Box::new(skipped)),
            &mut effects,
        );
        let changed = |effect| Fact::Changed { framework, effect };
        self.facts.extend(effects.into_iter().map(changed));
        self.leave_quarantine(framework);
        self.start_framework(framework);
        if let Some(fw) = self
            .frameworks
            .get_mut(&framework)
            .filter(|_| id == STARTED)
        {
            fw.queue.retain(|item| !matches!(item, Item::Started(_)));
        }
        Ok(())
    }

    pub(crate) fn framework_resume_asked(&mut self, ticket: Ticket, name: &str) {
        let framework = match self.find_framework(name) {
            Ok(framework) => framework,
            Err(why) => return self.reply(ticket, Reply::Refused(why)),
        };
        let waits = self
            .frameworks
            .get(&framework)
            .is_some_and(|fw| fw.is_quarantined() && fw.upgrade.is_none());
        if !waits {
            let text = format!("{name} is not in quarantine");
            let why = Reason::new(code::INVALID, Remedy::ChooseAnew, text);
            return self.reply(ticket, Reply::Refused(why));
        }
        self.leave_quarantine(framework);
        self.start_framework(framework);
        self.reply(ticket, Reply::Done);
    }

    /// It takes part again; who makes its actor is the caller's.
    pub(crate) fn leave_quarantine(&mut self, framework: FrameworkId) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        fw.record.standing = FrameworkStanding::Active;
        let (record, clients) = (fw.record.clone(), fw.clients.clone());
        self.facts.push(Fact::FrameworkSet(Box::new(record)));
        self.blame(framework, None);
        for client in clients.into_values() {
            self.feed.client_changed(client);
        }
        self.demands_changed(framework);
        self.tell_missed_changes(framework);
        self.everything_wanted();
    }

    /// What became of agents meanwhile: of each the newest.
    fn tell_missed_changes(&mut self, framework: FrameworkId) {
        let missed = self
            .frameworks
            .get_mut(&framework)
            .map(|fw| std::mem::take(&mut fw.changes_missed))
            .unwrap_or_default();
        for change in missed.into_values() {
            let told = Told::AgentsChanged(vec![change]);
            self.enqueue(framework, Item::Told(Box::new(told)));
        }
    }
}

impl Framework {
    pub(crate) fn is_quarantined(&self) -> bool {
        matches!(self.record.standing, FrameworkStanding::Quarantined(_))
    }
}

/// The host's own events in a few words.
fn in_words(event: &Told) -> String {
    match event {
        Told::Updates(rows) => rows.first().map_or_else(String::new, |update| {
            format!(
                "update of task {}: {}, {}",
                update.task,
                update.state.name(),
                update.why
            )
        }),
        Told::Rejected(rows) => rows.first().map_or_else(String::new, |no| {
            format!("{} of '{}' rejected: {}", no.command, no.subject, no.why)
        }),
        Told::AgentsChanged(rows) => rows.first().map_or_else(String::new, |change| {
            let standing = match change.standing {
                Standing::Disconnected => "disconnected",
                Standing::Unreachable => "unreachable",
                Standing::Gone => "gone",
                Standing::Returned => "returned",
            };
            format!("{} {standing}", change.agent)
        }),
        other => format!("{other:?}"),
    }
}
