//! Fixed lists of words: states, types and reasons, each serialized by its name.
//!
//! Depends on nothing else. The names of a list are in one place, for the JSON, the text and the screen.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracer_common::{
    descriptor::{FdOrigin, FdType},
    loss::Loss,
    stack::StackEnd,
};

/// A fixed list of values that have names.
pub trait Named: Copy + PartialEq + 'static {
    /// Every value.
    const ALL: &'static [Self];

    /// Its name in reports.
    fn name(self) -> &'static str;

    /// The value with this name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.name() == name)
    }
}

/// A value of the list `T`, or a name that is not in the list: the kernel's own, or one of a later version.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Word<T> {
    /// A value of the list.
    Known(T),
    /// Another name.
    Other(Box<str>),
}

impl<T: Named> Word<T> {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(one) => one.name(),
            Self::Other(name) => name,
        }
    }

    /// The value, if it is in the list.
    pub const fn known(&self) -> Option<T> {
        match self {
            Self::Known(one) => Some(*one),
            Self::Other(_) => None,
        }
    }

    /// Whether it is this value.
    pub fn is(&self, one: T) -> bool {
        self.known() == Some(one)
    }
}

impl Word<Loss> {
    /// Its effect on the figures, for people; a reason of a later version has only its name.
    pub fn sentence(&self) -> &str {
        match self {
            Self::Known(loss) => loss.sentence(),
            Self::Other(name) => name,
        }
    }
}

impl<T> From<T> for Word<T> {
    fn from(one: T) -> Self {
        Self::Known(one)
    }
}

impl<T: Named> Word<T> {
    /// The value with this name, else the name itself.
    pub fn named(name: &str) -> Self {
        T::from_name(name).map_or_else(|| Self::Other(name.into()), Self::Known)
    }
}

impl<T: Named> fmt::Debug for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<T: Named> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<T: Named + Eq> Ord for Word<T> {
    /// By name, so that map keys are in alphabetical order.
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl<T: Named + Eq> PartialOrd for Word<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Named> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de, T: Named> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::named(&String::deserialize(deserializer)?))
    }
}

impl Named for Loss {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

impl Named for StackEnd {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

impl Named for FdType {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

impl Named for FdOrigin {
    const ALL: &'static [Self] = &Self::ALL;

    /// If the opening was not seen, a report has no origin at all.
    fn name(self) -> &'static str {
        self.name().unwrap_or("")
    }
}

/// Defines an enum with the names of its values: implements `Named`, and serializes by name. An unknown name is an
/// error when the enum itself is deserialized, and is kept when a [`Word`] of it is.
macro_rules! names {
    (
        $(#[$about:meta])*
        pub enum $list:ident {
            $($(#[$what:meta])* $value:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $list {
            $($(#[$what])* $value,)+
        }

        impl $list {
            /// Every value, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$value,)+];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }
        }

        impl $crate::report::Named for $list {
            const ALL: &'static [Self] = Self::ALL;

            fn name(self) -> &'static str {
                self.name()
            }
        }

        impl serde::Serialize for $list {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $list {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                <Self as $crate::report::Named>::from_name(&name)
                    .ok_or_else(|| serde::de::Error::unknown_variant(&name, &[$($name,)+]))
            }
        }
    };
}
pub(super) use names;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        ClosedBy, ConnectionRole, FdBackend, Lockdown, ObjectState, ProbeStatus, Protocol,
        SocketState, VerdictClass,
    };

    fn check_names<T: Named + fmt::Debug + Eq>() {
        for (at, one) in T::ALL.iter().enumerate().filter(|(_, one)| !one.name().is_empty()) {
            let name = one.name();
            assert_eq!(T::from_name(name), Some(*one));
            assert!(T::ALL[at + 1..].iter().all(|other| other.name() != name), "{name} twice");
            let word = Word::from(*one);
            let json = serde_json::to_string(&word).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Word<T>>(&json).unwrap(), word);
        }
        let later: Word<T> = serde_json::from_str("\"of_a_later_version\"").unwrap();
        assert_eq!((later.known(), later.name()), (None, "of_a_later_version"));
    }

    #[test]
    fn every_name_parses_to_its_value() {
        check_names::<Loss>();
        check_names::<StackEnd>();
        check_names::<FdType>();
        check_names::<FdOrigin>();
        check_names::<ClosedBy>();
        check_names::<ConnectionRole>();
        check_names::<FdBackend>();
        check_names::<Lockdown>();
        check_names::<ObjectState>();
        check_names::<ProbeStatus>();
        check_names::<Protocol>();
        check_names::<SocketState>();
        check_names::<VerdictClass>();
    }

    #[test]
    fn a_closed_list_rejects_other_names() {
        let refusal = serde_json::from_str::<ProbeStatus>("\"off\"").unwrap_err().to_string();
        assert!(refusal.contains("`off`") && refusal.contains("`refused`"), "{refusal}");
    }

    #[test]
    fn words_are_ordered_by_name() {
        let known = |sort: FdType| Word::from(sort);
        let mut words = [known(FdType::Socket), Word::named("later"), known(FdType::File)];
        words.sort();
        assert_eq!(words.each_ref().map(Word::name), ["file", "later", "socket"]);
    }
}
