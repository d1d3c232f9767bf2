//! Findings as items of a list.
//!
//! Pure.

use std::collections::HashSet;

use super::{Id, Listed, contains};
use crate::{
    report::{Finding, FindingPart, VerdictClass},
    tui::columns::{self, Column, TableContext},
};

impl Listed for Finding {
    const COLUMNS: &'static [Column<Self>] = columns::FINDINGS;

    fn number(context: &TableContext<'_>) -> usize {
        context.report.findings.len()
    }

    fn get<'a>(context: &TableContext<'a>, at: usize) -> Option<&'a Self> {
        context.report.findings.get(at)
    }

    fn id(&self) -> Id {
        Id::Finding(self.id.clone())
    }

    fn is(&self, id: &Id) -> bool {
        matches!(id, Id::Finding(id) if *id == self.id)
    }

    fn site(&self) -> Option<u32> {
        self.sites.first().copied()
    }

    fn is_of(&self, sites: &HashSet<u32>) -> bool {
        self.sites.iter().any(|site| sites.contains(site))
    }

    fn is_folded(&self) -> bool {
        self.class == VerdictClass::Growing
    }

    fn has(&self, word: &str) -> bool {
        let part = |part: &FindingPart| contains(part.kind.name(), word);
        contains(&self.title, word)
            || contains(self.class.name(), word)
            || self.fault.as_ref().is_some_and(|fault| contains(fault.name(), word))
            || self.parts.iter().any(part)
            || self.clients.iter().any(|client| contains(&client.address, word))
            // Its call sites may not be in the report (`--top`).
            || self.asked().is_some_and(|frame| contains(&frame.label(), word))
    }
}
