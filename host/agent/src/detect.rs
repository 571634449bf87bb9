//! What the machine has, less what it needs for itself.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use proffer_model::{Amount, Bundle, Range, Ranges};

const MIB: u64 = 1024 * 1024;

/// For the system and the agent. Half if the machine is small, as Mesos does it.
const MEM_RESERVE_MIB: u64 = 1024;

/// For logs and the system.
const DISK_RESERVE_MIB: u64 = 5 * 1024;

/// Mesos's default; below the kernel's ephemeral ports.
const PORTS: (u64, u64) = (31_000, 32_000);

/// What this machine can give, as seen from a directory on the disk that tasks will use.
///
/// # Errors
/// If the kernel does not say how much memory or disk there is.
pub fn detect(dir: impl AsFd) -> io::Result<Bundle> {
    let cpus = std::thread::available_parallelism()?.get() as u64;
    let mem = less(
        mem_total_mib(&fs::read_to_string("/proc/meminfo")?)?,
        MEM_RESERVE_MIB,
    );
    let disk = rustix::fs::fstatvfs(dir)?;
    let disk = less(
        disk.f_bavail.saturating_mul(disk.f_frsize) / MIB,
        DISK_RESERVE_MIB,
    );
    let ports =
        Range::new(PORTS.0, PORTS.1).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Bundle {
        cpus: units(cpus),
        mem: units(mem),
        disk: units(disk),
        gpus: units(gpus()),
        ports: Ranges::new([ports]),
        ..Bundle::default()
    })
}

/// One agent's part of a machine that several agents share: amounts divided evenly, ports in
/// intervals that do not overlap. `index` counts from 0.
#[must_use]
pub fn share(machine: &Bundle, index: u32, agents: u32) -> Bundle {
    let (index, agents) = (i64::from(index), i64::from(agents.max(1)));
    let part = |amount: Amount| Amount::from_milli(amount.milli() / agents);
    let gpus = machine.gpus.milli() / Amount::ONE.milli();
    let extra = i64::from(index < gpus % agents);
    let each = machine.ports.count() / agents.unsigned_abs();
    let before = machine.ports.lowest(each * index.unsigned_abs());
    Bundle {
        cpus: part(machine.cpus),
        mem: part(machine.mem),
        disk: part(machine.disk),
        // A gpu is whole.
        gpus: Amount::from_units(gpus / agents + extra),
        ports: machine.ports.difference(&before).lowest(each),
        ..Bundle::default()
    }
}

/// The machine's name.
///
/// # Errors
/// If the kernel does not say.
pub fn hostname() -> io::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_owned())
}

/// The id of this boot.
///
/// # Errors
/// If the kernel does not say.
pub fn boot_id() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(boot.trim().to_owned())
}

fn units(count: u64) -> Amount {
    let most = Amount::MAX_INPUT.milli() / Amount::ONE.milli();
    Amount::from_units(i64::try_from(count).unwrap_or(most).min(most))
}

/// Without the reserve; half if that is more.
fn less(total: u64, reserve: u64) -> u64 {
    total.saturating_sub(reserve).max(total / 2)
}

fn mem_total_mib(meminfo: &str) -> io::Result<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse::<u64>().ok());
    kib.map(|kib| kib / 1024)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal line in kB"))
}

/// NVIDIA's devices, one node each; a machine without has none.
fn gpus() -> u64 {
    let Ok(devices) = fs::read_dir("/dev") else {
        return 0;
    };
    let names = devices.flatten().map(|device| device.file_name());
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    };
    names
        .filter(|name| name.to_str().is_some_and(is_gpu))
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_to_give() {
        let found = detect(fs::File::open("/").unwrap()).unwrap();
        assert!(found.cpus >= Amount::ONE);
        assert!(found.mem > Amount::ZERO);
        assert_eq!(found.ports.count(), 1_001);
        assert!(!hostname().unwrap().is_empty());
        assert!(boot_id().unwrap().len() >= 8);
    }

    #[test]
    fn agents_of_one_machine_share_it() {
        let machine: Bundle = "cpus:4;mem:1000;disk:10;gpus:3;ports:[31000-31009]"
            .parse()
            .unwrap();
        let shares = [0, 1].map(|index| share(&machine, index, 2).to_string());
        assert_eq!(
            shares,
            [
                "cpus:2;mem:500;disk:5;gpus:2;ports:[31000-31004]",
                "cpus:2;mem:500;disk:5;gpus:1;ports:[31005-31009]"
            ]
        );
    }

    #[test]
    fn small_machines_keep_half() {
        assert_eq!(less(16_384, 1_024), 15_360);
        assert_eq!(less(1_024, 1_024), 512);
        assert_eq!(
            mem_total_mib("MemTotal:  2048 kB\nMemFree: 1 kB").unwrap(),
            2
        );
        mem_total_mib("MemFree: 1 kB").unwrap_err();
    }
}
