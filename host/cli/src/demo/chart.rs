//! A small chart for the terminal: a share over time.

use proffer_model::{Duration, Timestamp};

use crate::show;

/// Fits the narrowest usual terminal, with the scale beside it.
const WIDTH: usize = 64;

/// Rows: with eight steps in each, two percent can be told apart.
const HEIGHT: usize = 6;

/// Eighths of a character's height.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A share (thousandths) that holds from each time until the next.
pub(super) struct Series<'a> {
    pub(super) times: &'a [Timestamp],
    pub(super) share_milli: &'a [u32],
}

/// Draws a series from `begin` to `end`. Each column is the mean over its part of the time.
pub(super) fn draw(series: &Series<'_>, begin: Timestamp, end: Timestamp) -> String {
    let length = end.since(begin).0.max(1);
    let columns: Vec<u32> = (0..WIDTH as u64)
        .map(|column| {
            let from = begin.0 + length * column / WIDTH as u64;
            let to = begin.0 + length * (column + 1) / WIDTH as u64;
            mean(series, from, to.max(from + 1))
        })
        .collect();
    let mut text = String::new();
    for row in (0..HEIGHT).rev() {
        let label = match row {
            _ if row == HEIGHT - 1 => "100%",
            0 => "0%",
            _ => "",
        };
        let cells: String = columns.iter().map(|&share| cell(share, row)).collect();
        text.push_str(format!("{label:>5} |{}", cells.trim_end()).trim_end());
        text.push('\n');
    }
    text.push_str(&format!("      +{}\n", "-".repeat(WIDTH)));
    let last = show::span(Duration(length));
    let pad = WIDTH.saturating_sub(last.len() + 2);
    text.push_str(&format!("       0s{}{last}\n", " ".repeat(pad)));
    text
}

/// The mean share between two times, weighed by how long each holds.
fn mean(series: &Series<'_>, from: u64, to: u64) -> u32 {
    let mut sum = 0;
    for (index, (time, share)) in series.times.iter().zip(series.share_milli).enumerate() {
        let until = series.times.get(index + 1).map_or(u64::MAX, |next| next.0);
        let (start, stop) = (time.0.max(from), until.min(to));
        sum += u64::from(*share) * stop.saturating_sub(start);
    }
    u32::try_from(sum / (to - from)).unwrap_or(u32::MAX)
}

fn cell(share_milli: u32, row: usize) -> char {
    let steps = HEIGHT * (BLOCKS.len() - 1);
    let mut filled = share_milli.min(1_000) as usize * steps / 1_000;
    // Little is not nothing.
    if share_milli > 0 {
        filled = filled.max(1);
    }
    BLOCKS[filled
        .saturating_sub(row * (BLOCKS.len() - 1))
        .min(BLOCKS.len() - 1)]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_share_is_drawn_as_it_rises_and_falls() {
        let times: Vec<Timestamp> = [1_000, 2_000, 3_000, 4_000, 4_900].map(Timestamp).into();
        let series = Series {
            times: &times,
            share_milli: &[0, 1_000, 500, 5, 0],
        };
        // Snapshots drop what all lines are indented by, so each is taken without its own.
        let drawn = draw(&series, Timestamp(1_000), Timestamp(5_000));
        let lines: Vec<&str> = drawn.lines().map(str::trim_start).collect();
        expect![[r#"
            100% |                ████████████████
            |                ████████████████
            |                ████████████████
            |                ████████████████████████████████
            |                ████████████████████████████████
            0% |                ████████████████████████████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
            +----------------------------------------------------------------
            0s                                                          4.0s"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn nothing_and_one_moment_can_be_drawn_too() {
        let nothing = Series {
            times: &[],
            share_milli: &[],
        };
        let empty = draw(&nothing, Timestamp(5), Timestamp(5));
        assert!(!empty.contains('█') && empty.contains("1ms"), "{empty}");
        let full = Series {
            times: &[Timestamp(5)],
            share_milli: &[2_000],
        };
        let drawn = draw(&full, Timestamp(5), Timestamp(6));
        assert_eq!(drawn.matches('█').count(), WIDTH * HEIGHT);
    }
}
