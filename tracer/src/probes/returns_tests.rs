//! Tests exits through a whole object, which the assembler produces, so that every jump is as written.

use std::process::Command;

use super::*;

/// Functions whose exits are distinguished by the operands of their `ret`s.
const OBJECT: &str = r#"
    .text
    .globl several, with_cold_part, to_helper, by_register, to_import, to_probed, to_own, clears
    .globl from_middle, to_asm
    .type several, @function
several:
    .cfi_startproc
    test %rdi, %rdi
    je 1f
    ret
1:  ret $16
    .cfi_endproc
    .size several, .-several

    .type with_cold_part, @function
with_cold_part:
    .cfi_startproc
    test %rdi, %rdi
    je .Lcold
    ret
    .cfi_endproc
    .size with_cold_part, .-with_cold_part

    .type to_helper, @function
to_helper:
    .cfi_startproc
    jmp .Lhelper
    .cfi_endproc
    .size to_helper, .-to_helper

    .type from_middle, @function
from_middle:
    .cfi_startproc
    jmp .Lmiddle
    .cfi_endproc
    .size from_middle, .-from_middle

    .type by_register, @function
by_register:
    .cfi_startproc
    jmp *%rax
    .cfi_endproc
    .size by_register, .-by_register

    .type to_import, @function
to_import:
    .cfi_startproc
    jmp elsewhere@plt
    .cfi_endproc
    .size to_import, .-to_import

    .type to_probed, @function
to_probed:
    .cfi_startproc
    jmp *malloc@gotpcrel(%rip)
    .cfi_endproc
    .size to_probed, .-to_probed

    .type to_own, @function
to_own:
    .cfi_startproc
    jmp several@plt
    .cfi_endproc
    .size to_own, .-to_own

    .type clears, @function
clears:
    .cfi_startproc
    test %rdi, %rdi
    je 1f
    jmp memset@plt
1:  ret
    .cfi_endproc
    .size clears, .-clears

    .type to_asm, @function
to_asm:
    .cfi_startproc
    jmp .Lasm
    .cfi_endproc
    .size to_asm, .-to_asm

    .section .text.unlikely, "ax"
.Lcold:
    .cfi_startproc
    ud2
    ret $32
    .cfi_endproc

    .section .text.helper, "ax"
.Lhelper:
    .cfi_startproc
    je .Lhelper
    ret $48
.Lmiddle:
    jmp several
    .cfi_endproc

    .section .text.asm, "ax"
.Lasm:
    je 1f
    ret $64
1:  ret $80
    .section .note.GNU-stack, "", @progbits
"#;

/// The object, linked: its bytes.
fn object() -> Vec<u8> {
    let folder = std::env::temp_dir().join(format!("leaktrace-returns-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, product) = (folder.join("a.s"), folder.join("a.so"));
    std::fs::write(&source, OBJECT).unwrap();
    let status = Command::new("gcc")
        .args(["-shared", "-nostdlib", "-s", "-o"])
        .args([&product, &source])
        .status()
        .unwrap();
    assert!(status.success());
    let bytes = std::fs::read(&product).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    bytes
}

/// The bytes that the returns of a function pop: 0 for a plain `ret`; a jump counts as 1.
fn popped(bytes: &[u8], function: &str) -> Result<Vec<u16>, String> {
    let all = Functions::parse(bytes).unwrap();
    let ends = of(&all, all.own(function).unwrap(), |name| name == "malloc")?;
    let counts = ends.iter().map(|end| match bytes[usize::try_from(end.offset).unwrap()..] {
        [0xc3, ..] if !end.first_argument => 0,
        [0xc2, low, high, ..] if !end.first_argument => u16::from_le_bytes([low, high]),
        [0xe9, ..] if end.first_argument => 1,
        _ => panic!("{function}: no end at {end:?}"),
    });
    let mut counts: Vec<u16> = counts.collect();
    counts.sort_unstable();
    Ok(counts)
}

#[test]
fn all_exits_of_functions_are_found_or_refused() {
    let bytes = object();
    let check = |function, expected: &[u16]| {
        assert_eq!(popped(&bytes, function).as_deref(), Ok(expected), "{function}");
    };
    check("several", &[0, 16]);
    check("with_cold_part", &[0, 32]);
    // The rest of the piece that it jumps to counts too, and the targets of its jumps.
    check("to_helper", &[0, 16, 48]);
    check("from_middle", &[0, 16, 48]);
    check("to_own", &[0, 16]);
    check("to_asm", &[64, 80]);
    check("clears", &[0, 1]);
    // The probe of the other function sees it.
    check("to_probed", &[]);
    let refused = |function, why: &str| {
        let error = popped(&bytes, function).unwrap_err();
        assert!(error.contains(why), "{function}: {error}");
    };
    refused("by_register", "an indirect jump");
    refused("to_import", "it ends in `elsewhere`, which is found at run time only");
}
