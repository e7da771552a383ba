public import LinuxKernel

/// What only who looks again and again can tell: these detectors run on devices, and a check has no way to ask them.
public protocol DeviceOnly: Detector {}

extension DeviceOnly {
  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings { Sightings() }
}

/// All CPUs stand still.
public struct Stopped: DeviceOnly {
  public static let name = "stopped"
  public static let kind = Finding.Kind.fault
  public static let summary = "No CPU of the host does anything any more: it hangs, or somebody paused it."
  public static let rule = """
    Neither a CPU's scheduler clock nor the kernel's ticks move, and the time for which a CPU had set its timer has passed by \
    more than a second of the device's clock.
    """
  public static let looksLike = """
    An idle host without ticks: none of its timers is overdue. A paused guest: grassd --qmp asks its hypervisor, and KVM's steal \
    time tells; without either it is only said that they stopped.
    """
  public static let remedy = """
    See whether the hypervisor paused it. If not: grassctl last-words tells where each CPU was, also after a reset; take the \
    memory before it is reset.
    """
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.invariant
}

/// The hypervisor does not run the CPUs.
public struct Paused: DeviceOnly {
  public static let name = "paused"
  public static let kind = Finding.Kind.change
  public static let summary =
    "The host's CPUs stand still because its hypervisor does not run them: somebody paused it."
  public static let rule = """
    The hypervisor itself says so (grassd --qmp), or all CPUs stand still and KVM says of each in the guest's own memory that it \
    does not run it (steal_time.preempted). For 10 minutes no other finding is made of what stands still; then it is one.
    """
  public static let looksLike = """
    A guest that hangs: its CPUs are run, and do nothing. Where neither is asked nor told, all that is said is that they stopped.
    """
  public static let remedy = "See who paused it, and let it go on: virsh resume, or cont in QEMU's monitor."
  public static let baseline = Finding.Baseline.invariant
}

/// A CPU that takes no interrupts.
public struct HardLockup: DeviceOnly {
  public static let name = "hard-lockup"
  public static let kind = Finding.Kind.fault
  public static let summary = "A CPU takes no interrupts any more, while others go on."
  public static let rule = """
    The time for which it had set its timer has passed by more than a second, it does not set it anew, and other CPUs move; in \
    three ticks. Where its timer ticks by itself, its scheduler's clock stands still.
    """
  public static let looksLike = "A virtual CPU that the hypervisor does not run."
  public static let remedy =
    "See what it does: grassctl stack. Others will wait for it soon; take the memory and plan a reset."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.invariant
}

/// A CPU that does not leave the kernel.
public struct SoftLockup: DeviceOnly {
  public static let name = "soft-lockup"
  public static let kind = Finding.Kind.fault
  public static let summary = "A CPU is in the kernel all the time, with one task, and runs nothing else."
  public static let rule = """
    The same task, no switch, no time in user mode, and most of the time charged as the kernel's, for 5 s (a warning) or 20 s \
    (critical).
    """
  public static let looksLike = "A busy program: it spends time in user mode, or is switched."
  public static let remedy = "See what it does: grassctl stack PID. Nothing ends it but a reset, if it is a loop."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold
}

/// A CPU that does nothing but soft interrupts.
public struct SoftInterruptLivelock: DeviceOnly {
  public static let name = "softirq-livelock"
  public static let kind = Finding.Kind.fault
  public static let summary = "A CPU does nothing but soft interrupts, and runs nothing else."
  public static let rule = """
    Nine tenths of a CPU's time and more, over 2 s, are softirq's in kernel_cpustat; the kind is that of kstat.softirqs that counts \
    fastest. A warning, and a notice for those of network and disks as long as nobody else wants the CPU.
    """
  public static let looksLike = """
    A router at the rate of its line: what comes in is its work, so it is a notice. Other work on the same CPU takes its share, and \
    then it is not nine tenths.
    """
  public static let remedy = """
    See which kind: NET_RX is traffic (grassctl net, more queues or fewer packets), TASKLET and TIMER are a driver's. What the driver is, \
    its interrupts tell: grassctl interrupts.
    """
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold
}

