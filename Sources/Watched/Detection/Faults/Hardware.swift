import Binding
public import KernelViews
import LinuxKernel
import Memory

/// The hardware said that it is broken.
public struct HardwareError: Detector {
  public static let name = "hardware-error"
  public static let kind = Finding.Kind.fault
  public static let summary = "A CPU or memory reported an error that it could not mend."
  public static let rule = """
    A CPU took a machine-check exception (mce_exception_count), the kernel is tainted by one (bit 4 of tainted_mask), or pages of \
    memory are poisoned and were taken out of use (num_poisoned_pages).
    """
  public static let looksLike = """
    Errors that were corrected are not counted here. Tests of the kernel poison pages by request (MADV_HWPOISON), and the log says that.
    """
  public static let remedy = """
    See what the log says of the place: grassctl dmesg. A page that is poisoned comes back with the next boot; plan to replace the \
    module that the address belongs to.
    """
  public static let baseline = Finding.Baseline.invariant
  public static let needsOneLook = true

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    var evidence: [Finding.Evidence] = []
    var words: [String] = []
    let kernel = look.kernel
    if let counter = kernel.symbols.address(of: "mce_exception_count") {
      var counts: [String] = []
      for cpu in try kernel.cpus() where cpu.isOnline {
        let count = try KernelError.reading("the count of machine checks") {
          try kernel.addressSpace.load(cpu.address(of: counter), as: UInt32.self)
        }
        if count > 0 { counts.append("\(count) on CPU \(cpu.number)") }
      }
      if !counts.isEmpty {
        words.append("machine-check exceptions, \(Text.list(counts))")
        evidence.append(.init("mce_exception_count", at: counter, seen: Text.list(counts), expected: "0"))
      }
    }
    let taint = try look.taint()
    if taint >> 4 & 1 == 1 {
      if words.isEmpty { words.append("a machine check") }
      evidence.append(.init("tainted_mask", seen: "0x\(String(taint, radix: 16))", expected: "bit 4 clear"))
    }
    if let poisoned = try look.number("num_poisoned_pages", size: 8), poisoned > 0, poisoned < 1 << 52 {
      words.append("\(poisoned) \(poisoned == 1 ? "page" : "pages") of broken memory")
      evidence.append(
        .init(
          "num_poisoned_pages", at: kernel.symbols.address(of: "num_poisoned_pages"), seen: "\(poisoned)", expected: "0"
        ))
    }
    guard !evidence.isEmpty else { return Sightings() }
    return Sightings([
      Sighting([.host], .warning, .proven, "the hardware is broken: \(Text.list(words))", evidence: evidence)
    ])
  }
}

/// What the log says of drivers and devices.
public struct DriverError: Detector {
  public static let name = "driver-error"
  public static let kind = Finding.Kind.fault
  public static let summary = "A driver wrote to the log that its device failed."
  public static let rule = """
    Records of the kernel's own log (facility 0) that begin as drivers begin them when a device fails: NVIDIA's "NVRM: Xid", a disk's I/O \
    error, errors of ext4, XFS and Btrfs, timeouts of NVMe, of SCSI and of network cards, corrected and uncorrected errors of memory and PCIe.
    """
  public static let looksLike =
    "Text alone proves nothing, and old text says nothing of now: it is info, beside what other detectors see of the device itself."
  public static let remedy =
    "Read the records around it: grassctl dmesg. A number of an Xid is explained in NVIDIA's list of Xid errors."
  public static let baseline = Finding.Baseline.threshold
  public static let needsOneLook = true

  /// How records begin, or what they hold, and what failed then.
  ///
  /// The text is that of the kernel's and of NVIDIA's sources.
  private static let signs: [(text: String, isAtStart: Bool, what: String)] = [
    ("NVRM: Xid", true, "an NVIDIA GPU"), ("NVRM: GPU", true, "an NVIDIA GPU"),
    ("I/O error, dev ", false, "a disk"), ("Buffer I/O error", true, "a disk"),
    ("EXT4-fs error", true, "a file system"), ("BTRFS error", true, "a file system"),
    ("BTRFS critical", true, "a file system"),
    ("XFS (", true, "a file system"), ("NETDEV WATCHDOG: ", true, "a network interface"),
    ("nvme nvme", true, "an NVMe disk"), ("EDAC ", true, "memory"), ("mce: [Hardware Error]", true, "the hardware"),
    ("{1}[Hardware Error]", true, "the hardware"), ("pcieport ", true, "PCIe"),
  ]

  /// Of beginnings that good news has, too: what the rest has to hold.
  private static let bad = [
    "error", "Error", "timeout", "timed out", "corrupt", "Corrupt", "fatal", "Fatal", "fallen off",
  ]

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let log = try look.log()
    var last: [String: (record: LogRecord, count: Int)] = [:]
    for record in log.records where record.facility == 0 {
      let text = record.text.printable
      guard let sign = signs.first(where: { $0.isAtStart ? text.hasPrefix($0.text) : text.contains($0.text) }) else {
        continue
      }
      let isXid = sign.text.hasPrefix("NVRM: Xid")
      guard isXid || bad.contains(where: { text.contains($0) }) else { continue }
      last[sign.what] = (record, (last[sign.what]?.count ?? 0) + 1)
    }
    let sightings = last.sorted { $0.key < $1.key }.map { what, found in
      Sighting(
        [.table("errors of \(what)", entry: nil)], .info, .hint,
        "the log tells of \(found.count == 1 ? "an error" : "\(found.count) errors") of \(what), last "
          + "\(Text.seconds(found.record.time)) s after it booted: \(found.record.text.printable.prefix(120))",
        evidence: [.init("the log", seen: found.record.text.printable)])
    }
    return Sightings(sightings)
  }
}

