//! A framework that does this and that: batch tasks and tasks that are kept running, launches by
//! ones, twos and groups, wrong launches, kills, reconciles, offers hoarded, declined, left alone.
//!
//! All of it from the step's own randomness, and all that it must remember in its state: what it
//! believes of its tasks is what the simulator compares with what is.
//!
//! | key | value |
//! |---|---|
//! | `left` | batch tasks still to be launched |
//! | `keep` | service tasks wanted |
//! | `next` | the number in the next task's id |
//! | `stated` | the demand that stands |
//! | `t/ID` | `b` or `s`: a task that has not ended |

use proffer_sdk::framework::{
    Accept, Act, Cause, Context, Demand, Fired, Framework, Host, Offer, Operation, Part, Request,
    Shape, State, Step, Task, TaskState, Template, Update, is_final,
};

/// What it is told by its operator: `batch keep hoard`.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Batch tasks to be run to their end.
    pub batch: u64,
    /// Service tasks to be kept running.
    pub keep: u64,
    /// Of a hundred offers, so many are kept until their lease ends.
    pub hoard: u64,
}

impl Wishes {
    /// As configuration.
    #[must_use]
    pub fn to_config(self) -> String {
        format!("{} {} {}", self.batch, self.keep, self.hoard)
    }

    fn of_config(config: &str) -> Result<Self, String> {
        let mut numbers = config.split(' ').map(str::parse);
        let mut next = || match numbers.next() {
            Some(Ok(number)) => Ok(number),
            _ => Err(format!("'{config}' is not three numbers")),
        };
        Ok(Self {
            batch: next()?,
            keep: next()?,
            hoard: next()?,
        })
    }
}

/// The framework. All of it is in its state.
#[derive(Debug)]
pub struct Restless {
    wishes: Wishes,
    role: String,
}

/// What a task needs.
const SHAPE: &str = "cpus:0.5;mem:200";
/// The timer that never ends.
const BEAT: &str = "beat";
/// The timer that ends a suppression.
const AWAKE: &str = "awake";

impl Framework for Restless {
    fn start(context: &Context, _: &mut Host<'_>) -> Result<Self, String> {
        Ok(Self {
            wishes: Wishes::of_config(&context.config)?,
            role: context.roles.first().cloned().unwrap_or_default(),
        })
    }

    fn started(&mut self, step: &mut Step<'_>, cause: Cause) -> Result<(), String> {
        if matches!(cause, Cause::First) {
            write(&mut step.state(), "left", self.wishes.batch)?;
            write(&mut step.state(), "keep", self.wishes.keep)?;
        }
        step.set_timer_after(BEAT, 5_000);
        Ok(())
    }

    fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
        for offer in offers {
            let wanted = wanted(&mut step.state())?;
            let throw = step.host().random_below(100);
            if throw < self.wishes.hoard {
                step.keep([offer.id]);
            } else if wanted == 0 || throw < self.wishes.hoard + 12 {
                self.turn_down(step, &offer);
            } else if throw > 96 {
                wrong_launch(step, &offer)?;
            } else {
                launch(step, offer, wanted)?;
            }
        }
        Ok(())
    }

    fn updates(&mut self, step: &mut Step<'_>, updates: Vec<Update>) -> Result<(), String> {
        for update in updates {
            let key = format!("t/{}", update.task);
            let Some(kind) = step.state().get(&key) else {
                continue;
            };
            if is_final(update.state) {
                step.state().delete(&key).map_err(|e| format!("{e:?}"))?;
                if kind == b"b" && update.state != TaskState::Finished {
                    change(&mut step.state(), "left", 1)?;
                }
            } else if update.state == TaskState::Running && step.host().random_below(15) == 0 {
                step.kill(&update.task, "because");
            }
        }
        Ok(())
    }

    fn timers(&mut self, step: &mut Step<'_>, fired: Vec<Fired>) -> Result<(), String> {
        for timer in fired {
            if timer.id == AWAKE {
                step.revive([]);
                continue;
            }
            step.set_timer_after(BEAT, 5_000);
            match step.host().random_below(8) {
                0 => step.reconcile("all", []),
                1 => {
                    let own = tasks(&mut step.state());
                    let strange = "nobody-knows-this".to_owned();
                    step.reconcile("some", own.into_iter().map(|(id, _)| id).chain([strange]));
                }
                2 => {
                    if let Some((id, _)) = tasks(&mut step.state()).first() {
                        step.kill_within(id, 100, "it is time");
                    }
                }
                3 => {
                    step.suppress([]);
                    step.set_timer_after(AWAKE, 3_000);
                }
                4 => step.revive([]),
                _ => {}
            }
        }
        Ok(())
    }

    fn request(&mut self, step: &mut Step<'_>, request: Request) -> Result<(), String> {
        match request.path.as_str() {
            "/poison" => return Err("a request that no step survives".to_owned()),
            "/drain" => {
                write(&mut step.state(), "keep", 0)?;
                for (id, kind) in tasks(&mut step.state()) {
                    if kind == b's' {
                        step.kill(id, "no more");
                    }
                }
                step.respond(request.text(200, "draining"));
            }
            _ => {
                let count = tasks(&mut step.state()).len();
                step.respond(request.text(200, count.to_string()));
            }
        }
        Ok(())
    }

    fn end(&mut self, step: &mut Step<'_>) -> Result<(), String> {
        let wanted = wanted(&mut step.state())?;
        if read(&mut step.state(), "stated")? == wanted {
            return Ok(());
        }
        write(&mut step.state(), "stated", wanted)?;
        if wanted == 0 {
            step.clear_demand("work");
        } else {
            let shape: Shape = SHAPE.parse()?;
            let count = u32::try_from(wanted).unwrap_or(u32::MAX);
            step.set_demand(Demand::new("work", &self.role, shape, count));
        }
        Ok(())
    }
}

