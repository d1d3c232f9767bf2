//! The score as Markdown: for the terminal and for `docs/exam.md`.
//!
//! Takes scores, hands on text. It sums nothing up.

use std::fmt::{self, Write as _};

use super::{
    judge::{CLASSES, Role},
    recording::Group,
    score::{IN_TIME_S, Mistake, Play, Score, Share},
};

/// All tables of these plays: sums and confusion matrices by group, calibration, and each mistake.
pub fn text(plays: &[Play]) -> Result<String, fmt::Error> {
    let of = |group: Group| {
        Score::of(&plays.iter().filter(|play| play.group == group).collect::<Vec<_>>())
    };
    let scores = Group::ALL.map(|group| (group, of(group)));
    let scores = scores.into_iter().filter(|(_, score)| score.plays > 0);
    let scores: Vec<(Group, Score)> = scores.collect();
    let mut text = String::new();
    sums(&scores, &mut text)?;
    for (group, score) in &scores {
        writeln!(text, "\n**Confusion matrix, {}**", group.name())?;
        matrix(score, &mut text)?;
    }
    calibration(&Score::of(&plays.iter().collect::<Vec<_>>()), &mut text)?;
    for (group, score) in &scores {
        let lists = [&score.wrong, &score.missed, &score.duplicates];
        let count: usize = lists.iter().map(|list| list.len()).sum();
        writeln!(text, "\n**Mistakes, {}: {count}**\n", group.name())?;
        lists.into_iter().flatten().try_for_each(|one| mistake(one, &mut text))?;
    }
    Ok(text.trim_end().to_owned())
}

/// The plays without a committed tape, given a line each.
pub fn left_out(names: &str) -> String {
    let names: Vec<&str> = names.lines().collect();
    let none = if names.is_empty() { "none" } else { "" };
    format!("\n\n**Too large to commit: {}**\n\n{none}{}", names.len(), names.join(", "))
}

fn sums(scores: &[(Group, Score)], text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "| programs | plays | precision, ten cut times | precision, end | recall, end | accused within {IN_TIME_S:.0} s | \
         median time to verdict, s | longest, s | more than one finding |"
    )?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for (group, score) in scores {
        let middle = score.times_s.get(score.times_s.len() / 2);
        let time =
            |time: Option<&f64>| time.map_or("–".to_owned(), |time_s| format!("{time_s:.0}"));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            group.name(),
            score.plays,
            share(score.precision),
            share(score.precision_at_end),
            share(score.recall),
            share(score.in_time),
            time(middle),
            time(score.times_s.last()),
            score.duplicates.len()
        )?;
    }
    Ok(())
}

fn share(share: Share) -> String {
    let Share { right, all } = share;
    if all == 0 {
        "–".to_owned()
    } else {
        format!("{:.1} % ({right}/{all})", 100.0 * share.value())
    }
}

fn matrix(score: &Score, text: &mut String) -> fmt::Result {
    write!(text, "\n| functions |")?;
    CLASSES.iter().try_for_each(|class| write!(text, " {class} |"))?;
    write!(text, "\n|---|")?;
    CLASSES.iter().try_for_each(|_| write!(text, "--:|"))?;
    text.push('\n');
    for role in Role::ALL {
        for (matrix, when) in
            [(&score.matrix, "at the end"), (&score.matrix_of_cuts, "at ten cut times")]
        {
            let Some(row) = matrix.get(&role) else { continue };
            write!(text, "| {}, {when} |", role.name())?;
            row.iter().try_for_each(|count| write!(text, " {count} |"))?;
            text.push('\n');
        }
    }
    Ok(())
}

fn calibration(score: &Score, text: &mut String) -> fmt::Result {
    writeln!(text, "\n**Calibration, all plays and cut times**\n")?;
    writeln!(text, "| confidence | accusations | right |\n|---|--:|--:|")?;
    for (tenth, share) in (0_u32..).zip(score.calibration).filter(|(_, share)| share.all > 0) {
        let (from, until) = (f64::from(tenth) / 10.0, f64::from(tenth + 1) / 10.0);
        writeln!(
            text,
            "| {from:.1} to {until:.1} | {} | {:.1} % |",
            share.all,
            100.0 * share.value()
        )?;
    }
    Ok(())
}

fn mistake(mistake: &Mistake, text: &mut String) -> fmt::Result {
    let Mistake { play, what, said } = mistake;
    let said = if said.is_empty() { String::new() } else { format!(" – *{said}*") };
    writeln!(text, "- `{play}` {what}{said}")
}
