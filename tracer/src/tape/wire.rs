//! How values look on a tape that serde has no form for: paths, which need not be text, and types of `tracer-common`.

/// A path as bytes.
pub mod path {
    use std::{
        ffi::OsString,
        path::{Path, PathBuf},
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

/// A path, if there is one.
pub mod optional_path {
    use std::{ffi::OsString, path::PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| path.as_os_str()).serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<OsString>::deserialize(deserializer)?.map(PathBuf::from))
    }
}

/// A file's number and path, if there is one.
pub mod optional_file {
    use std::{ffi::OsString, path::PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer, T: Serialize>(
        file: &Option<(T, PathBuf)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        file.as_ref().map(|(file, path)| (file, path.as_os_str())).serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Option<(T, PathBuf)>, D::Error> {
        let file = Option::<(T, OsString)>::deserialize(deserializer)?;
        Ok(file.map(|(file, path)| (file, PathBuf::from(path))))
    }
}

/// The number of a shape.
pub mod shape {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
    use tracer_common::attach::Shape;

    /// Writes it.
    pub fn serialize<S: Serializer>(shape: &Shape, serializer: S) -> Result<S::Ok, S::Error> {
        (*shape as u8).serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        let number = u8::deserialize(deserializer)?;
        Shape::from_number(number).ok_or_else(|| D::Error::custom("an unknown shape"))
    }
}

/// The bytes of a plain value.
pub mod plain {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use zerocopy::{FromBytes, Immutable, IntoBytes};

    /// Writes it.
    pub fn serialize<S: Serializer, T: IntoBytes + Immutable>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value.as_bytes())
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>, T: FromBytes>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        T::read_from_bytes(bytes).map_err(|_size| D::Error::custom("a value of another size"))
    }
}
