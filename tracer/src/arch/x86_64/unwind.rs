//! Translates rows of call frame information into rules for the programs.

use gimli::{
    CfaRule, Operation, Register, RegisterRule, UnwindExpression, UnwindSection, UnwindTableRow,
    X86_64,
};
use tracer_common::arch::x86_64::{
    BASE_FRAME, BASE_RBX, BASE_STACK, KEPT, Rule, SAVED_AT_FRAME_ADDRESS, SAVED_AT_FRAME_POINTER,
};

use crate::arch::{Meaning, Slice};

type Step<'data> = Operation<Slice<'data>>;

/// See [`crate::arch::Architecture::unwind_rule`].
pub(super) fn meaning<'data, S: UnwindSection<Slice<'data>>>(
    row: &UnwindTableRow<usize>,
    section: &S,
    encoding: gimli::Encoding,
) -> Meaning {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Meaning::Bottom,
        Some(RegisterRule::Offset(-8)) => {}
        _ => return Meaning::Unknown,
    }
    let operations = |expression: &UnwindExpression<usize>| -> Option<Vec<Step<'data>>> {
        let mut operations = Vec::new();
        let mut all = expression.get(section).ok()?.operations(encoding);
        while let Some(operation) = all.next().ok()? {
            operations.push(operation);
        }
        Some(operations)
    };
    let mut rule = Rule::default();
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let (Some(base), Ok(offset)) = (base(*register), i32::try_from(*offset)) else {
                return Meaning::Unknown;
            };
            (rule.base, rule.offset) = (base, offset);
        }
        CfaRule::Expression(expression) => match operations(expression).as_deref() {
            Some(plt) if is_plt(plt) => return Meaning::Plt,
            Some(expression) => match dereferenced(expression) {
                Some(found) => rule = found,
                None => return Meaning::Unknown,
            },
            None => return Meaning::Unknown,
        },
    }
    let saved = |register| saved(row.register(register).as_ref(), &rule, &operations);
    let (Some((rbp, rbp_offset)), Some((rbx, rbx_offset))) =
        (saved(X86_64::RBP), saved(X86_64::RBX))
    else {
        return Meaning::Unknown;
    };
    Meaning::Rule(Rule { rbp, rbp_offset, rbx, rbx_offset, ..rule })
}

fn base(register: Register) -> Option<u8> {
    match register {
        X86_64::RSP => Some(BASE_STACK),
        X86_64::RBP => Some(BASE_FRAME),
        X86_64::RBX => Some(BASE_RBX),
        _ => None,
    }
}

/// Where a register is saved.
fn saved<'data>(
    found: Option<&RegisterRule<usize>>,
    rule: &Rule,
    operations: &impl Fn(&UnwindExpression<usize>) -> Option<Vec<Step<'data>>>,
) -> Option<(u8, i32)> {
    match found {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some((KEPT, 0)),
        Some(RegisterRule::Offset(offset)) => {
            Some((SAVED_AT_FRAME_ADDRESS, i32::try_from(*offset).ok()?))
        }
        Some(RegisterRule::Expression(expression)) => match *operations(expression)?.as_slice() {
            [Operation::RegisterOffset { register: X86_64::RBP, offset, .. }] => {
                Some((SAVED_AT_FRAME_POINTER, i32::try_from(offset).ok()?))
            }
            // The frame address has a constant distance from the stack pointer.
            [Operation::RegisterOffset { register: X86_64::RSP, offset, .. }]
                if rule.base == BASE_STACK && rule.deref == 0 =>
            {
                let offset = offset.checked_sub(i64::from(rule.offset))?;
                Some((SAVED_AT_FRAME_ADDRESS, i32::try_from(offset).ok()?))
            }
            _ => None,
        },
        Some(_) => None,
    }
}

/// A rule for an expression that loads a word from memory and may add a constant: functions that align their stack, and
/// hand-written cryptography.
fn dereferenced(operations: &[Step<'_>]) -> Option<Rule> {
    let (register, offset, add) = match *operations {
        [Operation::RegisterOffset { register, offset, .. }, Operation::Deref { size: 8, .. }] => {
            (register, offset, 0)
        }
        [
            Operation::RegisterOffset { register, offset, .. },
            Operation::Deref { size: 8, .. },
            Operation::PlusConstant { value },
        ] => (register, offset, value),
        _ => return None,
    };
    Some(Rule {
        base: base(register)?,
        deref: 1,
        offset: i32::try_from(offset).ok()?,
        add: i32::try_from(add).ok()?,
        ..Rule::default()
    })
}

/// `rsp + 8 + ((rip & 15) >= 11 ? 8 : 0)`, with 10 instead of 11 for entries that begin with `endbr64`.
fn is_plt(operations: &[Step<'_>]) -> bool {
    matches!(
        operations,
        [
            Operation::RegisterOffset { register: X86_64::RSP, offset: 8, .. },
            Operation::RegisterOffset { register: X86_64::RA, offset: 0, .. },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value: 10 | 11 },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ]
    )
}
