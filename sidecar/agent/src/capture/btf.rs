//! Where a member stands within a kernel structure, from the kernel's own BTF
//! (format: Documentation/bpf/btf.rst of the Linux kernel).

use thiserror::Error;

#[derive(Debug, Error)]
pub enum BtfError {
    #[error("{path}: {source}")]
    Read {
        path: &'static str,
        source: std::io::Error,
    },
    #[error("kernel BTF is damaged at byte {0}")]
    Damaged(usize),
    #[error("kernel BTF has no member {member} in struct {structure}")]
    Missing {
        structure: &'static str,
        member: &'static str,
    },
}

const PATH: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;

/// The kernel's type information.
pub struct KernelTypes {
    bytes: Vec<u8>,
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
}

impl KernelTypes {
    pub fn of_this_kernel() -> Result<Self, BtfError> {
        let bytes = std::fs::read(PATH).map_err(|source| BtfError::Read { path: PATH, source })?;
        Self::parse(bytes)
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Damaged(0));
        }
        let header = word(&bytes, 4)? as usize;
        let section = |at: usize| -> Result<std::ops::Range<usize>, BtfError> {
            let start = header + word(&bytes, at)? as usize;
            let end = start + word(&bytes, at + 4)? as usize;
            if end > bytes.len() {
                Err(BtfError::Damaged(at))
            } else {
                Ok(start..end)
            }
        };
        let (types, strings) = (section(8)?, section(16)?);
        Ok(Self {
            bytes,
            types,
            strings,
        })
    }

    /// Byte offsets of `members` (not bit fields) within `structure`, in the order asked.
    pub fn offsets<const N: usize>(
        &self,
        structure: &'static str,
        members: [&'static str; N],
    ) -> Result<[u32; N], BtfError> {
        let mut at = self.types.start;
        while at < self.types.end {
            let name = word(&self.bytes, at)?;
            let info = word(&self.bytes, at + 4)?;
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            let rest = at + 12;
            if kind == KIND_STRUCT && self.string(name) == Some(structure.as_bytes()) {
                return self.members(rest, count, structure, members);
            }
            at = rest + size_after(kind, count).ok_or(BtfError::Damaged(at))?;
        }
        Err(BtfError::Missing {
            structure,
            member: members.first().copied().unwrap_or(""),
        })
    }

    fn members<const N: usize>(
        &self,
        at: usize,
        count: usize,
        structure: &'static str,
        members: [&'static str; N],
    ) -> Result<[u32; N], BtfError> {
        let mut offsets = [0; N];
        for (offset, member) in offsets.iter_mut().zip(members) {
            let found = (0..count).map(|index| at + index * 12).find(|entry| {
                word(&self.bytes, *entry)
                    .is_ok_and(|name| self.string(name) == Some(member.as_bytes()))
            });
            let entry = found.ok_or(BtfError::Missing { structure, member })?;
            // The low 24 bits hold the bit offset, whether or not the struct has bit fields.
            *offset = (word(&self.bytes, entry + 8)? & 0x00ff_ffff) / 8;
        }
        Ok(offsets)
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        let text = self
            .bytes
            .get(self.strings.start + offset as usize..self.strings.end)?;
        text.split(|byte| *byte == 0).next()
    }
}

/// Bytes that follow `struct btf_type` for a kind.
fn size_after(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        2 | 7 | 8 | 9 | 10 | 11 | 12 | 16 | 18 => 0,
        3 => 12,
        4 | 5 | 15 | 19 => count * 12,
        6 | 13 => count * 8,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..at + 4)
        .and_then(|four| four.try_into().ok())
        .map(u32::from_ne_bytes)
        .ok_or(BtfError::Damaged(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_members_of_task_struct_in_order() {
        let types = KernelTypes::of_this_kernel().unwrap();
        let [pid, tgid] = types.offsets("task_struct", ["pid", "tgid"]).unwrap();
        assert_eq!(tgid, pid + 4);
    }

    #[test]
    fn names_what_is_missing() {
        let types = KernelTypes::of_this_kernel().unwrap();
        let error = types
            .offsets("task_struct", ["no_such_member"])
            .unwrap_err();
        assert!(error.to_string().contains("no_such_member"));
    }

    #[test]
    fn refuses_foreign_and_cut_bytes() {
        assert!(matches!(
            KernelTypes::parse(b"ELF".to_vec()),
            Err(BtfError::Damaged(0))
        ));
        assert!(KernelTypes::parse(MAGIC.to_ne_bytes().to_vec()).is_err());
    }
}
