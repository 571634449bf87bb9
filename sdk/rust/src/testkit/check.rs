//! Whether an answer keeps to the contract.

use std::collections::BTreeSet;

use proffer_model::TaskId;

use crate::framework::{
    Accept, Act, Answer, Command, Context, Demand, Offer, OfferId, Part, Room, Task,
};
use crate::testkit::pool::Pool;

/// The contract's limit.
const COMMANDS_MAX: usize = 4_096;

/// How a step breaks the contract. A real host would refuse the command, or fail the step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The framework returned an error.
    #[error("the step failed: {0}")]
    Failed(String),
    /// More commands than an answer may have.
    #[error("the answer has {commands} commands; the most is {COMMANDS_MAX}")]
    TooManyCommands {
        /// How many.
        commands: usize,
    },
    /// An offer that is not in the batch, or is named by two commands.
    #[error("offer {offer} is named, and it is {problem}")]
    Offer {
        /// Which.
        offer: OfferId,
        /// What it is.
        problem: &'static str,
    },
    /// Offers of several agents or roles in one part.
    #[error("a part has offers of several agents or roles; one part for each")]
    MixedPart,
    /// A task that a host would refuse.
    #[error("task '{task}': {problem}")]
    Task {
        /// Which.
        task: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A demand that a host would refuse.
    #[error("demand '{key}': {problem}")]
    Demand {
        /// Its key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A response that nobody waits for, or with a status that HTTP does not have.
    #[error("response to request {request}: {problem}")]
    Response {
        /// To which.
        request: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Checks everything that the kit can know.
pub(super) fn check(
    answer: &Answer,
    offers: &[Offer],
    pool: &Pool,
    context: &Context,
    open: &[u64],
) -> Result<(), Violation> {
    let mut check = Check {
        answer,
        offers,
        pool,
        settled: BTreeSet::new(),
        launched: BTreeSet::new(),
    };
    if answer.commands.len() > COMMANDS_MAX {
        return Err(Violation::TooManyCommands {
            commands: answer.commands.len(),
        });
    }
    for command in &answer.commands {
        match command {
            Command::Accept(accept) => check.accept(accept)?,
            Command::Decline(decline) => check.settle(&decline.offers)?,
            Command::Keep(ids) => check.settle(ids)?,
            Command::SetDemand(demand) => check_demand(demand, context)?,
            Command::Respond(response) => {
                let problem = if !open.contains(&response.request) {
                    "nobody waits for it"
                } else if !(200..600).contains(&response.status) {
                    "the status is not 200 to 599"
                } else {
                    continue;
                };
                return Err(Violation::Response {
                    request: response.request,
                    problem,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

struct Check<'a> {
    answer: &'a Answer,
    offers: &'a [Offer],
    pool: &'a Pool,
    settled: BTreeSet<OfferId>,
    launched: BTreeSet<&'a str>,
}

impl<'a> Check<'a> {
    fn settle(&mut self, ids: &[OfferId]) -> Result<(), Violation> {
        for id in ids {
            let problem = if !self.offers.iter().any(|offer| offer.id == *id) {
                "not in this batch"
            } else if !self.settled.insert(*id) {
                "settled already"
            } else {
                continue;
            };
            return Err(Violation::Offer {
                offer: *id,
                problem,
            });
        }
        Ok(())
    }

    fn accept(&mut self, accept: &'a Accept) -> Result<(), Violation> {
        for part in &accept.parts {
            self.settle(&part.offers)?;
            self.part(part)?;
        }
        Ok(())
    }

    fn part(&mut self, part: &'a Part) -> Result<(), Violation> {
        let own: Vec<&Offer> = self
            .offers
            .iter()
            .filter(|offer| part.offers.contains(&offer.id))
            .collect();
        let places: BTreeSet<_> = own.iter().map(|offer| (offer.agent, &offer.role)).collect();
        if places.len() > 1 {
            return Err(Violation::MixedPart);
        }
        let mut room = Room::new(own.iter().flat_map(|offer| offer.piles.clone()).collect());
        for operation in &part.operations {
            let (Act::Launch(tasks) | Act::LaunchGroup(tasks)) = &operation.act else {
                continue;
            };
            for task in tasks {
                self.task(task, &mut room)
                    .map_err(|problem| Violation::Task {
                        task: task.id.clone(),
                        problem,
                    })?;
            }
        }
        Ok(())
    }

    fn task(&mut self, task: &'a Task, room: &mut Room) -> Result<(), String> {
        TaskId::new(task.id.as_str()).map_err(|error| error.to_string())?;
        if self.pool.task(&task.id).is_some() || !self.launched.insert(&task.id) {
            return Err("there is a task of this id already".to_owned());
        }
        if task.template as usize >= self.answer.templates.len() {
            return Err(format!("there is no template {}", task.template));
        }
        if task.output.contains('/') {
            return Err(format!("output name '{}' holds a slash", task.output));
        }
        for pile in &task.piles {
            if !room.take_pile(pile) {
                return Err(format!(
                    "its pile {pile:?} is not within what is left of its offers: {:?}",
                    room.piles()
                ));
            }
        }
        Ok(())
    }
}

fn check_demand(demand: &Demand, context: &Context) -> Result<(), Violation> {
    let problem = if demand.key.is_empty() || demand.key.len() > 255 {
        "its key is not 1 to 255 bytes".to_owned()
    } else if !context.roles.contains(&demand.role) {
        format!("'{}' is not one of the framework's roles", demand.role)
    } else {
        return Ok(());
    };
    Err(Violation::Demand {
        key: demand.key.clone(),
        problem,
    })
}
