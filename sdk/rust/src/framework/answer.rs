//! The answer as it grows: commands in order, templates once each.

use crate::framework::{Accept, Act, Answer, Command, OfferId, Operation, Part, Task, Template};

/// A template of this step's answer. It means nothing in another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateIndex(pub(crate) u32);

/// Gathers commands and templates.
#[derive(Default)]
pub(crate) struct AnswerBuilder {
    templates: Vec<Template>,
    commands: Vec<Command>,
}

impl AnswerBuilder {
    pub(crate) fn template(&mut self, template: Template) -> TemplateIndex {
        // A handful per answer: a linear search beats hashing a whole template.
        let known = self.templates.iter().position(|own| *own == template);
        let index = known.unwrap_or_else(|| {
            self.templates.push(template);
            self.templates.len() - 1
        });
        TemplateIndex(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub(crate) fn finish(self) -> Answer {
        let Self {
            templates,
            commands,
        } = self;
        Answer {
            templates,
            commands,
        }
    }
}

impl Accept {
    /// One part that launches tasks, each by itself, on offers of one agent and role.
    #[must_use]
    pub fn launch(
        offers: impl IntoIterator<Item = OfferId>,
        tasks: impl IntoIterator<Item = Task>,
    ) -> Self {
        Self {
            parts: vec![Part::launch(offers, tasks)],
            whole: false,
            refuse: None,
        }
    }

    /// With this filter for what is left over.
    #[must_use]
    pub fn refuse(mut self, refuse: u64) -> Self {
        self.refuse = Some(refuse);
        self
    }

    /// All parts, or nothing: a gang.
    #[must_use]
    pub fn gang(parts: impl IntoIterator<Item = Part>) -> Self {
        Self {
            parts: parts.into_iter().collect(),
            whole: true,
            refuse: None,
        }
    }
}

impl Part {
    /// Launches tasks, each by itself.
    #[must_use]
    pub fn launch(
        offers: impl IntoIterator<Item = OfferId>,
        tasks: impl IntoIterator<Item = Task>,
    ) -> Self {
        Self {
            agent: None,
            offers: offers.into_iter().collect(),
            operations: vec![Operation {
                token: String::new(),
                act: Act::Launch(tasks.into_iter().collect()),
            }],
        }
    }
}
