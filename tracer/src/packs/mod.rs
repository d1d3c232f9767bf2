//! Packs: which functions of which library make objects, and what becomes of them. Data, read from `packs/*.toml`.
//!
//! Takes text, hands on [`Pack`]s, and for the names that an object file defines the functions to be probed in it.
//! Knows no process, no program of the kernel's, and no file but packs.

use std::sync::Arc;

use tracer_common::{attach::Shape, object};

/// One library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Its name: `libevent`.
    pub name: Arc<str>,
    /// The same for a person, with the versions it is of.
    pub title: String,
    /// An object file is this library's, or has a copy of it inside, when it defines all of these functions.
    pub marks: Vec<String>,
    /// Its kinds of objects.
    pub kinds: Vec<Arc<ObjectKind>>,
    /// Its functions.
    pub rules: Vec<Rule>,
}

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKind {
    /// Its name in reports, on the screen and in filters: `evbuffer`.
    pub name: Arc<str>,
    /// The pack that has it.
    pub library: Arc<str>,
    /// One line for a person.
    pub sentence: String,
    /// What the word says that is kept of each (`object::Object::word`).
    pub word: Word,
    /// Where in an object its fields are, by the size of its block.
    pub layouts: Vec<Layout>,
}

/// What a word says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Word {
    /// There is none.
    #[default]
    None,
    /// It is the address of a function: a callback, under whose name the object is best known.
    Function,
    /// It is a number, with names for some.
    Number(Vec<(u64, String)>),
}

/// Fields of an object whose block has this size: of the versions that are known by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the object's block.
    pub size: u64,
    /// What is where.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it says.
    pub role: FieldRole,
    /// Its offset in the object.
    pub offset: u32,
    /// Its size: 1, 2, 4 or 8 bytes.
    pub bytes: u8,
    /// Bits that count; for [`FieldRole::Pending`] any of them says yes.
    pub mask: u64,
}

/// What a field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRole {
    /// The descriptor that the object works on.
    Fd,
    /// Bytes that are queued in it.
    Queued,
    /// References that are held to it.
    References,
    /// Whether it waits for something to happen.
    Pending,
    /// Handle of the object that owns it.
    Owner,
}

/// One function, and what it does to which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name; of several the first that an object defines (those after it call it, or are its older names).
    pub names: Vec<String>,
    /// What it does.
    pub shape: Shape,
    /// The same in detail, as the programs are told.
    pub function: object::Function,
    /// Whether an exception may leave it.
    pub throws: bool,
    /// The kind of object.
    pub kind: Arc<ObjectKind>,
    /// The kind instead, where `function.test` says so.
    pub second: Option<Arc<ObjectKind>>,
}

/// A function that an object file defines, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// As the programs are told.
    pub function: object::Function,
    /// The kind of object.
    pub kind: Arc<ObjectKind>,
    /// The kind instead, where `function.test` says so.
    pub second: Option<Arc<ObjectKind>>,
}

impl Use {
    /// The kind of object that a call site is about: `detail` says how the test of its function ended.
    pub fn kind(&self, detail: u8) -> &Arc<ObjectKind> {
        self.second.as_ref().filter(|_| detail != 0).unwrap_or(&self.kind)
    }
}

impl Pack {
    /// The functions of this library that are to be probed in an object that defines these names: name, shape,
    /// whether it throws, and what it does. None when it is another library.
    pub fn functions(
        &self,
        defined: &dyn Fn(&str) -> bool,
    ) -> Vec<(String, Shape, bool, Arc<Use>)> {
        if self.marks.is_empty() || !self.marks.iter().all(|mark| defined(mark)) {
            return Vec::new();
        }
        let found = self.rules.iter().filter_map(|rule| {
            let name = rule.names.iter().find(|name| defined(name))?;
            let of = Use {
                function: rule.function,
                kind: Arc::clone(&rule.kind),
                second: rule.second.clone(),
            };
            Some((name.clone(), rule.shape, rule.throws, Arc::new(of)))
        });
        found.collect()
    }
}

/// TEMPORARY.
pub fn trial() -> Vec<Pack> {
    let kind = |name: &str, word| {
        Arc::new(ObjectKind {
            name: name.into(),
            library: "libevent".into(),
            sentence: String::new(),
            word,
            layouts: vec![],
        })
    };
    let n = object::Function::NOTHING;
    let make = |name: &str, function, kind: &Arc<ObjectKind>| Rule {
        names: vec![name.to_owned()],
        shape: Shape::Make,
        function: object::Function { does: object::MAKE, ..function },
        throws: false,
        kind: kind.clone(),
        second: None,
    };
    let ask = |name: &str, kind: &Arc<ObjectKind>| Rule {
        names: vec![name.to_owned()],
        shape: Shape::Note,
        function: object::Function { does: object::ASK, handle: 0, ..n },
        throws: false,
        kind: kind.clone(),
        second: None,
    };
    let ev = kind("event", Word::Function);
    let buf = kind("evbuffer", Word::None);
    let bev = kind("bufferevent", Word::None);
    let lis = kind("evconnlistener", Word::Function);
    let base = kind("event_base", Word::None);
    let con = kind("evhttp_connection", Word::None);
    let req = kind("evhttp_request", Word::None);
    vec![Pack {
        name: "libevent".into(),
        title: "libevent".into(),
        marks: vec!["event_new".into(), "event_base_new_with_config".into()],
        kinds: vec![],
        rules: vec![
            make("event_new", object::Function { fd: 1, word: 3, ..n }, &ev),
            make("evbuffer_new", n, &buf),
            make("bufferevent_socket_new", object::Function { fd: 1, ..n }, &bev),
            make("evconnlistener_new", object::Function { fd: 5, word: 1, ..n }, &lis),
            make("event_base_new_with_config", n, &base),
            make("evhttp_connection_base_bufferevent_new", n, &con),
            make("evhttp_request_new", n, &req),
            ask("event_free", &ev),
            ask("evbuffer_free", &buf),
            ask("bufferevent_free", &bev),
            ask("evhttp_connection_free", &con),
            ask("evhttp_request_free", &req),
        ],
    }]
}
