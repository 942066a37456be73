//! Boot without UEFI: GRUB, which reads kernel and initrd out of the very UKI that UEFI starts.

use std::fs;

use anyhow::{Context as _, ensure};

use super::build::Build;

/// Makes the two parts of GRUB: what the BIOS reads (the disk's first bytes), and what that part reads.
///
/// Both name sectors of the disk: the core lies where the first partition begins.
pub(super) fn loader(build: &Build<'_>) -> anyhow::Result<()> {
    let Build { room, dir, .. } = *build;
    let output = format!("/image/{CORE}");
    // `(,gpt2)`: the second partition, the ESP, of the disk that the BIOS has started.
    let mut args = vec!["-O", "i386-pc", "-p", "(,gpt2)/grub", "-o", &output];
    args.extend([
        "biosdisk",
        "part_gpt",
        "fat",
        "normal",
        "test",
        "configfile",
        "loopback",
        "linux",
        "serial",
        "terminal",
    ]);
    args.extend(["echo", "sleep", "reboot"]);
    room.run("grub-mkimage", &args)?;
    let mut core = fs::read(dir.join(CORE))?;
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let sectors = u16::try_from(core.len() / SECTOR)?;
    // The last entry of the first sector's list: where the rest lies, how many sectors, where it goes in memory.
    let rest = &mut core[SECTOR - 12..SECTOR];
    rest[..8].copy_from_slice(&(CORE_LBA + 1).to_le_bytes());
    rest[8..10].copy_from_slice(&(sectors - 1).to_le_bytes());
    rest[10..].copy_from_slice(&REST_SEGMENT.to_le_bytes());
    ensure!(u64::from(sectors) * 512 <= CORE_MIB << 20, "GRUB's core has {sectors} sectors, the partition less");
    fs::write(dir.join(CORE), core)?;

    let boot = room.tree().join("usr/lib/grub/i386-pc/boot.img");
    let mut boot = fs::read(&boot).with_context(|| boot.display().to_string())?;
    boot[BOOT_LBA..BOOT_LBA + 8].copy_from_slice(&CORE_LBA.to_le_bytes());
    // As grub-install does: the drive that the BIOS names is right (two `nop` in place of a jump).
    boot[BOOT_DRIVE..BOOT_DRIVE + 2].copy_from_slice(&[0x90, 0x90]);
    boot.truncate(BOOT_LEN);
    fs::write(dir.join(BOOT), boot)?;
    Ok(())
}

/// GRUB's configuration for a UKI. A file `more.cfg` beside it may set `more`, further words of the command line.
pub(super) fn configuration(uki: &[u8], name: &str) -> anyhow::Result<String> {
    let section = |name| section(uki, name).with_context(|| format!("the UKI has no section {name}"));
    let blocks = |(offset, len): (usize, usize)| {
        ensure!(offset.is_multiple_of(SECTOR), "a section of the UKI at byte {offset}, which is within a sector");
        Ok(format!("{}+{}", offset / SECTOR, len.div_ceil(SECTOR)))
    };
    let (kernel, initrd) = (blocks(section(".linux")?)?, blocks(section(".initrd")?)?);
    let (offset, len) = section(".cmdline")?;
    let command_line = std::str::from_utf8(&uki[offset..offset + len])?.trim_end_matches(['\0', '\n', ' ']);
    Ok(format!(
        "serial --unit=0 --speed=115200\nterminal_output console serial\n\
         if [ -f $prefix/more.cfg ]; then source $prefix/more.cfg; fi\n\
         echo 'fanblade: BIOS boot of {name}'\n\
         loopback uki ($root)/EFI/Linux/{name}\n\
         linux (uki){kernel} {command_line} $more\ninitrd (uki){initrd}\nboot\n\
         echo 'fanblade: cannot boot, trying again'\nsleep 10\nreboot\n"
    ))
}

/// Where a section of a PE file lies: its offset and length in bytes. (Microsoft's "PE Format", section table.)
fn section(pe: &[u8], name: &str) -> Option<(usize, usize)> {
    let u16 = |at: usize| Some(usize::from(u16::from_le_bytes(pe.get(at..at + 2)?.try_into().ok()?)));
    let u32 = |at: usize| usize::try_from(u32::from_le_bytes(pe.get(at..at + 4)?.try_into().ok()?)).ok();
    let header = u32(0x3c)?;
    let table = header + 24 + u16(header + 20)?;
    let row = (0..u16(header + 6)?).map(|number| table + number * 40).find(|row| {
        let field = pe.get(*row..row + 8).unwrap_or_default();
        field.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    })?;
    // The size in memory: the one on the disk is rounded up.
    let (len, offset) = (u32(row + 8)?, u32(row + 20)?);
    (offset + len <= pe.len()).then_some((offset, len))
}

/// GRUB's core, and the code of the disk's first sector, below the build's directory.
pub(super) const CORE: &str = "grub-core.img";
pub(super) const BOOT: &str = "grub-boot.img";

const SECTOR: usize = 512;
/// The first sector of the disk's first partition.
const CORE_LBA: u64 = 2_048;
/// The size of GRUB's partition.
pub(super) const CORE_MIB: u64 = 1;
/// Where the core's rest is loaded, as a segment of real mode (GRUB's `GRUB_BOOT_I386_PC_KERNEL_SEG` + one sector).
const REST_SEGMENT: u16 = 0x820;
/// Fields of boot.img (GRUB's `boot.h`): the core's first sector, and the check of the drive.
const BOOT_LBA: usize = 0x5c;
const BOOT_DRIVE: usize = 0x66;
/// The code before the disk's signature and partition table.
const BOOT_LEN: usize = 440;
/// "BIOS boot" of the GPT.
pub(super) const PARTITION_TYPE: &str = "21686148-6449-6e6f-744e-656564454649";

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE file with these sections, each in sectors of its own.
    fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut pe = vec![0; SECTOR];
        pe[0x3c] = 0x40;
        pe[0x46] = u8::try_from(sections.len()).unwrap();
        for (number, (name, content)) in sections.iter().enumerate() {
            let row = 0x40 + 24 + 40 * number;
            let (offset, len) = (u32::try_from(pe.len()).unwrap(), u32::try_from(content.len()).unwrap());
            pe[row..row + name.len()].copy_from_slice(name.as_bytes());
            pe[row + 8..row + 12].copy_from_slice(&len.to_le_bytes());
            pe[row + 20..row + 24].copy_from_slice(&offset.to_le_bytes());
            pe.extend_from_slice(content);
            pe.resize(pe.len().next_multiple_of(SECTOR), 0);
        }
        pe
    }

    #[test]
    fn grub_reads_kernel_and_initrd_by_their_sectors() {
        let uki = pe(&[(".cmdline", b"ro quiet\0"), (".linux", &[1; 513]), (".initrd", &[2; 1_024])]);
        let text = configuration(&uki, "x.efi").unwrap();
        assert!(text.contains("linux (uki)2+2 ro quiet $more\ninitrd (uki)4+2\n"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_uki_is_refused() {
        let whole = pe(&[(".cmdline", b"ro"), (".linux", &[1; 9]), (".initrd", &[2; 600])]);
        for bad in [&[][..], &[0; 64], &whole[..200], &whole[..whole.len() - SECTOR], &pe(&[(".linux", &[1])])] {
            assert!(configuration(bad, "x.efi").is_err());
        }
    }
}
