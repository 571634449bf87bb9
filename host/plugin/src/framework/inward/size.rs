//! How large an answer is, roughly as the store will see it. Every list entry weighs something, so
//! that a million empty ones are not free.

use super::Size;
use crate::bindings::framework::proffer::framework::model as wit;

/// Of a record: its numbers, and the lengths of its texts.
const ROW: usize = 32;
/// Of a text or number in a list.
const CELL: usize = 8;

impl Size {
    fn text(&mut self, text: &str) {
        self.record += CELL + text.len();
    }

    fn texts(&mut self, texts: &[String]) {
        for text in texts {
            self.text(text);
        }
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    fn cells(&mut self, count: usize) {
        self.record = self.record.saturating_add(count.saturating_mul(CELL));
    }

    fn body(&mut self, bytes: usize) {
        self.bodies = self.bodies.saturating_add(bytes);
    }

    pub(super) fn template(&mut self, row: &wit::Template) {
        self.record += ROW;
        self.text(&row.name);
        match &row.executor {
            wit::Executor::Process(argv) => self.texts(argv),
            wit::Executor::Shell(line) => self.text(line),
            wit::Executor::Wasm(input) => self.input(input),
            wit::Executor::Container(container) => {
                self.text(&container.image);
                self.texts(&container.argv);
            }
        }
        self.pairs(&row.env);
        self.inputs(&row.inputs);
        for check in &row.checks {
            self.record += ROW;
            match &check.probe {
                wit::Probe::Command(argv) => self.texts(argv),
                wit::Probe::Http(probe) => self.text(&probe.path),
                wit::Probe::Tcp(_) => {}
            }
        }
        self.text(&row.group);
        self.pairs(&row.labels);
        self.pairs(&row.options);
    }

    pub(super) fn command(&mut self, command: &wit::Command) {
        use wit::Command as C;
        self.record += ROW;
        match command {
            C::Accept(row) => self.accept(row),
            C::Decline(row) => {
                self.cells(row.offers.len());
                self.text(&row.why);
            }
            C::Keep(ids) => self.cells(ids.len()),
            C::AnswerInverse(row) => {
                self.texts(&row.tasks);
                self.text(&row.why);
            }
            C::Kill(row) => {
                self.text(&row.task);
                self.text(&row.why);
            }
            C::Reconcile(row) => {
                self.text(&row.token);
                self.texts(&row.tasks);
            }
            C::Suppress(texts) | C::Revive(texts) | C::ClearDemand(texts) => self.texts(texts),
            C::SetDemand(row) => self.demand(row),
            C::SetTimer(row) => self.text(&row.id),
            C::CancelTimer(text) | C::ListHoldings(text) => self.text(text),
            C::SetAvailability(row) => self.text(&row.group),
            C::Respond(row) => {
                self.body(row.body.len());
                self.pairs(&row.headers);
                self.texts(&row.topics);
            }
            C::Publish(row) => {
                self.body(row.data.len());
                self.texts(&row.topics);
            }
            C::Message(row) => {
                self.text(&row.task);
                self.body(row.data.len());
            }
            C::Explain(row) => {
                self.text(&row.token);
                self.texts(&row.demands);
            }
            C::Finish(row) => self.text(&row.text),
        }
    }

    fn accept(&mut self, row: &wit::Accept) {
        for part in &row.parts {
            self.record += ROW;
            self.cells(part.offers.len());
            for operation in &part.operations {
                self.record += ROW;
                self.text(&operation.token);
                match &operation.act {
                    wit::Act::Launch(tasks) | wit::Act::LaunchGroup(tasks) => {
                        for task in tasks {
                            self.task(task);
                        }
                    }
                    wit::Act::Reserve(row) => {
                        self.piles(&row.piles);
                        self.text(&row.role);
                        self.text(&row.label);
                    }
                    wit::Act::Unreserve(piles) => self.piles(piles),
                    wit::Act::CreateVolume(row) => {
                        self.text(&row.id);
                        self.pile(&row.take);
                    }
                    wit::Act::DestroyVolume(id) => self.text(id),
                }
            }
        }
    }

    fn task(&mut self, row: &wit::Task) {
        self.record += ROW;
        self.text(&row.id);
        self.piles(&row.piles);
        self.texts(&row.args);
        self.pairs(&row.env);
        self.inputs(&row.inputs);
        for mount in &row.mounts {
            self.text(&mount.volume);
            self.text(&mount.path);
        }
        self.text(&row.output);
    }

    fn inputs(&mut self, inputs: &[wit::Input]) {
        for input in inputs {
            self.input(input);
        }
    }

    fn input(&mut self, input: &wit::Input) {
        self.text(&input.source);
        self.text(&input.path);
        self.text(&input.digest);
    }

    fn piles(&mut self, piles: &[wit::Pile]) {
        for pile in piles {
            self.pile(pile);
        }
    }

    fn pile(&mut self, pile: &wit::Pile) {
        self.record += ROW;
        if let Some(terms) = &pile.terms {
            self.texts(&terms.reserved);
            self.text(&terms.label);
            self.text(&terms.volume);
            self.text(&terms.disk);
        }
        self.cells(pile.ports.len());
        self.others(&pile.other);
    }

    fn others(&mut self, others: &[wit::Other]) {
        for other in others {
            self.text(&other.kind);
            match &other.value {
                wit::Quantity::Scalar(_) => {}
                wit::Quantity::Ranges(ranges) => self.cells(ranges.len()),
                wit::Quantity::Items(items) => self.texts(items),
            }
        }
    }

    fn demand(&mut self, row: &wit::Demand) {
        self.record += ROW;
        self.text(&row.key);
        self.text(&row.role);
        self.cells(row.shape.fixed_ports.len());
        self.others(&row.shape.other);
        self.text(&row.shape.label);
        self.text(&row.shape.volume);
        for group in &row.constraints {
            self.cells(1);
            for constraint in group {
                self.text(&constraint.attribute);
                self.texts(&constraint.values);
            }
        }
        for near in &row.near {
            self.text(&near.attribute);
            self.text(&near.value);
        }
    }
}
