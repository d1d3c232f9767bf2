//! Symbols stored apart from their object: debug files, and the packed table inside an object.
//!
//! Takes an object's identification, returns open files that provably belong to it: by build id, else by the checksum
//! in the object's debug link. A file of another build would silently give wrong names, so unproven files are not
//! used.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufReader, Read as _, Write as _},
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use lzma_rust2::XzReader;
use object::{Object as _, ObjectSection as _, ReadCache, ReadRef};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{format::hex, target::root::Root};

/// Where distributions install debug files.
const DEBUG_FOLDER: &str = "/usr/lib/debug";
/// Most bytes that a packed symbol table may unpack to, and its decoder may use: a large program's table has a few
/// MiB, while a damaged or malicious one could fill all memory.
const UNPACKED_BYTES: u64 = 64 << 20;

/// A file name and the CRC-32 of that file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    name: PathBuf,
    checksum: u32,
}

/// The identification of an object's debug file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DebugIds {
    pub(super) build_id: Option<Vec<u8>>,
    link: Option<Link>,
    /// Device and inode of the object itself.
    own: (u64, u64),
}

/// Where an object was mapped from: the process root, and the path below it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) root: Arc<Root>,
    pub(super) path: PathBuf,
}

impl DebugIds {
    pub(super) fn of<'data>(elf: &object::File<'data, impl ReadRef<'data>>, file: &File) -> Self {
        let link = elf.gnu_debuglink().ok().flatten().map(|(name, checksum)| Link {
            name: PathBuf::from(OsString::from_vec(name.to_owned())),
            checksum,
        });
        let own = file.metadata().map_or((0, 0), |about| (about.dev(), about.ino()));
        Self { build_id: build_id(elf), link, own }
    }

    /// The build id in hexadecimal.
    pub(super) fn hex(&self) -> Option<String> {
        self.build_id.as_deref().map(hex)
    }

    /// The standard path of the debug file of this build.
    pub(super) fn by_build_id(&self) -> Option<PathBuf> {
        let id = hex(self.build_id.as_deref()?);
        let (first, rest) = id.split_at_checked(2).filter(|(_, rest)| !rest.is_empty())?;
        Some(PathBuf::from(format!("{DEBUG_FOLDER}/.build-id/{first}/{rest}.debug")))
    }

    /// Every path where the debug file may be, in search order.
    fn places(&self, object: Option<&Path>) -> Vec<PathBuf> {
        let mut places: Vec<PathBuf> = self.by_build_id().into_iter().collect();
        let folder = object.and_then(Path::parent);
        if let (Some(link), Some(folder)) = (&self.link, folder) {
            let debug = Path::new(DEBUG_FOLDER).join(folder.strip_prefix("/").unwrap_or(folder));
            for folder in [folder, &folder.join(".debug"), &debug] {
                places.push(folder.join(&link.name));
            }
        }
        places
    }

    /// Finds this object's debug file, in leaktrace's root and in that of the process that mapped the object.
    pub(super) fn find(&self, origin: Option<&Origin>) -> Option<File> {
        let own = Root::at(Path::new("/")).ok();
        let roots = own.iter().chain(origin.map(|origin| &*origin.root));
        let places = self.places(origin.map(|origin| origin.path.as_path()));
        let mut found = roots.flat_map(|root| places.iter().map(move |place| (root, place)));
        found.find_map(|(root, place)| {
            let file = root.open(place).ok()?;
            let fits = self.fits(&file);
            if let Err(why) = &fits {
                log::debug!("{} is not used: {why}", place.display());
            }
            fits.is_ok().then_some(file)
        })
    }

    /// Checks that a file is this object's debug file; the error says why it is not.
    fn fits(&self, file: &File) -> Result<(), String> {
        let about = file.metadata().map_err(|error| error.to_string())?;
        if (about.dev(), about.ino()) == self.own {
            return Err("it is the object itself".to_owned());
        }
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(|error| error.to_string())?;
        match (&self.build_id, build_id(&elf), &self.link) {
            (Some(own), Some(its), _) if *own == its => Ok(()),
            (Some(_), Some(_), _) => Err("it is of another build".to_owned()),
            (_, _, Some(link)) => match checksum(file) {
                Ok(sum) if sum == link.checksum => Ok(()),
                Ok(_) => Err("its checksum is another".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            (_, _, None) => Err("nothing proves that it is of this build".to_owned()),
        }
    }
}

fn build_id<'data>(elf: &object::File<'data, impl ReadRef<'data>>) -> Option<Vec<u8>> {
    elf.build_id().ok().flatten().filter(|id| !id.is_empty()).map(<[u8]>::to_vec)
}

/// CRC-32 of a file, from its start, whatever the file position.
fn checksum(file: &File) -> io::Result<u32> {
    use std::os::unix::fs::FileExt as _;
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; 1 << 16];
    let mut at = 0_u64;
    loop {
        let read = file.read_at(&mut chunk, at)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hasher.finalize());
        };
        hasher.update(bytes);
        at += read as u64;
    }
}

/// The small object packed into `.gnu_debugdata`, which has the symbols that stripping removed.
pub(super) fn unpacked<'data>(
    elf: &object::File<'data, impl ReadRef<'data>>,
) -> Option<io::Result<File>> {
    let section = elf.section_by_name(".gnu_debugdata")?;
    let packed = section.data().map_err(io::Error::other);
    Some(packed.and_then(|packed| {
        let limit_kib = u32::try_from(UNPACKED_BYTES >> 10).unwrap_or(u32::MAX);
        let reader = XzReader::new_mem_limit(BufReader::new(packed), true, limit_kib);
        let mut bytes = Vec::new();
        reader.take(UNPACKED_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > UNPACKED_BYTES {
            return Err(io::Error::other("it is larger than any symbol table"));
        }
        in_memory(&bytes)
    }))
}

/// An in-memory file with these bytes: blazesym reads files only.
pub(super) fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("leaktrace symbols", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_file_is_looked_for_by_build_id_then_by_its_link() {
        let ids = DebugIds {
            build_id: Some(vec![0xab, 0x01, 0xff]),
            link: Some(Link { name: PathBuf::from("libx.debug"), checksum: 7 }),
            own: (0, 0),
        };
        let places = ids.places(Some(Path::new("/opt/lib/libx.so")));
        let expected = [
            "/usr/lib/debug/.build-id/ab/01ff.debug",
            "/opt/lib/libx.debug",
            "/opt/lib/.debug/libx.debug",
            "/usr/lib/debug/opt/lib/libx.debug",
        ];
        assert_eq!(places, expected.map(PathBuf::from));
        assert_eq!(DebugIds::default().places(None), Vec::<PathBuf>::new());
        // A build id of one byte has no file name.
        let short = DebugIds { build_id: Some(vec![0xab]), ..DebugIds::default() };
        assert_eq!(short.by_build_id(), None);
    }

    #[test]
    fn checksums_are_those_of_the_debug_link() {
        // The check value of CRC-32 (the one of zlib and Ethernet).
        assert_eq!(checksum(&in_memory(b"123456789").unwrap()).unwrap(), 0xcbf4_3926);
    }
}
