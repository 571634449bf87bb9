//! `replay`, and `explain --at`: a recording run through the core again.

use std::path::{Path, PathBuf};
use std::time::Instant as Clock;

use proffer_model::Timestamp;
use proffer_record::{Difference, Item, Recording, Replayer};
use proffer_rpc::operator::{Explanation, Subject};
use serde_json::json;

use crate::args::Replay;
use crate::failure::Failure;
use crate::instant::{Instant, utc};
use crate::json;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::show::span;
use crate::table::printable;

/// Items between two looks at the progress.
const LOOK_EVERY: u64 = 4_096;
/// Longest action that is printed whole; longer ones are shown around where they part.
const ACTION_SHOWN_MAX: usize = 2_000;

/// What became of a replay.
struct Replayed {
    replayer: Replayer,
    difference: Option<Box<Difference>>,
    /// What the recorder said of ends that were not the host's.
    ends: Vec<String>,
    /// Nothing after this was looked at.
    until: Option<Timestamp>,
}

/// Runs a recording through the core and says whether it does the same.
pub(crate) fn run(replay: &Replay, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let dir = find(replay.dir.as_deref(), settings)?;
    let begun = Clock::now();
    let replayed = replay_until(&dir, replay.until)?;
    let seconds = begun.elapsed().as_secs_f64();
    if as_json {
        print_json(&replayed, seconds);
    } else {
        print(&replayed, seconds);
    }
    match replayed.difference {
        None => Ok(()),
        Some(_) => anyhow::bail!("the replay differs from what was recorded"),
    }
}

/// What the live `explain` would have said then.
pub(crate) fn explain(
    subject: &Subject,
    at: Instant,
    recording: Option<&Path>,
    settings: &Settings,
) -> anyhow::Result<Explanation> {
    let dir = find(recording, settings)?;
    let replayed = replay_until(&dir, Some(at))?;
    if let Some(difference) = &replayed.difference {
        show(difference);
        anyhow::bail!("the recording was made by a proffer that decides otherwise");
    }
    let core = replayed
        .replayer
        .core()
        .ok_or_else(|| Failure::NotFound("the recording begins later".to_owned()))?;
    Ok(proffer_daemon::explain(core, subject)?)
}

/// The recording itself, or the one in a data directory.
pub(super) fn find(given: Option<&Path>, settings: &Settings) -> anyhow::Result<PathBuf> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => settings.data_dir()?,
    };
    let inside = dir.join("recording");
    if inside.is_dir() {
        return Ok(inside);
    }
    if dir.is_dir() {
        return Ok(dir);
    }
    let text = format!("there is no directory {}", dir.display());
    Err(Failure::NotFound(text).into())
}

fn replay_until(dir: &Path, until: Option<Instant>) -> anyhow::Result<Replayed> {
    let mut recording = Recording::open(dir)?;
    let mut progress = Progress::new();
    let mut replayed = Replayed {
        replayer: Replayer::default(),
        difference: None,
        ends: Vec::new(),
        until: None,
    };
    let mut items = 0_u64;
    while let Some(item) = recording.next_item()? {
        items += 1;
        if items.is_multiple_of(LOOK_EVERY) {
            show_progress(&mut progress, recording.progress());
        }
        let done = match item {
            Item::Segment(segment) => {
                if replayed.until.is_none() {
                    replayed.until = until.map(|until| until.from(segment.at));
                }
                if replayed.until.is_some_and(|until| segment.at > until) {
                    break;
                }
                replayed.replayer.segment(segment)
            }
            Item::Input(input) => {
                if replayed.until.is_some_and(|until| input.at > until) {
                    break;
                }
                replayed.replayer.input(input).map(drop)
            }
            Item::Ended(why) => {
                replayed
                    .ends
                    .push(why.unwrap_or_else(|| "it was cut off".to_owned()));
                Ok(())
            }
        };
        if let Err(difference) = done {
            replayed.difference = Some(difference);
            break;
        }
    }
    progress.done();
    Ok(replayed)
}

fn show_progress(progress: &mut Progress, (read, all): (u64, u64)) {
    let percent = read.saturating_mul(100) / all.max(1);
    let milestone = format!("{}", percent / 25);
    progress.at(&format!("replayed {percent}% of the recording"), &milestone);
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(events: u64, seconds: f64) -> f64 {
    (events as f64 / seconds.max(0.000_001)).round()
}

fn print(replayed: &Replayed, seconds: f64) {
    let totals = replayed.replayer.totals();
    let (runs, segments) = (totals.runs, totals.segments);
    outln!(
        "recorded   {} in {runs} runs of the host, {segments} segments",
        span(totals.span)
    );
    outln!("events     {}", totals.events);
    outln!(
        "actions    {}  sha256:{}",
        totals.actions,
        replayed.replayer.hash()
    );
    outln!(
        "replayed   in {seconds:.2}s, {} events/s",
        rate(totals.events, seconds)
    );
    for end in replayed.ends.iter().filter(|end| *end != "the host ended") {
        outln!(
            "note       a run's recording ends early: {}",
            printable(end)
        );
    }
    match &replayed.difference {
        None => outln!("result     identical, byte for byte"),
        Some(difference) => {
            outln!("result     different");
            show(difference);
        }
    }
}

fn show(difference: &Difference) {
    let absent = || "nothing".to_owned();
    let recorded = difference.recorded.clone().unwrap_or_else(absent);
    let replayed = difference.replayed.clone().unwrap_or_else(absent);
    let from = shown_from(&recorded, &replayed);
    outln!(
        "at         event {}, {}, action {}",
        difference.event,
        utc(difference.at),
        difference.action
    );
    outln!("told       {}", shorten(&difference.told, 0));
    outln!("recorded   {}", shorten(&recorded, from));
    outln!("replayed   {}", shorten(&replayed, from));
}

/// Where two long texts are worth being shown from.
fn shown_from(one: &str, other: &str) -> usize {
    let same = one
        .chars()
        .zip(other.chars())
        .take_while(|(a, b)| a == b)
        .count();
    match one.len().max(other.len()) {
        0..=ACTION_SHOWN_MAX => 0,
        _ => same.saturating_sub(ACTION_SHOWN_MAX / 4),
    }
}

fn shorten(text: &str, from: usize) -> String {
    let mut shown: String = text.chars().skip(from).take(ACTION_SHOWN_MAX).collect();
    if from > 0 {
        shown.insert_str(0, "… ");
    }
    if text.chars().count() > from + ACTION_SHOWN_MAX {
        shown.push_str(" …");
    }
    printable(&shown)
}

fn print_json(replayed: &Replayed, seconds: f64) {
    let totals = replayed.replayer.totals();
    let difference = replayed.difference.as_ref().map(|difference| {
        json!({
            "event": difference.event,
            "at_ms": difference.at.0,
            "told": difference.told,
            "action": difference.action,
            "recorded": difference.recorded,
            "replayed": difference.replayed,
        })
    });
    json::print(&json!({
        "identical": replayed.difference.is_none(),
        "difference": difference,
        "runs": totals.runs,
        "segments": totals.segments,
        "events": totals.events,
        "actions": totals.actions,
        "actions_sha256": replayed.replayer.hash(),
        "recorded_ms": totals.span.0,
        "seconds": seconds,
        "events_per_second": rate(totals.events, seconds),
        "ends": replayed.ends,
    }));
}
