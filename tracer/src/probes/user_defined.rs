//! User-defined probes: `--alloc FUNC:SHAPE` and `--free FUNC[:handle@N]`.
//!
//! Takes option values, passes on functions like those of the catalog. Pure.

use std::borrow::Cow;

use tracer_common::{attach::Shape, kind::ResourceKind};

use super::Function;
use crate::{
    arch::{Architecture as _, Host},
    format::file_name,
};

/// Arguments that a probe can read.
const ARGUMENTS: u8 = Host::REGISTER_ARGUMENTS;

/// A function that the user wants to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserProbe {
    /// The object that defines it, by the beginning of its file name; any object if `None`.
    pub library: Option<String>,
    /// The function; a name `0x…` is an address in the executable.
    pub function: Function,
}

impl UserProbe {
    /// Parses `[LIB!]FUNC:SHAPE`, where SHAPE is `size@N`, `count@N,size@M` or `out@N,size@M`, followed by `,throws` if
    /// the function may throw an exception.
    pub fn alloc(text: &str) -> Result<Self, String> {
        let (place, shape) = text.rsplit_once(':').ok_or_else(|| {
            "no shape: FUNC:size@N, FUNC:count@N,size@M or FUNC:out@N,size@M".to_owned()
        })?;
        let (shape, throws) = match shape.strip_suffix(",throws") {
            Some(shape) => (shape, true),
            None => (shape, false),
        };
        let words = shape.split(',').map(word).collect::<Result<Vec<_>, _>>()?;
        let (shape, arguments) = match words.as_slice() {
            [("size", size)] => (Shape::Size, [*size, 0, 0]),
            [("count", count), ("size", size)] => (Shape::CountSize, [*count, *size, 0]),
            [("out", out), ("size", size)] => (Shape::OutPointer, [*out, *size, 0]),
            _ => {
                return Err(format!(
                    "no such shape: `{shape}`; there are size@N, count@N,size@M and out@N,size@M"
                ));
            }
        };
        let mut probe = Self::new(place, shape, arguments)?;
        probe.function.throws = throws;
        Ok(probe)
    }

    /// Parses `[LIB!]FUNC`, or `[LIB!]FUNC:handle@N` if the handle is not the first argument.
    pub fn free(text: &str) -> Result<Self, String> {
        let Some((place, shape)) = text.rsplit_once(':') else {
            return Self::new(text, Shape::Release, [0, 0, 0]);
        };
        match word(shape)? {
            ("handle", handle) => Self::new(place, Shape::Release, [handle, 0, 0]),
            _ => Err(format!("no such shape: `{shape}`; there is handle@N")),
        }
    }

    fn new(place: &str, shape: Shape, arguments: [u8; 3]) -> Result<Self, String> {
        let (library, name) = match place.split_once('!') {
            Some((library, name)) => (Some(file_name(library).to_owned()), name),
            None => (None, place),
        };
        if name.is_empty() || library.as_ref().is_some_and(String::is_empty) {
            return Err("no function is named: FUNC or LIB!FUNC".to_owned());
        }
        if let Some(digits) = name.strip_prefix("0x")
            && u64::from_str_radix(digits, 16).is_err()
        {
            return Err(format!("`{name}` is not an address"));
        }
        let name = Cow::Owned(name.to_owned());
        let function = Function {
            name,
            kind: ResourceKind::Heap,
            shape,
            arguments,
            throws: false,
            object: None,
        };
        Ok(Self { library, function })
    }

    /// Whether the object at this path may be meant; `executable` if it is the program itself.
    pub fn may_be_in(&self, path: &str, executable: bool) -> bool {
        match &self.library {
            Some(library) => file_name(path).starts_with(library.as_str()),
            None => executable || !self.function.name.starts_with("0x"),
        }
    }
}

/// Parses `name@N`.
fn word(text: &str) -> Result<(&str, u8), String> {
    let parsed = text.split_once('@').and_then(|(name, number)| Some((name, number.parse().ok()?)));
    match parsed {
        Some((name, number)) if number < ARGUMENTS => Ok((name, number)),
        Some(_) => Err(format!("`{text}`: arguments are numbered 0 to {}", ARGUMENTS - 1)),
        None => Err(format!("`{text}` is not of the form name@N")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_parsed() {
        let check = |probe: Result<UserProbe, String>, shape, arguments, library: Option<&str>| {
            let probe = probe.unwrap();
            assert_eq!((probe.function.shape, probe.function.arguments), (shape, arguments));
            assert_eq!((probe.library.as_deref(), &*probe.function.name), (library, "pool_get"));
        };
        check(UserProbe::alloc("pool_get:size@1"), Shape::Size, [1, 0, 0], None);
        check(UserProbe::alloc("pool_get:count@2,size@3"), Shape::CountSize, [2, 3, 0], None);
        let library = Some("libpool.so");
        check(
            UserProbe::alloc("/a/libpool.so!pool_get:out@0,size@2"),
            Shape::OutPointer,
            [0, 2, 0],
            library,
        );
        check(UserProbe::free("pool_get"), Shape::Release, [0, 0, 0], None);
        check(UserProbe::free("libpool.so!pool_get:handle@5"), Shape::Release, [5, 0, 0], library);
    }

    #[test]
    fn a_function_that_may_throw_is_marked() {
        assert!(!UserProbe::alloc("f:size@0").unwrap().function.throws);
        let probe = UserProbe::alloc("f:out@0,size@1,throws").unwrap();
        assert!(probe.function.throws && probe.function.shape == Shape::OutPointer);
        assert!(
            UserProbe::alloc("f:throws").is_err() && UserProbe::free("f:handle@0,throws").is_err()
        );
    }

    #[test]
    fn invalid_values_are_refused() {
        for text in [
            "f",
            "f:size",
            "f:size@6",
            "f:size@1,count@0",
            "f:handle@0",
            ":size@0",
            "!f:size@0",
            "0xzz:size@0",
        ] {
            assert!(UserProbe::alloc(text).is_err(), "{text}");
        }
        for text in ["f:size@0", "f:handle@-1", "", "lib!"] {
            assert!(UserProbe::free(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_in_the_executable() {
        let probe = UserProbe::alloc("0x401020:size@0").unwrap();
        assert!(probe.may_be_in("/bin/a", true) && !probe.may_be_in("/lib/liba.so", false));
        assert!(UserProbe::free("liba!f").unwrap().may_be_in("/lib/liba.so.1", false));
    }
}