/// A CPU that does little but take interrupts.
public struct InterruptStorm: DeviceOnly {
  public static let name = "irq-storm"
  public static let kind = Finding.Kind.fault
  public static let summary = "A CPU spends most of its time on interrupts: a device or its driver does not let go."
  public static let rule = """
    Half of a CPU's time and more, over 2 s, is irq's in kernel_cpustat, or its devices interrupt it 200 times a millisecond: kernels \
    that count time by their ticks alone never see a tick within an interrupt.
    """
  public static let looksLike =
    "A network card at the rate of its line: its driver polls then, and the time is softirq's."
  public static let remedy =
    "See which interrupt counts: grassctl interrupts --watch 1. The log may say \"nobody cared\": grassctl dmesg."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold
}

/// A hypervisor that runs others on the host's CPUs.
public struct StolenTime: DeviceOnly {
  public static let name = "steal-time"
  public static let kind = Finding.Kind.fault
  public static let summary = "The hypervisor runs others where this host wants to run: all it does takes longer."
  public static let rule =
    "A tenth of a CPU's time and more, in each of five windows of 2 s, is steal's in kernel_cpustat."
  public static let looksLike = "A moment of contention: it lasts less than ten seconds."
  public static let remedy =
    "Nothing in the guest helps: see what else its hypervisor runs, or what its limit of CPU time is."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold
}

/// A detector that the device runs no more.
public struct SuspendedDetector: DeviceOnly {
  public static let name = "suspended-detector"
  public static let kind = Finding.Kind.fault
  public static let summary = "A detector of the device ended early again and again, and is not run any more."
  public static let rule = """
    On a device, three ticks in a row in which it faulted or took more than its budget. In grassd, a look in which its process ended \
    or did not come back, or three in which it could not read what it needs.
    """
  public static let looksLike = "A host that breaks the structures that the detector reads, so that it is not seen."
  public static let remedy =
    "See grassctl check, which asks in another way; load the detectors anew by a SIGHUP to grassd."
}

/// The memory that a device looked at was taken away.
public struct LostMemory: DeviceOnly {
  public static let name = "memory-lost"
  public static let kind = Finding.Kind.attack
  public static let summary =
    "The memory that the device looks at was taken away from it: nobody sees the host any more."
  public static let rule = "The file or the mapping that the device reads became shorter than it was."
  public static let looksLike = "A guest that its hypervisor ended, whose memory goes with it."
  public static let remedy = """
    See whether the host was ended on purpose. What was found before stays in the log; start grassd again once the memory is \
    whole.
    """
  public static let techniques = ["T1562"]
  public static let baseline = Finding.Baseline.invariant

  package static func finding(at moment: Finding.Moment) -> Finding {
    Finding(
      id: Finding.id(name, [.host]), detector: name, kind: kind, severity: .critical, confidence: .proven,
      state: .confirmed, first: moment, last: moment, count: 1, subjects: [.host],
      title: "the memory of the host was taken away from the device", evidence: [], techniques: techniques,
      remedy: remedy, kernel: "", boot: nil, baseline: baseline)
  }
}

/// A device, or the link to it, that has gone silent: what only who follows it can tell.
public struct SilentDevice: DeviceOnly {
  public static let name = "device-silent"
  public static let kind = Finding.Kind.attack
  public static let summary = "The device or the link to it has ended: nobody tells what happens to the host."
  public static let rule = """
    The link ends and is not made again, the device says that it was stopped, or its detectors have not looked for 10 s. Whoever \
    follows it says so (grassctl watch), and that it is over when the device answers again.
    """
  public static let looksLike = "A grassd that its operator ended, or a network that fails."
  public static let remedy =
    "See whether grassd was ended on purpose; if not, treat the host as taken over until it is seen again."
  public static let techniques = ["T1562"]
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  /// What is said of the device at an address, with what it was seen by.
  public static func finding(of host: String, _ how: String, first: Double, at utc: Double) -> Finding {
    let subjects = [Subject.observer("the device at \(host)")]
    return Finding(
      id: Finding.id(name, subjects), detector: name, kind: kind, severity: .warning, confidence: .strong,
      state: .confirmed, first: .init(guest: nil, utc: first), last: .init(guest: nil, utc: utc), count: 1,
      subjects: subjects, title: "the device at \(host) is silent: \(how)", evidence: [], techniques: techniques,
      remedy: remedy, kernel: "", boot: nil, baseline: baseline)
  }
}

