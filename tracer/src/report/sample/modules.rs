//! The made-up server's objects, of which two lack names.

use super::EXE;
use crate::report::{Module, Names};

pub(super) fn modules() -> Vec<Module> {
    vec![
        Module {
            path: Some("/opt/plugins/geo.so".to_owned()),
            build_id: Some("3f1c5d0e9b7a42c68d10e2f4a6b8c0d2e4f60718".to_owned()),
            names: Names::None,
            frames_without_name: 1,
            why: Some("the object has no symbols".to_owned()),
            help: Some("build it with `-g` and do not strip it".to_owned()),
        },
        Module {
            path: Some("/usr/lib/libuSockets.so".to_owned()),
            build_id: None,
            names: Names::Exports,
            frames_without_name: 1,
            why: Some("the object has no symbols".to_owned()),
            help: Some("apt install libusockets-dbgsym".to_owned()),
        },
        Module {
            path: Some(EXE.to_owned()),
            build_id: Some("00112233445566778899aabbccddeeff00112233".to_owned()),
            names: Names::Full,
            frames_without_name: 0,
            why: None,
            help: None,
        },
    ]
}
