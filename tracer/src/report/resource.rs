//! The kind of resource that a row of the report is about.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use tracer_common::kind::ResourceKind;

/// A kind of resource: a built-in one, or a library object by its type name. The built-in ones come first, in their
/// own order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A built-in kind.
    Plain(ResourceKind),
    /// A library's object.
    Object(Arc<str>),
}

impl Resource {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(kind) => kind.name(),
            Self::Object(name) => name,
        }
    }

    /// Whether it is a file descriptor.
    pub fn is_descriptor(&self) -> bool {
        matches!(self, Self::Plain(kind) if kind.is_descriptor())
    }

    /// Whether it is a thread.
    pub const fn is_thread(&self) -> bool {
        matches!(self, Self::Plain(ResourceKind::Thread))
    }

    /// Whether such resources have a size. Descriptors have none, and of a thread's stack only what is resident takes
    /// memory.
    pub fn has_bytes(&self) -> bool {
        !self.is_descriptor() && !self.is_thread()
    }

    /// Whether it is a library's object.
    pub const fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }
}

impl From<ResourceKind> for Resource {
    fn from(kind: ResourceKind) -> Self {
        Self::Plain(kind)
    }
}

impl From<&str> for Resource {
    fn from(name: &str) -> Self {
        let own = ResourceKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name && *kind != ResourceKind::Object);
        own.map_or_else(|| Self::Object(name.into()), Self::Plain)
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl Visitor<'_> for Named {
            type Value = Resource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a kind")
            }

            fn visit_str<E>(self, name: &str) -> Result<Resource, E> {
                Ok(name.into())
            }
        }
        deserializer.deserialize_str(Named)
    }
}
