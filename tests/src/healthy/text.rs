//! The outcomes of a run as text: a table for the documentation, and the list of accusations.

use anyhow::Result;

use super::run::Outcome;

/// The table, a row for each server.
pub fn table(outcomes: &[(&str, Result<Outcome>)]) -> String {
    let head = "| server | version | requests/s before | traced | events/s | call sites | leak | \
                suspect | growing | lost |\n|---|---|---|---|---|---|---|---|---|---|\n";
    let rows = outcomes.iter().map(|(name, outcome)| match outcome {
        Ok(outcome) => row(name, outcome),
        Err(_) => format!("| {name} | failed | | | | | | | | |\n"),
    });
    head.to_owned() + &rows.collect::<Vec<_>>().concat()
}

fn row(name: &str, outcome: &Outcome) -> String {
    let Outcome { version, before, during, judged, .. } = outcome;
    let growing = match (judged.count("growing"), judged.unexplained()) {
        (all, 0) => all.to_string(),
        (all, unexplained) => format!("{all} ({unexplained} unexplained)"),
    };
    let (events, sites) = (judged.events_per_s, judged.sites);
    let (leaks, suspects) = (judged.count("leak"), judged.count("suspect"));
    let lost = if judged.lost.is_empty() { "0" } else { &judged.lost };
    format!(
        "| {name} | {version} | {before:.0} | {during:.0} | {events:.0} | {sites} | {leaks} | \
         {suspects} | {growing} | {lost} |\n"
    )
}

/// Every accusation with its stack, reasons and tape; every failure.
pub fn accusations(outcomes: &[(&str, Result<Outcome>)]) -> String {
    let sections = outcomes.iter().map(|(name, outcome)| match outcome {
        Ok(outcome) => accused(name, outcome),
        Err(error) => format!("## {name}\n\nfailed: {error:#}\n\n"),
    });
    sections.collect::<Vec<_>>().concat()
}

/// Empty if leaktrace was silent and had nothing to complain about.
fn accused(name: &str, outcome: &Outcome) -> String {
    let accused = outcome.judged.text();
    if accused.is_empty() && outcome.said.is_empty() {
        return String::new();
    }
    let tape = outcome.tape.as_ref().map(|tape| format!("tape: `{}`\n\n", tape.display()));
    let said: Vec<String> = outcome.said.iter().map(|line| format!("> {line}\n")).collect();
    format!("## {name}\n\n{}{}\n{accused}", tape.unwrap_or_default(), said.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::healthy::judge::Judged;

    #[test]
    fn a_row_has_the_figures_and_a_failure_is_listed() {
        let judged = Judged { sites: 31, events_per_s: 812.4, ..Judged::default() };
        let outcome = Outcome {
            version: "1.2".to_owned(),
            before: 500.2,
            during: 499.8,
            judged,
            said: Vec::new(),
            tape: None,
        };
        let outcomes = [("quiet", Ok(outcome)), ("broken", Err(anyhow::anyhow!("no port")))];
        let table = table(&outcomes);
        assert!(
            table.contains("| quiet | 1.2 | 500 | 500 | 812 | 31 | 0 | 0 | 0 | 0 |"),
            "{table}"
        );
        assert!(table.contains("| broken | failed |"), "{table}");
        assert_eq!(accusations(&outcomes), "## broken\n\nfailed: no port\n\n");
    }
}
