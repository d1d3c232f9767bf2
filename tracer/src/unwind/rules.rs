//! Numbers the rules of unwind tables.
//!
//! Takes rules, passes on their numbers; equal rules share a number in all tables. Pure.

use std::collections::HashMap;

use tracer_common::{
    limits,
    unwind::{RULE_FIRST, RULE_UNKNOWN, Rule, RuleNumber},
};

/// The numbers of rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    numbers: HashMap<Rule, RuleNumber>,
    new: Vec<(RuleNumber, Rule)>,
}

impl Rules {
    /// The number of a rule, a new number for a new rule; [`RULE_UNKNOWN`] when no numbers are left.
    pub(super) fn number(&mut self, rule: Rule) -> RuleNumber {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        let next = self.numbers.len() + usize::from(RULE_FIRST);
        let Some(number) =
            RuleNumber::try_from(next).ok().filter(|next| u32::from(*next) < limits::RULES)
        else {
            return RULE_UNKNOWN;
        };
        self.numbers.insert(rule, number);
        self.new.push((number, rule));
        number
    }

    /// The rules numbered since the last call.
    pub(super) fn take_new(&mut self) -> Vec<(RuleNumber, Rule)> {
        std::mem::take(&mut self.new)
    }
}
