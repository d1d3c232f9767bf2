//! What all resources share: records and their sequence positions, the table of young resources, the details of objects.

pub(crate) mod details;
pub(crate) mod records;
pub(crate) mod young;