/// The first process does not do its work any more.
public struct StoppedInit: Detector {
  public static let name = "init-stopped"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "The first process is stopped or dead: no service is started or watched, and no orphan is buried."
  public static let rule = """
    Process 1 is stopped, traced or dead in both looks, or systemd's last word to the kernel's log is that it freezes execution.
    """
  public static let looksLike = "Somebody debugs it: it is traced then, and said so."
  public static let remedy =
    "See what it said: grassctl dmesg. A signal to go on helps where it was stopped (kill -CONT 1); else plan a reboot."
  public static let baseline = Finding.Baseline.invariant

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let tasks = try look.tasks()
    guard let first = tasks.tasks.first(where: { $0.tid == 1 && $0.isLeader }) else {
      return Sightings(faults: tasks.faults)
    }
    let freezes = try? look.log().records.last { $0.text.printable.hasSuffix("Freezing execution.") }
    let how: String? =
      switch first.state {
      case .stopped: "is stopped"
      case .tracingStop: "is stopped by a debugger"
      case .zombie, .dead: "is dead"
      default: freezes.map { "froze itself \(Text.seconds($0.time)) s after the host booted" }
      }
    guard let how else { return Sightings(faults: tasks.faults) }
    return Sightings(
      [
        Sighting(
          [.task(first)], .critical, freezes == nil ? .proven : .strong,
          "\(first.comm.printable) (1), the first process, \(how)",
          evidence: [.init("its state", at: first.address, seen: "\(first.state)", expected: "one that goes on")]
            + (freezes.map { [.init("the log", seen: $0.text.printable)] } ?? []))
      ], faults: tasks.faults)
  }
}

/// A network interface that sends nothing.
public struct StuckTransmitter: Detector {
  public static let name = "transmit-stuck"
  public static let kind = Finding.Kind.fault
  public static let summary =
    "A network interface does not send what it was given: its card does not say that it is done."
  public static let rule = """
    A transmit queue was stopped by its driver (netdev_queue.state, QUEUE_STATE_DRV_XOFF), its last packet was begun (trans_start) longer \
    ago than the driver's own limit (watchdog_timeo) and than 5 s, and the interface has a link; in both looks.
    """
  public static let looksLike = "An interface without a link, and pause frames of a switch: these end within the limit."
  public static let remedy =
    "See what the driver says: grassctl dmesg. Taking the interface down and up resets the card."
  public static let goesByTime = true
  public static let baseline = Finding.Baseline.threshold

  private static let least: UInt64 = 5_000_000_000
  /// More queues than cards have.
  private static let mostQueues: UInt32 = 4096

  private struct Reader: KernelReader {
    static let subject = "the transmit queues of interfaces"

    struct Device: KernelShape {
      static let type = "net_device"
      let state = Field<UInt64>("state")
      let queues = Field<VirtualAddress>("_tx")
      let count = Field<UInt32>("num_tx_queues")
      let limit = Field<Int32>("watchdog_timeo")
    }

    struct Queue: KernelShape {
      static let type = "netdev_queue"
      let state = Field<UInt64>("state")
      let start = Field<UInt64>("trans_start")
    }

    let device: Bound<Device>, queue: Bound<Queue>

    init(kernel: Kernel) throws { (device, queue) = try kernel.types.bind() }
  }

  public static func sightings(_ look: Look, before: Look?) throws(KernelError) -> Sightings {
    let reader = try look.kernel.reader(Reader.self)
    let space = look.kernel.addressSpace
    let network = try look.network()
    let tick = try look.number("tick_nsec", size: 8) ?? 0
    let interfaces = network.interfaces.filter(\.isUp)
    var result = Sightings(faults: network.faults)
    var places: [(interface: Int, queue: Int, limit: UInt64)] = []
    var addresses: [VirtualAddress] = []
    space.read(reader.device, at: interfaces.map(\.device)).forEach(&result.faults) { (reading) throws(MemoryFault) in
      let count = try reading.count
      // __LINK_STATE_NOCARRIER is bit 2 (include/linux/netdevice.h).
      guard try reading.state & 4 == 0, count <= mostQueues else { return }
      let (limit, overflow) = UInt64(max(0, try reading.limit)).multipliedReportingOverflow(by: tick)
      let queues = try reading.queues
      for index in 0..<Int(count) {
        places.append((reading.index, index, overflow ? .max : max(least, limit)))
        addresses.append(queues + index * reader.queue.size)
      }
    }
    var stuck: [Int: (queue: Int, start: UInt64, address: VirtualAddress, limit: UInt64)] = [:]
    space.read(reader.queue, at: addresses).forEach(&result.faults) { (reading) throws(MemoryFault) in
      let place = places[reading.index]
      // __QUEUE_STATE_DRV_XOFF is bit 0.
      guard try reading.state & 1 == 1, stuck[place.interface] == nil else { return }
      let start = try reading.start
      if start > 0 { stuck[place.interface] = (place.queue, start, reading.address, place.limit) }
    }
    for (index, found) in stuck.sorted(by: { $0.key < $1.key }) {
      guard let age = try look.nanoseconds(sinceTick: found.start), age >= found.limit else { continue }
      let interface = interfaces[index]
      result.sightings.append(
        Sighting(
          [.interface(interface.name, namespace: interface.namespace)], .warning, .strong,
          "interface \(interface.name.printable) sends nothing since \(Text.seconds(age)) s: queue \(found.queue) is full and its "
            + "card does not take it",
          evidence: [
            .init(
              "netdev_queue.state", at: found.address,
              seen: "stopped by the driver, its last packet \(Text.seconds(age)) s old",
              expected: "\(Text.seconds(found.limit)) s at most")
          ], persists: [found.start]))
    }
    return result
  }
}
