//! One of several subjects of a test, or all of them one after the other.
//!
//! Takes the subjects and their test; prints a line for each. Must not know what is tested.

use anyhow::{Result, bail, ensure};

use crate::process::print;

/// The `wanted` one of these, or `all`; `what` each of them is.
pub(crate) fn choose<'a, T>(
    what: &str,
    all: &'a [T],
    name: impl Fn(&T) -> &'static str,
    wanted: &str,
) -> Result<Vec<&'a T>> {
    let chosen: Vec<&T> = all.iter().filter(|one| wanted == "all" || wanted == name(one)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(name).collect();
        bail!("no {what} `{wanted}`\nhelp: one of {}, all", names.join(", "));
    }
    Ok(chosen)
}

/// Tests each of these, also after one has failed, and prints how each was. `label` names one that failed; its test names
/// one that passed.
pub(crate) fn test<T>(
    what: &str,
    chosen: &[&T],
    label: impl Fn(&T) -> String,
    test: impl Fn(&T) -> Result<String>,
) -> Result<()> {
    let outcomes: Vec<(String, Result<String>)> =
        chosen.iter().map(|one| (label(one), test(one))).collect();
    for (label, outcome) in &outcomes {
        match outcome {
            Ok(passed) => print(&format!("{passed}: everything holds")),
            Err(error) => print(&format!("{label}: FAILED: {error:#}")),
        }
    }
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    ensure!(failed == 0, "{failed} of {} {what}s failed", outcomes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_chosen_by_its_name_and_all_by_the_word() {
        let all = ["6.1", "6.12"];
        let chosen = |wanted| choose("kernel", &all, |one| *one, wanted);
        assert_eq!(chosen("6.1").unwrap(), [&"6.1"]);
        assert_eq!(chosen("all").unwrap().len(), 2);
        let error = chosen("6").unwrap_err().to_string();
        assert_eq!(error, "no kernel `6`\nhelp: one of 6.1, 6.12, all");
    }

    #[test]
    fn one_that_fails_does_not_keep_others_from_being_tested() {
        let tested = std::cell::Cell::new(0);
        let test = |one: &u32| {
            tested.set(tested.get() + 1);
            ensure!(*one != 1, "one");
            Ok(one.to_string())
        };
        let outcome = super::test("number", &[&1, &2], u32::to_string, test);
        assert_eq!(outcome.unwrap_err().to_string(), "1 of 2 numbers failed");
        assert_eq!(tested.get(), 2);
    }
}
