//! Loads packs: those compiled in, those in the user's folder, those given on the command line.
//!
//! Takes their sources, passes on [`Loaded`]: the packs that it could read, and what is wrong with the others.

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{Fault, Origin, Pack};

/// The packs that are compiled in: file name and text.
const COMPILED_IN: [(&str, &str); 4] = [
    ("packs/libevent.toml", include_str!("../../../packs/libevent.toml")),
    ("packs/libzmq.toml", include_str!("../../../packs/libzmq.toml")),
    ("packs/openssl.toml", include_str!("../../../packs/openssl.toml")),
    ("packs/usockets.toml", include_str!("../../../packs/usockets.toml")),
];

/// Size limit of a pack, in bytes. The largest one that is compiled in has 10 KB.
const MAX_BYTES: u64 = 1 << 20;

/// Which packs to load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Whether to load those compiled in and those in the user's folder.
    pub usual: bool,
    /// The user's folder, if there is one.
    pub folder: Option<PathBuf>,
    /// Files given on the command line.
    pub files: Vec<PathBuf>,
}

/// The result of loading packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Each name once: a later pack replaces an earlier one of the same name.
    pub packs: Vec<Pack>,
    /// What is wrong with those that were skipped.
    pub faults: Vec<Fault>,
}

impl Sources {
    /// The user's folder: `$XDG_CONFIG_HOME/leaktrace/packs`, else `.config/leaktrace/packs` in the home of the
    /// user who called sudo, else in `$HOME`.
    pub fn folder() -> Option<PathBuf> {
        let home = || {
            let caller = env::var("SUDO_USER").ok().and_then(|name| {
                nix::unistd::User::from_name(&name).ok().flatten().map(|user| user.dir)
            });
            caller.or_else(|| set("HOME")).map(|home| home.join(".config"))
        };
        set("XDG_CONFIG_HOME").or_else(home).map(|config| config.join("leaktrace/packs"))
    }

    /// Loads the packs.
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        if self.usual {
            for (name, text) in COMPILED_IN {
                loaded.add(Pack::parse(name, text), Origin::CompiledIn);
            }
            for path in self.folder.iter().flat_map(|folder| in_folder(folder)) {
                loaded.add(path.and_then(|path| read(&path)), Origin::Folder);
            }
        }
        for path in &self.files {
            loaded.add(read(path), Origin::Named);
        }
        loaded
    }
}

impl Loaded {
    fn add(&mut self, pack: Result<Pack, Fault>, origin: Origin) {
        match pack {
            Ok(pack) => {
                if let Some(at) = self.packs.iter().position(|other| other.name == pack.name) {
                    let other = self.packs.remove(at);
                    // Replacing a compiled-in pack is intentional: no message.
                    if other.origin != Origin::CompiledIn {
                        self.faults.push(Fault {
                            text: format!(
                                "{}: {} has the same name, `{}`",
                                other.file, pack.file, pack.name
                            ),
                            help: "give one of them another name; the last one counts".to_owned(),
                        });
                    }
                }
                self.packs.push(Pack { origin, ..pack });
            }
            Err(fault) => self.faults.push(fault),
        }
    }
}

/// An environment variable that is an absolute path.
fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The packs of a folder, sorted by name; empty if the folder does not exist.
fn in_folder(folder: &Path) -> Vec<Result<PathBuf, Fault>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            return vec![Err(Fault {
                text: format!("{}: could not read the folder of packs: {error}", folder.display()),
                help: "make it a folder that you can read, or use --no-packs".to_owned(),
            })];
        }
    };
    let is_pack =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "toml") && path.is_file();
    let mut paths: Vec<_> = entries.filter(is_pack).collect();
    paths.sort();
    paths.into_iter().map(Ok).collect()
}

/// Reads a pack from a file.
fn read(path: &Path) -> Result<Pack, Fault> {
    let name = path.display().to_string();
    let mut text = String::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > MAX_BYTES => Err(Fault {
            text: format!("{name}: not a pack: it has more than {MAX_BYTES} bytes"),
            help: "docs/packs.md describes the format".to_owned(),
        }),
        Ok(_) => Pack::parse(&name, &text),
        Err(error) => Err(Fault {
            text: format!("{name}: could not read the pack: {error}"),
            help: "check the path; it is relative to the current directory".to_owned(),
        }),
    }
}
