//! Sessions in files.
//!
//! ```text
//! offset  bytes
//!      0      8   "TRITSESS"
//!      8      4   version of the format, 1
//!     12      1   type of keys and values: 0 F16, 1 F32, 2 Int8
//!     13      1   1 if the inputs of linear layers were left unrounded where others round them, else 0
//!     14      2   0
//!     16     32   the model's fingerprint
//!     48      8   t, the number of tokens
//!     56      8   e ≤ t, how many of them are evaluated
//!     64    4·t   the tokens
//!           r·e   their records: keys and values of all layers, one token after the other
//!            32   SHA-256 of everything before
//! ```
//!
//! Numbers are little-endian. What is in a record, and its length `r`, follow from the model and
//! the type (`arch/kv_record.rs` in `tritwise-kernels`). Nothing depends on the machine that wrote it, its instruction set or
//! the session's capacity.
//!
//! A file may say anything, so it decides on no allocation: a number is compared with what this model and session allow,
//! and memory grows with what has been read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tritwise_kernels::cpu::KvType;
use tritwise_tensor::Inputs;

use crate::{Error, Fingerprint, RestoreError, Session};

const MAGIC: [u8; 8] = *b"TRITSESS";
const VERSION: u32 = 1;

/// What stands for the file in errors of readers and writers that have no name.
const UNNAMED: &str = "the saved session";

impl Session {
    /// Writes the session to a file: its tokens, and the keys and values of those that are evaluated. With
    /// [`restore`](Self::restore) it goes on without reading its text again.
    ///
    /// A file that was there is replaced, all at once: it holds the old session or the new one, never a part.
    ///
    /// # Errors
    /// The file cannot be written; one that was there is then as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let failed = |source| Error::Save { file: path.display().to_string(), source };
        let (partial, file) = create_beside(path).map_err(failed)?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let done = self
            .write(&mut file)
            .and_then(|()| file.into_inner().map_err(io::IntoInnerError::into_error))
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&partial, path));
        if done.is_err() {
            // What failed is worth reporting; that a useless file remains is not.
            let _ = fs::remove_file(&partial);
        }
        done.map_err(failed)
    }

    /// As [`save`](Self::save), to any writer. It is written to in small pieces: give a buffered one.
    ///
    /// # Errors
    /// The writer refuses.
    pub fn save_to(&self, mut writer: impl Write) -> Result<(), Error> {
        let written = self.write(&mut writer).and_then(|()| writer.flush());
        written.map_err(|source| Error::Save { file: UNNAMED.into(), source })
    }

    /// Makes this session what the one was that [`save`](Self::save) wrote to `path`: the next logits
    /// are the same, to the bit. How it [overflows](crate::Overflow) is not saved and stays.
    ///
    /// # Errors
    /// The file cannot be read, is no session, or of another version, another model (see [`Fingerprint`]),
    /// another type of keys and values, longer than this session's capacity, cut short, or damaged: see [`RestoreError`].
    /// The session then stays as it was.
    pub fn restore(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let read = File::open(path).map_err(RestoreError::from).and_then(|file| {
            let mut reader = BufReader::with_capacity(1 << 20, file);
            self.read(&mut reader)?;
            match reader.read(&mut [0])? {
                0 => Ok(()),
                _ => Err(RestoreError::Damaged("something follows its end".into())),
            }
        });
        read.map_err(|reason| Error::Restore { file: path.display().to_string(), reason })
    }

    /// As [`restore`](Self::restore), from any reader, of which nothing behind the session is read. It is read in
    /// small pieces: give a buffered one.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore).
    pub fn restore_from(&mut self, mut reader: impl Read) -> Result<(), Error> {
        self.read(&mut reader).map_err(|reason| Error::Restore { file: UNNAMED.into(), reason })
    }

    fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        let network = &self.model.network;
        let mut to = Summed { inner: writer, sha: Sha256::new() };
        to.put(&MAGIC)?;
        to.put(&VERSION.to_le_bytes())?;
        to.put(&[kv_code(self.kv_type()), u8::from(self.exact_inputs()), 0, 0])?;
        to.put(&self.model.fingerprint.0)?;
        to.put(&(self.tokens.len() as u64).to_le_bytes())?;
        to.put(&(self.sequence.len() as u64).to_le_bytes())?;
        for token in &self.tokens {
            to.put(&token.to_le_bytes())?;
        }
        let mut record = vec![0; self.sequence.record_bytes(network)];
        for index in 0..self.sequence.len() {
            self.sequence.read_record(network, index, &mut record);
            to.put(&record)?;
        }
        let Summed { inner, sha } = to;
        inner.write_all(&sha.finalize())
    }

    fn read(&mut self, reader: &mut dyn Read) -> Result<(), RestoreError> {
        let mut from = Summed { inner: reader, sha: Sha256::new() };
        if from.take()? != MAGIC {
            return Err(RestoreError::NotASession);
        }
        let version = u32::from_le_bytes(from.take()?);
        if version != VERSION {
            return Err(RestoreError::Version { found: version, known: VERSION });
        }
        let [kv, exact, zeros @ ..]: [u8; 4] = from.take()?;
        let fingerprint = Fingerprint(from.take()?);
        if fingerprint != self.model.fingerprint {
            return Err(RestoreError::Model { found: fingerprint, model: self.model.fingerprint });
        }
        if kv != kv_code(self.kv_type()) {
            return Err(RestoreError::KvType { found: kv_name(kv), session: self.kv_type() });
        }
        if exact > 1 || zeros != [0, 0] {
            return Err(RestoreError::Damaged("its header has bytes that no program writes".into()));
        }
        if (exact == 1) != self.exact_inputs() {
            return Err(RestoreError::ExactInputs { exact: exact == 1 });
        }
        let (count, evaluated) = (u64::from_le_bytes(from.take()?), u64::from_le_bytes(from.take()?));
        let capacity = self.capacity();
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= capacity) else {
            return Err(RestoreError::TooLong { tokens: count, capacity });
        };
        let Some(evaluated) = usize::try_from(evaluated).ok().filter(|evaluated| *evaluated <= count) else {
            return Err(RestoreError::Damaged(format!("{evaluated} of {count} tokens are said to be evaluated")));
        };
        let mut tokens = Vec::new();
        for _ in 0..count {
            tokens.push(u32::from_le_bytes(from.take()?));
        }
        self.check_vocabulary(&tokens).map_err(|error| RestoreError::Damaged(error.to_string()))?;
        let network = &self.model.network;
        let cache = network.backend().cache_of(network.config(), capacity, self.kv_type());
        let mut sequence = network.sequence_in(cache, capacity);
        let mut record = vec![0; sequence.record_bytes(network)];
        for _ in 0..evaluated {
            from.fill(&mut record)?;
            let pushed = sequence.push_record(network, &record);
            pushed.map_err(|error| RestoreError::Damaged(error.to_string()))?;
        }
        let Summed { inner, sha } = from;
        let mut sum = [0; 32];
        inner.read_exact(&mut sum).map_err(cut_short)?;
        if sum != *sha.finalize() {
            return Err(RestoreError::Damaged("its checksum is wrong".into()));
        }
        (self.tokens, self.sequence) = (tokens, sequence);
        Ok(())
    }

    /// Whether keys and values are others than those of a model opened without a word about inputs.
    fn exact_inputs(&self) -> bool {
        let network = &self.model.network;
        network.config().inputs == Inputs::Float && network.backend().exact_inputs()
    }
}