/// The list of keys that a device lets in was changed.
public struct KeyChange: DeviceOnly {
  public static let name = "key-changed"
  public static let kind = Finding.Kind.change
  public static let summary = "Whom the device lets in was changed: a key was added, removed, or given other rights."
  public static let rule =
    "The device's list of keys changes, by a request under an admin key or by the file that grassd follows."
  public static let looksLike = "An operator's work. The finding names the key by which it was done."
  public static let remedy =
    "See whether somebody meant to; grassctl key list shows the list, and grassctl key remove takes a key out of it, which ends its sessions."
  public static let techniques = ["T1098"]
  public static let baseline = Finding.Baseline.invariant

  /// What is said of a key, by what is known of it: its fingerprint and comment.
  package static func finding(
    about key: String, _ how: String, rights: String, by: String?, at moment: Finding.Moment
  ) -> Finding {
    let subjects = [Subject.observer(key)]
    return Finding(
      id: Finding.id(name, subjects + [.observer(how)]), detector: name, kind: kind, severity: .warning,
      confidence: .proven,
      state: .confirmed, first: moment, last: moment, count: 1, subjects: subjects,
      title: "whom the device lets in was changed: \(key)",
      evidence: [
        .init("what was done", seen: how), .init("its rights", seen: rights),
        .init("by", seen: by ?? "this machine"),
      ], techniques: techniques, remedy: remedy, kernel: "", boot: nil, baseline: baseline)
  }
}

/// Somebody proved a key that the device does not know.
public struct RefusedKey: DeviceOnly {
  public static let name = "key-refused"
  public static let kind = Finding.Kind.attack
  public static let summary = "Somebody who holds a key that is not in the device's list asked to be let in."
  public static let rule = "A handshake is completed under a key that is not in the list, or not any more."
  public static let looksLike = "A newcomer whose key nobody has added yet."
  public static let remedy =
    "Where the key is a colleague's, have its line added (grassctl key add); else see who reaches the address that grassd listens at."
  public static let techniques = ["T1078"]
  public static let baseline = Finding.Baseline.invariant

  package static func finding(about key: String, count: Int, first: Finding.Moment, at moment: Finding.Moment)
    -> Finding
  {
    let subjects = [Subject.observer(key)]
    return Finding(
      id: Finding.id(name, subjects), detector: name, kind: kind, severity: .notice, confidence: .hint,
      state: .confirmed,
      first: first, last: moment, count: count, subjects: subjects,
      title: "\(key) asked to be let in, which nobody has allowed",
      evidence: [], techniques: techniques, remedy: remedy, kernel: "", boot: nil, baseline: baseline)
  }
}

/// Who asked the device what.
public struct KeyUse: DeviceOnly {
  public static let name = "key-used"
  public static let kind = Finding.Kind.change
  public static let summary = "Who asked the device, by which key, and how much of the memory he read."
  public static let rule =
    "A session of a key that the device knows ends. Of one key there is one finding, which counts its sessions."
  public static let looksLike = "Nothing: it is a record."
  public static let remedy =
    "None, where its owner knows of it; else take the key out of the list (grassctl key remove)."
  public static let baseline = Finding.Baseline.invariant

  package static func finding(
    about key: String, sessions: Int, read: UInt64, runs: UInt64, first: Finding.Moment, at moment: Finding.Moment
  ) -> Finding {
    let subjects = [Subject.observer(key)]
    return Finding(
      id: Finding.id(name, subjects), detector: name, kind: kind, severity: .info, confidence: .proven,
      state: .confirmed,
      first: first, last: moment, count: sessions, subjects: subjects, title: "\(key) asked the device",
      evidence: [.init("memory read", seen: "\(read) bytes"), .init("monitors run", seen: "\(runs)")],
      techniques: techniques, remedy: remedy, kernel: "", boot: nil, baseline: baseline)
  }
}

extension SuspendedDetector {
  /// What is said of a detector of a check that the daemon asks no more.
  package static func finding(about detector: String, _ how: String, at moment: Finding.Moment) -> Finding {
    let subjects = [Subject.observer("the detector \(detector)")]
    return Finding(
      id: Finding.id(name, subjects), detector: name, kind: kind, severity: .notice, confidence: .proven,
      state: .confirmed, first: moment, last: moment, count: 1, subjects: subjects,
      title: "the detector \(detector) ended early and is not asked any more",
      evidence: [.init("how it ended", seen: how)],
      techniques: techniques, remedy: remedy, kernel: "", boot: nil, baseline: baseline)
  }
}