impl Restless {
    /// In one of the ways in which an offer is not used.
    fn turn_down(&self, step: &mut Step<'_>, offer: &Offer) {
        let refuse = match step.host().random_below(6) {
            // Not a word: the host declines it for its own time.
            0 => return,
            1 => Some(0),
            2 => Some(1_000),
            3 => None,
            4 => Some(20_000),
            _ => Some(60_000),
        };
        step.decline([offer.id], refuse, "not now");
    }
}

/// One to three tasks, or a group of two.
fn launch(step: &mut Step<'_>, offer: Offer, wanted: u64) -> Result<(), String> {
    let shape: Shape = SHAPE.parse()?;
    let mut room = offer.room();
    let group = step.host().random_below(6) == 0;
    let count = if group {
        2
    } else {
        1 + step.host().random_below(3)
    };
    let mut launched = Vec::new();
    for _ in 0..count.min(wanted) {
        let Some(piles) = room.take(&shape) else {
            break;
        };
        let (kind, letter) = if read(&mut step.state(), "left")? > 0 {
            change(&mut step.state(), "left", -1)?;
            (b'b', "batch")
        } else {
            (b's', "service")
        };
        let number = read(&mut step.state(), "next")? + 1;
        write(&mut step.state(), "next", number)?;
        let id = format!("{letter}-{number}");
        set(&mut step.state(), &format!("t/{id}"), &[kind])?;
        let milliseconds = match kind {
            b'b' => 200 + step.host().random_below(6_000),
            _ => 100_000_000,
        };
        let line = format!("run {milliseconds}");
        let template = step.template(Template::shell(letter, line));
        let task: Task = template.task(id, piles);
        launched.push(task);
    }
    if launched.is_empty() {
        step.decline([offer.id], Some(1_000), "too small");
    } else if group {
        step.accept(Accept {
            parts: vec![Part {
                agent: None,
                offers: vec![offer.id],
                operations: vec![Operation {
                    token: String::new(),
                    act: Act::LaunchGroup(launched),
                }],
            }],
            whole: false,
            refuse: Some(0),
        });
    } else {
        step.launch([offer.id], launched);
    }
    Ok(())
}

/// A task that no offer holds: it is an error, and the offer goes back.
fn wrong_launch(step: &mut Step<'_>, offer: &Offer) -> Result<(), String> {
    let number = read(&mut step.state(), "next")? + 1;
    write(&mut step.state(), "next", number)?;
    let template = step.template(Template::shell("wrong", "run 1"));
    let mut room = offer.room();
    let piles = room.take(&"cpus:0.1".parse()?).unwrap_or_default();
    let piles = piles.into_iter().map(|mut pile| {
        pile.cpus = 1_000_000;
        pile
    });
    let task = template.task(format!("wrong-{number}"), piles.collect());
    step.launch([offer.id], [task]);
    Ok(())
}

/// Tasks that could be launched now.
fn wanted(state: &mut State<'_>) -> Result<u64, String> {
    let services = tasks(state)
        .iter()
        .filter(|(_, kind)| *kind == b's')
        .count() as u64;
    let keep = read(state, "keep")?;
    Ok(read(state, "left")? + keep.saturating_sub(services))
}

fn tasks(state: &mut State<'_>) -> Vec<(String, u8)> {
    state
        .scan("t/")
        .map(|(key, kind)| (key[2..].to_owned(), kind.first().copied().unwrap_or(0)))
        .collect()
}

fn read(state: &mut State<'_>, key: &str) -> Result<u64, String> {
    match state.get(key) {
        None => Ok(0),
        Some(bytes) => String::from_utf8_lossy(&bytes)
            .parse()
            .map_err(|_| format!("{key} is not a number")),
    }
}

fn write(state: &mut State<'_>, key: &str, number: u64) -> Result<(), String> {
    set(state, key, number.to_string().as_bytes())
}

fn change(state: &mut State<'_>, key: &str, by: i64) -> Result<(), String> {
    let number = read(state, key)?.saturating_add_signed(by);
    write(state, key, number)
}

fn set(state: &mut State<'_>, key: &str, value: &[u8]) -> Result<(), String> {
    state
        .set(key, value)
        .map_err(|error| format!("{key}: {error:?}"))
}