/// A reader or writer, and the checksum of what went through.
struct Summed<'a, T: ?Sized> {
    inner: &'a mut T,
    sha: Sha256,
}

impl Summed<'_, dyn Write + '_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl Summed<'_, dyn Read + '_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RestoreError> {
        self.inner.read_exact(bytes).map_err(cut_short)?;
        self.sha.update(&*bytes);
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

fn cut_short(error: io::Error) -> RestoreError {
    match error.kind() {
        ErrorKind::UnexpectedEof => RestoreError::Truncated,
        _ => RestoreError::Read(error),
    }
}

/// The types in the order of their codes.
const KV_TYPES: [KvType; 3] = [KvType::F16, KvType::F32, KvType::Int8];

fn kv_code(kv: KvType) -> u8 {
    KV_TYPES.iter().zip(0..).find(|(known, _)| **known == kv).map_or(u8::MAX, |(_, code)| code)
}

fn kv_name(code: u8) -> String {
    KV_TYPES.get(usize::from(code)).map_or_else(|| format!("an unknown type ({code})"), |kv| format!("{kv:?}"))
}

/// A new file in the folder of `path`, under a name that nobody has.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    // WebAssembly has no process numbers, and `std` panics if asked for one.
    let process = if cfg!(target_family = "wasm") { 0 } else { std::process::id() };
    let mut attempt = 0;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{process}-{attempt}.partial"));
        let partial = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&partial) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
            file => return file.map(|file| (partial, file)),
        }
    }
}
