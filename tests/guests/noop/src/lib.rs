//! A framework for the benchmark of tasks per second: it launches tasks that do nothing as fast as it
//! is offered room, until so many have ended. `GET /` tells the counts.

use proffer_sdk::framework::{
    Cause, Context, Demand, Framework, Host, Offer, Request, Shape, Step, TaskState, Template,
    Update, is_final,
};
use serde::{Deserialize, Serialize};

/// The key of the counts in the state.
const COUNTS: &str = "counts";

/// Launches of one step: a command of a hundred bytes each stays far below the contract's 1 MiB.
const STEP_LAUNCHES_MAX: usize = 2_000;

/// What the operator wants.
#[derive(Deserialize)]
struct Config {
    /// How many tasks.
    tasks: u64,
    /// What each holds.
    shape: String,
    /// The component, if the tasks are components: a source as in `wit/framework`.
    #[serde(default)]
    component: String,
    /// The program and its arguments, if they are processes; a component's arguments otherwise.
    argv: Vec<String>,
}

/// A cache of the state; `start` fills it.
struct Noop {
    role: String,
    shape: Shape,
    config: Config,
    counts: Counts,
}

#[derive(Default, Serialize, Deserialize)]
struct Counts {
    launched: u64,
    finished: u64,
    otherwise: u64,
    /// Why the last one ended otherwise.
    why: String,
}

impl Framework for Noop {
    fn start(context: &Context, host: &mut Host<'_>) -> Result<Self, String> {
        let config: Config =
            serde_json::from_str(&context.config).map_err(|error| error.to_string())?;
        Ok(Self {
            role: context.roles.first().ok_or("no role")?.clone(),
            shape: config.shape.parse()?,
            counts: match host.state().get(COUNTS) {
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string())?,
                None => Counts::default(),
            },
            config,
        })
    }

    fn started(&mut self, step: &mut Step<'_>, _: Cause) -> Result<(), String> {
        self.restate_demand(step);
        Ok(())
    }

    fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
        let is_component = !self.config.component.is_empty();
        let template = step.template(if is_component {
            Template::wasm("noop", self.config.component.clone())
        } else {
            Template::process("noop", self.config.argv.clone())
        });
        let mut left = STEP_LAUNCHES_MAX;
        for offer in offers {
            let mut room = offer.room();
            let mut tasks = Vec::new();
            while left > 0
                && self.wanted() > 0
                && let Some(piles) = room.take(&self.shape)
            {
                let mut task = template.task(format!("t{}", self.counts.launched), piles);
                if is_component {
                    task = task.args(self.config.argv.clone());
                }
                tasks.push(task);
                self.counts.launched += 1;
                left -= 1;
            }
            if !tasks.is_empty() {
                step.accept(proffer_sdk::framework::Accept {
                    // What is left over is wanted by the next step.
                    refuse: Some(0),
                    ..proffer_sdk::framework::Accept::launch([offer.id], tasks)
                });
            }
        }
        Ok(())
    }

    fn updates(&mut self, _: &mut Step<'_>, updates: Vec<Update>) -> Result<(), String> {
        for update in updates.iter().filter(|update| is_final(update.state)) {
            if update.state == TaskState::Finished {
                self.counts.finished += 1;
            } else {
                self.counts.otherwise += 1;
                self.counts.why = format!("{}: {}", update.why.code, update.why.text);
            }
        }
        Ok(())
    }

    fn request(&mut self, step: &mut Step<'_>, request: Request) -> Result<(), String> {
        step.respond(request.json(200, &self.counts));
        Ok(())
    }

    fn end(&mut self, step: &mut Step<'_>) -> Result<(), String> {
        let counts = serde_json::to_vec(&self.counts).map_err(|error| error.to_string())?;
        step.state().set(COUNTS, &counts)?;
        self.restate_demand(step);
        Ok(())
    }
}

impl Noop {
    fn wanted(&self) -> u64 {
        self.config.tasks - self.counts.launched
    }

    fn restate_demand(&self, step: &mut Step<'_>) {
        let count = u32::try_from(self.wanted()).unwrap_or(u32::MAX);
        step.set_demand(Demand::new("noop", &self.role, self.shape.clone(), count));
    }
}

proffer_sdk::export_framework!(Noop);
