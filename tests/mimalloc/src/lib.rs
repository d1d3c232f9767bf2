//! Nothing: the manifest beside this names a crate for its sources.
