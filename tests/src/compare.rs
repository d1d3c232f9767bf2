//! A victim's truth, and its comparison with a report: every number must be equal.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{Report, report::Amounts};

/// The numbers that a victim prints about itself.
#[derive(Debug, Clone)]
pub struct Truth {
    json: Value,
    sites: BTreeMap<String, (String, Amounts)>,
}

/// How to attribute a call site of the report to a function of its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The first frame is the function: the rule for C.
    ByFirstFrame,
    /// Any frame is the function: `operator new` comes between in C++, `alloc` and others in Rust.
    ByAnyFrame,
}

impl Truth {
    /// Parses the line a victim prints.
    pub fn parse(line: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(line)?;
        if let Some(error) = json.get("error") {
            bail!("the victim is broken: {error}");
        }
        let mut sites = BTreeMap::new();
        for (name, site) in json.get("sites").and_then(Value::as_object).into_iter().flatten() {
            let kind = site.get("kind").and_then(Value::as_str).context("a site has a kind")?;
            sites.insert(name.clone(), (kind.to_owned(), Amounts::read(site)?));
        }
        Ok(Self { json, sites })
    }

    /// A number by its key.
    pub fn number(&self, key: &str) -> Result<u64> {
        self.json.get(key).and_then(Value::as_u64).with_context(|| format!("no number `{key}`"))
    }

    /// The victim's numbers of one call site.
    pub fn site(&self, name: &str) -> Result<Amounts> {
        self.sites
            .get(name)
            .map(|(_, amounts)| *amounts)
            .with_context(|| format!("no site `{name}`"))
    }

    /// The sum over all call sites of a kind.
    pub fn sum(&self, kind: &str) -> Amounts {
        let mut sum = Amounts::default();
        for (_, amounts) in self.sites.values().filter(|(of, _)| of == kind) {
            sum.add(*amounts);
        }
        sum
    }

    /// The same truth with all call sites, but without numbers that are known of the whole process only.
    #[must_use]
    pub fn sites_only(&self) -> Self {
        self.without(&[])
    }

    /// The same without some call sites, because they are spread over several functions.
    #[must_use]
    pub fn without(&self, sites: &[&str]) -> Self {
        let mut rest = self.clone();
        rest.sites.retain(|name, _| !sites.contains(&name.as_str()));
        rest.json = Value::Null;
        rest
    }

    /// The sums of both truths' call sites: of two processes that run the same program.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.sites_only();
        for (name, (kind, amounts)) in &other.sites {
            let entry = sum.sites.entry(name.clone());
            entry.or_insert_with(|| (kind.clone(), Amounts::default())).1.add(*amounts);
        }
        sum
    }

    /// Every number of the report equals the victim's: nothing was lost; each call site; totals where the victim knows
    /// them; failures and unknown releases where it counted them.
    pub fn equals(&self, report: &Report) -> Result<()> {
        self.compare(report, Named::ByFirstFrame, &["heap", "mmap"], true)
    }

    /// The same for chosen kinds; `flows` says whether acquired and released counts are compared as well.
    pub fn compare(
        &self,
        report: &Report,
        named: Named,
        kinds: &[&str],
        flows: bool,
    ) -> Result<()> {
        let mut differences = String::new();
        let lost = report.lost()?;
        if !lost.is_empty() {
            writeln!(differences, "something was lost: {lost}")?;
        }
        for (name, (kind, truth)) in &self.sites {
            let said = report.sites(kind, |frames| match named {
                Named::ByFirstFrame => frames.first().copied() == Some(name),
                Named::ByAnyFrame => frames.iter().any(|frame| is_function(frame, name)),
            })?;
            differ(&mut differences, &format!("site {name}"), truth, &said, flows)?;
        }
        if self.json.get("totals").is_some_and(Value::is_object) {
            for kind in kinds {
                let said = report.total(kind)?;
                differ(&mut differences, &format!("total {kind}"), &self.sum(kind), &said, flows)?;
            }
        }
        for key in ["failed_acquires", "unknown_frees"] {
            let Ok(truth) = self.number(key) else { continue };
            let said = report.number(&format!("/accounting/{key}"))?;
            if said != truth {
                writeln!(differences, "{key}: {said} reported, {truth} true")?;
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        bail!(
            "the report differs from the truth:\n{differences}\nthe report:\n{}",
            report.summary()
        )
    }
}

/// `new_one()` is the demangled form of C++'s `new_one`, and `boxes::boxed` of Rust's `boxed`.
fn is_function(symbol: &str, name: &str) -> bool {
    symbol == name
        || symbol.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
        || symbol.strip_suffix(name).is_some_and(|path| path.ends_with("::"))
}

fn differ(
    into: &mut String,
    what: &str,
    truth: &Amounts,
    said: &Amounts,
    flows: bool,
) -> Result<()> {
    let rows = [
        ("outstanding count", truth.outstanding_count, said.outstanding_count, true),
        ("outstanding bytes", truth.outstanding_bytes, said.outstanding_bytes, true),
        ("acquired count", truth.acquired_count, said.acquired_count, flows),
        ("acquired bytes", truth.acquired_bytes, said.acquired_bytes, flows),
        ("released count", truth.released_count, said.released_count, flows),
        ("released bytes", truth.released_bytes, said.released_bytes, flows),
    ];
    for (figure, truth, said, compared) in rows {
        if compared && truth != said {
            let sign = if said > truth { '+' } else { '-' };
            let by = said.abs_diff(truth);
            writeln!(into, "{what}: {figure} {said} reported, {truth} true ({sign}{by})")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        let site = r#"{"kind":"heap","outstanding_count":2,"outstanding_bytes":20,
            "acquired_count":3,"acquired_bytes":30,"released_count":1,"released_bytes":10}"#;
        Truth::parse(&format!(r#"{{"sites":{{"a":{site}}},"totals":null}}"#)).unwrap()
    }

    #[test]
    fn a_difference_names_site_figure_and_both_numbers() {
        let mut text = String::new();
        let said = Amounts { outstanding_count: 1, ..truth().site("a").unwrap() };
        differ(&mut text, "site a", &truth().site("a").unwrap(), &said, true).unwrap();
        assert_eq!(text, "site a: outstanding count 1 reported, 2 true (-1)\n");
    }

    #[test]
    fn a_broken_victim_is_an_error() {
        assert!(Truth::parse(r#"{"error":"setup"}"#).is_err());
    }

    #[test]
    fn a_demangled_name_is_the_function_and_a_longer_name_is_not() {
        assert!(is_function("new_one()", "new_one"));
        assert!(is_function("boxes::boxed", "boxed"));
        assert!(!is_function("new_one_more", "new_one"));
        assert!(!is_function("boxes::unboxed", "boxed"));
    }
}
